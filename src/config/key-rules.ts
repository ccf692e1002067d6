/** What an operator's file says of keys, teams and users that are made: LiteLLM's defaults and upper bounds. */

import { durationMs, parseDuration } from "../duration.ts";
import type { EntityDefaults, KeyRules } from "./creation-rules.ts";
import { anything, choice, dollars, duration, list, map, section, text, whole } from "./fields.ts";
import type { Remarks } from "./remarks.ts";

const limits = {
  max_budget: dollars.nullish(),
  budget_duration: duration.nullish(),
  duration: duration.nullish(),
  rpm_limit: whole(0, 100).nullish(),
  tpm_limit: whole(0, 100_000).nullish(),
  max_parallel_requests: whole(0, 10).nullish(),
};

/** `litellm_settings.default_key_generate_params`. */
export const keyDefaults = section({
  ...limits,
  models: list(text).nullish(),
  metadata: map(anything).nullish(),
  user_id: text.nullish(),
  team_id: text.nullish(),
});

/** `litellm_settings.upperbound_key_generate_params`. */
export const keyBounds = section(limits);

const entityDefaults = {
  max_budget: limits.max_budget,
  budget_duration: limits.budget_duration,
  rpm_limit: limits.rpm_limit,
  tpm_limit: limits.tpm_limit,
  models: list(text).nullish(),
};

/** `litellm_settings.default_team_params`. */
export const teamDefaults = section({ ...entityDefaults, team_member_permissions: list(text).nullish() });

/** `litellm_settings.default_internal_user_params`. */
export const userDefaults = section({
  ...entityDefaults,
  user_role: choice(["proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer"]).nullish(),
  available_teams: list(text).nullish(),
});

/** They as the KeyService applies them. A default over a bound, which would refuse every key, is a fault. */
export function compileKeyRules(
  settings:
    | {
        readonly default_key_generate_params?: ReturnType<typeof keyDefaults.parse> | null | undefined;
        readonly upperbound_key_generate_params?: ReturnType<typeof keyBounds.parse> | null | undefined;
        readonly default_team_params?: ReturnType<typeof teamDefaults.parse> | null | undefined;
        readonly default_internal_user_params?: ReturnType<typeof userDefaults.parse> | null | undefined;
      }
    | undefined,
  remarks: Remarks,
): KeyRules {
  const defaults = settings?.default_key_generate_params ?? {};
  const bounds = settings?.upperbound_key_generate_params ?? {};
  for (const name of Object.keys(limits) as (keyof typeof limits)[]) {
    const [value, bound] = [measure(defaults[name]), measure(bounds[name])];
    if (value === undefined || bound === undefined || value <= bound) continue;
    remarks.fault(
      ["litellm_settings", "default_key_generate_params", name],
      "more than upperbound_key_generate_params allows: every key would be refused; write at most that",
    );
  }
  return {
    defaults: present({
      ...limitsOf(defaults),
      models: defaults.models,
      metadata: defaults.metadata as KeyRules["defaults"]["metadata"],
      userId: defaults.user_id,
      teamId: defaults.team_id,
    }),
    bounds: present(limitsOf(bounds)),
    ...present({
      teamDefaults: settings?.default_team_params && entityDefaultsOf(settings.default_team_params),
      userDefaults: settings?.default_internal_user_params && entityDefaultsOf(settings.default_internal_user_params),
      joinableTeams: settings?.default_internal_user_params?.available_teams,
    }),
  };
}

function entityDefaultsOf(
  written: Partial<ReturnType<typeof teamDefaults.parse> & ReturnType<typeof userDefaults.parse>>,
): EntityDefaults {
  return present({
    maxBudget: written.max_budget,
    budgetDuration: written.budget_duration,
    rpmLimit: written.rpm_limit,
    tpmLimit: written.tpm_limit,
    models: written.models,
    role: written.user_role,
    memberPermissions: written.team_member_permissions,
  });
}

type Limits = ReturnType<typeof keyBounds.parse>;

function limitsOf(written: Limits) {
  return {
    maxBudget: written.max_budget,
    budgetDuration: written.budget_duration,
    duration: written.duration,
    rpmLimit: written.rpm_limit,
    tpmLimit: written.tpm_limit,
    maxParallelRequests: written.max_parallel_requests,
  };
}

function measure(value: bigint | number | string | null | undefined): bigint | number | undefined {
  if (typeof value !== "string") return value ?? undefined;
  const length = parseDuration(value);
  return length && durationMs(length);
}

/** Only what is written: a key with nothing behind it says nothing. */
function present<Fields extends object>(fields: Fields): { [Name in keyof Fields]?: NonNullable<Fields[Name]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null)) as {
    [Name in keyof Fields]?: NonNullable<Fields[Name]>;
  };
}
