/** Keys in the shape of LiteLLM's rows. */

import type { JsonObject } from "../completion.ts";
import { type Nanos, usdNumber } from "../money.ts";
import type { BudgetRecord, WindowRecord } from "./budget-records.ts";
import type { KeyRecord } from "./key-records.ts";

/** Columns of LiteLLM's that do nothing here, as they are when nobody has set them. */
const inactive: JsonObject = {
  config: {},
  router_settings: null,
  permissions: {},
  allowed_cache_controls: [],
  policies: [],
  access_group_ids: [],
  object_permission_id: null,
  object_permission: null,
  auto_rotate: false,
  rotation_interval: null,
};

/** A key's row. Without `token`: of the secret only a keyed hash is stored, and where LiteLLM has a token the id stands. */
export function rowOf(key: KeyRecord): JsonObject {
  return {
    ...inactive,
    ...key.extra,
    key_id: key.keyId,
    key_name: key.masked,
    key_alias: key.alias,
    user_id: key.userId,
    team_id: key.teamId,
    organization_id: key.organizationId,
    models: [...key.models],
    aliases: { ...key.aliases },
    spend: usdNumber(key.spent),
    reserved: usdNumber(key.reserved),
    ...budgetColumns(key),
    model_max_budget: Object.fromEntries(
      key.modelBudgets.map(({ model, duration, max }) => [
        model,
        { budget_limit: usdNumber(max), time_period: duration },
      ]),
    ),
    soft_budget_cooldown: false,
    temp_budget_increase: usdOf(key.tempBudget?.increase ?? null),
    temp_budget_expiry: isoOf(key.tempBudget?.untilMs),
    rpm_limit: key.rpmLimit,
    tpm_limit: key.tpmLimit,
    max_parallel_requests: key.maxParallelRequests,
    metadata: key.metadata,
    tags: [...key.tags],
    blocked: key.blocked,
    allowed_routes: [...key.allowedRoutes],
    enforced_params: [...key.enforcedParams],
    expires: isoOf(key.expiresAtMs),
    model_spend: {},
    rotation_count: key.rotationCount,
    last_rotation_at: isoOf(key.rotatedAtMs),
    key_rotation_at: null,
    created_at: isoOf(key.createdAtMs),
    created_by: key.createdBy,
    updated_at: isoOf(key.updatedAtMs),
    updated_by: key.createdBy,
  };
}

/** A thing's budgets in LiteLLM's columns. */
export function budgetColumns(budget: BudgetRecord): JsonObject {
  const { template } = budget;
  return {
    max_budget: usdOf(budget.maxBudget),
    soft_budget: usdOf(budget.softBudget),
    budget_duration: budget.budgetDuration,
    budget_reset_at: isoOf(budget.resetsAtMs),
    budget_limits: budget.windows.length === 0 ? null : budget.windows.map(windowOf),
    budget_id: budget.budgetId,
    litellm_budget_table:
      template === null
        ? null
        : {
            budget_id: budget.budgetId,
            max_budget: usdOf(template.maxBudget),
            soft_budget: usdOf(template.softBudget),
            budget_duration: template.budgetDuration,
          },
  };
}

function usdOf(nanos: Nanos | null): number | null {
  return nanos === null ? null : usdNumber(nanos);
}

function windowOf(window: WindowRecord): JsonObject {
  return {
    budget_duration: window.duration,
    max_budget: usdNumber(window.max),
    spent: usdNumber(window.spent),
    reserved: usdNumber(window.reserved),
    reset_at: isoOf(window.resetsAtMs),
    ...(window.fromMetadata ? { from_metadata: true } : {}),
  };
}

/** A key's row with its id in the place of LiteLLM's token. */
export function rowWithToken(key: KeyRecord): JsonObject {
  return { ...rowOf(key), token: key.keyId };
}

/** A moment as LiteLLM writes it. */
export function isoOf(timeMs: number | null | undefined): string | null {
  return timeMs === null || timeMs === undefined ? null : new Date(timeMs).toISOString();
}
