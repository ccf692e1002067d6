import type { Grant, PartyGrant } from "../keys/authority.ts";
import { matchWildcard } from "../wildcard.ts";

/** LiteLLM's words for "whatever the proxy has" and "whatever the team may use"; the team has its own say in any case. */
const everything = new Set(["*", "all-proxy-models", "all-team-models"]);
/** LiteLLM's word for "nothing unless it is granted elsewhere". */
const nothing = "no-default-models";

/**
 * Whether a key may use a model: its own list, and that of everything it belongs to, is empty or has one of the model's names. A
 * model has several: as the caller spelled it, what the key's alias stands for, and the group it ends in; an alias is allowed when its
 * target is.
 */
export function mayUse({ models, rules }: Grant, names: readonly string[]): boolean {
  return allows(models, names) && rules.every((rule) => allows(rule.models, names));
}

/** Whether what a call names besides its key lets it use a model. */
export function mayBeUsedFor(parties: readonly PartyGrant[], names: readonly string[]): boolean {
  return parties.every(({ models }) => allows(models, names));
}

function allows(list: readonly string[], names: readonly string[]): boolean {
  if (list.length === 0) return true;
  return list.some(
    (allowed) =>
      everything.has(allowed) ||
      (allowed !== nothing && names.some((name) => matchWildcard(allowed, name) !== undefined)),
  );
}
