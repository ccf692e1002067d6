/** The statements that write keys. They run in a transaction that has called bumpRevision. */

import type { BudgetLimit, KeyFields } from "./key-fields.ts";
import { newBudgetId } from "./key-secrets.ts";
import type { Queryable } from "./postgres.ts";

/** A key that is not yet in the books. */
export interface KeyInsert {
  readonly keyId: string;
  readonly secretHmac: Buffer;
  readonly pepperId: string;
  readonly masked: string;
  readonly createdBy: string;
  /** A UUID, or undefined. */
  readonly requestId: string | undefined;
  readonly fields: Partial<KeyFields>;
  /** All its further budgets; undefined: as they are. */
  readonly windows?: readonly BudgetLimit[] | undefined;
  readonly nowMs: number;
  readonly version: bigint;
}

/** Columns by field. `extra` is not among them: what is sent of it is added to what is there. */
const keyColumns = {
  alias: "alias",
  userId: "user_id",
  teamId: "team_id",
  models: "models",
  aliases: "aliases",
  rpmLimit: "rpm_limit",
  tpmLimit: "tpm_limit",
  maxParallelRequests: "max_parallel_requests",
  metadata: "metadata",
  tags: "tags",
  blocked: "blocked",
  expiresAtMs: "expires_at",
} as const satisfies Partial<Record<keyof KeyFields, string>>;

const budgetColumns = {
  maxBudget: "max_nanos",
  softBudget: "soft_nanos",
  budgetDuration: "duration",
} as const satisfies Partial<Record<keyof KeyFields, string>>;

/** Adds a key and its budgets. */
export async function insertKey(client: Queryable, key: KeyInsert): Promise<void> {
  await client.query(
    `INSERT INTO keys (key_id, secret_hmac, pepper_id, masked, created_by, create_request_id, created_at, updated_at, version)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)`,
    [
      key.keyId,
      key.secretHmac,
      key.pepperId,
      key.masked,
      key.createdBy,
      key.requestId,
      new Date(key.nowMs),
      key.version,
    ],
  );
  await client.query("INSERT INTO budgets (budget_id, scope, scope_id) VALUES ($1, 'key', $2)", [
    newBudgetId(),
    key.keyId,
  ]);
  await updateKey(client, key);
}

/** Writes the fields that are present, the windows, and the version. */
export async function updateKey(
  client: Queryable,
  { keyId, fields, windows, nowMs, version }: Pick<KeyInsert, "keyId" | "fields" | "windows" | "nowMs" | "version">,
): Promise<void> {
  const values: unknown[] = [keyId, new Date(nowMs), version, JSON.stringify(fields.extra ?? {})];
  await client.query(
    `UPDATE keys SET updated_at = $2, version = $3, extra = extra || $4::jsonb ${assignments(keyColumns, fields, values)}
     WHERE key_id = $1`,
    values,
  );
  const budgetValues: unknown[] = [keyId];
  const budget = assignments(budgetColumns, fields, budgetValues);
  if (budget !== "") {
    const sql = `UPDATE budgets SET scope_id = scope_id ${budget} WHERE scope = 'key' AND scope_id = $1 AND place = 0`;
    await client.query(sql, budgetValues);
  }
  if (windows !== undefined) await writeWindows(client, keyId, windows, nowMs);
}

/** A window that was there before keeps what was spent in it; one that is there no more keeps its row. */
async function writeWindows(
  client: Queryable,
  keyId: string,
  windows: readonly BudgetLimit[],
  nowMs: number,
): Promise<void> {
  const durations = windows.map(({ duration }) => duration);
  await client.query(
    `UPDATE budgets SET removed_at = $3
     WHERE scope = 'key' AND scope_id = $1 AND place > 0 AND removed_at IS NULL AND duration <> ALL ($2::text[])`,
    [keyId, durations, new Date(nowMs)],
  );
  await client.query(
    `INSERT INTO budgets (budget_id, scope, scope_id, duration, max_nanos, place)
     SELECT w.budget_id, 'key', $1, w.duration, w.max_nanos, w.place
     FROM unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS w (budget_id, duration, max_nanos, place)
     ON CONFLICT (scope, scope_id, coalesce(model, ''), coalesce(duration, '')) WHERE place > 0
     DO UPDATE SET max_nanos = excluded.max_nanos, place = excluded.place, removed_at = NULL`,
    [keyId, windows.map(newBudgetId), durations, windows.map(({ max }) => max)],
  );
}

/** ", column = $5" for every present field, whose value is added to `values`. Column names come only from the tables above. */
function assignments(
  columns: Partial<Record<keyof KeyFields, string>>,
  fields: Partial<KeyFields>,
  values: unknown[],
): string {
  let sql = "";
  for (const [field, column] of Object.entries(columns)) {
    const value = fields[field as keyof KeyFields];
    if (value !== undefined) sql += `, ${column} = $${values.push(storable(field as keyof KeyFields, value))}`;
  }
  return sql;
}

function storable(field: keyof KeyFields, value: KeyFields[keyof KeyFields]): unknown {
  if (field === "metadata" || field === "aliases") return JSON.stringify(value);
  if (field === "expiresAtMs" && typeof value === "number") return new Date(value);
  return value;
}
