/** Users in teams and organizations. */

import type { Clock } from "../clock.ts";
import type { JsonObject } from "../completion.ts";
import type { KeyRules } from "../config/creation-rules.ts";
import { GatewayError } from "../errors.ts";
import { formatUsd, type Nanos, parseUsd, usdFromNumber } from "../money.ts";
import { inBooks } from "./books.ts";
import { type BudgetRecord, readBudgets } from "./budget-records.ts";
import { isUnknownTemplate, noSuchTemplate } from "./budget-templates.ts";
import { closeBudgets, openBudget, updateBudget } from "./budget-writes.ts";
import { bumpRevision } from "./changes.ts";
import { memberScopeId, noSuchEntity } from "./entity-records.ts";
import { forgiveSpend } from "./forgiveness.ts";
import { checkBudget, checkKeyChange, type FieldNames, invalid } from "./key-fields.ts";
import type { Operator } from "./operator.ts";
import type { Database, Queryable } from "./postgres.ts";

/** Where users are members. */
export type MemberScope = "team" | "organization";

/** What may be set of a membership. Budgets hold in teams only. */
export interface MemberFields {
  /** "admin" or "user" in a team; a user's role in an organization. */
  readonly role: string;
  readonly maxBudget: Nanos | null;
  readonly budgetDuration: string | null;
  readonly budgetId: string | null;
  readonly rpmLimit: number | null;
  readonly tpmLimit: number | null;
}

/** A membership. */
export interface MemberRecord extends Omit<MemberFields, "maxBudget" | "budgetDuration" | "budgetId"> {
  readonly scope: MemberScope;
  readonly entityId: string;
  readonly userId: string;
  readonly addedAtMs: number;
  /** Undefined in organizations. */
  readonly budget: BudgetRecord | undefined;
}

/** Whose membership. */
export interface Membership {
  readonly scope: MemberScope;
  readonly entityId: string;
  readonly userId: string;
}

interface MemberRow {
  scope: MemberScope;
  entity_id: string;
  user_id: string;
  role: string;
  rpm_limit: bigint | null;
  tpm_limit: bigint | null;
  added_at: Date;
}

const roleCharsMax = 64;
const columns = { role: "role", rpmLimit: "rpm_limit", tpmLimit: "tpm_limit" } as const;

/** The memberships. Every method may throw `keyservice_unavailable`. */
export class Members {
  readonly #postgres: Database;
  readonly #clock: Clock;
  readonly #timeZone: string;

  readonly #operator: Operator;
  readonly #joinable: ReadonlySet<string>;

  constructor(parts: {
    readonly postgres: Database;
    readonly clock: Clock;
    readonly timeZone: string;
    /** Says which teams every user may join. */
    readonly keyRules: KeyRules;
    /** Who does it: what he may not, is refused, and what he may not see, is not in lists. */
    readonly operator: Operator;
  }) {
    this.#operator = parts.operator;
    this.#joinable = new Set(parts.keyRules.joinableTeams);
    this.#postgres = parts.postgres;
    this.#clock = parts.clock;
    this.#timeZone = parts.timeZone;
  }

  /**
   * Makes users members, all or none; those that are already get the fields that are present. New ones of a team get besides what it has for
   * new members.
   *
   * @throws GatewayError `invalid_request`, `not_found` for a team or an organization that there is not.
   */
  async add(
    memberships: readonly { readonly membership: Membership; readonly fields: Partial<MemberFields> }[],
    names: FieldNames,
  ): Promise<void> {
    for (const { membership, fields } of memberships) {
      if (!this.#mayJoin(membership, fields)) this.#operator.checkMembers(membership.scope, membership.entityId);
      check(membership, fields, names);
    }
    await this.#transact(names, async (client) => {
      const entities = new Set(memberships.map(({ membership: { scope, entityId } }) => `${scope} ${entityId}`));
      for (const { membership } of memberships) {
        // Once for each of them, before anything is locked.
        const { scope, entityId: id } = membership;
        if (!entities.delete(`${scope} ${id}`)) continue;
        await bumpRevision(client, { scope, id });
        await requireEntity(client, membership);
      }
      for (const { membership, fields } of memberships) await this.#add(client, membership, fields, names);
    });
    for (const { membership } of memberships) {
      if (membership.scope === "team" && membership.userId === this.#operator.userId) {
        this.#operator.joined(membership.entityId);
      }
    }
  }

  /** Whether the operator makes himself a member, and no more, of a team that is open to every user. */
  #mayJoin({ scope, entityId, userId }: Membership, { role, ...fields }: Partial<MemberFields>): boolean {
    const isOpen = scope === "team" && this.#joinable.has(entityId);
    const isPlain = (role === undefined || role === "user") && Object.keys(fields).length === 0;
    return isOpen && isPlain && this.#operator.role === "internal_user" && userId === this.#operator.userId;
  }

  /**
   * Sets back what a member's budget in a team counts as used. What was booked stays booked, and what pods have borrowed stays reserved.
   *
   * @param resetTo from nothing to what it has used.
   * @param name what the caller's face calls that.
   * @returns also what it had used before.
   * @throws GatewayError `invalid_request`, `not_found`.
   */
  async resetSpend(
    teamId: string,
    userId: string,
    { resetTo, name }: { readonly resetTo: Nanos; readonly name: string },
  ): Promise<{ readonly member: MemberRecord; readonly previous: Nanos }> {
    checkBudget(resetTo, name);
    this.#operator.checkMembers("team", teamId);
    const membership = { scope: "team", entityId: teamId, userId } as const;
    const id = memberScopeId(teamId, userId);
    const previous = await inBooks(this.#postgres, async (client) => {
      await bumpRevision(client, { scope: "team", id: teamId });
      await write(client, membership, {});
      const asOf = { nowMs: this.#clock.nowMs(), timeZone: this.#timeZone };
      const used = await forgiveSpend(client, { scope: "team_member", ids: [id] }, resetTo, asOf);
      if (resetTo > used) throw invalid(name, `must be at most what was spent, ${formatUsd(used)}.`);
      return used;
    });
    return { member: await this.get(membership), previous };
  }

  /** @throws GatewayError `not_found`. */
  async get(membership: Membership): Promise<MemberRecord> {
    const { scope, entityId, userId } = membership;
    const [member] = await this.list(scope, { entityIds: [entityId], userId });
    if (member === undefined) throw noMember(membership);
    return member;
  }

  async #add(
    client: Queryable,
    membership: Membership,
    fields: Partial<MemberFields>,
    names: FieldNames,
  ): Promise<void> {
    const { scope, entityId, userId } = membership;
    const added = await client.query(
      `INSERT INTO members (scope, entity_id, user_id, role, added_at) VALUES ($1, $2, $3, $4, $5)
       ON CONFLICT DO NOTHING RETURNING 1`,
      [scope, entityId, userId, fields.role ?? "user", new Date(this.#clock.nowMs())],
    );
    if (added.length === 0 || scope !== "team") {
      await write(client, membership, fields);
      return;
    }
    await openBudget(client, { scope: "team_member", id: memberScopeId(entityId, userId) });
    const all = { ...(await defaultsOf(client, entityId)), ...fields };
    check(membership, all, names);
    await write(client, membership, all);
  }

  /** @throws GatewayError `invalid_request`, `not_found`. */
  async update(membership: Membership, fields: Partial<MemberFields>, names: FieldNames): Promise<void> {
    const { scope, entityId: id } = membership;
    this.#operator.checkMembers(scope, id);
    check(membership, fields, names);
    await this.#transact(names, async (client) => {
      await bumpRevision(client, { scope, id });
      await write(client, membership, fields);
    });
  }

  /** @throws GatewayError `not_found`. */
  async remove({ scope, entityId, userId }: Membership): Promise<void> {
    this.#operator.checkMembers(scope, entityId);
    await this.#postgres.transaction(async (client) => {
      await bumpRevision(client, { scope, id: entityId });
      const gone = await client.query(
        "DELETE FROM members WHERE scope = $1 AND entity_id = $2 AND user_id = $3 RETURNING 1",
        [scope, entityId, userId],
      );
      if (gone.length === 0) throw noMember({ scope, entityId, userId });
      if (scope !== "team") return;
      await closeBudgets(client, { scope: "team_member", id: memberScopeId(entityId, userId) }, this.#clock.nowMs());
    });
  }

  /** Those of entities, or those a user has; the oldest first. */
  async list(
    scope: MemberScope,
    filter: { readonly entityIds?: readonly string[]; readonly userId?: string },
  ): Promise<MemberRecord[]> {
    const rows = await this.#postgres.query<MemberRow>(
      `SELECT * FROM members WHERE scope = $1 AND ($2::text[] IS NULL OR entity_id = ANY ($2)) AND ($3::text IS NULL OR user_id = $3)
       ORDER BY added_at, user_id`,
      [scope, this.#operator.narrow(scope, filter.entityIds) ?? null, filter.userId ?? null],
    );
    const owners = rows.map((row) => ({ id: memberScopeId(row.entity_id, row.user_id), metadata: {} }));
    const asOf = { nowMs: this.#clock.nowMs(), timeZone: this.#timeZone };
    const budgets = scope === "team" ? await readBudgets(this.#postgres, "team_member", owners, asOf) : undefined;
    return rows.map((row) => ({
      scope: row.scope,
      entityId: row.entity_id,
      userId: row.user_id,
      role: row.role,
      rpmLimit: row.rpm_limit === null ? null : Number(row.rpm_limit),
      tpmLimit: row.tpm_limit === null ? null : Number(row.tpm_limit),
      addedAtMs: row.added_at.getTime(),
      budget: budgets?.get(memberScopeId(row.entity_id, row.user_id)),
    }));
  }

  async #transact(names: FieldNames, work: (client: Queryable) => Promise<void>): Promise<void> {
    try {
      await this.#postgres.transaction(work);
    } catch (error) {
      throw isUnknownTemplate(error) ? noSuchTemplate(names.budgetId) : error;
    }
  }
}

/** @throws GatewayError `not_found`. */
async function requireEntity(client: Queryable, { scope, entityId }: Membership): Promise<void> {
  const sql = "SELECT FROM entities WHERE scope = $1 AND entity_id = $2 AND deleted_at IS NULL";
  if ((await client.query(sql, [scope, entityId])).length === 0) noSuchEntity(scope, entityId);
}

/** What a team has for its new members: LiteLLM's `team_member_budget` and limits. What is not of their form is nothing. */
async function defaultsOf(client: Queryable, teamId: string): Promise<Partial<MemberFields>> {
  const [team] = await client.query<{ extra: JsonObject; duration: string | null }>(
    `SELECT e.extra, coalesce(b.duration, t.duration) AS duration
     FROM entities e
       LEFT JOIN budgets b ON b.scope = 'team' AND b.scope_id = e.entity_id AND b.place = 0 AND b.removed_at IS NULL
       LEFT JOIN budget_templates t USING (template_id)
     WHERE e.scope = 'team' AND e.entity_id = $1`,
    [teamId],
  );
  const { team_member_budget, team_member_budget_duration, ...limits } = team?.extra ?? {};
  const budget = typeof team_member_budget === "number" ? usdFromNumber(team_member_budget) : usdOf(team_member_budget);
  const duration = typeof team_member_budget_duration === "string" ? team_member_budget_duration : team?.duration;
  const [rpmLimit, tpmLimit] = [countOf(limits.team_member_rpm_limit), countOf(limits.team_member_tpm_limit)];
  return {
    ...(budget === undefined ? {} : { maxBudget: budget, budgetDuration: duration ?? null }),
    ...(rpmLimit === undefined ? {} : { rpmLimit }),
    ...(tpmLimit === undefined ? {} : { tpmLimit }),
  };
}

const usdOf = (value: unknown) => (typeof value === "string" ? parseUsd(value) : undefined);
const countOf = (value: unknown) => (/^\d{1,15}$/.test(String(value)) ? Number(value) : undefined);

function check({ userId }: Membership, { role, ...fields }: Partial<MemberFields>, names: FieldNames): void {
  checkKeyChange({ ...fields, userId }, names);
  if (role !== undefined && (role === "" || role.length > roleCharsMax)) {
    throw invalid("role", `must be a name of at most ${roleCharsMax} characters, such as admin or user.`);
  }
}

/** Writes the fields that are present. @throws GatewayError `not_found`. */
async function write(client: Queryable, membership: Membership, fields: Partial<MemberFields>): Promise<void> {
  const { scope, entityId, userId } = membership;
  const values: unknown[] = [scope, entityId, userId];
  const changes = Object.entries(columns).flatMap(([field, column]) => {
    const value = fields[field as keyof typeof columns];
    return value === undefined ? [] : [`, ${column} = $${values.push(value)}`];
  });
  const found = await client.query(
    `UPDATE members SET user_id = user_id ${changes.join("")} WHERE scope = $1 AND entity_id = $2 AND user_id = $3 RETURNING 1`,
    values,
  );
  if (found.length === 0) throw noMember(membership);
  if (scope === "team")
    await updateBudget(client, { scope: "team_member", id: memberScopeId(entityId, userId) }, fields);
}

function noMember({ scope, entityId, userId }: Membership): GatewayError {
  return new GatewayError("not_found", `The user ${userId} is no member of the ${scope} ${entityId}.`, {
    param: "user_id",
  });
}
