/** What an operator's file says of keys that are made: LiteLLM's defaults and upper bounds. */

import { durationMs, parseDuration } from "../duration.ts";
import type { KeyRules } from "./config.ts";
import { anything, dollars, duration, list, map, section, text, whole } from "./fields.ts";
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

/** The two as the KeyService applies them. A default over a bound, which would refuse every key, is a fault. */
export function compileKeyRules(
  settings:
    | {
        readonly default_key_generate_params?: ReturnType<typeof keyDefaults.parse> | null | undefined;
        readonly upperbound_key_generate_params?: ReturnType<typeof keyBounds.parse> | null | undefined;
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
  };
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
