/** The statements that write budgets, whatever they belong to. They run in a transaction that has called bumpRevision. */

import type { Nanos } from "../money.ts";
import type { BudgetLimit, ModelBudget, TempBudget } from "./key-fields.ts";
import { newBudgetId } from "./key-secrets.ts";
import type { Queryable } from "./postgres.ts";

/** What a budget belongs to. */
export interface BudgetOwner {
  readonly scope: string;
  readonly id: string;
}

/** A main budget's fields. Absent: as they are. */
export interface BudgetFields {
  readonly maxBudget?: Nanos | null | undefined;
  readonly softBudget?: Nanos | null | undefined;
  readonly budgetDuration?: string | null | undefined;
  readonly tempBudget?: TempBudget | null | undefined;
  /** A budget template. */
  readonly budgetId?: string | null | undefined;
}

const columns = {
  maxBudget: "max_nanos",
  softBudget: "soft_nanos",
  budgetDuration: "duration",
  budgetId: "template_id",
} as const satisfies Partial<Record<keyof BudgetFields, string>>;

/** Makes the main budget of something. One that was removed comes back, with what was spent. */
export async function openBudget(client: Queryable, { scope, id }: BudgetOwner): Promise<void> {
  await client.query(
    `INSERT INTO budgets (budget_id, scope, scope_id) VALUES ($1, $2, $3)
     ON CONFLICT (scope, scope_id) WHERE place = 0
     DO UPDATE SET removed_at = NULL, max_nanos = NULL, soft_nanos = NULL, duration = NULL, template_id = NULL,
       temp_nanos = NULL, temp_until = NULL`,
    [newBudgetId(), scope, id],
  );
}

/** What it belongs to is gone: none of its budgets limits anything any more. */
export async function closeBudgets(client: Queryable, { scope, id }: BudgetOwner, nowMs: number): Promise<void> {
  await client.query("UPDATE budgets SET removed_at = $3 WHERE scope = $1 AND scope_id = $2 AND removed_at IS NULL", [
    scope,
    id,
    new Date(nowMs),
  ]);
}

/** Writes the fields that are present. */
export async function updateBudget(client: Queryable, { scope, id }: BudgetOwner, fields: BudgetFields): Promise<void> {
  const values: unknown[] = [scope, id];
  const changes = Object.entries(columns).flatMap(([field, column]) => {
    const value = fields[field as keyof BudgetFields];
    return value === undefined ? [] : [`${column} = $${values.push(value)}`];
  });
  const { tempBudget } = fields;
  if (tempBudget !== undefined) {
    const untilMs = tempBudget?.untilMs;
    changes.push(`temp_nanos = $${values.push(tempBudget?.increase ?? null)}`);
    changes.push(`temp_until = $${values.push(untilMs === undefined ? null : new Date(untilMs))}`);
  }
  if (changes.length === 0) return;
  await client.query(
    `UPDATE budgets SET ${changes.join(", ")} WHERE scope = $1 AND scope_id = $2 AND place = 0`,
    values,
  );
}

/** A window that was there before keeps what was spent in it; one that is there no more keeps its row. */
export async function writeWindows(
  client: Queryable,
  owner: BudgetOwner,
  windows: readonly BudgetLimit[],
  nowMs: number,
): Promise<void> {
  await writeFurther(
    client,
    owner,
    windows.map(({ duration, max }) => ({ model: null, duration, max })),
    nowMs,
  );
}

/** The same for a key's budgets of models. */
export async function writeModelBudgets(
  client: Queryable,
  keyId: string,
  budgets: readonly ModelBudget[],
  nowMs: number,
): Promise<void> {
  await writeFurther(client, { scope: "model", id: keyId }, budgets, nowMs);
}

async function writeFurther(
  client: Queryable,
  { scope, id }: BudgetOwner,
  budgets: readonly { readonly model: string | null; readonly duration: string | null; readonly max: Nanos }[],
  nowMs: number,
): Promise<void> {
  const models = budgets.map(({ model }) => model);
  const durations = budgets.map(({ duration }) => duration);
  await client.query(
    `UPDATE budgets b SET removed_at = $5
     WHERE scope = $1 AND scope_id = $2 AND place > 0 AND removed_at IS NULL AND NOT EXISTS (
       SELECT FROM unnest($3::text[], $4::text[]) AS w (model, duration)
       WHERE w.model IS NOT DISTINCT FROM b.model AND w.duration IS NOT DISTINCT FROM b.duration)`,
    [scope, id, models, durations, new Date(nowMs)],
  );
  await client.query(
    `INSERT INTO budgets (budget_id, scope, scope_id, model, duration, max_nanos, place)
     SELECT w.budget_id, $1, $2, w.model, w.duration, w.max_nanos, w.place
     FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[]) WITH ORDINALITY
       AS w (budget_id, model, duration, max_nanos, place)
     ON CONFLICT (scope, scope_id, coalesce(model, ''), coalesce(duration, '')) WHERE place > 0
     DO UPDATE SET max_nanos = excluded.max_nanos, place = excluded.place, removed_at = NULL`,
    [scope, id, budgets.map(newBudgetId), models, durations, budgets.map(({ max }) => max)],
  );
}
