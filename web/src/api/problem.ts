/** Errors of the service (RFC 9457 problem details), and those of the way to it. */

export interface ProblemBody {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  [member: string]: unknown;
}

/** One field of what was sent, and what is wrong with it. */
export interface Fault {
  at: string;
  what: string;
}

/** Any failed call. `status` 0 means that no answer came: the network or the service is away. */
export class ApiProblem extends Error {
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  readonly type: string;
  /** Seconds the service asks us to wait, or null. */
  readonly retryAfter: number | null;

  /** The fields that the service names. */
  readonly faults: Fault[];

  constructor(status: number, body: ProblemBody = {}, retryAfter: number | null = null) {
    super(body.detail ?? body.title ?? `HTTP ${status}`);
    this.name = "ApiProblem";
    this.status = status;
    this.title = body.title ?? "";
    this.detail = body.detail ?? "";
    this.type = body.type ?? "about:blank";
    this.retryAfter = retryAfter;
    this.faults = faultsOf(body);
  }
}

/** `faults` of a problem document, or the field that its detail begins with ("starts_at: ... is past"). */
function faultsOf(body: ProblemBody): Fault[] {
  if (Array.isArray(body.faults)) {
    return (body.faults as Partial<Fault>[]).map(({ at = "", what = "" }) => ({ at, what }));
  }
  const [, at, what] = /^([a-z_]+): (.+)$/s.exec(body.detail ?? "") ?? [];
  return at === undefined || what === undefined ? [] : [{ at, what }];
}

/** Seconds from a Retry-After header: RFC 9110 10.2.3, a number or a date. */
export function retryAfterSeconds(header: string | null, now: number = Date.now()): number | null {
  if (header === null || header.trim() === "") return null;
  if (/^\s*\d+\s*$/.test(header)) return Number(header);
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, Math.ceil((at - now) / 1000));
}

/** The problem a response describes; a body that is no problem document gives the bare status. */
export async function problemOf(response: Response): Promise<ApiProblem> {
  const retryAfter = retryAfterSeconds(response.headers.get("Retry-After"));
  let body: ProblemBody = {};
  if ((response.headers.get("Content-Type") ?? "").includes("json")) {
    try {
      const parsed: unknown = await response.json();
      if (typeof parsed === "object" && parsed !== null) body = parsed as ProblemBody;
    } catch {
      // cut off in the middle: the status still says what happened
    }
  }
  return new ApiProblem(response.status, body, retryAfter);
}
