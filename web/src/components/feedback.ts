/** Short messages and questions, the same way on every page. */

import { ElMessage, ElMessageBox } from "element-plus";

import type { ApiProblem } from "@/api/problem";
import { i18n } from "@/i18n";
import { problemText } from "@/i18n/problemText";
import { asProblem } from "@/stores/rows";

export function say(message: string, type: "success" | "warning" = "success"): void {
  ElMessage({ message, type, grouping: true });
}

export function sayProblem(problem: ApiProblem): void {
  const { headline, detail } = problemText(problem);
  const colon = i18n.global.locale.value === "zh" ? "：" : ": ";
  ElMessage({
    message: detail === "" ? headline : `${headline}${colon}${detail}`,
    type: "error",
    duration: 8_000,
    showClose: true,
    grouping: true,
  });
}

/** Runs a command and shows what went wrong; true if it went well. */
export async function attempt(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    sayProblem(asProblem(error));
    return false;
  }
}

/** Asks before something that cannot be undone; false if the person thinks better of it. */
export async function confirmed(title: string, text: string, confirm: string): Promise<boolean> {
  try {
    await ElMessageBox.confirm(text, title, {
      confirmButtonText: confirm,
      cancelButtonText: i18n.global.t("common.cancel"),
      confirmButtonClass: "el-button--danger confirm-danger",
      autofocus: false,
    });
    return true;
  } catch {
    return false;
  }
}
