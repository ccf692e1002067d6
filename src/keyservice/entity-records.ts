/** Teams, users, organizations, customers and tags as they are read. */

import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { type AsOf, type BudgetRecord, readBudgets } from "./budget-records.ts";
import { type EntityFields, type EntityKind, kindWords, type UserRole } from "./entity-fields.ts";
import type { Queryable } from "./postgres.ts";

/** One entity. */
export interface EntityRecord extends EntityFields, BudgetRecord {
  readonly kind: EntityKind;
  readonly id: string;
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly updatedAtMs: number;
  readonly updatedBy: string;
  readonly version: bigint;
}

/** Its row. */
export interface EntityRow {
  scope: EntityKind;
  entity_id: string;
  alias: string | null;
  email: string | null;
  role: UserRole | null;
  organization_id: string | null;
  models: string[];
  aliases: Record<string, string>;
  rpm_limit: bigint | null;
  tpm_limit: bigint | null;
  max_parallel_requests: bigint | null;
  metadata: JsonObject;
  tags: string[];
  extra: JsonObject;
  blocked: boolean;
  created_at: Date;
  created_by: string;
  updated_at: Date;
  updated_by: string;
  version: bigint;
}

/** Rows with what their budgets are, and have spent. */
export async function withBudgets(
  client: Queryable,
  kind: EntityKind,
  rows: readonly EntityRow[],
  asOf: AsOf,
): Promise<EntityRecord[]> {
  const owners = rows.map(({ entity_id: id, metadata }) => ({ id, metadata }));
  const budgets = await readBudgets(client, kind, owners, asOf);
  return rows.flatMap((row) => {
    const budget = budgets.get(row.entity_id);
    return budget === undefined ? [] : [recordOf(row, budget)];
  });
}

/** Changes with every change of the entity. */
export function entityEtag({ version }: EntityRecord): string {
  return `v${version}`;
}

function recordOf(row: EntityRow, budget: BudgetRecord): EntityRecord {
  const count = (value: bigint | null) => (value === null ? null : Number(value));
  return {
    kind: row.scope,
    id: row.entity_id,
    alias: row.alias,
    email: row.email,
    role: row.role,
    organizationId: row.organization_id,
    models: row.models,
    aliases: row.aliases,
    rpmLimit: count(row.rpm_limit),
    tpmLimit: count(row.tpm_limit),
    maxParallelRequests: count(row.max_parallel_requests),
    metadata: row.metadata,
    tags: row.tags,
    extra: row.extra,
    blocked: row.blocked,
    ...budget,
    createdAtMs: row.created_at.getTime(),
    createdBy: row.created_by,
    updatedAtMs: row.updated_at.getTime(),
    updatedBy: row.updated_by,
    version: row.version,
  };
}

/** The scope id of a membership's budget. */
export function memberScopeId(teamId: string, userId: string): string {
  return `${userId}:${teamId}`;
}

/** @throws GatewayError `not_found`, always. */
export function noSuchEntity(kind: EntityKind, id: string): never {
  throw new GatewayError("not_found", `There is no ${kindWords[kind]} ${JSON.stringify(id.slice(0, 256))}.`, {
    param: "id",
  });
}
