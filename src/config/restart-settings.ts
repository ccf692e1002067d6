import { Secret } from "../secret.ts";
import type { Config } from "./config.ts";

/** What a gateway takes from its configuration once, when it is put together, and where it stands in the file. */
const settings = {
  redis: "router_settings.redis_*, litellm_settings.cache_params",
  redisUnavailable: "tollgate.redis_unavailable",
  answerCache: "litellm_settings.cache, litellm_settings.cache_params",
  healthChecks: "general_settings.background_health_checks",
  unpricedModels: "tollgate.unpriced_models",
  tagBudgets: "litellm_settings.tag_budget_config",
  countedTokens: "general_settings.token_rate_limit_type",
  keyServiceUnavailable: "tollgate.keyservice_unavailable",
  masterKey: "general_settings.master_key",
  guardsMetrics: "litellm_settings.require_auth_for_metrics_endpoint",
  environment: "general_settings.environment",
  callbacks:
    "litellm_settings.success_callback and its like, turn_off_message_logging, forward_traceparent_to_llm_provider",
} as const satisfies Partial<Record<keyof Config, string>>;

/** Where the settings stand in the file that are other than at the start, and that a gateway cannot change while it runs. */
export function changedAtRestart(first: Config, current: Config): readonly string[] {
  return Object.entries(settings).flatMap(([name, place]) => {
    const key = name as keyof typeof settings;
    // A master key that the file no longer has may come from elsewhere.
    if (key === "masterKey" && current.masterKey === undefined) return [];
    return textOf(first[key]) === textOf(current[key]) ? [] : place;
  });
}

/** A text for comparing: nobody sees it. */
function textOf(value: unknown): string {
  return String(
    JSON.stringify({ value }, function (this: Record<string, unknown>, key, written: unknown) {
      const raw = this[key];
      if (raw instanceof Secret) return raw.reveal();
      if (raw instanceof Map) return [...raw];
      return typeof raw === "bigint" ? String(raw) : written;
    }),
  );
}
