/** What each file of `cases/` is expected to say, word for word; `cases.test.ts` holds it to it. */

/** What comes of a file: faults, or a configuration with notices. */
export interface ExpectedCase {
  readonly ok: boolean;
  readonly remarks: readonly string[];
}

export const expectedCases: Readonly<Record<string, ExpectedCase>> = {
  "affinity.yaml": {
    ok: true,
    remarks: [
      "affinity.yaml:7: router_settings.optional_pre_call_checks[1]: sesion_affinity is not known: it has no effect; did you mean session_affinity?",
      "affinity.yaml:8: router_settings.optional_pre_call_checks[2]: responses_api_deployment_check is understood, but not served yet: it has no effect",
      "affinity.yaml:9: router_settings.optional_pre_call_checks[3]: stickiness is not known: it has no effect",
      "affinity.yaml:11: router_settings.model_group_affinity_config.demo[1]: deployment_afinity is not known: it has no effect; did you mean deployment_affinity?",
      "affinity.yaml:12: router_settings.deployment_affinity_ttl_seconds: has no effect: which deployment a session goes to is computed, and never forgotten",
    ],
  },
  "alias-to-nowhere.yaml": {
    ok: true,
    remarks: [
      "alias-to-nowhere.yaml:7: router_settings.model_group_alias.slow: there is no model turtle that can be called: calls get model_not_found",
    ],
  },
  "callbacks.yaml": {
    ok: true,
    remarks: [
      "callbacks.yaml:5: litellm_settings.success_callback: s3 is not served; langfuse is",
      "callbacks.yaml:5: litellm_settings.success_callback: Langfuse is told nothing: set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY, and LANGFUSE_HOST if it is your own",
      "callbacks.yaml:6: litellm_settings.callbacks: prometheus: metrics are always served at /metrics of the admin port",
      "callbacks.yaml:6: litellm_settings.callbacks: otel: spans are exported as soon as OTEL_EXPORTER_OTLP_ENDPOINT is set",
    ],
  },
  "circular-alias.yaml": {
    ok: false,
    remarks: ["circular-alias.yaml:1: *a stands inside the value it refers to; move one of them"],
  },
  "default-params.yaml": {
    ok: true,
    remarks: [
      "default-params.yaml:7: router_settings.default_litellm_params.temperature: understood, but not served yet: it has no effect",
      "default-params.yaml:8: router_settings.default_litellm_params.tmeout: unknown key: it has no effect; did you mean timeout?",
    ],
  },
  "duplicate-key.yaml": {
    ok: false,
    remarks: ['duplicate-key.yaml:6: the key "environment" is written twice in one map; keep one of them'],
  },
  "empty-texts.yaml": {
    ok: false,
    remarks: [
      'empty-texts.yaml:2: model_list[0].model_name: found an empty text; write text in quotes, such as "a name"',
      'empty-texts.yaml:3: model_list[0].litellm_params.model: found "openai/"; write provider/model, such as openai/gpt-4o',
      "empty-texts.yaml:3: model_list[0].litellm_params.api_key: found an empty text; write a text, best as os.environ/NAME",
    ],
  },
  "empty.yaml": { ok: false, remarks: ["empty.yaml: the file is empty; write at least a model_list"] },
  "include-circle.yaml": {
    ok: false,
    remarks: ["include-circle.yaml:1: include[0]: include-circle.yaml is included twice; keep one"],
  },
  "include-fault.yaml": {
    ok: false,
    remarks: [
      'included/models.yaml:6: model_list[1].litellm_params.rpm: found "many"; write a whole number of at least 0, such as 100',
    ],
  },
  "metadata-address.yaml": {
    ok: false,
    remarks: [
      'metadata-address.yaml:3: model_list[0].litellm_params.api_base: found "http://169.254.169.254/v1"; write the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)',
      'metadata-address.yaml:5: model_list[1].litellm_params.api_base: found "http://2852039166"; write the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)',
      'metadata-address.yaml:7: model_list[2].litellm_params.api_base: found "http://[fd00:ec2::254]/v1"; write the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)',
      'metadata-address.yaml:9: model_list[3].litellm_params.api_base: found "http://metadata.google.internal./v1"; write the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)',
      'metadata-address.yaml:11: model_list[4].litellm_params.api_base: found "http://[::ffff:169.254.169.254]/v1"; write the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)',
    ],
  },
  "missing-include.yaml": {
    ok: false,
    remarks: ["missing-include.yaml:1: include[0]: cannot read models-that-are-not-there.yaml: there is no such file"],
  },
  "missing-model.yaml": {
    ok: false,
    remarks: [
      "missing-model.yaml:3: model_list[0].litellm_params.model: missing; write provider/model, such as openai/gpt-4o",
      'missing-model.yaml:5: model_list[1].model_name: missing; write text in quotes, such as "a name"',
    ],
  },
  "misspelled-key.yaml": {
    ok: true,
    remarks: [
      "misspelled-key.yaml:5: router_settings.routing_stratgey: unknown key: it has no effect; did you mean routing_strategy?",
    ],
  },
  "models-as-map.yaml": {
    ok: false,
    remarks: ["models-as-map.yaml:1: model_list: found a map; write a list, a dash before each item"],
  },
  "no-address.yaml": {
    ok: true,
    remarks: [
      'no-address.yaml:3: model_list[0].litellm_params.model: provider "hosted_vllm" has no address of its own, the deployment is left out; write api_base, or set HOSTED_VLLM_API_BASE, with the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)',
    ],
  },
  "no-map.yaml": {
    ok: false,
    remarks: ["no-map.yaml:1: the file is no map; write sections such as model_list: at its top"],
  },
  "no-models.yaml": {
    ok: true,
    remarks: ["no-models.yaml: no model can be called; write a model_list with a deployment that has a key"],
  },
  "no-price.yaml": {
    ok: true,
    remarks: [
      "no-price.yaml:3: model_list[0].litellm_params.model: no price is known: write input_cost_per_token and output_cost_per_token (0 if it is free); until then callers with a budget are refused",
      "no-price.yaml:5: model_list[1].litellm_params.model: output_cost_per_token is missing and the price table does not know the model: write it too (0 if it is free); until then callers with a budget are refused",
    ],
  },
  "not-served-yet.yaml": {
    ok: true,
    remarks: [
      "not-served-yet.yaml:5: router_settings.client_ttl: understood, but not served yet: it has no effect",
      "not-served-yet.yaml:8: litellm_settings.input_callback: understood, but not served yet: it has no effect",
    ],
  },
  "null-entries.yaml": {
    ok: false,
    remarks: [
      "null-entries.yaml:1: model_list[0]: found nothing; write a map of keys and values",
      "null-entries.yaml:1: model_list[1]: found 3; write a map of keys and values",
      "null-entries.yaml:1: model_list[2]: found a list; write a map of keys and values",
      'null-entries.yaml:1: model_list[3].model_name: missing; write text in quotes, such as "a name"',
      "null-entries.yaml:1: model_list[3].litellm_params: missing; write a map of keys and values",
    ],
  },
  "other-environment.yaml": {
    ok: true,
    remarks: [
      "other-environment.yaml: no model can be called; write a model_list with a deployment that has a key",
      "other-environment.yaml:4: model_list[0].model_info.supported_environments: the deployment is for production, and this is staging (general_settings.environment or LITELLM_ENVIRONMENT): left out",
    ],
  },
  "own-model-info.yaml": {
    ok: true,
    remarks: [
      "own-model-info.yaml:6: model_list[0].model_info.ordr: unknown key: it has no effect; did you mean order?",
    ],
  },
  "prototype-key.yaml": {
    ok: true,
    remarks: [
      "prototype-key.yaml: no model can be called; write a model_list with a deployment that has a key",
      "prototype-key.yaml:1: __proto__: unknown key: it has no effect",
    ],
  },
  "redis-ca-without-tls.yaml": {
    ok: false,
    remarks: [
      "redis-ca-without-tls.yaml:5: litellm_settings.cache_params.ssl_ca_certs: is of use with TLS only, and without it the password travels in the clear; write ssl: true",
    ],
  },
  "redis-cluster-database.yaml": {
    ok: false,
    remarks: [
      "redis-cluster-database.yaml:6: router_settings.cache_kwargs.db: a Redis Cluster has no numbered databases; leave db out",
    ],
  },
  "redis-node-without-port.yaml": {
    ok: false,
    remarks: [
      'redis-node-without-port.yaml:6: router_settings.cache_kwargs.startup_nodes[1]: found a list; write a host and a port, such as ["redis-1", 6379] or {host: redis-1, port: 6379}',
    ],
  },
  "redis-sentinels-unnamed.yaml": {
    ok: false,
    remarks: [
      "redis-sentinels-unnamed.yaml:5: litellm_settings.cache_params.service_name: sentinel_nodes need service_name: what the sentinels call the master, such as mymaster",
    ],
  },
  "redis-unknown-key.yaml": {
    ok: true,
    remarks: [
      "redis-unknown-key.yaml:6: router_settings.cache_kwargs.soket_timeout: unknown key: it has no effect",
      "redis-unknown-key.yaml:6: router_settings.cache_kwargs.socket_timeout: understood, but not served yet: it has no effect",
    ],
  },
  "same-deployment.yaml": {
    ok: true,
    remarks: ["same-deployment.yaml:4: model_list[1]: the same as model_list[0]: left out"],
  },
  "same-id.yaml": {
    ok: false,
    remarks: ["same-id.yaml:7: model_list[1].model_info.id: model_list[0] has this id too; write another one"],
  },
  "second-document.yaml": {
    ok: false,
    remarks: [
      "second-document.yaml:4: a second document starts here (---); write one document a file, and list further files under include",
    ],
  },
  "strategy-args-of-another.yaml": {
    ok: true,
    remarks: [
      "strategy-args-of-another.yaml:7: router_settings.routing_strategy_args.lowest_latency_buffer: acts only with routing_strategy: latency-based-routing",
    ],
  },
  "strategy-args.yaml": {
    ok: true,
    remarks: [
      "strategy-args.yaml:8: router_settings.routing_strategy_args.lowest_latency_bufer: unknown key: it has no effect; did you mean lowest_latency_buffer?",
      "strategy-args.yaml:9: router_settings.routing_strategy_args.max_latency_list_size: understood, but not served yet: it has no effect",
    ],
  },
  "tab.yaml": { ok: false, remarks: ["tab.yaml:5: a tab indents this line; write spaces"] },
  "tiered-price.yaml": { ok: true, remarks: [] },
  "unclosed-quote.yaml": { ok: false, remarks: ['unclosed-quote.yaml:6: not YAML: Missing closing "quote'] },
  "unknown-alias.yaml": {
    ok: false,
    remarks: ["unknown-alias.yaml:4: *defaults refers to nothing; write &defaults before it"],
  },
  "unknown-key.yaml": {
    ok: true,
    remarks: ["unknown-key.yaml:4: model_list[0].litellm_params.tempo: unknown key: it has no effect (2 times)"],
  },
  "unknown-price.yaml": {
    ok: true,
    remarks: [
      "unknown-price.yaml:7: model_list[0].litellm_params.input_cost_per_tokn: unknown key: it has no effect; did you mean input_cost_per_token?",
      "unknown-price.yaml:8: model_list[0].litellm_params.output_cost_per_image: understood, but not served yet: it has no effect",
      "unknown-price.yaml:9: model_list[0].litellm_params.input_cost_per_token_above_lunch: unknown key: it has no effect",
      "unknown-price.yaml:12: model_list[0].model_info.search_context_cost_per_query: understood, but not served yet: it has no effect",
    ],
  },
  "unknown-provider.yaml": {
    ok: true,
    remarks: [
      'unknown-provider.yaml:3: model_list[0].litellm_params.model: provider "opnai" is not known, the deployment is left out; did you mean "openai"?',
      "unknown-provider.yaml:5: model_list[1].litellm_params.model: no provider is known for this model, the deployment is left out; write provider/model, or set api_base",
    ],
  },
  "unknown-section.yaml": {
    ok: true,
    remarks: ["unknown-section.yaml:4: router_setting: unknown key: it has no effect; did you mean router_settings?"],
  },
  "unknown-tag.yaml": { ok: false, remarks: ["unknown-tag.yaml:5: not YAML: Unresolved tag: !secret"] },
  "unknown-tollgate-key.yaml": {
    ok: true,
    remarks: [
      "unknown-tollgate-key.yaml:5: tollgate.redis_unavailble: unknown key: it has no effect; did you mean redis_unavailable?",
    ],
  },
  "unserved-provider.yaml": {
    ok: true,
    remarks: [
      "unserved-provider.yaml: no model can be called; write a model_list with a deployment that has a key",
      'unserved-provider.yaml:3: model_list[0].litellm_params.model: provider "replicate" is not served yet; its deployments are left out',
      'unserved-provider.yaml:5: model_list[1].litellm_params.model: provider "voyage" is not served yet; its deployments are left out',
      "unserved-provider.yaml:7: model_list[2].litellm_params.api_key: neither COHERE_API_KEY nor COHERE_API_KEY_FILE is set: the deployment has no key and is left out",
    ],
  },
  "unset-address.yaml": {
    ok: true,
    remarks: [
      "unset-address.yaml:3: model_list[0].litellm_params.api_base: neither BASE_NOBODY_SET nor BASE_NOBODY_SET_FILE is set: the deployment has no address and is left out",
    ],
  },
  "unset-key-own-server.yaml": {
    ok: true,
    remarks: [
      "unset-key-own-server.yaml:6: model_list[0].litellm_params.api_key: neither KEY_NOBODY_SET nor KEY_NOBODY_SET_FILE is set: calls are made without a key",
    ],
  },
  "unset-key.yaml": {
    ok: true,
    remarks: [
      "unset-key.yaml:3: model_list[0].litellm_params.api_key: neither KEY_NOBODY_SET nor KEY_NOBODY_SET_FILE is set: the deployment has no key and is left out",
    ],
  },
  "unset-master-key.yaml": {
    ok: true,
    remarks: [
      "unset-master-key.yaml:5: general_settings.master_key: neither KEY_NOBODY_SET nor KEY_NOBODY_SET_FILE is set: treated as not written",
      "unset-master-key.yaml:6: general_settings.database_url: neither URL_NOBODY_SET nor URL_NOBODY_SET_FILE is set: treated as not written",
      "unset-master-key.yaml:9: router_settings.redis_password: neither PASSWORD_NOBODY_SET nor PASSWORD_NOBODY_SET_FILE is set: treated as not written",
    ],
  },
  "unset-model-name.yaml": {
    ok: false,
    remarks: [
      'unset-model-name.yaml:2: model_list[0].model_name: neither NAME_NOBODY_SET nor NAME_NOBODY_SET_FILE is set; write text in quotes, such as "a name"',
    ],
  },
  "wrong-address.yaml": {
    ok: false,
    remarks: [
      'wrong-address.yaml:3: model_list[0].litellm_params.api_base: found "ftp://example.com"; write the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)',
      "wrong-address.yaml:5: model_list[1].litellm_params.api_base: found a text that does not fit; write the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)",
      'wrong-address.yaml:7: model_list[2].litellm_params.api_base: found "localhost"; write the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)',
    ],
  },
  "wrong-database.yaml": {
    ok: false,
    remarks: [
      "wrong-database.yaml:5: general_settings.database_url: found a text that does not fit; write an address such as postgresql://user:password@host:5432/name, best as os.environ/DATABASE_URL",
    ],
  },
  "wrong-mock.yaml": {
    ok: false,
    remarks: [
      'wrong-mock.yaml:5: model_list[0].litellm_params.mock_response: found a map; write a text, a list of texts, litellm.RateLimitError or another of LiteLLM\'s errors, "Exception: why", or error: {status: 500, message: why}',
      "wrong-mock.yaml:6: model_list[0].litellm_params.mock_delay: found -1; write a number of seconds, such as 0.5",
      "wrong-mock.yaml:7: model_list[0].litellm_params.mock_usage.completion_tokens: missing; write a whole number of at least 0, such as 34",
    ],
  },
  "wrong-price.yaml": {
    ok: false,
    remarks: [
      'wrong-price.yaml:5: model_list[0].litellm_params.input_cost_per_token: found "free"; write USD per token, such as 0.00000015',
      "wrong-price.yaml:6: model_list[0].litellm_params.output_cost_per_token_above_200k_tokens_priority: found 2; write USD per token, such as 0.00000015",
      "wrong-price.yaml:8: model_list[0].litellm_params.tiered_pricing[0].output_cost_per_token: found -1; write USD per token, such as 0.00000015",
      "wrong-price.yaml:9: model_list[0].litellm_params.tiered_pricing[1]: found a map; write prices with the tokens of input they are for, such as range: [0, 32000]",
      "wrong-price.yaml:11: model_list[0].model_info.input_cost_per_request: found a list; write USD per request, such as 0.00000015",
      "wrong-price.yaml:12: model_list[0].model_info.tiered_pricing: found a map; write a list, a dash before each item",
      'wrong-price.yaml:14: tollgate.unpriced_models: found "free"; write one of refuse, flag',
    ],
  },
  "wrong-default-params.yaml": {
    ok: false,
    remarks: [
      'wrong-default-params.yaml:7: router_settings.default_litellm_params.rpm: found "many"; write a whole number of at least 0, such as 100',
    ],
  },
  "wrong-keyservice-mode.yaml": {
    ok: false,
    remarks: [
      'wrong-keyservice-mode.yaml:3: tollgate.keyservice_unavailable: found "ignore"; write one of lease_only, closed, open',
    ],
  },
  "open-without-amount.yaml": {
    ok: false,
    remarks: [
      "open-without-amount.yaml:3: tollgate.keyservice_unavailable: open needs keyservice_open_max_budget, the dollars a key may overspend on each pod, such as 1",
    ],
  },
  "amount-without-open.yaml": {
    ok: true,
    remarks: [
      "amount-without-open.yaml: no model can be called; write a model_list with a deployment that has a key",
      "amount-without-open.yaml:4: tollgate.keyservice_open_max_budget: acts only with keyservice_unavailable: open",
    ],
  },
  "wrong-key-rules.yaml": {
    ok: false,
    remarks: [
      "wrong-key-rules.yaml:3: litellm_settings.default_key_generate_params.max_budget: found -1; write a number of dollars of at least 0, such as 25",
      'wrong-key-rules.yaml:4: litellm_settings.default_key_generate_params.models: found "gpt-4o"; write a list, a dash before each item',
      'wrong-key-rules.yaml:6: litellm_settings.upperbound_key_generate_params.max_budget: found "lots"; write a number of dollars of at least 0, such as 25',
      'wrong-key-rules.yaml:7: litellm_settings.upperbound_key_generate_params.budget_duration: found "soon"; write a number and a unit, one of s, m, h, d, w, mo, such as 30d',
      "wrong-key-rules.yaml:8: litellm_settings.upperbound_key_generate_params.rpm_limit: found 1.5; write a whole number of at least 0, such as 100",
    ],
  },
  "default-over-bound.yaml": {
    ok: false,
    remarks: [
      "default-over-bound.yaml:4: litellm_settings.default_key_generate_params.max_budget: more than upperbound_key_generate_params allows: every key would be refused; write at most that",
      "default-over-bound.yaml:6: litellm_settings.default_key_generate_params.budget_duration: more than upperbound_key_generate_params allows: every key would be refused; write at most that",
    ],
  },
  "key-rules.yaml": {
    ok: true,
    remarks: [
      "key-rules.yaml: no model can be called; write a model_list with a deployment that has a key",
      "key-rules.yaml:5: litellm_settings.default_key_generate_params.guardrails: understood, but not served yet: it has no effect",
      "key-rules.yaml:8: litellm_settings.upperbound_key_generate_params.models: unknown key: it has no effect",
      "key-rules.yaml:9: litellm_settings.upperbound_key_generate_params.tpm_limt: unknown key: it has no effect; did you mean tpm_limit?",
    ],
  },
  "wrong-redis-mode.yaml": {
    ok: false,
    remarks: [
      'wrong-redis-mode.yaml:3: tollgate.redis_unavailable: found "close"; write one of local_share, closed, open',
    ],
  },
  "wrong-strategy-args.yaml": {
    ok: false,
    remarks: [
      'wrong-strategy-args.yaml:6: router_settings.routing_strategy_args.ttl: found "soon"; write a number of seconds over 0, such as 30',
      "wrong-strategy-args.yaml:6: router_settings.routing_strategy_args.lowest_latency_buffer: found -1; write a number of at least 0, such as 0.5",
    ],
  },
  "wrong-strategy.yaml": {
    ok: false,
    remarks: [
      'wrong-strategy.yaml:5: router_settings.routing_strategy: found "fastest"; write one of simple-shuffle, least-busy, usage-based-routing, usage-based-routing-v2, latency-based-routing, cost-based-routing, provider-budget-routing',
    ],
  },
  "wrong-timezone.yaml": {
    ok: false,
    remarks: [
      'wrong-timezone.yaml:3: litellm_settings.timezone: found "Berlin"; write the IANA name of a time zone, such as Europe/Berlin',
    ],
  },
  "wrong-types.yaml": {
    ok: false,
    remarks: [
      'wrong-types.yaml:2: model_list[0].model_name: found 5; write text in quotes, such as "a name"',
      "wrong-types.yaml:5: model_list[0].litellm_params.api_key: found a list; write a text, best as os.environ/NAME",
      'wrong-types.yaml:6: model_list[0].litellm_params.rpm: found "lots"; write a whole number of at least 0, such as 100',
      "wrong-types.yaml:7: model_list[0].litellm_params.weight: found -1; write a number of at least 0, such as 1",
      'wrong-types.yaml:8: model_list[0].litellm_params.timeout: found "soon"; write a number of seconds over 0, such as 30',
      "wrong-types.yaml:9: model_list[0].litellm_params.max_tokens: found 0; write a whole number of at least 1, such as 4096",
      'wrong-types.yaml:10: model_list[0].litellm_params.input_cost_per_token: found "free"; write USD per token, such as 0.00000015',
      "wrong-types.yaml:12: router_settings.num_retries: found 1.5; write a whole number of at least 0, such as 2",
      "wrong-types.yaml:13: router_settings.fallbacks[0]: found a map; write one model and its fallbacks in each entry, such as gpt-4o: [gpt-4o-mini]",
      'wrong-types.yaml:14: litellm_settings: found "verbose"; write a map of keys and values',
      'wrong-types.yaml:16: general_settings.store_model_in_db: found "perhaps"; write true or false',
    ],
  },
  "wrong-value-in-variable.yaml": {
    ok: false,
    remarks: [
      "wrong-value-in-variable.yaml:4: model_list[0].litellm_params.rpm: found something else in the variable RPM; write a whole number of at least 0, such as 100",
    ],
  },
};
