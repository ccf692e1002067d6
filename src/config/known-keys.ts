/** The keys of LiteLLM's configuration, section by section: served, understood but not served yet, or unknown. */

import { keyBounds, keyDefaults, teamDefaults, userDefaults } from "./key-rules.ts";
import { isPriceKey, priceNames } from "./price-keys.ts";
import {
  cacheParams,
  configFile,
  credentialEntry,
  generalSettings,
  litellmSettings,
  routerSettings,
  tollgateSettings,
} from "./schema.ts";
import { litellmParams, modelEntry, modelInfo } from "./schema-model.ts";
import { redisConnection } from "./schema-redis.ts";
import { strategyArgs } from "./schema-routing.ts";

/** The keys of one section. */
export interface SectionKeys {
  /** As it is called in messages. */
  readonly name: string;
  readonly served: ReadonlySet<string>;
  /** Whether a key is one of `served`, or of a family of them. */
  readonly serves: (key: string) => boolean;
  /** LiteLLM has them, we do nothing with them yet. */
  readonly later: ReadonlySet<string>;
  /** Families of such keys. */
  readonly laterLike: RegExp | undefined;
  /** Whether operators may add keys of their own: then only what looks like a slip is remarked upon. */
  readonly open: boolean;
}

function sectionKeys(
  name: string,
  schema: { readonly shape: object },
  later: string,
  options: {
    /** What they ask for is so in any case. */
    readonly always?: string;
    readonly family?: { readonly names: readonly string[]; readonly has: (key: string) => boolean };
    readonly laterLike?: RegExp;
    readonly open?: boolean;
  } = {},
): SectionKeys {
  const laterKeys = new Set(wordsOf(later));
  const { always = "", family, laterLike, open = false } = options;
  const names = [...Object.keys(schema.shape), ...wordsOf(always), ...(family?.names ?? [])];
  const served = new Set(names.filter((key) => !laterKeys.has(key)));
  const serves = (key: string) => served.has(key) || family?.has(key) === true;
  return { name, served, serves, later: laterKeys, laterLike, open };
}

function wordsOf(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== "");
}

const prices = { names: priceNames, has: isPriceKey };
const laterPrices =
  /^(input|output)_cost_per_(second|minute|pixel|character|query|image|audio|video)(_|$)|^cache_read_input_(audio|image)_|^(search_context|citation|ocr|code_interpreter|file_search)_\w*cost/;

export const topKeys = sectionKeys(
  "the file",
  configFile,
  `callback_settings guardrails assistant_settings search_tools finetune_settings files_settings
   default_vertex_config vector_store_registry prompts mcp_servers mcp_tools agent_list policies policy_attachments
   worker_registry teams`,
);

export const entryKeys = sectionKeys("model_list", modelEntry, "");

export const credentialKeys = sectionKeys("credential_list", credentialEntry, "");

export const paramKeys = sectionKeys(
  "litellm_params",
  litellmParams,
  `max_retries
   configurable_clientside_auth_params silent_model use_in_pass_through use_litellm_proxy
   merge_reasoning_content_in_choices max_file_size_mb bucket_name  keepalive_seconds
   allow_client_keepalive_override mock_timeout max_completion_tokens temperature top_p top_k n stop seed logprobs
   top_logprobs presence_penalty frequency_penalty logit_bias response_format reasoning_effort thinking tools tool_choice
   parallel_tool_calls user metadata extra_body num_ctx dimensions encoding_format input_type
   ssl_verify prompt_id cache_control_injection_points fallbacks`,
  {
    family: prices,
    laterLike: new RegExp(`${laterPrices.source}|^(aws|vertex|azure|watsonx|s3|gcs|auto_router|client)_`),
  },
);

export const infoKeys = sectionKeys("model_info", modelInfo, `tier team_id team_public_model_name health_check_voice`, {
  family: prices,
  laterLike: laterPrices,
  open: true,
});

export const routerKeys = sectionKeys(
  "router_settings",
  routerSettings,
  `routing_groups
   caching_groups cache_responses client_ttl assistants_config search_tools guardrail_list alerting_config
   router_general_settings set_verbose debug_level ignore_invalid_deployments
   health_check_staleness_threshold health_check_ignore_transient_errors background_health_check_model_groups
   tag_routing_prefix`,
);

export const strategyArgKeys = sectionKeys("routing_strategy_args", strategyArgs, "max_latency_list_size");

export const settingKeys = sectionKeys(
  "litellm_settings",
  litellmSettings,
  `input_callback set_verbose
   json_logs max_budget budget_duration max_user_budget max_internal_user_budget internal_user_budget_duration max_end_user_budget
   max_end_user_budget_id default_max_internal_user_budget max_ui_session_budget default_soft_budget
   key_generation_settings default_team_settings priority_reservation priority_reservation_settings cost_discount_config
   cost_margin_config redact_user_api_key_info redact_messages_in_exceptions
   langfuse_default_tags disable_end_user_cost_tracking disable_end_user_cost_tracking_prometheus_only
   enable_end_user_cost_tracking_prometheus_only prometheus_metrics_config custom_prometheus_metadata_labels
   custom_prometheus_tags prometheus_initialize_budget_metrics
   prometheus_emit_stream_label include_cost_in_streaming_usage return_response_headers force_ipv4 ssl_verify
   disable_aiohttp_transport public_model_groups enable_json_schema_validation
   enable_loadbalancing_on_batch_endpoints caching budget_reset_time enable_redis_auth_cache user_url_validation
   http2 request_correlation_in_logs enable_key_alias_format_validation guardrails pre_call_rules post_call_rules
   custom_provider_map model_group_settings responses telemetry max_tokens retry model_alias_map caching_with_models
   default_in_memory_ttl default_redis_ttl default_redis_batch_cache_expiry
   log_raw_request_response filter_invalid_headers add_user_information_to_llm_headers extra_spend_tag_headers
   disable_streaming_logging disable_token_counter disable_add_user_agent_to_request_tags use_litellm_proxy
   ssl_security_level ssl_certificate ssl_ecdh_curve enable_azure_ad_token_refresh blocked_user_list banned_keywords_list
   reasoning_auto_summary enable_preview_features s3_callback_params datadog_params generic_logger_headers
   public_mcp_servers public_agent_groups public_model_groups_links use_aiohttp_transport aiohttp_trust_env
   disable_stop_sequence_limit allow_dynamic_callback_disabling num_retries_per_request output_parse_pii
   vertex_ai_safety_settings disable_hf_tokenizer_download global_disable_no_log_param`,
  {
    always: "store_audit_logs",
    laterLike:
      /^(argilla|llamaguard|presidio|openai_moderations|langsmith|datadog|gcs_pub_sub|generic_api|aws_sqs|global)_/,
  },
);

export const keyDefaultKeys = sectionKeys(
  "default_key_generate_params",
  keyDefaults,
  "organization_id soft_budget aliases tags guardrails permissions model_max_budget model_rpm_limit model_tpm_limit",
);

export const teamDefaultKeys = sectionKeys("default_team_params", teamDefaults, "max_parallel_requests tags metadata");

export const userDefaultKeys = sectionKeys(
  "default_internal_user_params",
  userDefaults,
  "teams max_parallel_requests metadata user_alias user_email",
);

export const keyBoundKeys = sectionKeys("upperbound_key_generate_params", keyBounds, "");

export const cacheKeys = sectionKeys(
  "cache_params",
  cacheParams,
  `max_connections redis_flush_size gcp_service_account gcp_ssl_ca_certs similarity_threshold
   redis_semantic_cache_embedding_model disk_cache_dir`,
  { laterLike: /^(ssl|qdrant|s3|gcs|azure|redis|socket)_/ },
);

export const cacheClientKeys = sectionKeys("cache_kwargs", redisConnection, "", { laterLike: /^(ssl|socket)_/ });

export const generalKeys = sectionKeys(
  "general_settings",
  generalSettings,
  `disable_spend_logs database_connection_pool_limit database_connection_timeout supported_db_objects
   disable_prisma_schema_update allow_requests_on_db_unavailable custom_auth custom_auth_settings custom_key_generate
   custom_sso enable_jwt_auth litellm_jwtauth enable_oauth2_auth enable_oauth2_proxy_auth enforce_rbac role_permissions
   litellm_key_header_name user_header_name user_header_mappings allow_client_side_credentials
   forward_client_headers_to_llm_api forward_openai_org_id use_x_forwarded_for allowed_ips allowed_routes public_routes
   admin_only_routes enforced_params service_account_settings enforce_user_param reject_clientside_metadata_tags
   default_team_disabled infer_model_from_keys completion_model embedding_model moderation_model image_generation_model
   max_parallel_requests global_max_parallel_requests max_request_size_mb max_response_size_mb
   disable_retry_on_max_parallel_request_limit_error always_include_stream_usage
   disable_spend_updates disable_error_logs disable_reset_budget disable_master_key_return
   disable_adding_master_key_hash_to_db disable_responses_id_security store_prompts_in_spend_logs
   maximum_spend_logs_retention_interval maximum_spend_logs_cleanup_cron
   proxy_batch_write_at proxy_budget_rescheduler_min_time proxy_budget_rescheduler_max_time proxy_batch_polling_interval
   use_redis_transaction_buffer user_api_key_cache_ttl user_api_key_cache_max_size
   health_check_details health_check_concurrency
   alerting_args alerting_threshold spend_report_frequency pass_through_endpoints
   key_management_system key_management_settings use_google_kms use_azure_key_vault litellm_license ui_access_mode
   email_settings block_robots disable_budget_reservation max_in_flight_requests_per_worker max_queued_requests_per_worker
   admission_queue_timeout_seconds missing_session_id enable_drain_endpoint drain_endpoint_token
   sse_keepalive_ping_interval_seconds database_disable_prepared_statements scheduled_job_stagger
   scope_spend_list_endpoints_to_caller pass_through_request_timeout proxy_config_reload_interval_seconds`,
  {
    always: "use_shared_health_check fail_closed_budget_enforcement enforce_fallback_budget cancel_on_disconnect",
    laterLike: /^(mcp|database)_/,
  },
);

export const tollgateKeys = sectionKeys("tollgate", tollgateSettings, "");
