/** Administration of teams, users, organizations, customers and tags: what both faces come down to. */

import type { Clock } from "../clock.ts";
import type { KeyRules } from "../config/creation-rules.ts";
import { GatewayError } from "../errors.ts";
import type { AsOf } from "./budget-records.ts";
import { isUnknownTemplate, noSuchTemplate } from "./budget-templates.ts";
import { closeBudgets, openBudget, updateBudget, writeWindows } from "./budget-writes.ts";
import { bumpRevision, everything } from "./changes.ts";
import { eachForItself, type Outcome } from "./each-for-itself.ts";
import {
  checkEntity,
  checkEntityId,
  type EntityChange,
  type EntityFields,
  type EntityKind,
  type EntityNames,
  kindWords,
  noFields,
} from "./entity-fields.ts";
import {
  type EntityRecord,
  type EntityRow,
  entityEtag,
  memberScopeId,
  noSuchEntity,
  withBudgets,
} from "./entity-records.ts";
import { withEntityDefaults } from "./entity-rules.ts";
import { requireEtag } from "./key-fields.ts";
import { windowsOf } from "./key-windows.ts";
import type { Operator } from "./operator.ts";
import type { Database, Queryable } from "./postgres.ts";
import { isPermissionsOnly } from "./team-permissions.ts";

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
  /** Only those this user is no member of. */
  readonly strangerId?: string | undefined;
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
  readonly #keyRules: KeyRules;

  constructor(parts: {
    readonly postgres: Database;
    readonly clock: Clock;
    readonly timeZone: string;
    /** What new teams and users get, and which teams every user may join. */
    readonly keyRules: KeyRules;
    /** Who does it: what he may not, is refused, and what he may not see, is not in lists. */
    readonly operator: Operator;
  }) {
    this.#operator = parts.operator;
    this.#keyRules = parts.keyRules;
    this.#postgres = parts.postgres;
    this.#clock = parts.clock;
    this.#timeZone = parts.timeZone;
  }

  /** @throws GatewayError `invalid_request`, `already_exists`. */
  async create(kind: EntityKind, wish: EntityWish): Promise<EntityRecord> {
    const { id, names, requestId } = wish;
    const change = withEntityDefaults(kind, wish.change, this.#keyRules);
    if (kind === "team") this.#operator.checkOrganization(change.organizationId ?? null);
    else this.#operator.checkAccess("admin");
    checkEntityId(kind, id, names);
    checkEntity(change, names);
    const windows = windowsOf({ ...noFields, ...change }, names);
    return this.#transact(names, async (client) => {
      const isFirst = await this.#isFirst(client, kind);
      const version = await bumpRevision(client, isFirst ? everything : { scope: kind, id });
      const earlier = await this.#createdBefore(client, kind, requestId);
      if (earlier !== undefined) return earlier;
      if (await this.#isKnown(client, kind, id)) {
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
      await this.#write(client, kind, { id, change }, version);
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
    return this.#update(kind, wish, () => wish.change);
  }

  /** Adds models to the list, and takes others out, whatever else is done to it. @throws GatewayError `invalid_request`, `not_found`. */
  async changeModels(
    kind: EntityKind,
    id: string,
    { add, remove }: { readonly add: readonly string[]; readonly remove: readonly string[] },
    names: EntityNames,
  ): Promise<EntityRecord> {
    return this.#update(kind, { id, change: { models: add }, names }, ({ models }) => {
      const rest = models.filter((model) => !add.includes(model) && !remove.includes(model));
      return { models: [...rest, ...add] };
    });
  }

  /** @param make what the change is, given what it is made to. */
  async #update(
    kind: EntityKind,
    wish: EntityWish,
    make: (current: EntityRecord) => EntityChange,
  ): Promise<EntityRecord> {
    const { id, change, names, etag } = wish;
    if (kind === "team" && isPermissionsOnly(change)) this.#operator.checkMembers("team", id);
    else this.#checkWrite(kind, id);
    if (change.organizationId !== undefined) this.#operator.checkOrganization(change.organizationId);
    checkEntity(change, names);
    return this.#transact(names, async (client) => {
      const version = await bumpRevision(client, { scope: kind, id });
      const current = await this.#reread(client, kind, id);
      requireEtag(etag, entityEtag(current));
      const made = make(current);
      checkEntity(made, names);
      const windows = windowsOf({ ...current, ...made }, names);
      await this.#write(client, kind, { id, change: made }, version);
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

  /** Changes all there are, each for itself, the newest first. */
  async updateAll(
    kind: EntityKind,
    wish: Omit<EntityWish, "id">,
  ): Promise<{ readonly id: string; readonly outcome: Outcome<EntityRecord> }[]> {
    this.#operator.checkAccess("admin");
    const sql =
      "SELECT entity_id FROM entities WHERE scope = $1 AND deleted_at IS NULL ORDER BY created_at DESC, entity_id";
    const ids = (await this.#postgres.query<{ entity_id: string }>(sql, [kind])).map(({ entity_id }) => entity_id);
    const outcomes = await eachForItself(ids, (id) => this.update(kind, { ...wish, id }));
    return outcomes.map((outcome, index) => ({ id: ids[index] ?? "", outcome }));
  }

  /** By age, newest first. */
  async list(
    kind: EntityKind,
    filter: EntityFilter,
    page: { readonly limit: number; readonly offset: number },
  ): Promise<EntityPage> {
    return this.#list(kind, filter, page, this.#operator.seenOf(kind));
  }

  /** Teams that every user may join, and the operator is not in; by age, newest first. */
  async listJoinable(page: { readonly limit: number; readonly offset: number }): Promise<EntityPage> {
    const ids = this.#keyRules.joinableTeams ?? [];
    return this.#list("team", { ids, strangerId: this.#operator.userId }, page, undefined);
  }

  async #list(
    kind: EntityKind,
    filter: EntityFilter,
    page: { readonly limit: number; readonly offset: number },
    seen: readonly string[] | undefined,
  ): Promise<EntityPage> {
    const values: unknown[] = [kind];
    const parameter = (value: unknown) => `$${values.push(value)}`;
    const conditions = ["e.scope = $1", "e.deleted_at IS NULL"];
    if (filter.ids !== undefined) conditions.push(`e.entity_id = ANY (${parameter(filter.ids)}::text[])`);
    if (seen !== undefined) conditions.push(`e.entity_id = ANY (${parameter(seen)}::text[])`);
    for (const [column, value] of [
      ["organization_id", filter.organizationId],
      ["alias", filter.alias],
      ["email", filter.email],
      ["role", filter.role],
    ] as const) {
      if (value !== undefined) conditions.push(`e.${column} = ${parameter(value)}`);
    }
    for (const [exists, userId] of [
      ["EXISTS", filter.memberId],
      ["NOT EXISTS", filter.strangerId],
    ] as const) {
      if (userId === undefined) continue;
      const user = parameter(userId);
      conditions.push(
        `${exists} (SELECT FROM members m WHERE m.scope = e.scope AND m.entity_id = e.entity_id AND m.user_id = ${user})`,
      );
    }
    const where = `FROM entities e WHERE ${conditions.join(" AND ")}`;
    const [count] = await this.#postgres.query<{ count: bigint }>(`SELECT count(*) AS count ${where}`, values);
    const rows = await this.#postgres.query<EntityRow>(
      `SELECT e.* ${where} ORDER BY e.created_at DESC, e.entity_id LIMIT ${parameter(page.limit)} OFFSET ${parameter(page.offset)}`,
      values,
    );
    return { entities: await withBudgets(this.#postgres, kind, rows, this.#asOf()), total: Number(count?.count ?? 0n) };
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

  async #isKnown(client: Queryable, kind: EntityKind, id: string): Promise<boolean> {
    const sql = "SELECT FROM entities WHERE scope = $1 AND entity_id = $2 AND deleted_at IS NULL";
    return (await client.query(sql, [kind, id])).length > 0;
  }

  /** What an earlier request with the same id has made. @throws GatewayError `conflict` if that is gone, or of another kind. */
  async #createdBefore(
    client: Queryable,
    kind: EntityKind,
    requestId: string | undefined,
  ): Promise<EntityRecord | undefined> {
    if (requestId === undefined) return undefined;
    const [row] = await client.query<EntityRow & { deleted_at: Date | null }>(
      "SELECT * FROM entities WHERE create_request_id = $1",
      [requestId],
    );
    if (row === undefined) return undefined;
    if (row.scope === kind && row.deleted_at === null) return this.#reread(client, kind, row.entity_id);
    throw new GatewayError(
      "conflict",
      "The request with this id was made before, and what it made is gone or of another kind. Send another id.",
      { param: "request_id" },
    );
  }

  async #reread(client: Queryable, kind: EntityKind, id: string): Promise<EntityRecord> {
    const rows = await client.query<EntityRow>(
      "SELECT * FROM entities WHERE scope = $1 AND entity_id = $2 AND deleted_at IS NULL",
      [kind, id],
    );
    const [record] = await withBudgets(client, kind, rows, this.#asOf());
    return record ?? noSuchEntity(kind, id);
  }

  #asOf(): AsOf {
    return { nowMs: this.#clock.nowMs(), timeZone: this.#timeZone };
  }

  async #transact<Result>(names: EntityNames, work: (client: Queryable) => Promise<Result>): Promise<Result> {
    try {
      return await this.#postgres.transaction(work);
    } catch (error) {
      throw isUnknownTemplate(error) ? noSuchTemplate(names.budgetId) : error;
    }
  }
}
