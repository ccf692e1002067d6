/** What a list of models that may be used means, in LiteLLM's words. */

import { matchWildcard } from "./wildcard.ts";

/** LiteLLM's words for "whatever the proxy has" and "whatever the team may use"; the team has its own say in any case. */
const everything = new Set(["*", "all-proxy-models", "all-team-models"]);
/** LiteLLM's word for "nothing unless it is granted elsewhere". */
const nothing = "no-default-models";

/** Whether a list allows a model by one of its names. An empty one allows everything. */
export function listAllows(list: readonly string[], names: readonly string[]): boolean {
  if (list.length === 0) return true;
  return list.some(
    (allowed) =>
      everything.has(allowed) ||
      (allowed !== nothing && names.some((name) => matchWildcard(allowed, name) !== undefined)),
  );
}
