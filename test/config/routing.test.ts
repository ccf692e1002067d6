import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Config } from "../../src/config/config.ts";
import { remarkText } from "../../src/config/remarks.ts";
import { routingStrategies } from "../../src/config/schema-routing.ts";
import { configOf } from "./temporary.ts";

const litellm_params = { model: "mock/m", mock_response: "hi" };

/** What comes of a file with these settings of the router and one deployment. */
function configWith(context: TestContext, router_settings: object, entry: object = {}): Promise<Config> {
  const model_list = [{ model_name: "m", litellm_params, ...entry }];
  return configOf(context, JSON.stringify({ model_list, router_settings }));
}

test("every strategy of LiteLLM's router is served; what measures latency has LiteLLM's defaults", async (context) => {
  const routerOf = async (settings: object) => (await configWith(context, settings)).router;
  assert.equal((await routerOf({})).strategy, "simple-shuffle");
  for (const routing_strategy of routingStrategies) {
    const { strategy, latency } = await routerOf({ routing_strategy });
    assert.equal(strategy, routing_strategy);
    const isMeasured = strategy === "latency-based-routing";
    assert.deepEqual(latency, isMeasured ? { ttlMs: 3_600_000, bufferRatio: 0 } : undefined);
  }
  const routing_strategy_args = { ttl: "600", lowest_latency_buffer: 0.5 };
  const { latency } = await routerOf({ routing_strategy: "latency-based-routing", routing_strategy_args });
  assert.deepEqual(latency, { ttlMs: 600_000, bufferRatio: 0.5 });
});

test("providers, deployments and tags get budgets, and what is none is a fault", async (context) => {
  const own = {
    litellm_params: { ...litellm_params, max_budget: "2.5", budget_duration: "1d" },
    model_info: { id: "d" },
  };
  const provider_budget_config = { mock: { budget_limit: 100, time_period: "30d" }, other: { max_budget: 1 } };
  const config = await configWith(context, { provider_budget_config }, own);
  assert.deepEqual(config.modelGroups.get("m")?.[0]?.budgets, [
    { scope: "deployment", id: "d", max: 2_500_000_000n, window: "1d" },
    { scope: "provider", id: "mock", max: 100_000_000_000n, window: "30d" },
  ]);
  assert.equal((await configWith(context, {})).modelGroups.get("m")?.[0]?.budgets, undefined);
  const litellm_settings = { tag_budget_config: { red: { max_budget: 3, budget_duration: "1d" } } };
  const tagged = await configOf(context, JSON.stringify({ litellm_settings }));
  assert.deepEqual([...tagged.tagBudgets.values()], [{ scope: "tag", id: "red", max: 3_000_000_000n, window: "1d" }]);
  for (const wrong of [
    { time_period: "1d" },
    { budget_limit: "much" },
    { budget_limit: 1, time_period: "soon" },
    { budget: 1 },
    5,
  ]) {
    await assert.rejects(configWith(context, { provider_budget_config: { mock: wrong } }), JSON.stringify(wrong));
  }
});

test("tags decide only where they are told to, by one or by all", async (context) => {
  const tagRoutingOf = async (settings: object) => (await configWith(context, settings)).router.tagRouting;
  assert.equal(await tagRoutingOf({}), undefined);
  assert.equal(await tagRoutingOf({ enable_tag_filtering: false, tag_filtering_match_any: true }), undefined);
  assert.deepEqual(await tagRoutingOf({ enable_tag_filtering: true }), { matchAny: true });
  const all = { enable_tag_filtering: true, tag_filtering_match_any: false };
  assert.deepEqual(await tagRoutingOf(all), { matchAny: false });
});

test("calls are bound to deployments by what is configured for all models, or for one", async (context) => {
  const affinityOf = async (settings: object) => (await configWith(context, settings)).router.affinity;
  assert.equal(await affinityOf({}), undefined);
  assert.equal(await affinityOf({ optional_pre_call_checks: ["router_budget_limiting"] }), undefined);
  const optional_pre_call_checks = ["deployment_affinity", "prompt_caching", "session_affinity"];
  assert.deepEqual(await affinityOf({ optional_pre_call_checks }), {
    checks: ["session_affinity", "prompt_caching", "deployment_affinity"],
    groups: [],
  });
  assert.deepEqual(await affinityOf({ model_group_affinity_config: { m: ["session_affinity"], n: [] } }), {
    checks: [],
    groups: [
      { modelGroup: "m", checks: ["session_affinity"] },
      { modelGroup: "n", checks: [] },
    ],
  });
});

test("a deployment has its tags, what its model does not do, and the parameters it takes", async (context) => {
  const deploymentOf = async (entry: object) => {
    const { modelGroups, notices } = await configWith(context, {}, entry);
    const unserved = notices.filter(({ message }) => !message.includes("price"));
    assert.deepEqual(unserved, []);
    return modelGroups.get("m")?.[0];
  };
  const bare = await deploymentOf({});
  assert.deepEqual([bare?.tags, bare?.lacks, bare?.takesOnly], [undefined, undefined, undefined]);
  const told = await deploymentOf({
    litellm_params: { ...litellm_params, tags: ["paid", "default"] },
    model_info: {
      supports_vision: false,
      supports_function_calling: true,
      supports_response_schema: "no",
      supported_openai_params: ["temperature"],
    },
  });
  assert.deepEqual(told?.tags, ["paid", "default"]);
  assert.deepEqual(told?.lacks, new Set(["response_schema", "vision"]));
  assert.deepEqual(told?.takesOnly, new Set(["temperature"]));
});

test("how much fits into a model is what model_info says, else what the table has and a twentieth", async (context) => {
  const fittingIn = async (entry: object, settings: object = { enable_pre_call_checks: true }) =>
    (await configWith(context, settings, entry)).modelGroups.get("m")?.[0]?.contextTokens;
  const mini = { litellm_params: { ...litellm_params, model: "openai/gpt-4o-mini" } };
  assert.equal(await fittingIn(mini), 134_400);
  assert.equal(await fittingIn({ ...mini, model_info: { max_input_tokens: 1_000 } }), 1_000);
  assert.equal(await fittingIn({ litellm_params, model_info: { base_model: "gpt-4o-mini" } }), 134_400);
  assert.equal(await fittingIn({ litellm_params }), undefined);
  assert.equal(await fittingIn(mini, {}), undefined, "nobody asks");
});

test("deployments are passed over by what they can take only where that is configured", async (context) => {
  assert.equal((await configWith(context, {})).router.checksCalls, false);
  assert.equal((await configWith(context, { enable_pre_call_checks: true })).router.checksCalls, true);
});

test("deployments have the defaults they do not say themselves, and keep their ids", async (context) => {
  const default_litellm_params = {
    rpm: 7,
    timeout: "os.environ/WAIT_S",
    tags: ["a"],
    api_key: "os.environ/NOBODY_SET",
  };
  const model_list = [
    { model_name: "m", litellm_params },
    { model_name: "own", litellm_params: { ...litellm_params, rpm: 9, tags: [] } },
    { model_name: "remote", litellm_params: { model: "openai/gpt-4o-mini" } },
  ];
  const env = { WAIT_S: "20", OPENAI_API_KEY: "sk-1" };
  const configWithDefaults = (router_settings: object) =>
    configOf(context, JSON.stringify({ model_list, router_settings }), env);
  const [before, after] = [await configWithDefaults({}), await configWithDefaults({ default_litellm_params })];
  const factsOf = (group: string) => {
    const deployment = after.modelGroups.get(group)?.[0];
    assert.equal(deployment?.id, before.modelGroups.get(group)?.[0]?.id);
    return [deployment?.rpm, deployment?.timeoutMs, deployment?.tags];
  };
  assert.deepEqual(factsOf("m"), [7, 20_000, ["a"]]);
  assert.deepEqual(factsOf("own"), [9, 20_000, []]);
  assert.ok(before.modelGroups.has("remote"));
  assert.ok(!after.modelGroups.has("remote"), "a key that is meant and not there is not replaced by another");
});

test("calls wait for room where the file says for how long, or in which order; what says only how often does nothing", async (context) => {
  const queueOf = async (router_settings: object, tollgate: object = {}) => {
    const model_list = [{ model_name: "m", litellm_params }];
    return configOf(context, JSON.stringify({ model_list, router_settings, tollgate }));
  };
  const without = await queueOf({ polling_interval: 0.003 }, { queue_length: 5 });
  assert.equal(without.router.queue, undefined);
  assert.deepEqual(without.notices.flatMap(({ path }) => (/polling|queue/.test(path) ? [path] : [])).toSorted(), [
    "router_settings.polling_interval",
    "tollgate.queue_length",
  ]);
  const litellm = await queueOf({ default_priority: 7, polling_interval: 0.003 });
  assert.deepEqual(litellm.router.queue, { waitMs: 10_000, lengthMax: 100, pollMs: 10, defaultPriority: 7 });
  const own = await queueOf({}, { queue_timeout: 2.5, queue_length: 5 });
  assert.deepEqual(own.router.queue, { waitMs: 2_500, lengthMax: 5, pollMs: 100, defaultPriority: 0 });
});

test("deployments are checked only where the file says so, and what acts only then is remarked upon", async (context) => {
  const model_info = {
    id: "d",
    disable_background_health_check: false,
    health_check_model: "openai/small",
    health_check_timeout: 3,
  };
  const priced = { ...litellm_params, input_cost_per_token: 0, output_cost_per_token: 0 };
  const entry = { model_name: "m", litellm_params: priced, model_info };
  const fileOf = (general_settings: object, router_settings: object = {}) =>
    configOf(
      context,
      JSON.stringify({
        model_list: [entry],
        general_settings,
        router_settings,
      }),
    );
  const checked = await fileOf({ background_health_checks: true }, { enable_health_check_routing: true });
  assert.deepEqual(checked.healthChecks, { intervalMs: 300_000 });
  assert.equal(checked.router.checksSteer, true);
  const check = { disabled: false, model: "openai/small", timeoutMs: 3_000 };
  assert.deepEqual(checked.modelGroups.get("m")?.[0]?.check, check);
  assert.deepEqual(checked.notices, []);
  const often = await fileOf({ background_health_checks: true, health_check_interval: 5 });
  assert.deepEqual([often.healthChecks, often.router.checksSteer], [{ intervalMs: 5_000 }, false]);
  const without = await fileOf({ health_check_interval: 5 }, { enable_health_check_routing: true });
  assert.equal(without.healthChecks, undefined);
  assert.deepEqual(
    without.notices.map(({ path, message }) => `${path} ${message}`),
    ["general_settings.health_check_interval", "router_settings.enable_health_check_routing"].map(
      (path) => `${path} acts only with general_settings.background_health_checks: true`,
    ),
  );
});

test("what is so in any case needs no notice, and what is not served yet has one", async (context) => {
  const free = { ...litellm_params, input_cost_per_token: 0, output_cost_per_token: 0 };
  const model_list = [{ model_name: "m", litellm_params: free }];
  const noticesOf = async (file: object) =>
    (await configOf(context, JSON.stringify({ model_list, ...file }))).notices.map(remarkText);
  const always = {
    router_settings: { optional_pre_call_checks: ["router_budget_limiting", "enforce_model_rate_limits"] },
    litellm_settings: { store_audit_logs: true },
    general_settings: {
      ...{ use_shared_health_check: true, fail_closed_budget_enforcement: true, enforce_fallback_budget: true },
      ...{ cancel_on_disconnect: true, enforce_fallback_model_access: true },
    },
  };
  assert.deepEqual(await noticesOf(always), []);
  const later = {
    router_settings: { optional_pre_call_checks: ["encrypted_content_affinity", "enforce_model_rate_limit"] },
    general_settings: { disable_budget_reservation: true },
  };
  const [setting, check, slip, ...rest] = (await noticesOf(later)).toSorted();
  assert.match(setting ?? "", /disable_budget_reservation: understood, but not served yet/);
  assert.match(check ?? "", /\[0\]: encrypted_content_affinity is understood, but not served yet/);
  assert.match(slip ?? "", /\[1\]: enforce_model_rate_limit is not known: .* did you mean enforce_model_rate_limits\?/);
  assert.deepEqual(rest, []);
});

test("the default for attempts at once is for deployments without any limit", async (context) => {
  const parallelMaxOf = async (own: object) =>
    (
      await configWith(context, { default_max_parallel_requests: 9 }, { litellm_params: { ...litellm_params, ...own } })
    ).modelGroups.get("m")?.[0]?.parallelMax;
  assert.equal(await parallelMaxOf({}), 9);
  assert.equal(await parallelMaxOf({ max_parallel_requests: 2 }), 2);
  assert.equal(await parallelMaxOf({ rpm: 5 }), undefined);
  assert.equal(await parallelMaxOf({ tpm: 5 }), undefined);
});
