/** The statements that write keys. They run in a transaction that has called bumpRevision. */

import { openBudget, updateBudget, writeModelBudgets, writeWindows } from "./budget-writes.ts";
import type { BudgetLimit, KeyFields } from "./key-fields.ts";
import type { Queryable } from "./postgres.ts";
import type { StoredSecret } from "./secrets.ts";

/** A key that is not yet in the books. */
export interface KeyInsert extends StoredSecret {
  readonly keyId: string;
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
  organizationId: "organization_id",
  models: "models",
  aliases: "aliases",
  rpmLimit: "rpm_limit",
  tpmLimit: "tpm_limit",
  maxParallelRequests: "max_parallel_requests",
  metadata: "metadata",
  tags: "tags",
  blocked: "blocked",
  allowedRoutes: "allowed_routes",
  enforcedParams: "enforced_params",
  expiresAtMs: "expires_at",
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
  await openBudget(client, { scope: "key", id: key.keyId });
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
  const owner = { scope: "key", id: keyId };
  await updateBudget(client, owner, fields);
  if (windows !== undefined) await writeWindows(client, owner, windows, nowMs);
  if (fields.modelBudgets !== undefined) await writeModelBudgets(client, keyId, fields.modelBudgets, nowMs);
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
