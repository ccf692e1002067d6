import type { LimitState } from "../completion.ts";

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
 */
export function limitHeaders(limits: readonly LimitState[], modelGroup: string): Record<string, string> {
  const headers: Record<string, string> = {};
  const tell = (limit: LimitState, name: string) => {
    const known = headers[`x-ratelimit-${name.replace("#", "remaining")}`];
    // Of several limits the caller meets the tightest first.
    if (known !== undefined && Number(known) <= limit.remaining) return;
    headers[`x-ratelimit-${name.replace("#", "limit")}`] = String(limit.ceiling);
    headers[`x-ratelimit-${name.replace("#", "remaining")}`] = String(limit.remaining);
  };
  for (const limit of limits) {
    const { scope, kind, remaining } = limit;
    tell(limit, `${descriptors[scope] ?? scope}-#-${kinds[kind]}`);
    if (kind === "parallel") continue;
    tell(limit, `#-${kind}`);
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
