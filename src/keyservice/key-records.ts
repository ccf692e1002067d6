/** Keys as they stand in the books, with what they have spent. */

import type { JsonObject } from "../completion.ts";
import type { Nanos } from "../money.ts";
import type { BudgetLimit, KeyFields } from "./key-fields.ts";
import { isFromMetadata } from "./key-windows.ts";
import type { Queryable } from "./postgres.ts";
import { currentPeriod } from "./posting.ts";

/** How a budget stands in its current period. */
export interface Standing {
  readonly spent: Nanos;
  /** Lent to pods and not yet settled. */
  readonly reserved: Nanos;
  /** When the period ends, Unix time in milliseconds; undefined: never. */
  readonly resetsAtMs: number | undefined;
}

/** A further budget of a key. */
export interface WindowRecord extends BudgetLimit, Standing {
  /** Whether it is not one of `budgetLimits`, but made by `metadata.monthly_budget`. */
  readonly fromMetadata: boolean;
}

/** One key; its standing is its main budget's. */
export interface KeyRecord extends KeyFields, Standing {
  readonly keyId: string;
  /** The secret's prefix and last four characters. */
  readonly masked: string;
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly updatedAtMs: number;
  /** The books' version of its last change. */
  readonly version: bigint;
  readonly deletedAtMs: number | undefined;
  /** All further budgets: `budgetLimits`, and what `metadata` adds. */
  readonly windows: readonly WindowRecord[];
  /** Where it stands in the list, newest first. */
  readonly place: KeyPlace;
}

/** A key's place in a list that is ordered by age. */
export interface KeyPlace {
  /** When it was made, Unix time in microseconds, as the database has it. */
  readonly createdAtUs: bigint;
  readonly keyId: string;
}

interface KeyRow {
  key_id: string;
  masked: string;
  alias: string | null;
  user_id: string | null;
  team_id: string | null;
  models: string[];
  aliases: Record<string, string>;
  rpm_limit: bigint | null;
  tpm_limit: bigint | null;
  max_parallel_requests: bigint | null;
  metadata: JsonObject;
  tags: string[];
  extra: JsonObject;
  blocked: boolean;
  expires_at: Date | null;
  created_at: Date;
  created_at_us: bigint;
  created_by: string;
  updated_at: Date;
  version: bigint;
  deleted_at: Date | null;
  budget_id: string;
  max_nanos: bigint | null;
  soft_nanos: bigint | null;
  duration: string | null;
}

interface WindowRow {
  key_id: string;
  budget_id: string;
  max_nanos: bigint;
  duration: string;
}

/** Which keys: a condition on `keys k`, and possibly an order and a limit. */
export interface KeySelection {
  /** SQL from WHERE on, made of constant text only; what varies is in `values`. */
  readonly where: string;
  readonly values: readonly unknown[];
}

/** What decides which period is the current one. */
export interface AsOf {
  readonly nowMs: number;
  /** An IANA name: where budget days begin at midnight. */
  readonly timeZone: string;
}

/** Reads the keys of a selection, in its order, with what they have spent in the current period. */
export async function readKeys(client: Queryable, selection: KeySelection, asOf: AsOf): Promise<KeyRecord[]> {
  const rows = await client.query<KeyRow>(
    `SELECT k.key_id, k.masked, k.alias, k.user_id, k.team_id, k.models, k.aliases, k.rpm_limit, k.tpm_limit,
       k.max_parallel_requests, k.metadata, k.tags, k.extra, k.blocked, k.expires_at, k.created_at, k.created_by,
       (extract(epoch FROM k.created_at) * 1000000)::bigint AS created_at_us,
       k.updated_at, k.version, k.deleted_at, b.budget_id, b.max_nanos, b.soft_nanos, b.duration
     FROM keys k JOIN budgets b ON b.scope = 'key' AND b.scope_id = k.key_id AND b.place = 0 ${selection.where}`,
    selection.values,
  );
  const windows = await readWindows(
    client,
    rows.map((row) => row.key_id),
  );
  const standings = await readStandings(client, [...rows, ...windows], asOf);
  const windowsByKey = Map.groupBy(windows, (window) => window.key_id);
  return rows.map((row) => recordOf(row, windowsByKey.get(row.key_id) ?? [], standings));
}

async function readWindows(client: Queryable, keyIds: readonly string[]): Promise<WindowRow[]> {
  return client.query<WindowRow>(
    `SELECT scope_id AS key_id, budget_id, max_nanos, duration FROM budgets
     WHERE scope = 'key' AND scope_id = ANY ($1::text[]) AND place > 0 AND removed_at IS NULL ORDER BY place`,
    [keyIds],
  );
}

type Standings = ReadonlyMap<string, Standing>;

/** By budget id. */
async function readStandings(
  client: Queryable,
  budgets: readonly { readonly budget_id: string; readonly duration: string | null }[],
  asOf: AsOf,
): Promise<Standings> {
  const periods = budgets.map((budget) => currentPeriod(budget, asOf.nowMs, asOf.timeZone));
  const rows = await client.query<{ budget_id: string; spent: bigint; reserved: bigint }>(
    `SELECT p.budget_id, p.spent_nanos AS spent, p.reserved_nanos AS reserved
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

const untouched: Standing = { spent: 0n, reserved: 0n, resetsAtMs: undefined };

function recordOf(row: KeyRow, windowRows: readonly WindowRow[], standings: Standings): KeyRecord {
  const windows = windowRows.map((window) => ({
    duration: window.duration,
    max: window.max_nanos,
    ...(standings.get(window.budget_id) ?? untouched),
    fromMetadata: isFromMetadata(window, row.metadata),
  }));
  return {
    keyId: row.key_id,
    masked: row.masked,
    alias: row.alias,
    userId: row.user_id,
    teamId: row.team_id,
    models: row.models,
    aliases: row.aliases,
    maxBudget: row.max_nanos,
    softBudget: row.soft_nanos,
    budgetDuration: row.duration,
    budgetLimits: windows.filter(({ fromMetadata }) => !fromMetadata),
    rpmLimit: numberOf(row.rpm_limit),
    tpmLimit: numberOf(row.tpm_limit),
    maxParallelRequests: numberOf(row.max_parallel_requests),
    metadata: row.metadata,
    tags: row.tags,
    extra: row.extra,
    blocked: row.blocked,
    expiresAtMs: row.expires_at?.getTime() ?? null,
    createdAtMs: row.created_at.getTime(),
    createdBy: row.created_by,
    updatedAtMs: row.updated_at.getTime(),
    version: row.version,
    deletedAtMs: row.deleted_at?.getTime(),
    ...(standings.get(row.budget_id) ?? untouched),
    windows,
    place: { createdAtUs: row.created_at_us, keyId: row.key_id },
  };
}

/** Limits are checked to be safe integers before they are stored. */
function numberOf(count: bigint | null): number | null {
  return count === null ? null : Number(count);
}
