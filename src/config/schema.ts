/** The schema of LiteLLM's configuration file, as far as its values have types that matter here. */

import { z } from "zod";
import { budgetTable } from "./budget-config.ts";
import { failurePolicy } from "./failure-policy.ts";
import {
  anything,
  choice,
  databaseUrl,
  flag,
  list,
  map,
  namespace,
  number,
  pause,
  port,
  privateHost,
  ratio,
  redisUrl,
  retention,
  seconds,
  secret,
  section,
  text,
  timeZone,
  webhookUrls,
  whole,
} from "./fields.ts";
import { keyBounds, keyDefaults, teamDefaults, userDefaults } from "./key-rules.ts";
import { litellmParams, modelEntry } from "./schema-model.ts";
import { redisConnection, redisKeys } from "./schema-redis.ts";
import { routingStrategies, strategyArgs } from "./schema-routing.ts";

const groupNames = list(z.union([text, map(anything)], { error: "the name of a model" }));

/** LiteLLM's fallbacks: a list of maps with one group each. */
export const fallbacks = list(
  map(groupNames).refine((entry) => Object.keys(entry).length === 1, {
    error: "one model and its fallbacks in each entry, such as gpt-4o: [gpt-4o-mini]",
  }),
);

const aliasTarget = z.union([text, section({ model: text, hidden: flag.optional() })], {
  error: "the name of a model, or {model: its name, hidden: true}",
});

const callbacks = z.union([list(anything), text], { error: "a list of names, such as [langfuse]" });

const reliability = {
  num_retries: whole(0, 2).optional(),
  allowed_fails: whole(0, 3).optional(),
  fallbacks: fallbacks.optional(),
  context_window_fallbacks: fallbacks.optional(),
  content_policy_fallbacks: fallbacks.optional(),
  default_fallbacks: list(text).optional(),
  max_fallbacks: whole(0, 5).optional(),
};

/** What deployments have that do not say it themselves. */
export const defaultParams = litellmParams.partial();

export const routerSettings = section({
  ...reliability,
  routing_strategy: choice(routingStrategies).optional(),
  routing_strategy_args: strategyArgs.optional(),
  timeout: seconds.optional(),
  stream_timeout: seconds.optional(),
  retry_after: pause.optional(),
  cooldown_time: pause.optional(),
  retry_policy: failurePolicy("Retries").optional(),
  model_group_retry_policy: map(failurePolicy("Retries")).optional(),
  allowed_fails_policy: failurePolicy("AllowedFails").optional(),
  disable_cooldowns: flag.optional(),
  enable_health_check_routing: flag.optional(),
  enable_pre_call_checks: flag.optional(),
  optional_pre_call_checks: list(text).optional(),
  enable_weighted_failover: flag.optional(),
  default_max_parallel_requests: whole(1, 10).optional(),
  default_priority: whole(0, 10).optional(),
  polling_interval: seconds.optional(),
  default_litellm_params: defaultParams.optional(),
  model_group_affinity_config: map(list(text)).optional(),
  deployment_affinity_ttl_seconds: number(0, 3600).optional(),
  enable_tag_filtering: flag.optional(),
  tag_filtering_match_any: flag.optional(),
  model_group_alias: map(aliasTarget).optional(),
  provider_budget_config: budgetTable.optional(),
  redis_url: redisUrl.optional(),
  redis_host: text.optional(),
  redis_port: port.optional(),
  redis_username: text.optional(),
  redis_password: secret.optional(),
  redis_db: whole(0, 0).optional(),
  cache_kwargs: redisConnection.optional(),
});

export const cacheParams = section({
  type: choice(["local", "redis", "redis-semantic", "qdrant-semantic", "s3", "gcs", "disk", "azure-blob"]).optional(),
  ...redisKeys,
  ttl: number(0, 600).optional(),
  default_in_memory_ttl: number(0, 600).optional(),
  default_in_redis_ttl: number(0, 60).optional(),
  namespace: namespace.optional(),
  mode: choice(["default_on", "default_off"]).optional(),
  supported_call_types: list(text).optional(),
});

export const litellmSettings = section({
  ...reliability,
  request_timeout: seconds.optional(),
  cache: flag.optional(),
  cache_params: cacheParams.optional(),
  callbacks: callbacks.optional(),
  success_callback: callbacks.optional(),
  failure_callback: callbacks.optional(),
  service_callback: callbacks.optional(),
  turn_off_message_logging: flag.optional(),
  require_auth_for_metrics_endpoint: flag.optional(),
  drop_params: flag.optional(),
  modify_params: flag.optional(),
  set_verbose: flag.optional(),
  json_logs: flag.optional(),
  forward_traceparent_to_llm_provider: flag.optional(),
  timezone: timeZone.optional(),
  default_key_generate_params: keyDefaults.nullish(),
  upperbound_key_generate_params: keyBounds.nullish(),
  default_team_params: teamDefaults.nullish(),
  tag_budget_config: budgetTable.optional(),
  default_internal_user_params: userDefaults.nullish(),
});

export const generalSettings = section({
  master_key: secret.optional(),
  database_url: databaseUrl.optional(),
  environment: text.optional(),
  store_model_in_db: flag.optional(),
  background_health_checks: flag.optional(),
  health_check_interval: seconds.optional(),
  enforce_fallback_model_access: flag.optional(),
  token_rate_limit_type: choice(["total", "input", "output"]).optional(),
  disable_spend_logs: flag.optional(),
  maximum_spend_logs_retention_period: retention.optional(),
  alerting: list(text).optional(),
  alert_types: list(text).optional(),
  alert_to_webhook_url: map(webhookUrls).optional(),
});

/** What deployments may share by naming it in `litellm_credential_name`. */
export const credentialEntry = section({
  credential_name: text,
  credential_values: map(anything),
  credential_info: map(anything).optional(),
});

/** What LiteLLM has no key for. */
export const tollgateSettings = section({
  redis_unavailable: choice(["local_share", "closed", "open"]).optional(),
  unpriced_models: choice(["refuse", "flag"]).optional(),
  keyservice_unavailable: choice(["lease_only", "closed", "open"]).optional(),
  keyservice_open_max_budget: number(0, 1).optional(),
  hedging: section({
    quantile: ratio(0.95).optional(),
    min_delay: pause.optional(),
    max_ratio: ratio(0.1).optional(),
  }).optional(),
  continue_streams: flag.optional(),
  queue_timeout: seconds.optional(),
  queue_length: whole(1, 100).optional(),
  cache_sharing: choice(["all", "team", "key"]).optional(),
  stored_models_private_hosts: list(privateHost).optional(),
  workers: whole(1, 64).optional(),
});

/** The whole file. */
export const configFile = section({
  model_list: list(modelEntry).optional(),
  credential_list: list(credentialEntry).optional(),
  router_settings: routerSettings.optional(),
  litellm_settings: litellmSettings.optional(),
  general_settings: generalSettings.optional(),
  tollgate: tollgateSettings.optional(),
  environment_variables: map(z.union([z.string(), z.number(), z.boolean()], { error: "a text" })).optional(),
  callback_settings: map(anything).optional(),
  include: list(text).optional(),
});

export type ConfigFile = z.output<typeof configFile>;
