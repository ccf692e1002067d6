import type { Grant } from "../keys/authority.ts";
import { matchWildcard } from "../wildcard.ts";

/** LiteLLM's words for "whatever the proxy has" and "whatever the team may use"; teams come later. */
const everything = new Set(["*", "all-proxy-models", "all-team-models"]);

/**
 * Whether a key may use a model: its whitelist is empty, or has one of the model's names. A model has several: as the caller
 * spelled it, what the key's alias stands for, and the group it ends in; an alias is allowed when its target is.
 */
export function mayUse(grant: Grant, names: readonly string[]): boolean {
  if (grant.models.length === 0) return true;
  return grant.models.some(
    (allowed) => everything.has(allowed) || names.some((name) => matchWildcard(allowed, name) !== undefined),
  );
}
