import type { LimitState } from "../completion.ts";
import type { AnswerFormat } from "./answer-format.ts";

/** LiteLLM's words, where they differ from ours. */
const descriptors: Readonly<Record<string, string>> = { key: "api_key" };
const kinds: Readonly<Record<LimitState["kind"], string>> = {
  requests: "requests",
  tokens: "tokens",
  parallel: "max_parallel_requests",
};

interface Names {
  readonly limit: string;
  readonly remaining: string;
}

/** The headers' names by scope and kind: each is made once. */
const namesByScope = new Map<string, Record<LimitState["kind"], Names>>();

/**
 * How full the caller's limits are, in LiteLLM's headers: all of them by what they belong to, and the tightest of each kind once more.
 *
 * @param modelGroup where the call went.
 * @param tightestName what the caller's wire calls the tightest.
 * @returns names and values in turn.
 */
export function limitHeaders(
  limits: readonly LimitState[],
  modelGroup: string,
  tightestName: AnswerFormat["limitHeader"],
): string[] {
  const headers: string[] = [];
  for (const [index, limit] of limits.entries()) {
    const { scope, kind } = limit;
    if (isTightest(limit, index, limits, "its scope")) {
      tell(headers, limit, namesOf(scope)[kind]);
      if (scope === "model_per_key" && kind !== "parallel")
        headers.push(`x-litellm-key-remaining-${kind}-${nameOf(modelGroup)}`, String(limit.remaining));
    }
    // Of several limits the caller meets the tightest first.
    if (kind !== "parallel" && isTightest(limit, index, limits, "all scopes"))
      tell(headers, limit, { limit: tightestName(kind, "limit"), remaining: tightestName(kind, "remaining") });
  }
  return headers;
}

/** Whether no other of its kind leaves less, and none before it as little. There are few of them. */
function isTightest(
  { scope, kind, remaining }: LimitState,
  index: number,
  limits: readonly LimitState[],
  within: "its scope" | "all scopes",
): boolean {
  for (const [at, other] of limits.entries()) {
    if (other.kind !== kind || (within === "its scope" && other.scope !== scope)) continue;
    if (other.remaining < remaining || (other.remaining === remaining && at < index)) return false;
  }
  return true;
}

function tell(headers: string[], { ceiling, remaining }: LimitState, names: Names): void {
  headers.push(names.limit, String(ceiling), names.remaining, String(remaining));
}

function namesOf(scope: string): Record<LimitState["kind"], Names> {
  const known = namesByScope.get(scope);
  if (known !== undefined) return known;
  const descriptor = descriptors[scope] ?? scope;
  const of = (kind: string): Names => ({
    limit: `x-ratelimit-${descriptor}-limit-${kind}`,
    remaining: `x-ratelimit-${descriptor}-remaining-${kind}`,
  });
  const names = { requests: of(kinds.requests), tokens: of(kinds.tokens), parallel: of(kinds.parallel) };
  namesByScope.set(scope, names);
  return names;
}

/** A model's name as part of a header's. */
function nameOf(model: string): string {
  return model.replace(/[^\w.~-]/g, "-");
}
