import { FileSecret } from "../file-secret.ts";
import { Secret } from "../secret.ts";
import type { Config } from "./config.ts";

/** What a program takes from its configuration once, at its start, and where it stands in the file. */
export type RestartSettings = Readonly<Partial<Record<keyof Config, string>>>;

/** Of a gateway. Of Redis all but the passwords. */
export const gatewayRestartSettings: RestartSettings = {
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
  workers: "tollgate.workers",
  callbacks:
    "litellm_settings.success_callback and its like, turn_off_message_logging, forward_traceparent_to_llm_provider",
};

/** Of the KeyService. */
export const keyServiceRestartSettings: RestartSettings = {
  masterKey: "general_settings.master_key",
  databaseUrl: "general_settings.database_url",
  storesModels: "general_settings.store_model_in_db",
  alerting: "general_settings.alerting, alert_types, alert_to_webhook_url",
  spendLogRetentionMs: "general_settings.maximum_spend_logs_retention_period",
  timeZone: "litellm_settings.timezone",
  guardsMetrics: "litellm_settings.require_auth_for_metrics_endpoint",
};

/** What may come from elsewhere where a file does not say it. */
const ofEnvironment: ReadonlySet<string> = new Set(Object.keys(keyServiceRestartSettings));

/** Where the settings stand in the file that are other than at the start, and that the program cannot change while it runs. */
export function changedAtRestart(first: Config, current: Config, settings: RestartSettings): readonly string[] {
  return Object.entries(settings).flatMap(([name, place]) => {
    const key = name as keyof Config;
    if (current[key] === undefined && ofEnvironment.has(key)) return [];
    // What is read from its file whenever it is wanted has changed already.
    if (first[key] instanceof FileSecret) return [];
    const text = key === "redis" || key === "answerCache" ? textOfPlace : textOf;
    return text(first[key]) === text(current[key]) ? [] : place;
  });
}

/** Of a secret it has only that there is one. */
function textOfPlace(value: unknown): string {
  return String(JSON.stringify({ value }));
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
