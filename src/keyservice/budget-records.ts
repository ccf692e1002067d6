/** Budgets as they stand in the books, whatever they belong to. */

import type { JsonObject } from "../completion.ts";
import type { Nanos } from "../money.ts";
import type { BudgetLimit, ModelBudget, TempBudget } from "./key-fields.ts";
import { isFromMetadata } from "./key-windows.ts";
import type { Queryable } from "./postgres.ts";
import { currentPeriod } from "./posting.ts";

/** How a budget stands in its current period. */
export interface Standing {
  /** What counts as used. */
  readonly spent: Nanos;
  /** Lent to pods and not yet settled. */
  readonly reserved: Nanos;
  /** When the period ends, Unix time in milliseconds; undefined: never. */
  readonly resetsAtMs: number | undefined;
}

/** A further budget. */
export interface WindowRecord extends BudgetLimit, Standing {
  /** Whether it is not one of `budgetLimits`, but made by `metadata.monthly_budget`. */
  readonly fromMetadata: boolean;
}

/** What a budget template says. */
export interface TemplateLimits {
  readonly maxBudget: Nanos | null;
  readonly softBudget: Nanos | null;
  readonly budgetDuration: string | null;
}

/** All budgets of one thing; the standing is its main budget's. */
export interface BudgetRecord extends Standing {
  readonly maxBudget: Nanos | null;
  readonly softBudget: Nanos | null;
  readonly budgetDuration: string | null;
  readonly tempBudget: TempBudget | null;
  readonly budgetId: string | null;
  /** Of that template; null without one. */
  readonly template: TemplateLimits | null;
  readonly budgetLimits: readonly BudgetLimit[];
  readonly windows: readonly WindowRecord[];
}

/** What decides which period is the current one. */
export interface AsOf {
  readonly nowMs: number;
  /** An IANA name: where budget days begin at midnight. */
  readonly timeZone: string;
}

interface BudgetRow {
  scope_id: string;
  budget_id: string;
  place: number;
  max_nanos: bigint | null;
  soft_nanos: bigint | null;
  own_duration: string | null;
  template_id: string | null;
  template_max: bigint | null;
  template_soft: bigint | null;
  template_duration: string | null;
  temp_nanos: bigint | null;
  temp_until: Date | null;
}

const untouched: Standing = { spent: 0n, reserved: 0n, resetsAtMs: undefined };

/**
 * Reads the budgets of things of one scope, by their ids.
 *
 * @param owners with their metadata, which may make a window.
 */
export async function readBudgets(
  client: Queryable,
  scope: string,
  owners: readonly { readonly id: string; readonly metadata: JsonObject }[],
  asOf: AsOf,
): Promise<ReadonlyMap<string, BudgetRecord>> {
  const rows = await client.query<BudgetRow>(
    `SELECT b.scope_id, b.budget_id, b.place, b.max_nanos, b.soft_nanos, b.duration AS own_duration, b.template_id,
       t.max_nanos AS template_max, t.soft_nanos AS template_soft, t.duration AS template_duration,
       b.temp_nanos, b.temp_until
     FROM budgets b LEFT JOIN budget_templates t USING (template_id)
     WHERE b.scope = $1 AND b.scope_id = ANY ($2::text[]) AND (b.place = 0 OR b.removed_at IS NULL) ORDER BY b.place`,
    [scope, owners.map(({ id }) => id)],
  );
  const standings = await readStandings(client, rows, asOf);
  const byOwner = Map.groupBy(rows, (row) => row.scope_id);
  return new Map(owners.map(({ id, metadata }) => [id, recordOf(byOwner.get(id) ?? [], metadata, standings)]));
}

function recordOf(rows: readonly BudgetRow[], metadata: JsonObject, standings: Standings): BudgetRecord {
  const main = rows.find(({ place }) => place === 0);
  const windows = rows.flatMap((row) => {
    if (row.place === 0 || row.own_duration === null || row.max_nanos === null) return [];
    const window = { duration: row.own_duration, max: row.max_nanos };
    const standing = standings.get(row.budget_id) ?? untouched;
    return { ...window, ...standing, fromMetadata: isFromMetadata(window, metadata) };
  });
  return {
    maxBudget: main?.max_nanos ?? null,
    softBudget: main?.soft_nanos ?? null,
    budgetDuration: main?.own_duration ?? null,
    tempBudget: main === undefined ? null : tempBudgetOf(main),
    budgetId: main?.template_id ?? null,
    template:
      main === undefined || main.template_id === null
        ? null
        : { maxBudget: main.template_max, softBudget: main.template_soft, budgetDuration: main.template_duration },
    ...((main && standings.get(main.budget_id)) ?? untouched),
    budgetLimits: windows.filter(({ fromMetadata }) => !fromMetadata),
    windows,
  };
}

function tempBudgetOf({ temp_nanos: increase, temp_until }: BudgetRow): TempBudget | null {
  return increase === null || temp_until === null ? null : { increase, untilMs: temp_until.getTime() };
}

/** Reads keys' budgets of models, in the operator's order, by key. */
export async function readModelBudgets(
  client: Queryable,
  keyIds: readonly string[],
): Promise<ReadonlyMap<string, readonly ModelBudget[]>> {
  const rows = await client.query<{ scope_id: string; model: string; duration: string | null; max_nanos: bigint }>(
    `SELECT scope_id, model, duration, max_nanos FROM budgets
     WHERE scope = 'model' AND scope_id = ANY ($1::text[]) AND removed_at IS NULL ORDER BY place`,
    [keyIds],
  );
  const byKey = Map.groupBy(rows, ({ scope_id }) => scope_id);
  return new Map(
    [...byKey].map(([id, budgets]) => [
      id,
      budgets.map(({ model, duration, max_nanos: max }) => ({ model, duration, max })),
    ]),
  );
}

type Standings = ReadonlyMap<string, Standing>;

/** By budget id. */
async function readStandings(client: Queryable, budgets: readonly BudgetRow[], asOf: AsOf): Promise<Standings> {
  const periods = budgets.map(({ budget_id, own_duration, template_duration }) =>
    currentPeriod({ budget_id, duration: own_duration ?? template_duration }, asOf.nowMs, asOf.timeZone),
  );
  const rows = await client.query<{ budget_id: string; spent: bigint; reserved: bigint }>(
    `SELECT p.budget_id, p.spent_nanos - p.forgiven_nanos AS spent, p.reserved_nanos AS reserved
     FROM unnest($1::text[], $2::timestamptz[]) AS wanted (budget_id, period_start)
     JOIN budget_periods p USING (budget_id, period_start)`,
    [periods.map(({ budgetId }) => budgetId), periods.map(({ start }) => start)],
  );
  const totals = new Map(rows.map((row) => [row.budget_id, row]));
  return new Map(
    periods.map(({ budgetId, end }) => {
      const { spent, reserved } = totals.get(budgetId) ?? untouched;
      return [budgetId, { spent, reserved, resetsAtMs: end?.getTime() }];
    }),
  );
}
