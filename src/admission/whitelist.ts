import type { Grant, PartyGrant } from "../keys/authority.ts";
import { listAllows } from "../model-list.ts";

/**
 * Whether a key may use a model: its own list, and that of everything it belongs to, is empty or has one of the model's names. A
 * model has several: as the caller spelled it, what the key's alias stands for, and the group it ends in; an alias is allowed when its
 * target is.
 */
export function mayUse({ models, rules }: Grant, names: readonly string[]): boolean {
  return listAllows(models, names) && rules.every((rule) => listAllows(rule.models, names));
}

/** Whether what a call names besides its key lets it use a model. */
export function mayBeUsedFor(parties: readonly PartyGrant[], names: readonly string[]): boolean {
  return parties.every(({ models }) => listAllows(models, names));
}
