import type { JsonObject } from "../completion.ts";
import type { Nanos } from "../money.ts";
import {
  actingFields,
  hidesContentOf,
  type ModelLimit,
  modelLimitsOf,
  regionField,
  routerSettingsOf,
} from "./extra-fields.ts";
import type { Queryable } from "./postgres.ts";
import { hashSecret, type Pepper } from "./secrets.ts";

/** A limit of a key, or of something behind it. */
export interface GrantedLimit {
  readonly scope: string;
  readonly scopeId: string;
  readonly kind: "requests" | "tokens" | "parallel";
  readonly ceiling: bigint;
  /** Only calls to this model are limited; absent: all. */
  readonly model?: string;
}

/** What holds for a key because of something it belongs to. */
export interface GrantedRule {
  readonly scope: string;
  readonly scopeId: string;
  /** Empty: all. */
  readonly models: readonly string[];
  readonly blocked: boolean;
}

/** What a key may do, as one snapshot of the books has it. */
export interface Grant {
  readonly keyId: string;
  readonly alias: string | undefined;
  readonly userId: string | undefined;
  readonly teamId: string | undefined;
  readonly organizationId: string | undefined;
  readonly models: readonly string[];
  readonly aliases: Readonly<Record<string, string>>;
  readonly limits: readonly GrantedLimit[];
  readonly rules: readonly GrantedRule[];
  readonly budgets: readonly GrantedBudget[];
  readonly expiresAt: Date | undefined;
  readonly blocked: boolean;
  readonly allowedRoutes: readonly string[];
  readonly enforcedParams: readonly string[];
  /** The members of a request's `cache` its calls may set; empty: all. */
  readonly allowedCacheControls: readonly string[];
  /** Whether what its calls say is kept out of traces. */
  readonly hidesContent: boolean;
  readonly tags: readonly string[];
  /** LiteLLM's `router_settings` that act: the key's, and what these do not say its team's. Undefined: none. */
  readonly routerSettings: JsonObject | undefined;
  /** Kinds of parties there are any of in the books. */
  readonly partyScopes: readonly PartyScope[];
  /** The version of the books. */
  readonly version: bigint;
}

/** What a call may name besides its key. */
export type PartyScope = "end_user" | "tag";

/** A budget calls are charged to. `max` undefined: no limit. */
export interface GrantedBudget {
  readonly budgetId: string;
  readonly scope: string;
  readonly scopeId: string;
  readonly max: Nanos | undefined;
  /** Its period, "1d" for instance; null: it never resets. */
  readonly duration: string | null;
  /** Only calls to this model are charged to it; null: all. */
  readonly model: string | null;
}

interface BudgetColumns {
  budget_id: string;
  scope: string;
  scope_id: string;
  max_nanos: Nanos | null;
  duration: string | null;
  model: string | null;
}

/** A row of key_rules as JSON; the limits are safe integers. */
interface RuleJson extends LimitColumns {
  scope: string;
  scope_id: string;
  models: string[];
  aliases: Record<string, unknown>;
  tags: string[];
  blocked: boolean;
}

interface GrantRow extends BudgetColumns {
  key_id: string;
  alias: string | null;
  user_id: string | null;
  team_id: string | null;
  models: string[];
  aliases: Record<string, unknown>;
  expires_at: Date | null;
  blocked: boolean;
  tags: string[];
  allowed_routes: string[];
  enforced_params: string[];
  allowed_cache_controls: unknown;
  key_extra: JsonObject;
  /** Null: there is no team. */
  team_extra: JsonObject | null;
  rules: RuleJson[];
  has_end_users: boolean;
  has_tags: boolean;
  books_version: bigint;
}

const budgetColumns = "b.budget_id, b.scope, b.scope_id, b.max_nanos, b.duration, b.model";

/**
 * Looks a key up by the digest its caller's sidecar sent.
 *
 * @returns undefined if there is no such key. Blocked and expired ones are found. By a secret that was replaced a key expires when the
 *   secret's grace ends, if not before: pods stop it by the time they were told.
 */
export async function findGrant(books: Queryable, sha256: Buffer, pepper: Pepper): Promise<Grant | undefined> {
  // One statement is one snapshot: the version belongs to exactly these rows.
  const rows = await books.query<GrantRow>(
    `SELECT k.key_id, k.alias, k.user_id, k.team_id, k.models, k.aliases, least(k.expires_at, s.ends_at) AS expires_at, k.blocked, k.tags,
       k.allowed_routes, k.enforced_params, k.extra->'allowed_cache_controls' AS allowed_cache_controls,
       ${actingFields("k.extra")} AS key_extra,
       (SELECT ${actingFields("t.extra")} FROM entities t
        WHERE t.scope = 'team' AND t.entity_id = k.team_id AND t.deleted_at IS NULL) AS team_extra,
       behind.rules, ${budgetColumns}, r.version AS books_version,
       EXISTS (SELECT FROM entities WHERE scope = 'end_user' AND deleted_at IS NULL) AS has_end_users,
       EXISTS (SELECT FROM entities WHERE scope = 'tag' AND deleted_at IS NULL) AS has_tags
     FROM (
         SELECT key_id, NULL::timestamptz AS ends_at FROM keys WHERE secret_hmac = $1 AND pepper_id = $2 AND deleted_at IS NULL
         UNION ALL SELECT key_id, ends_at FROM former_secrets WHERE secret_hmac = $1 AND pepper_id = $2
       ) s JOIN keys k USING (key_id) CROSS JOIN revision r
       CROSS JOIN LATERAL (SELECT jsonb_agg(to_jsonb(q)) AS rules FROM key_rules q WHERE q.key_id = k.key_id) behind
       CROSS JOIN LATERAL (
         SELECT * FROM (SELECT ${budgetColumns}, b.removed_at FROM key_budgets b WHERE b.key_id = k.key_id
           UNION ALL SELECT ${budgetColumns}, b.removed_at FROM effective_budgets b WHERE b.scope = 'model' AND b.scope_id = k.key_id
         ) all_budgets WHERE removed_at IS NULL) b
     ORDER BY b.budget_id`,
    [hashSecret(sha256, pepper), pepper.id],
    "find_grant_91",
  );
  const [row] = rows;
  if (row === undefined) return undefined;
  const { rules } = row;
  return {
    keyId: row.key_id,
    alias: row.alias ?? undefined,
    userId: row.user_id ?? undefined,
    teamId: row.team_id ?? undefined,
    organizationId: rules.find(({ scope }) => scope === "organization")?.scope_id,
    models: row.models,
    aliases: aliasesOf(row),
    limits: [
      ...rules.flatMap((rule) => limitsOf(rule.scope, rule.scope_id, rule)),
      ...modelLimitsOf(row.key_extra).map((limit) => ofModel("model_per_key", row.key_id, limit)),
      ...modelLimitsOf(row.team_extra ?? {}).map((limit) => ofModel("model_per_team", row.team_id ?? "", limit)),
    ],
    rules: rules.filter(({ scope, models, blocked }) => scope !== "key" && (models.length > 0 || blocked)).map(ruleOf),
    budgets: rows.map(budgetOf),
    expiresAt: row.expires_at ?? undefined,
    blocked: row.blocked,
    allowedRoutes: row.allowed_routes,
    enforcedParams: row.enforced_params,
    allowedCacheControls: textsOf(row.allowed_cache_controls),
    hidesContent: hidesContentOf(row.key_extra, row.team_extra ?? {}),
    tags: [...new Set([...row.tags, ...rules.flatMap(({ tags }) => tags)])],
    routerSettings: routerSettingsOf(row.key_extra, row.team_extra ?? {}),
    partyScopes: [...(row.has_end_users ? ["end_user" as const] : []), ...(row.has_tags ? ["tag" as const] : [])],
    version: row.books_version,
  };
}

/** The texts of a list among the fields nobody checks. */
function textsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((entry) => typeof entry === "string" && entry !== "") : [];
}

/** A team's names for models are read first, then the key's. */
function aliasesOf({ aliases, rules }: GrantRow): Record<string, string> {
  const own = new Map(Object.entries(aliases).map(([name, model]) => [name, String(model)]));
  const all = new Map(own);
  for (const rule of rules) {
    for (const [name, model] of Object.entries(rule.aliases)) all.set(name, own.get(String(model)) ?? String(model));
  }
  return Object.fromEntries(all);
}

/** Whole numbers, as JSON or as the database has them. */
type LimitColumns = Record<"rpm_limit" | "tpm_limit" | "max_parallel_requests", number | bigint | null>;

function limitsOf(scope: string, scopeId: string, row: LimitColumns): GrantedLimit[] {
  const limits = [
    { kind: "requests", ceiling: row.rpm_limit },
    { kind: "tokens", ceiling: row.tpm_limit },
    { kind: "parallel", ceiling: row.max_parallel_requests },
  ] as const;
  return limits.flatMap(({ kind, ceiling }) =>
    ceiling === null ? [] : { scope, scopeId, kind, ceiling: BigInt(ceiling) },
  );
}

function ofModel(scope: string, ownerId: string, { model, kind, ceiling }: ModelLimit): GrantedLimit {
  return { scope, scopeId: `${ownerId}:${model}`, kind, ceiling: BigInt(ceiling), model };
}

function ruleOf({ scope, scope_id, models, blocked }: RuleJson): GrantedRule {
  return { scope, scopeId: scope_id, models, blocked };
}

function budgetOf({ budget_id, scope, scope_id, max_nanos, duration, model }: BudgetColumns): GrantedBudget {
  return { budgetId: budget_id, scope, scopeId: model ?? scope_id, max: max_nanos ?? undefined, duration, model };
}

/** What a call names besides its key. */
export interface Party {
  readonly scope: PartyScope;
  readonly id: string;
}

/** What holds for calls that name a party. */
export interface PartyGrant extends Party {
  readonly limits: readonly GrantedLimit[];
  readonly budgets: readonly GrantedBudget[];
  readonly models: readonly string[];
  readonly blocked: boolean;
  /** Where they must be answered; "": anywhere. */
  readonly region: string;
}

interface PartyRow extends Nullable<BudgetColumns>, LimitColumns {
  party_scope: PartyScope;
  party_id: string;
  models: string[];
  blocked: boolean;
  region: string;
}

type Nullable<Row> = { [Column in keyof Row]: Row[Column] | null };

/**
 * Looks parties up.
 *
 * @returns what holds for each, in the order given: nothing for those the books do not know; and the version of the books.
 */
export async function findParties(
  books: Queryable,
  parties: readonly Party[],
): Promise<{ parties: PartyGrant[]; version: bigint }> {
  const rows = await books.query<PartyRow & { books_version: bigint }>(
    `SELECT r.version AS books_version, wanted.scope AS party_scope, wanted.id AS party_id,
       coalesce(e.models, '{}') AS models, coalesce(e.blocked, false) AS blocked,
       ${regionField("e.extra")} AS region,
       coalesce(e.rpm_limit, t.rpm_limit) AS rpm_limit, coalesce(e.tpm_limit, t.tpm_limit) AS tpm_limit,
       coalesce(e.max_parallel_requests, t.max_parallel_requests) AS max_parallel_requests, ${budgetColumns}
     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (scope, id, place) CROSS JOIN revision r
       LEFT JOIN entities e ON e.scope = wanted.scope AND e.entity_id = wanted.id AND e.deleted_at IS NULL
       LEFT JOIN effective_budgets b ON b.scope = e.scope AND b.scope_id = e.entity_id AND b.removed_at IS NULL
       LEFT JOIN budget_templates t ON t.template_id = b.template_id
     ORDER BY wanted.place, b.budget_id`,
    [parties.map(({ scope }) => scope), parties.map(({ id }) => id)],
  );
  const byName = Map.groupBy(rows, ({ party_scope, party_id }) => `${party_scope} ${party_id}`);
  return {
    parties: parties.map(({ scope, id }) => partyOf(scope, id, byName.get(`${scope} ${id}`) ?? [])),
    version: rows[0]?.books_version ?? 0n,
  };
}

function partyOf(scope: PartyScope, id: string, rows: readonly PartyRow[]): PartyGrant {
  // Every budget's row has them, or only the one with the template.
  const limits = new Map(rows.flatMap((row) => limitsOf(scope, id, row)).map((limit) => [limit.kind, limit]));
  return {
    ...{ scope, id },
    limits: [...limits.values()],
    budgets: rows.flatMap((row) => (isBudget(row) ? budgetOf(row) : [])),
    models: rows[0]?.models ?? [],
    blocked: rows[0]?.blocked ?? false,
    region: rows[0]?.region ?? "",
  };
}

function isBudget<Row extends Nullable<BudgetColumns>>(row: Row): row is Row & BudgetColumns {
  return row.budget_id !== null;
}
