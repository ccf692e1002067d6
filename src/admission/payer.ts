import type { ConfiguredBudget } from "../config/configured-budget.ts";
import type { Grant, Party, PartyGrant, Payer } from "../keys/authority.ts";
import { matchWildcard } from "../wildcard.ts";

/** What a call names besides its key, and what holds for it. */
export interface Named {
  /** Of the call and its key, without repeats. */
  readonly tags: readonly string[];
  /** Its end user and those of its tags that the books or the configuration know. */
  readonly parties: readonly PartyGrant[];
}

/**
 * What a call names besides its key, as far as the books know any such things.
 *
 * @param tagBudgets the configuration's, by tag.
 */
export function partiesOf(
  { partyScopes }: Pick<Grant, "partyScopes">,
  endUser: string | undefined,
  tags: readonly string[],
  tagBudgets: ReadonlyMap<string, ConfiguredBudget>,
): readonly Party[] {
  if (partyScopes.length === 0 && tagBudgets.size === 0) return [];
  const parties: Party[] = [];
  if (endUser !== undefined && endUser !== "" && partyScopes.includes("end_user")) {
    parties.push({ scope: "end_user", id: endUser });
  }
  if (partyScopes.includes("tag")) for (const id of tags) parties.push({ scope: "tag", id });
  if (tagBudgets.size > 0) parties.push(...tags.flatMap((id) => tagBudgets.get(id) ?? []));
  return parties;
}

/**
 * Who pays for a call.
 *
 * @param parties what holds for what the call names besides its key.
 * @param models the names of the model it is to, from the caller's spelling to the group it ends in.
 */
export function payerOf(grant: Grant, parties: readonly PartyGrant[], models: readonly string[]): Payer {
  const { payer, modelBudgets, modelLimits } = grant;
  if (parties.length === 0 && modelBudgets.length === 0 && modelLimits.length === 0) return payer;
  const isNamed = (model: string) => models.some((name) => matchWildcard(model, name) !== undefined);
  const extra = [
    ...modelBudgets.flatMap(({ model, budget }) => (isNamed(model) ? [budget] : [])),
    ...parties.flatMap(({ budgets }) => budgets),
  ];
  const limits = [
    ...modelLimits.flatMap(({ model, limit }) => (isNamed(model) ? [limit] : [])),
    ...parties.flatMap((party) => party.limits),
  ];
  if (extra.length === 0 && limits.length === 0) return payer;
  const extraBudgetIds = extra.map(({ budgetId }) => budgetId).sort();
  return {
    id: [payer.keyId, ...extraBudgetIds].join(" "),
    keyId: payer.keyId,
    limits: [...payer.limits, ...limits],
    budgets: [...payer.budgets, ...extra],
    extraBudgetIds,
  };
}

/** Where a call must be answered, by what it names; undefined: anywhere. */
export function regionOf({ parties }: Named): string | undefined {
  return parties.find(({ region }) => region !== undefined)?.region;
}

/** Who pays for attempts where a deployment or its provider has budgets too. */
export function payerAt(payer: Payer, parties: readonly PartyGrant[]): Payer {
  const extra = parties.flatMap(({ budgets }) => budgets);
  const extraBudgetIds = [...payer.extraBudgetIds, ...extra.map(({ budgetId }) => budgetId)].sort();
  return {
    ...payer,
    id: [payer.keyId, ...extraBudgetIds].join(" "),
    budgets: [...payer.budgets, ...extra],
    extraBudgetIds,
  };
}
