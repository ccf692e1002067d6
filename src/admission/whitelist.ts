import type { Deployment } from "../config/config.ts";
import type { Grant, PartyGrant } from "../keys/authority.ts";
import { listAllows } from "../model-list.ts";

/**
 * A model that somebody wants to use. It has several names: as the caller spelled it, what the key's alias stands for, and the group it
 * ends in; an alias is allowed when its target is.
 */
interface WantedModel {
  readonly names: readonly string[];
  /** All there are of it: a list may name an access group that one of them is in. */
  readonly deployments: readonly Pick<Deployment, "accessGroups">[];
}

/** Whether a key may use a model: its own list, and that of everything it belongs to, is empty or has it. */
export function mayUse({ models, rules }: Grant, model: WantedModel): boolean {
  return isListed(models, model) && rules.every((rule) => isListed(rule.models, model));
}

/** Whether what a call names besides its key lets it use a model. */
export function mayBeUsedFor(parties: readonly PartyGrant[], model: WantedModel): boolean {
  return parties.every(({ models }) => isListed(models, model));
}

function isListed(list: readonly string[], { names, deployments }: WantedModel): boolean {
  return listAllows(list, names) || deployments.some(({ accessGroups }) => isInGroup(list, accessGroups));
}

function isInGroup(list: readonly string[], accessGroups: readonly string[] | undefined): boolean {
  return accessGroups?.some((group) => list.includes(group)) ?? false;
}
