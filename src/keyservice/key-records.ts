/** Keys as they stand in the books, with what they have spent. */

import type { JsonObject } from "../completion.ts";
import {
  type AsOf,
  type BudgetRecord,
  readBudgets,
  readModelBudgets,
  type Standing,
  type TemplateLimits,
  type WindowRecord,
} from "./budget-records.ts";
import type { KeyFields, ModelBudget } from "./key-fields.ts";
import type { Queryable } from "./postgres.ts";

/** One key; its standing is its main budget's. */
export interface KeyRecord extends KeyFields, Standing {
  readonly keyId: string;
  /** The secret's prefix and last four characters. */
  readonly masked: string;
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly updatedAtMs: number;
  /** How often its secret was replaced. */
  readonly rotationCount: number;
  /** When that was last done. */
  readonly rotatedAtMs: number | undefined;
  /** The books' version of its last change. */
  readonly version: bigint;
  readonly deletedAtMs: number | undefined;
  /** All further budgets: `budgetLimits`, and what `metadata` adds. */
  readonly windows: readonly WindowRecord[];
  readonly template: TemplateLimits | null;
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
  organization_id: string | null;
  models: string[];
  aliases: Record<string, string>;
  rpm_limit: bigint | null;
  tpm_limit: bigint | null;
  max_parallel_requests: bigint | null;
  metadata: JsonObject;
  tags: string[];
  allowed_routes: string[];
  enforced_params: string[];
  extra: JsonObject;
  blocked: boolean;
  expires_at: Date | null;
  created_at: Date;
  created_at_us: bigint;
  created_by: string;
  updated_at: Date;
  version: bigint;
  deleted_at: Date | null;
  rotation_count: number;
  rotated_at: Date | null;
}

/** Which keys: a condition on `keys k`, and possibly an order and a limit. */
export interface KeySelection {
  /** SQL from WHERE on, made of constant text only; what varies is in `values`. */
  readonly where: string;
  readonly values: readonly unknown[];
}

/** Reads the keys of a selection, in its order, with what they have spent in the current period. */
export async function readKeys(client: Queryable, selection: KeySelection, asOf: AsOf): Promise<KeyRecord[]> {
  const rows = await client.query<KeyRow>(
    `SELECT k.key_id, k.masked, k.alias, k.user_id, k.team_id, k.models, k.aliases, k.rpm_limit, k.tpm_limit,
       k.max_parallel_requests, k.metadata, k.tags, k.extra, k.blocked, k.expires_at, k.created_at, k.created_by,
       (extract(epoch FROM k.created_at) * 1000000)::bigint AS created_at_us,
       k.organization_id, k.updated_at, k.version, k.deleted_at, k.rotation_count, k.rotated_at,
       k.allowed_routes, k.enforced_params
     FROM keys k ${selection.where}`,
    selection.values,
  );
  const keyIds = rows.map((row) => row.key_id);
  const owners = rows.map(({ key_id: id, metadata }) => ({ id, metadata }));
  const budgets = await readBudgets(client, "key", owners, asOf);
  const modelBudgets = await readModelBudgets(client, keyIds);
  return rows.flatMap((row) => {
    const budget = budgets.get(row.key_id);
    return budget === undefined ? [] : recordOf(row, budget, modelBudgets.get(row.key_id) ?? []);
  });
}

function recordOf(row: KeyRow, budget: BudgetRecord, modelBudgets: readonly ModelBudget[]): KeyRecord {
  return {
    keyId: row.key_id,
    masked: row.masked,
    alias: row.alias,
    userId: row.user_id,
    teamId: row.team_id,
    models: row.models,
    aliases: row.aliases,
    organizationId: row.organization_id,
    modelBudgets,
    ...budget,
    rpmLimit: numberOf(row.rpm_limit),
    tpmLimit: numberOf(row.tpm_limit),
    maxParallelRequests: numberOf(row.max_parallel_requests),
    metadata: row.metadata,
    tags: row.tags,
    allowedRoutes: row.allowed_routes,
    enforcedParams: row.enforced_params,
    extra: row.extra,
    blocked: row.blocked,
    expiresAtMs: row.expires_at?.getTime() ?? null,
    createdAtMs: row.created_at.getTime(),
    createdBy: row.created_by,
    updatedAtMs: row.updated_at.getTime(),
    rotationCount: row.rotation_count,
    rotatedAtMs: row.rotated_at?.getTime(),
    version: row.version,
    deletedAtMs: row.deleted_at?.getTime(),
    place: { createdAtUs: row.created_at_us, keyId: row.key_id },
  };
}

/** Limits are checked to be safe integers before they are stored. */
function numberOf(count: bigint | null): number | null {
  return count === null ? null : Number(count);
}

/** Changes with every change of the key. */
export function etagOf(key: KeyRecord): string {
  return `v${key.version}`;
}
