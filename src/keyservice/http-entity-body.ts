/** What LiteLLM's clients send about teams, users, organizations, customers, tags and budgets: bodies, checked field by field. */

import { z } from "zod";
import type { JsonObject } from "../completion.ts";
import { type EntityChange, type EntityNames, userRoles } from "./entity-fields.ts";
import { bodyFields, httpNames, limitsOf, present } from "./http-key-body.ts";
import { invalid } from "./key-fields.ts";

const text = z.string("must be a string or null.").nullish();

/** The fields all of them share. */
const entityFields = z.looseObject({
  ...bodyFields,
  user_email: text,
  user_role: z.enum(userRoles, `must be one of ${userRoles.join(", ")}.`).nullish(),
});

/** One kind of entity as LiteLLM's bodies name it. */
export interface EntityBody {
  /** The field with its id. */
  readonly id: string;
  /** Other fields that are taken for the id. */
  readonly idsToo?: readonly string[];
  /** The field with its alias. */
  readonly alias: string;
  /** The field with its models' aliases. */
  readonly aliases: string;
}

/** The names of a kind's fields. */
export function namesOf({ id, alias, aliases }: EntityBody): EntityNames {
  return { ...httpNames, id, alias, aliases, email: "user_email", role: "user_role" };
}

/** Fields that say nothing about the entity itself. */
const notFields = new Set([
  ...["spend", "created_at", "updated_at", "created_by", "updated_by", "budget_reset_at", "litellm_budget_table"],
  ...["token", "token_id", "key", "key_name", "reserved", "members_with_roles", "members", "admins", "keys"],
  ...["team_memberships", "organization_memberships"],
]);

/** What a body says of an entity: its id, if it is given, and its fields. Those that do not act are kept in `extra`. */
export function readEntity(body: JsonObject, kind: EntityBody): { id: string | undefined; change: EntityChange } {
  const result = entityFields.safeParse(body);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw invalid(String(issue?.path[0] ?? "body"), issue?.message ?? "is not valid.");
  }
  const fields = result.data;
  const texts = z.looseObject({ [kind.id]: text, [kind.alias]: text }).safeParse(body);
  if (!texts.success) throw invalid(String(texts.error.issues[0]?.path[0] ?? "body"), "must be a string or null.");
  const id =
    textOf(body[kind.id]) ?? kind.idsToo?.map((name) => textOf(body[name])).find((found) => found !== undefined);
  const aliases = z.record(z.string(), z.string()).nullish().safeParse(body[kind.aliases]);
  if (!aliases.success) throw invalid(kind.aliases, "must map names to model names, or be null.");
  const known = new Set([
    ...Object.keys(entityFields.shape),
    ...notFields,
    ...[kind.id, kind.alias, kind.aliases, ...(kind.idsToo ?? [])],
  ]);
  const kept = Object.entries(body).filter(([name]) => !known.has(name));
  const alias = body[kind.alias];
  return {
    id,
    change: present({
      alias: alias === undefined ? undefined : (textOf(alias) ?? null),
      email: fields.user_email,
      role: fields.user_role,
      organizationId: fields.organization_id,
      models: fields.models === null ? [] : fields.models,
      aliases: aliases.data === null ? {} : aliases.data,
      maxBudget: fields.max_budget,
      softBudget: fields.soft_budget,
      budgetDuration: fields.budget_duration,
      budgetLimits: fields.budget_limits === null ? [] : fields.budget_limits && limitsOf(fields.budget_limits),
      budgetId: fields.budget_id,
      rpmLimit: fields.rpm_limit,
      tpmLimit: fields.tpm_limit,
      maxParallelRequests: fields.max_parallel_requests,
      metadata: fields.metadata === null ? {} : fields.metadata,
      tags: fields.tags === null ? [] : fields.tags,
      blocked: fields.blocked === null ? false : fields.blocked,
      extra: kept.length === 0 ? undefined : Object.fromEntries(kept),
    }),
  };
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
