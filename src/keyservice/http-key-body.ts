/** What LiteLLM's clients send to /key/*: bodies, checked field by field. */

import { z } from "zod";
import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { type Nanos, parseUsd, usdFromNumber } from "../money.ts";
import {
  type BudgetLimit,
  type FieldNames,
  invalid,
  type KeyChange,
  type ModelBudget,
  type TempBudget,
} from "./key-fields.ts";

/** The fields as LiteLLM calls them. */
export const httpNames: FieldNames = {
  alias: "key_alias",
  userId: "user_id",
  teamId: "team_id",
  models: "models",
  aliases: "aliases",
  maxBudget: "max_budget",
  softBudget: "soft_budget",
  tempBudget: "temp_budget_increase",
  budgetDuration: "budget_duration",
  budgetLimits: "budget_limits",
  organizationId: "organization_id",
  budgetId: "budget_id",
  modelBudgets: "model_max_budget",
  rpmLimit: "rpm_limit",
  tpmLimit: "tpm_limit",
  maxParallelRequests: "max_parallel_requests",
  metadata: "metadata",
  tags: "tags",
  blocked: "blocked",
  allowedRoutes: "allowed_routes",
  enforcedParams: "enforced_params",
  expiresAtMs: "expires",
  extra: "body",
  duration: "duration",
  secret: "key",
};

const text = z.string("must be a string or null.").nullish();
const texts = z.array(z.string("must be a list of strings."), "must be a list of strings, or null.").nullish();
const flag = z.boolean("must be true, false or null.").nullish();
const table = z.custom<JsonObject>(isObject, "must be a JSON object or null.").nullish();
const named = z.string("must be the key, its id or its token.").min(1, "must not be empty.");

const dollarsComplaint = "must be a number of dollars, or null for no limit.";
const dollars = z.union([z.number(), z.string()], dollarsComplaint).transform(nanosOf).nullish();

const momentForm = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?$/;
const momentComplaint =
  'must be a day or a moment in ISO 8601, such as "2026-12-31" or "2026-12-31T18:00:00Z", or null.';
/** Without a zone it is UTC. In Unix time, milliseconds. */
const moment = z
  .string(momentComplaint)
  .transform((text, context) => {
    const zoned = /[Zz]$|[+-]\d{2}:?\d{2}$/.test(text.slice(10)) || text.length === 10 ? text : `${text}Z`;
    const timeMs = momentForm.test(text) ? Date.parse(zoned.replace(" ", "T")) : Number.NaN;
    if (!Number.isNaN(timeMs)) return timeMs;
    context.addIssue(momentComplaint);
    return z.NEVER;
  })
  .nullish();

const limitComplaint = "must be a list of windows, each with `budget_duration` and `max_budget`, or null.";
const limits = z
  .array(
    z.object(
      {
        budget_duration: z.string(limitComplaint),
        max_budget: z.union([z.number(), z.string()], limitComplaint).transform(nanosOf),
        // What an answer said of a window may come back with it.
        from_metadata: z.boolean(limitComplaint).optional(),
      },
      limitComplaint,
    ),
    limitComplaint,
  )
  .nullish();

const modelBudgetComplaint =
  'must map models to budgets, such as {"gpt-4o": {"budget_limit": 10, "time_period": "1d"}}, or be null.';
const modelBudgets = z
  .record(
    z.string(),
    z.looseObject(
      {
        budget_limit: z.union([z.number(), z.string()], modelBudgetComplaint).transform(nanosOf).nullish(),
        max_budget: z.union([z.number(), z.string()], modelBudgetComplaint).transform(nanosOf).nullish(),
        time_period: z.string(modelBudgetComplaint).nullish(),
        budget_duration: z.string(modelBudgetComplaint).nullish(),
      },
      modelBudgetComplaint,
    ),
    modelBudgetComplaint,
  )
  .transform((budgets, context) =>
    Object.entries(budgets).map(([model, budget]): ModelBudget => {
      const max = budget.budget_limit ?? budget.max_budget;
      if (max === undefined || max === null) {
        context.addIssue(modelBudgetComplaint);
        return z.NEVER;
      }
      return { model, max, duration: budget.time_period ?? budget.budget_duration ?? null };
    }),
  )
  .nullish();

const countComplaint = "must be a whole number, zero or more, or null for no limit.";
const count = z
  .union([z.number(), z.string().regex(/^\d{1,15}$/)], countComplaint)
  .transform(Number)
  .nullish();

/** Fields that keys share with everything else that has budgets and limits. */
export const bodyFields = {
  organization_id: text,
  budget_id: text,
  models: texts,
  max_budget: dollars,
  soft_budget: dollars,
  budget_duration: text,
  budget_limits: limits,
  rpm_limit: count,
  tpm_limit: count,
  max_parallel_requests: count,
  metadata: table,
  tags: texts,
  blocked: flag,
} as const;

const keyFields = z.looseObject({
  ...bodyFields,
  key_alias: text,
  user_id: text,
  team_id: text,
  model_max_budget: modelBudgets,
  temp_budget_increase: dollars,
  temp_budget_expiry: moment,
  aliases: z.record(z.string(), z.string("must map names to model names."), "must be a JSON object or null.").nullish(),
  duration: text,
  allowed_routes: texts,
  enforced_params: texts,
  key_type: z
    .enum(["llm_api", "management", "read_only", "default"], "must be llm_api, management, read_only or default.")
    .nullish(),
});

/** LiteLLM's kinds of keys are short for the routes they may use. */
const routesOfType = {
  llm_api: ["llm_api_routes"],
  management: ["management_routes"],
  read_only: ["info_routes"],
  default: undefined,
} as const;

/** POST /key/generate. */
export const generateBody = keyFields.extend({ key: text });
/** POST /key/update. */
export const updateBody = keyFields.extend({ key: named });
/** POST /key/regenerate; the key may be named by the path. */
export const regenerateBody = keyFields.extend({ key: text, new_key: text, grace_period: text });
/** POST /key/{key}/reset_spend. */
export const resetSpendBody = z.looseObject({
  reset_to: z.union([z.number(), z.string()], "must be a number of dollars.").transform(nanosOf),
});
/** POST /v2/key/info. */
export const infoBody = z.looseObject({
  keys: z
    .array(named, "must be a list of keys.")
    .min(1, "must name a key.")
    .max(1000, "must have at most 1000 entries."),
});
/** POST /key/bulk_update. */
export const bulkUpdateBody = z.looseObject({
  keys: z
    .array(
      z.custom<JsonObject>(isObject, "must be a list of changes, each with the `key` it is for."),
      "must be a list of changes, each with the `key` it is for.",
    )
    .min(1, "must have a change.")
    .max(500, "must have at most 500 entries."),
});
/** POST /key/block and /key/unblock. */
export const keyBody = z.looseObject({ key: named });
/** POST /key/delete. */
export const deleteBody = z.looseObject({
  keys: z.array(named, "must be a list of keys.").max(1000, "must have at most 1000 entries.").nullish(),
  key_aliases: texts,
});

/** What the answers tell and nobody sets. A row that is sent back as it came changes nothing by them. */
const outputOnly = new Set([
  ...["token", "token_id", "key_id", "key_name", "expires", "budget_reset_at", "reserved", "litellm_budget_table"],
  ...["created_at", "created_by", "updated_at", "updated_by", "model_spend", "soft_budget_cooldown"],
  ...["rotation_count", "last_rotation_at", "key_rotation_at"],
]);

/**
 * Checks a body.
 *
 * @throws GatewayError `invalid_request` that names the first field that is wrong.
 */
export function readBody<Schema extends z.ZodType>(schema: Schema, body: JsonObject): z.output<Schema> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const missing = issue?.code === "invalid_type" && issue.path.length === 1 && !((issue.path[0] ?? "") in body);
  throw invalid(String(issue?.path[0] ?? "body"), missing ? "is missing." : (issue?.message ?? "is not valid."));
}

/** What a body says about a key. Fields that do not act are kept in `extra`, with null for what is to be cleared. */
export function changeOf(body: z.output<typeof keyFields> & { readonly key?: unknown }): KeyChange {
  const { key: _, key_alias, user_id, team_id, models, aliases, metadata, tags, blocked, duration, ...others } = body;
  const {
    max_budget,
    soft_budget,
    budget_duration,
    budget_limits,
    rpm_limit,
    tpm_limit,
    max_parallel_requests,
    organization_id,
    budget_id,
    model_max_budget,
    temp_budget_increase,
    temp_budget_expiry,
    allowed_routes,
    enforced_params,
    key_type,
    ...rest
  } = others;
  refuseSpend(rest.spend);
  const kept = Object.entries(rest).filter(([name]) => !outputOnly.has(name) && name !== "spend");
  return present({
    alias: key_alias,
    userId: user_id,
    teamId: team_id,
    organizationId: organization_id,
    budgetId: budget_id,
    modelBudgets: model_max_budget === null ? [] : model_max_budget,
    models: models === null ? [] : models,
    aliases: aliases === null ? {} : aliases,
    maxBudget: max_budget,
    softBudget: soft_budget,
    budgetDuration: budget_duration,
    tempBudget: tempBudgetOf(temp_budget_increase, temp_budget_expiry),
    budgetLimits: budget_limits === null ? [] : budget_limits && limitsOf(budget_limits),
    rpmLimit: rpm_limit,
    tpmLimit: tpm_limit,
    maxParallelRequests: max_parallel_requests,
    metadata: metadata === null ? {} : metadata,
    tags: tags === null ? [] : tags,
    blocked: blocked === null ? false : blocked,
    allowedRoutes: allowed_routes === null ? [] : (allowed_routes ?? routesOfType[key_type ?? "default"]),
    enforcedParams: enforced_params === null ? [] : enforced_params,
    duration,
    extra: kept.length === 0 ? undefined : (Object.fromEntries(kept) as JsonObject),
  });
}

/** @throws GatewayError `invalid_request` if only one of the two is there: neither says anything alone. */
function tempBudgetOf(
  increase: Nanos | null | undefined,
  untilMs: number | null | undefined,
): TempBudget | null | undefined {
  if (typeof increase === "bigint" && typeof untilMs === "number") return { increase, untilMs };
  if (typeof increase === "bigint") throw invalid("temp_budget_expiry", "must be given with `temp_budget_increase`.");
  if (typeof untilMs === "number") throw invalid("temp_budget_increase", "must be given with `temp_budget_expiry`.");
  return increase === undefined && untilMs === undefined ? undefined : null;
}

/** Budget windows of a body; those that `metadata` makes are left out. */
export function limitsOf(limits: NonNullable<z.output<typeof keyFields>["budget_limits"]>): readonly BudgetLimit[] {
  return limits
    .filter(({ from_metadata }) => from_metadata !== true)
    .map(({ budget_duration: duration, max_budget: max }) => ({ duration, max }));
}

function nanosOf(amount: number | string, context: z.RefinementCtx): Nanos {
  const nanos = typeof amount === "number" ? usdFromNumber(amount) : parseUsd(amount);
  if (nanos !== undefined) return nanos;
  context.addIssue(dollarsComplaint);
  return z.NEVER;
}

/** The books alone say what was spent; a zero for a new key says nothing else. */
function refuseSpend(spend: unknown): void {
  if (spend === undefined || spend === null || spend === 0) return;
  throw invalid("spend", "cannot be set: it is the sum of what was booked. Leave it out.");
}

/** Only the members that are not undefined. */
export function present<Fields extends object>(
  fields: Fields,
): { [Name in keyof Fields]?: Exclude<Fields[Name], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [Name in keyof Fields]?: Exclude<Fields[Name], undefined>;
  };
}

/** A JSON text as the object it must be. @throws GatewayError `invalid_json`, `invalid_request`. */
export function parseObject(bytes: Buffer): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new GatewayError("invalid_json", "The body is not valid JSON in UTF-8.", { cause });
  }
  if (isObject(value)) return value;
  throw new GatewayError("invalid_request", "The body must be a JSON object.");
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
