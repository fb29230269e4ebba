/** What a failed call means to a person: a headline in their language, and the service's own words. */

import type { ApiProblem } from "@/api/problem";

import { i18n } from "./index";

export interface ProblemText {
  headline: string;
  detail: string;
}

export function problemText(problem: ApiProblem): ProblemText {
  const { t, te } = i18n.global;
  if (problem.status === 0) return { headline: t("problem.unreachable"), detail: t("problem.unreachableHint") };
  if (problem.status < 0) return { headline: t("problem.page"), detail: problem.detail };
  const key = `problem.${problem.status}`;
  const headline = te(key) ? t(key) : t("problem.other", { status: problem.status });
  const wait = problem.retryAfter === null ? "" : t("problem.retryAfter", { seconds: problem.retryAfter });
  const said = problem.detail || problem.title;
  return { headline, detail: [said, wait].filter((part) => part !== "").join(" ") };
}
