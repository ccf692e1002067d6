/** Administration of teams, users, organizations, customers and tags: what both faces come down to. */

import type { Clock } from "../clock.ts";
import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { type AsOf, type BudgetRecord, readBudgets } from "./budget-records.ts";
import { isUnknownTemplate, noSuchTemplate } from "./budget-templates.ts";
import { closeBudgets, openBudget, updateBudget, writeWindows } from "./budget-writes.ts";
import { bumpRevision, everything } from "./changes.ts";
import {
  checkEntity,
  checkEntityId,
  type EntityChange,
  type EntityFields,
  type EntityKind,
  type EntityNames,
  kindWords,
  noFields,
  type UserRole,
} from "./entity-fields.ts";
import { requireEtag } from "./key-fields.ts";
import { windowsOf } from "./key-windows.ts";
import type { Operator } from "./operator.ts";
import type { Database, Queryable } from "./postgres.ts";
import { isPermissionsOnly } from "./team-permissions.ts";

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

interface EntityRow {
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

/** An entity to be made, or a change to one. */
export interface EntityWish {
  readonly id: string;
  readonly change: EntityChange;
  /** What the caller's face calls the fields. */
  readonly names: EntityNames;
  /** The etag the caller has seen; undefined: whatever it is now. */
  readonly etag?: string | undefined;
  /** A UUID; a repeated one returns the entity of the first. */
  readonly requestId?: string | undefined;
}

/** Which entities a list holds. */
export interface EntityFilter {
  readonly ids?: readonly string[] | undefined;
  readonly organizationId?: string | undefined;
  /** Only those this user is a member of. */
  readonly memberId?: string | undefined;
  readonly alias?: string | undefined;
  readonly email?: string | undefined;
  readonly role?: string | undefined;
}

/** What is found of a list. */
export interface EntityPage {
  readonly entities: EntityRecord[];
  readonly total: number;
}

/** Columns by field. `extra` is not among them: what is sent of it is added to what is there. */
const columns = {
  alias: "alias",
  email: "email",
  role: "role",
  organizationId: "organization_id",
  models: "models",
  aliases: "aliases",
  rpmLimit: "rpm_limit",
  tpmLimit: "tpm_limit",
  maxParallelRequests: "max_parallel_requests",
  metadata: "metadata",
  tags: "tags",
  blocked: "blocked",
} as const satisfies Partial<Record<keyof EntityFields, string>>;

/** Those. A change is in force on every sidecar as soon as that has heard of it. Every method may throw `keyservice_unavailable`. */
export class Entities {
  readonly #postgres: Database;
  readonly #clock: Clock;
  readonly #timeZone: string;

  readonly #operator: Operator;

  constructor(parts: {
    readonly postgres: Database;
    readonly clock: Clock;
    readonly timeZone: string;
    /** Who does it: what he may not, is refused, and what he may not see, is not in lists. */
    readonly operator: Operator;
  }) {
    this.#operator = parts.operator;
    this.#postgres = parts.postgres;
    this.#clock = parts.clock;
    this.#timeZone = parts.timeZone;
  }

  /** @throws GatewayError `invalid_request`, `already_exists`. */
  async create(kind: EntityKind, wish: EntityWish): Promise<EntityRecord> {
    const { id, change, names, requestId } = wish;
    if (kind === "team") this.#operator.checkOrganization(change.organizationId ?? null);
    else this.#operator.checkAccess("admin");
    checkEntityId(kind, id, names);
    checkEntity(change, names);
    const windows = windowsOf({ ...noFields, ...change }, names);
    return this.#transact(names, async (client) => {
      const isFirst = await this.#isFirst(client, kind);
      const version = await bumpRevision(client, isFirst ? everything : { scope: kind, id });
      const known = await this.#knownRow(client, kind, id);
      if (known !== undefined && known.deleted_at === null) {
        if (requestId !== undefined && known.create_request_id === requestId) return this.#reread(client, kind, id);
        throw new GatewayError("already_exists", `There is a ${kindWords[kind]} with this \`${names.id}\` already.`, {
          param: names.id,
        });
      }
      const now = new Date(this.#clock.nowMs());
      await client.query("DELETE FROM entities WHERE scope = $1 AND entity_id = $2", [kind, id]);
      await client.query(
        `INSERT INTO entities (scope, entity_id, created_at, created_by, updated_at, updated_by, version, create_request_id)
         VALUES ($1, $2, $3, $4, $3, $4, $5, $6)`,
        [kind, id, now, this.#operator.name, version, requestId ?? null],
      );
      await openBudget(client, { scope: kind, id });
      if (kind === "team") await this.#addMaker(client, id, now);
      await this.#write(client, kind, wish, version);
      await writeWindows(client, { scope: kind, id }, windows, now.getTime());
      return this.#reread(client, kind, id);
    });
  }

  /** @throws GatewayError `not_found`. */
  async get(kind: EntityKind, id: string): Promise<EntityRecord> {
    return (await this.find(kind, id)) ?? noSuchEntity(kind, id);
  }

  /** @returns undefined if there is none, or it was deleted. */
  async find(kind: EntityKind, id: string): Promise<EntityRecord | undefined> {
    this.#operator.narrow(kind, [id]);
    const { entities } = await this.list(kind, { ids: [id] }, { limit: 1, offset: 0 });
    return entities[0];
  }

  /** Changes the fields that are present. @throws GatewayError `invalid_request`, `not_found`, `conflict`. */
  async update(kind: EntityKind, wish: EntityWish): Promise<EntityRecord> {
    const { id, change, names, etag } = wish;
    if (kind === "team" && isPermissionsOnly(change)) this.#operator.checkMembers("team", id);
    else this.#checkWrite(kind, id);
    if (change.organizationId !== undefined) this.#operator.checkOrganization(change.organizationId);
    checkEntity(change, names);
    return this.#transact(names, async (client) => {
      const version = await bumpRevision(client, { scope: kind, id });
      const current = await this.#reread(client, kind, id);
      requireEtag(etag, entityEtag(current));
      const windows = windowsOf({ ...current, ...change }, names);
      await this.#write(client, kind, wish, version);
      await writeWindows(client, { scope: kind, id }, windows, this.#clock.nowMs());
      return this.#reread(client, kind, id);
    });
  }

  /**
   * Ends it, and the memberships in it, or of it. Its spend stays in the books. Keys of a team or a user end with them.
   *
   * @throws GatewayError `not_found`.
   */
  async delete(kind: EntityKind, id: string): Promise<EntityRecord> {
    this.#checkWrite(kind, id);
    return this.#postgres.transaction(async (client) => {
      const version = await bumpRevision(client, { scope: kind, id });
      const last = await this.#reread(client, kind, id);
      const nowMs = this.#clock.nowMs();
      const now = new Date(nowMs);
      await client.query(
        "UPDATE entities SET deleted_at = $3, updated_at = $3, updated_by = $4, version = $5 WHERE scope = $1 AND entity_id = $2",
        [kind, id, now, this.#operator.name, version],
      );
      await closeBudgets(client, { scope: kind, id }, nowMs);
      const gone = await client.query<{ scope: string; entity_id: string; user_id: string }>(
        `DELETE FROM members WHERE ${kind === "user" ? "user_id = $2 AND $1 = 'user'" : "scope = $1 AND entity_id = $2"}
         RETURNING scope, entity_id, user_id`,
        [kind, id],
      );
      for (const { scope, entity_id, user_id } of gone) {
        if (scope !== "team") continue;
        await closeBudgets(client, { scope: "team_member", id: memberScopeId(entity_id, user_id) }, nowMs);
      }
      if (kind === "team" || kind === "user") {
        await client.query(
          `UPDATE keys SET deleted_at = $2, updated_at = $2, version = $3 WHERE ${kind}_id = $1 AND deleted_at IS NULL`,
          [id, now, version],
        );
      }
      return last;
    });
  }

  /** By age, newest first. */
  async list(
    kind: EntityKind,
    filter: EntityFilter,
    page: { readonly limit: number; readonly offset: number },
  ): Promise<EntityPage> {
    const values: unknown[] = [kind];
    const parameter = (value: unknown) => `$${values.push(value)}`;
    const conditions = ["e.scope = $1", "e.deleted_at IS NULL"];
    if (filter.ids !== undefined) conditions.push(`e.entity_id = ANY (${parameter(filter.ids)}::text[])`);
    const seen = this.#operator.seenOf(kind);
    if (seen !== undefined) conditions.push(`e.entity_id = ANY (${parameter(seen)}::text[])`);
    for (const [column, value] of [
      ["organization_id", filter.organizationId],
      ["alias", filter.alias],
      ["email", filter.email],
      ["role", filter.role],
    ] as const) {
      if (value !== undefined) conditions.push(`e.${column} = ${parameter(value)}`);
    }
    if (filter.memberId !== undefined) {
      conditions.push(
        `EXISTS (SELECT FROM members m WHERE m.scope = e.scope AND m.entity_id = e.entity_id AND m.user_id = ${parameter(filter.memberId)})`,
      );
    }
    const where = `FROM entities e WHERE ${conditions.join(" AND ")}`;
    const [count] = await this.#postgres.query<{ count: bigint }>(`SELECT count(*) AS count ${where}`, values);
    const rows = await this.#postgres.query<EntityRow>(
      `SELECT e.* ${where} ORDER BY e.created_at DESC, e.entity_id LIMIT ${parameter(page.limit)} OFFSET ${parameter(page.offset)}`,
      values,
    );
    return { entities: await this.#complete(this.#postgres, kind, rows), total: Number(count?.count ?? 0n) };
  }

  #checkWrite(kind: EntityKind, id: string): void {
    if (kind === "team") this.#operator.checkTeam(id);
    else this.#operator.checkAccess("admin");
  }

  async #write(
    client: Queryable,
    kind: EntityKind,
    { id, change }: Pick<EntityWish, "id" | "change">,
    version: bigint,
  ): Promise<void> {
    const values: unknown[] = [
      kind,
      id,
      new Date(this.#clock.nowMs()),
      this.#operator.name,
      version,
      JSON.stringify(change.extra ?? {}),
    ];
    const changes = Object.entries(columns).flatMap(([field, column]) => {
      const value = change[field as keyof typeof columns];
      if (value === undefined) return [];
      const isJson = field === "metadata" || field === "aliases";
      return [`, ${column} = $${values.push(isJson ? JSON.stringify(value) : value)}`];
    });
    await client.query(
      `UPDATE entities SET updated_at = $3, updated_by = $4, version = $5, extra = extra || $6::jsonb ${changes.join("")}
       WHERE scope = $1 AND entity_id = $2`,
      values,
    );
    await updateBudget(client, { scope: kind, id }, change);
  }

  /** Whoever makes a team administers it. */
  async #addMaker(client: Queryable, teamId: string, now: Date): Promise<void> {
    const { userId } = this.#operator;
    if (userId === undefined) return;
    await client.query(
      "INSERT INTO members (scope, entity_id, user_id, role, added_at) VALUES ('team', $1, $2, 'admin', $3) ON CONFLICT DO NOTHING",
      [teamId, userId, now],
    );
    await openBudget(client, { scope: "team_member", id: memberScopeId(teamId, userId) });
    this.#operator.made(teamId);
  }

  /** Whether the books know none of these yet: then sidecars do not ask for them, and must hear of it. */
  async #isFirst(client: Queryable, kind: EntityKind): Promise<boolean> {
    if (kind !== "end_user" && kind !== "tag") return false;
    const rows = await client.query("SELECT 1 FROM entities WHERE scope = $1 AND deleted_at IS NULL LIMIT 1", [kind]);
    return rows.length === 0;
  }

  async #knownRow(
    client: Queryable,
    kind: EntityKind,
    id: string,
  ): Promise<{ deleted_at: Date | null; create_request_id: string | null } | undefined> {
    const [row] = await client.query<{ deleted_at: Date | null; create_request_id: string | null }>(
      "SELECT deleted_at, create_request_id FROM entities WHERE scope = $1 AND entity_id = $2",
      [kind, id],
    );
    return row;
  }

  async #reread(client: Queryable, kind: EntityKind, id: string): Promise<EntityRecord> {
    const rows = await client.query<EntityRow>(
      "SELECT * FROM entities WHERE scope = $1 AND entity_id = $2 AND deleted_at IS NULL",
      [kind, id],
    );
    const [record] = await this.#complete(client, kind, rows);
    return record ?? noSuchEntity(kind, id);
  }

  async #complete(client: Queryable, kind: EntityKind, rows: readonly EntityRow[]): Promise<EntityRecord[]> {
    const asOf: AsOf = { nowMs: this.#clock.nowMs(), timeZone: this.#timeZone };
    const owners = rows.map(({ entity_id: id, metadata }) => ({ id, metadata }));
    const budgets = await readBudgets(client, kind, owners, asOf);
    return rows.flatMap((row) => {
      const budget = budgets.get(row.entity_id);
      return budget === undefined ? [] : [recordOf(row, budget)];
    });
  }

  async #transact<Result>(names: EntityNames, work: (client: Queryable) => Promise<Result>): Promise<Result> {
    try {
      return await this.#postgres.transaction(work);
    } catch (error) {
      throw isUnknownTemplate(error) ? noSuchTemplate(names.budgetId) : error;
    }
  }
}

/** The scope id of a membership's budget. */
export function memberScopeId(teamId: string, userId: string): string {
  return `${userId}:${teamId}`;
}

/** Changes with every change of the entity. */
export function entityEtag({ version }: EntityRecord): string {
  return `v${version}`;
}

/** @throws GatewayError `not_found`, always. */
function noSuchEntity(kind: EntityKind, id: string): never {
  throw new GatewayError("not_found", `There is no ${kindWords[kind]} ${JSON.stringify(id.slice(0, 256))}.`, {
    param: "id",
  });
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
