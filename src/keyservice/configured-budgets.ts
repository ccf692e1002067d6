/** Budgets that sidecars' configurations give providers, deployments and tags: held here, over all sidecars together. */

import type { Nanos } from "../money.ts";
import { type AsOf, readBudgets } from "./budget-records.ts";
import type { GrantedBudget, Party, PartyGrant } from "./grants.ts";
import { newBudgetId } from "./key-secrets.ts";
import type { Queryable } from "./postgres.ts";
import type { ProviderBudget, ProviderBudgets } from "./provider-budgets.ts";

/** The scope of tags' configured budgets; those an operator has given the tag are of the tag itself. */
export const configuredTag = "configured_tag";

/** Something, and the budget that a configuration gives it. */
export interface ConfiguredParty {
  readonly scope: "provider" | "deployment" | "tag";
  readonly id: string;
  /** `duration` null: it never resets. */
  readonly budget: { readonly max: Nanos; readonly duration: string | null };
}

/** Whether a party's budget is a configuration's. */
export function isConfigured(party: Party | ConfiguredParty): party is ConfiguredParty {
  return "budget" in party;
}

/** What holds for it: that budget, and nothing else. */
export type ConfiguredGrant = Omit<PartyGrant, "scope"> & Pick<ConfiguredParty, "scope">;

interface HeldRow {
  scope: string;
  scope_id: string;
  budget_id: string;
}

/**
 * Makes the budgets, or makes them what they are to be: what was spent of one stays, and the last sidecar that says what it is to be is
 * right. Nobody has to hear of that: a budget's id stays, and whoever lends looks at what it is now.
 */
const holdSql = `
  WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
      AS w (budget_id, scope, scope_id, max_nanos, duration)
  ), held AS (
    INSERT INTO budgets AS b (budget_id, scope, scope_id, max_nanos, duration)
    SELECT w.* FROM wanted w ORDER BY scope, scope_id
    ON CONFLICT (scope, scope_id) WHERE place = 0
    DO UPDATE SET max_nanos = excluded.max_nanos, duration = excluded.duration
    WHERE b.max_nanos IS DISTINCT FROM excluded.max_nanos OR b.duration IS DISTINCT FROM excluded.duration
    RETURNING b.scope, b.scope_id, b.budget_id
  )
  SELECT * FROM held
  UNION SELECT b.scope, b.scope_id, b.budget_id FROM budgets b JOIN wanted w USING (scope, scope_id) WHERE b.place = 0`;

/** Somebody else has made one of them at the same moment; then it is there the next time. */
const triesMax = 3;

/** What holds for things with configured budgets, in the order given. */
export async function holdConfigured(
  books: Queryable,
  parties: readonly ConfiguredParty[],
): Promise<ConfiguredGrant[]> {
  // A statement cannot change a row twice.
  const wanted = [...new Map(parties.map((party) => [nameOf(party), party])).values()];
  const values = [
    wanted.map(newBudgetId),
    wanted.map(({ scope }) => scopeOf(scope)),
    wanted.map(({ id }) => id),
    wanted.map(({ budget }) => budget.max),
    wanted.map(({ budget }) => budget.duration),
  ];
  for (let tries = 0; tries < triesMax; tries++) {
    const rows = wanted.length === 0 ? [] : await books.query<HeldRow>(holdSql, values);
    const ids = new Map(rows.map((row) => [`${row.scope} ${row.scope_id}`, row.budget_id]));
    if (ids.size === wanted.length) return parties.map((party) => grantOf(party, ids.get(nameOf(party)) ?? ""));
  }
  throw new Error("Configured budgets do not appear.");
}

/** Those of providers, as they stand. */
export class ConfiguredProviderBudgets implements ProviderBudgets {
  readonly #books: Queryable;
  readonly #asOf: () => AsOf;

  constructor(parts: { readonly books: Queryable; readonly asOf: () => AsOf }) {
    this.#books = parts.books;
    this.#asOf = parts.asOf;
  }

  async list(): Promise<readonly ProviderBudget[]> {
    const sql = "SELECT scope_id FROM budgets WHERE scope = 'provider' AND place = 0 ORDER BY scope_id";
    const owners = (await this.#books.query<{ scope_id: string }>(sql)).map(({ scope_id: id }) => ({
      id,
      metadata: {},
    }));
    const budgets = await readBudgets(this.#books, "provider", owners, this.#asOf());
    return [...budgets].map(([provider, { maxBudget, budgetDuration, spent, resetsAtMs }]) => {
      return { provider, max: maxBudget ?? 0n, duration: budgetDuration, spent, resetsAtMs };
    });
  }
}

function grantOf({ scope, id, budget }: ConfiguredParty, budgetId: string): ConfiguredGrant {
  const granted: GrantedBudget = {
    ...{ budgetId, scope: scopeOf(scope), scopeId: id, max: budget.max, duration: budget.duration, model: null },
  };
  return { scope, id, limits: [], budgets: [granted], models: [], blocked: false, region: "" };
}

function nameOf({ scope, id }: ConfiguredParty): string {
  return `${scopeOf(scope)} ${id}`;
}

function scopeOf(scope: ConfiguredParty["scope"]): string {
  return scope === "tag" ? configuredTag : scope;
}
