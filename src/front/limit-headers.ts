import type { LimitState } from "../completion.ts";

/** LiteLLM's words, where they differ from ours. */
const descriptors: Readonly<Record<string, string>> = { key: "api_key" };
const kinds: Readonly<Record<LimitState["kind"], string>> = {
  requests: "requests",
  tokens: "tokens",
  parallel: "max_parallel_requests",
};

/** What headers call a limit. */
export interface LimitNames {
  readonly limit: string;
  readonly remaining: string;
}

/** The headers' names by scope and kind: each is made once. */
const namesByScope = new Map<string, Record<LimitState["kind"], LimitNames>>();

/**
 * Adds how full the caller's limits are, in LiteLLM's headers: all of them by what they belong to, and the tightest of each kind once more.
 *
 * @param headers names and values in turn.
 * @param modelGroup where the call went.
 * @param tightest what the caller's wire calls the tightest.
 */
export function addLimitHeaders(
  headers: string[],
  limits: readonly LimitState[],
  modelGroup: string,
  tightest: Readonly<Record<"requests" | "tokens", LimitNames>>,
): void {
  for (const limit of limits) {
    const { scope, kind } = limit;
    const isOfKind = isTightest(limits, limit, undefined);
    if (isOfKind || isTightest(limits, limit, scope)) {
      tell(headers, limit, namesOf(scope)[kind]);
      if (scope === "model_per_key" && kind !== "parallel")
        headers.push(`x-litellm-key-remaining-${kind}-${nameOf(modelGroup)}`, String(limit.remaining));
    }
    // Of several limits the caller meets the tightest first.
    if (isOfKind && kind !== "parallel") tell(headers, limit, tightest[kind]);
  }
}

/**
 * Whether no other of its kind leaves less, and none before it as little. There are few of them.
 *
 * @param scope of the others; undefined: any.
 */
function isTightest(limits: readonly LimitState[], limit: LimitState, scope: string | undefined): boolean {
  let isBefore = true;
  for (const other of limits) {
    if (other === limit) isBefore = false;
    else if (other.kind === limit.kind && (scope === undefined || other.scope === scope)) {
      if (other.remaining < limit.remaining || (isBefore && other.remaining === limit.remaining)) return false;
    }
  }
  return true;
}

function tell(headers: string[], { ceiling, remaining }: LimitState, names: LimitNames): void {
  headers.push(names.limit, String(ceiling), names.remaining, String(remaining));
}

function namesOf(scope: string): Record<LimitState["kind"], LimitNames> {
  const known = namesByScope.get(scope);
  if (known !== undefined) return known;
  const descriptor = descriptors[scope] ?? scope;
  const of = (kind: string): LimitNames => ({
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
