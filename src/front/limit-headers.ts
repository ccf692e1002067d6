import type { LimitState } from "../completion.ts";
import type { AnswerFormat } from "./answer-format.ts";

/** LiteLLM's words, where they differ from ours. */
const descriptors: Readonly<Record<string, string>> = { key: "api_key" };
const kinds: Readonly<Record<LimitState["kind"], string>> = {
  requests: "requests",
  tokens: "tokens",
  parallel: "max_parallel_requests",
};

/**
 * How full the caller's limits are, in LiteLLM's headers: all of them by what they belong to, and the tightest of each kind once more.
 *
 * @param modelGroup where the call went.
 * @param tightestName what the caller's wire calls the tightest.
 */
export function limitHeaders(
  limits: readonly LimitState[],
  modelGroup: string,
  tightestName: AnswerFormat["limitHeader"],
): Record<string, string> {
  const headers: Record<string, string> = {};
  const tell = (limit: LimitState, nameOfFigure: (figure: "limit" | "remaining") => string) => {
    const known = headers[nameOfFigure("remaining")];
    // Of several limits the caller meets the tightest first.
    if (known !== undefined && Number(known) <= limit.remaining) return;
    headers[nameOfFigure("limit")] = String(limit.ceiling);
    headers[nameOfFigure("remaining")] = String(limit.remaining);
  };
  for (const limit of limits) {
    const { scope, kind, remaining } = limit;
    tell(limit, (figure) => `x-ratelimit-${descriptors[scope] ?? scope}-${figure}-${kinds[kind]}`);
    if (kind === "parallel") continue;
    tell(limit, (figure) => tightestName(kind, figure));
    if (scope !== "model_per_key") continue;
    const name = `x-litellm-key-remaining-${kind}-${nameOf(modelGroup)}`;
    headers[name] = String(Math.min(Number(headers[name] ?? Number.POSITIVE_INFINITY), remaining));
  }
  return headers;
}

/** A model's name as part of a header's. */
function nameOf(model: string): string {
  return model.replace(/[^\w.~-]/g, "-");
}
