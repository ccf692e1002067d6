/** Keys and spend in the messages of tollgate.admin.v1. */

import { create, isFieldSet } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { GatewayError } from "../errors.ts";
import {
  type BudgetWindow,
  BudgetWindowSchema,
  type Key,
  KeySchema,
  type ModelBudget as ModelBudgetMessage,
  ModelBudgetSchema,
  type Refusal,
  RefusalSchema,
  type Spend,
  SpendSchema,
} from "../gen/tollgate/admin/v1/keys_pb.ts";
import { formatUsd, type Nanos, parseUsd } from "../money.ts";
import type { WindowRecord } from "./budget-records.ts";
import {
  type BudgetLimit,
  type FieldNames,
  invalid,
  type KeyChange,
  type ModelBudget,
  type TempBudget,
} from "./key-fields.ts";
import { etagOf, type KeyRecord } from "./key-records.ts";
import type { SpendEntry } from "./spend-reader.ts";

/** The fields as the messages call them. The last two are not in `Key`. */
export const rpcNames: FieldNames = {
  alias: "key.alias",
  userId: "key.user_id",
  teamId: "key.team_id",
  models: "key.models",
  aliases: "key.aliases",
  maxBudget: "key.max_budget_usd",
  softBudget: "key.soft_budget_usd",
  tempBudget: "key.temp_budget_increase_usd",
  budgetDuration: "key.budget_duration",
  budgetLimits: "key.budget_windows",
  organizationId: "key.organization_id",
  budgetId: "key.budget_id",
  modelBudgets: "key.model_budgets",
  rpmLimit: "key.rpm_limit",
  tpmLimit: "key.tpm_limit",
  maxParallelRequests: "key.max_parallel_requests",
  metadata: "key.metadata",
  tags: "key.tags",
  blocked: "key.blocked",
  allowedRoutes: "key.allowed_routes",
  enforcedParams: "key.enforced_params",
  expiresAtMs: "key.expire_time",
  extra: "key.extra",
  duration: "duration",
  secret: "secret",
};

/** What each field that may be set becomes; unset means cleared. The other fields of Key are output only. */
const readers: Readonly<Record<string, (key: Key) => KeyChange>> = {
  alias: (key) => ({ alias: key.alias ?? null }),
  models: (key) => ({ models: key.models }),
  aliases: (key) => ({ aliases: key.aliases }),
  max_budget_usd: (key) => ({
    maxBudget: key.maxBudgetUsd === undefined ? null : nanosOf(key.maxBudgetUsd, rpcNames.maxBudget),
  }),
  soft_budget_usd: (key) => ({
    softBudget: key.softBudgetUsd === undefined ? null : nanosOf(key.softBudgetUsd, rpcNames.softBudget),
  }),
  temp_budget_increase_usd: (key) => ({ tempBudget: tempBudgetOf(key) }),
  temp_budget_expire_time: (key) => ({ tempBudget: tempBudgetOf(key) }),
  organization_id: (key) => ({ organizationId: key.organizationId ?? null }),
  budget_id: (key) => ({ budgetId: key.budgetId ?? null }),
  model_budgets: (key) => ({ modelBudgets: key.modelBudgets.map(modelBudgetOf) }),
  budget_duration: (key) => ({ budgetDuration: key.budgetDuration ?? null }),
  budget_windows: (key) => ({ budgetLimits: limitsOf(key.budgetWindows) }),
  rpm_limit: (key) => ({ rpmLimit: countOf(key.rpmLimit) }),
  tpm_limit: (key) => ({ tpmLimit: countOf(key.tpmLimit) }),
  max_parallel_requests: (key) => ({ maxParallelRequests: countOf(key.maxParallelRequests) }),
  expire_time: (key) => ({ expiresAtMs: msOf(key.expireTime) }),
  user_id: (key) => ({ userId: key.userId ?? null }),
  team_id: (key) => ({ teamId: key.teamId ?? null }),
  metadata: (key) => ({ metadata: key.metadata ?? {} }),
  tags: (key) => ({ tags: key.tags }),
  extra: (key) => ({ extra: key.extra ?? {} }),
  allowed_routes: (key) => ({ allowedRoutes: key.allowedRoutes }),
  enforced_params: (key) => ({ enforcedParams: key.enforcedParams }),
};

/**
 * What a message says about a key.
 *
 * @param mask the fields meant, in snake_case or camelCase, "*" for all; empty: those that are set.
 * @throws GatewayError `invalid_request` for a path that names no field, and for an amount that is none.
 */
export function changeOf(key: Key, mask: readonly string[]): KeyChange {
  return Object.assign({}, ...fieldsOf(key, mask).map((field) => readers[field]?.(key)));
}

function fieldsOf(key: Key, mask: readonly string[]): string[] {
  if (mask.includes("*")) return Object.keys(readers);
  if (mask.length === 0) return KeySchema.fields.filter((field) => isFieldSet(key, field)).map((field) => field.name);
  return mask.map((path) => {
    const field = KeySchema.fields.find(({ name, jsonName }) => name === path || jsonName === path);
    if (field === undefined) throw invalid("update_mask", "must name fields of Key, and only whole ones.");
    return field.name;
  });
}

/** The message of a key. */
export function messageOf(key: KeyRecord): Key {
  return create(KeySchema, {
    id: key.keyId,
    masked: key.masked,
    models: [...key.models],
    aliases: { ...key.aliases },
    blocked: key.blocked,
    spentUsd: formatUsd(key.spent),
    reservedUsd: formatUsd(key.reserved),
    metadata: key.metadata,
    tags: [...key.tags],
    extra: key.extra,
    allowedRoutes: [...key.allowedRoutes],
    enforcedParams: [...key.enforcedParams],
    createTime: timestampFromMs(key.createdAtMs),
    updateTime: timestampFromMs(key.updatedAtMs),
    etag: etagOf(key),
    rotationCount: key.rotationCount,
    ...(key.rotatedAtMs === undefined ? {} : { rotateTime: timestampFromMs(key.rotatedAtMs) }),
    budgetWindows: key.windows.map(windowMessageOf),
    modelBudgets: key.modelBudgets.map(({ model, duration, max }) => {
      return create(ModelBudgetSchema, { model, budgetDuration: duration ?? "", maxBudgetUsd: formatUsd(max) });
    }),
    ...(key.tempBudget === null
      ? {}
      : {
          tempBudgetIncreaseUsd: formatUsd(key.tempBudget.increase),
          tempBudgetExpireTime: timestampFromMs(key.tempBudget.untilMs),
        }),
    ...(key.deletedAtMs === undefined ? {} : { deleteTime: timestampFromMs(key.deletedAtMs) }),
    ...(key.softBudget === null ? {} : { softBudgetUsd: formatUsd(key.softBudget) }),
    ...(key.organizationId === null ? {} : { organizationId: key.organizationId }),
    ...(key.budgetId === null ? {} : { budgetId: key.budgetId }),
    ...(key.alias === null ? {} : { alias: key.alias }),
    ...(key.userId === null ? {} : { userId: key.userId }),
    ...(key.teamId === null ? {} : { teamId: key.teamId }),
    ...(key.maxBudget === null ? {} : { maxBudgetUsd: formatUsd(key.maxBudget) }),
    ...(key.budgetDuration === null ? {} : { budgetDuration: key.budgetDuration }),
    ...(key.rpmLimit === null ? {} : { rpmLimit: BigInt(key.rpmLimit) }),
    ...(key.tpmLimit === null ? {} : { tpmLimit: BigInt(key.tpmLimit) }),
    ...(key.maxParallelRequests === null ? {} : { maxParallelRequests: BigInt(key.maxParallelRequests) }),
    ...(key.expiresAtMs === null ? {} : { expireTime: timestampFromMs(key.expiresAtMs) }),
    ...(key.resetsAtMs === undefined ? {} : { budgetResetTime: timestampFromMs(key.resetsAtMs) }),
  });
}

function tempBudgetOf({ tempBudgetIncreaseUsd, tempBudgetExpireTime }: Key): TempBudget | null {
  const untilMs = msOf(tempBudgetExpireTime);
  if (tempBudgetIncreaseUsd === undefined && untilMs === null) return null;
  if (tempBudgetIncreaseUsd === undefined || untilMs === null) {
    throw invalid(rpcNames.tempBudget, "must be given together with `key.temp_budget_expire_time`.");
  }
  return { increase: nanosOf(tempBudgetIncreaseUsd, rpcNames.tempBudget), untilMs };
}

function modelBudgetOf({ model, budgetDuration, maxBudgetUsd }: ModelBudgetMessage): ModelBudget {
  return {
    model,
    duration: budgetDuration === "" ? null : budgetDuration,
    max: nanosOf(maxBudgetUsd, rpcNames.modelBudgets),
  };
}

/** The message of a budget window. */
export function windowMessageOf(window: WindowRecord): BudgetWindow {
  return create(BudgetWindowSchema, {
    budgetDuration: window.duration,
    maxBudgetUsd: formatUsd(window.max),
    spentUsd: formatUsd(window.spent),
    reservedUsd: formatUsd(window.reserved),
    fromMetadata: window.fromMetadata,
    ...(window.resetsAtMs === undefined ? {} : { resetTime: timestampFromMs(window.resetsAtMs) }),
  });
}

/** The message of a booked attempt. */
export function spendMessageOf(entry: SpendEntry): Spend {
  return create(SpendSchema, {
    callId: entry.callId,
    attempt: entry.attempt,
    keyId: entry.keyId,
    costUsd: formatUsd(entry.cost),
    status: entry.status,
    modelGroup: entry.modelGroup,
    model: entry.model,
    provider: entry.provider,
    deploymentId: entry.deploymentId,
    inputTokens: entry.inputTokens,
    outputTokens: entry.outputTokens,
    startTime: timestampFromDate(entry.startedAt),
    priceVersion: entry.priceVersion,
    usageEstimated: entry.usageEstimated,
    endUser: entry.endUser,
    tags: [...entry.tags],
    userId: entry.userId,
    teamId: entry.teamId,
    organizationId: entry.organizationId,
    cacheHit: entry.cacheHit,
    ...(entry.endedAt === undefined ? {} : { endTime: timestampFromDate(entry.endedAt) }),
  });
}

/** Why one of several things was not done. */
export function refusalOf({ code, message, facts }: GatewayError): Refusal {
  return create(RefusalSchema, { reason: code.toUpperCase(), message, field: facts.param ?? "" });
}

/** Budget windows of a message; those that `metadata` makes are left out. */
export function limitsOf(windows: readonly BudgetWindow[]): readonly BudgetLimit[] {
  return windows
    .filter(({ fromMetadata }) => !fromMetadata)
    .map((window) => ({ duration: window.budgetDuration, max: nanosOf(window.maxBudgetUsd, rpcNames.budgetLimits) }));
}

/** Dollars of a message. @throws GatewayError `invalid_request`. */
export function nanosOf(text: string, name: string): Nanos {
  const amount = parseUsd(text);
  if (amount === undefined) throw invalid(name, 'must be dollars as a decimal: "25", "0.5".');
  return amount;
}

/** A limit of a message. */
export function countOf(count: bigint | undefined): number | null {
  return count === undefined ? null : Number(count);
}

/** May be beyond what a Date can hold; checkKeyChange sees to that. */
function msOf(time: Timestamp | undefined): number | null {
  return time === undefined ? null : Number(time.seconds) * 1000 + Math.floor(time.nanos / 1_000_000);
}
