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
    const isSame = (other: LimitState) => other.scope === scope && other.kind === kind;
    const isSameKind = (other: LimitState) => other.kind === kind;
    if (isTightest(limits, index, isSame)) {
      tell(headers, limit, namesOf(scope)[kind]);
      if (scope === "model_per_key" && kind !== "parallel")
        headers.push(`x-litellm-key-remaining-${kind}-${nameOf(modelGroup)}`, String(limit.remaining));
    }
    // Of several limits the caller meets the tightest first.
    if (kind !== "parallel" && isTightest(limits, index, isSameKind))
      tell(headers, limit, { limit: tightestName(kind, "limit"), remaining: tightestName(kind, "remaining") });
  }
  return headers;
}

/** Whether none of those like it leaves less, and none before it as little. There are few of them. */
function isTightest(limits: readonly LimitState[], index: number, isLike: (other: LimitState) => boolean): boolean {
  const own = limits[index]?.remaining ?? 0;
  return !limits.some(
    (other, at) => at !== index && isLike(other) && (other.remaining < own || (other.remaining === own && at < index)),
  );
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
