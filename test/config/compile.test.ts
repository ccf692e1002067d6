import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { behindWildcard } from "../../src/config/behind-wildcard.ts";
import type { Deployment } from "../../src/config/config.ts";
import { lastOrder } from "../../src/config/deployments.ts";
import type { MockAnswer } from "../../src/config/mock-answer.ts";
import { configOf } from "./temporary.ts";

const nowMs = Date.parse("2026-11-23T00:00:00Z");

type Context = Parameters<typeof configOf>[0];

async function deploymentOf(context: Context, entry: object, env: Record<string, string> = {}): Promise<Deployment> {
  const yaml = JSON.stringify({ model_list: [{ model_name: "m", ...entry }] });
  const deployment = (await configOf(context, yaml, env)).modelGroups.get("m")?.[0];
  assert.ok(deployment !== undefined);
  return deployment;
}

async function mockOf(context: Context, params: object): Promise<MockAnswer | undefined> {
  return (await deploymentOf(context, { litellm_params: { model: "mock/m", ...params } })).mock;
}

test("the provider comes from the prefix, the name or the address", async (context) => {
  const cases: [object, object][] = [
    [
      { model: "openai/gpt-4o", api_key: "k" },
      {
        provider: "openai",
        model: "gpt-4o",
        apiBase: "https://api.openai.com/v1",
        outputCapField: "max_completion_tokens",
      },
    ],
    [
      { model: "gpt-4o", api_key: "k" },
      {
        provider: "openai",
        model: "gpt-4o",
        apiBase: "https://api.openai.com/v1",
        outputCapField: "max_completion_tokens",
      },
    ],
    [
      { model: "o3-mini", api_key: "k", api_base: "http://127.0.0.1:9/v1/" },
      { provider: "openai", model: "o3-mini", apiBase: "http://127.0.0.1:9/v1", outputCapField: "max_tokens" },
    ],
    [
      { model: "hosted_vllm/meta/llama", api_base: "http://127.0.0.1:9/v1/chat/completions" },
      { provider: "hosted_vllm", model: "meta/llama", apiBase: "http://127.0.0.1:9/v1", outputCapField: "max_tokens" },
    ],
    [
      { model: "meta/llama", api_base: "http://127.0.0.1:9" },
      { provider: "openai_like", model: "meta/llama", apiBase: "http://127.0.0.1:9", outputCapField: "max_tokens" },
    ],
    [
      { model: "meta/llama", custom_llm_provider: "hosted_vllm", base_url: "http://127.0.0.1:9" },
      { provider: "hosted_vllm", model: "meta/llama", apiBase: "http://127.0.0.1:9", outputCapField: "max_tokens" },
    ],
  ];
  for (const [params, expected] of cases) {
    const { provider, model, apiBase, outputCapField, wire } = await deploymentOf(context, { litellm_params: params });
    assert.deepEqual({ provider, model, apiBase, outputCapField, wire }, { ...expected, wire: "openai-chat" });
  }
});

test("what becomes of parameters a provider lacks is said for all deployments, and by each for itself", async (context) => {
  const policyOf = async (params: object, settings: object) => {
    const litellm_params = { model: "openai/gpt-4o", api_key: "k", ...params };
    const yaml = JSON.stringify({ model_list: [{ model_name: "m", litellm_params }], litellm_settings: settings });
    const config = await configOf(context, yaml);
    assert.deepEqual(config.notices, []);
    return config.modelGroups.get("m")?.[0]?.params;
  };
  const none = { lacks: new Set(), drops: false, leavesOut: [], modifies: false };
  assert.deepEqual(await policyOf({}, {}), none);
  assert.deepEqual(await policyOf({}, { drop_params: true, modify_params: true }), {
    ...none,
    drops: true,
    modifies: true,
  });
  const own = { drop_params: false, additional_drop_params: ["tools[*].strict"], allowed_openai_params: ["seed"] };
  assert.deepEqual(await policyOf(own, { drop_params: true }), { ...none, leavesOut: ["tools[*].strict"] });
});

test("Anthropic is known by its prefix and by its models' names, at home and elsewhere", async (context) => {
  const env = { ANTHROPIC_API_KEY: "sk-ant-real", ANTHROPIC_BASE_URL: "http://127.0.0.1:4000" };
  for (const model of ["anthropic/claude-sonnet-4-5", "claude-sonnet-4-5"]) {
    const home = await deploymentOf(context, { litellm_params: { model } }, env);
    assert.deepEqual(
      [home.provider, home.wire, home.model, home.apiBase, home.apiKey?.reveal()],
      ["anthropic", "anthropic-messages", "claude-sonnet-4-5", "https://api.anthropic.com", "sk-ant-real"],
    );
    assert.ok(home.price !== undefined && home.params.lacks.has("seed"));
  }
  const elsewhere = {
    model: "anthropic/kimi-k2",
    api_base: "http://127.0.0.1:9/anthropic",
    allowed_openai_params: ["seed"],
  };
  const other = await deploymentOf(context, { litellm_params: elsewhere }, env);
  assert.deepEqual(
    [other.wire, other.apiBase, other.apiKey],
    ["anthropic-messages", "http://127.0.0.1:9/anthropic", undefined],
  );
  assert.ok(!other.params.lacks.has("seed"));
});

test("OPENAI_API_KEY goes to OpenAI and to no other address", async (context) => {
  const env = { OPENAI_API_KEY: "sk-real" };
  const home = await deploymentOf(context, { litellm_params: { model: "openai/gpt-4o" } }, env);
  assert.equal(home.apiKey?.reveal(), "sk-real");
  const elsewhere = await deploymentOf(
    context,
    { litellm_params: { model: "openai/gpt-4o", api_base: "http://127.0.0.1:9" } },
    env,
  );
  assert.equal(elsewhere.apiKey, undefined);
});

test("a variable of the environment gives a hosted server its address, unless that must not be called", async (context) => {
  const entry = { litellm_params: { model: "hosted_vllm/llama" } };
  const deployment = await deploymentOf(context, entry, { HOSTED_VLLM_API_BASE: "http://vllm:8000/v1/" });
  assert.equal(deployment.apiBase, "http://vllm:8000/v1");
  const yaml = JSON.stringify({ model_list: [{ model_name: "m", ...entry }] });
  const refused = await configOf(context, yaml, { HOSTED_VLLM_API_BASE: "http://169.254.169.254" });
  assert.equal(refused.modelGroups.size, 0);
});

test("times are seconds and come from the deployment, else the router, else are ten minutes", async (context) => {
  const timesOf = async (params: object, settings: object) => {
    const yaml = JSON.stringify({
      model_list: [{ model_name: "m", litellm_params: { model: "mock/m", mock_response: "hi", ...params } }],
      ...settings,
    });
    const deployment = (await configOf(context, yaml)).modelGroups.get("m")?.[0];
    return [deployment?.timeoutMs, deployment?.streamTimeoutMs];
  };
  assert.deepEqual(await timesOf({}, {}), [600_000, 600_000]);
  assert.deepEqual(await timesOf({}, { litellm_settings: { request_timeout: 9 } }), [9_000, 9_000]);
  assert.deepEqual(await timesOf({}, { router_settings: { timeout: "30", stream_timeout: 5 } }), [30_000, 5_000]);
  assert.deepEqual(await timesOf({ timeout: 2.5 }, { router_settings: { timeout: 30 } }), [2_500, 2_500]);
  assert.deepEqual(await timesOf({ timeout: 0.0001, stream_timeout: "0.25" }, {}), [1, 250]);
});

test("figures may stand in litellm_params, model_info or the entry itself", async (context) => {
  const litellm_params = { model: "mock/m", mock_response: "hi" };
  const bare = await deploymentOf(context, { litellm_params });
  assert.deepEqual(
    [bare.rpm, bare.tpm, bare.weight, bare.order, bare.outputTokensMax],
    [undefined, undefined, undefined, lastOrder, 4096],
  );
  const info = await deploymentOf(context, {
    litellm_params,
    rpm: 5,
    model_info: { rpm: 6, tpm: 7, order: 2, max_tokens: 99, max_output_tokens: 88 },
  });
  assert.deepEqual([info.rpm, info.tpm, info.order, info.outputTokensMax], [5, 7, 2, 88]);
  const params = await deploymentOf(context, {
    litellm_params: { ...litellm_params, rpm: 1, weight: 0.5, order: 1, max_tokens: 10 },
    model_info: { order: 2, max_tokens: 99 },
  });
  assert.deepEqual([params.rpm, params.weight, params.order, params.outputTokensMax], [1, 0.5, 1, 10]);
});

test("prices stand in litellm_params or model_info, by LiteLLM's names, for tiers, longer inputs and all kinds of token", async (context) => {
  const { price } = await deploymentOf(context, {
    litellm_params: {
      model: "mock/m",
      mock_response: "hi",
      input_cost_per_token: "0.000003",
      cache_creation_input_token_cost_above_1hr: 6e-6,
      input_cost_per_token_above_200k_tokens: 6e-6,
      input_cost_per_token_priority: 4e-6,
      output_cost_per_reasoning_token: 1e-5,
    },
    model_info: { input_cost_per_token: 1, output_cost_per_token: 1.5e-5, input_cost_per_image: 0.001 },
  });
  const rates = (input: bigint) => ({
    ...{ inputPicos: input, outputPicos: 15_000_000n, cacheReadPicos: input, cacheWritePicos: input },
    ...{ cacheWrite1hPicos: 6_000_000n, reasoningOutputPicos: 10_000_000n, imagePicos: 1_000_000_000n },
  });
  const longInput = [{ aboveTokens: 200_000, ...rates(6_000_000n) }];
  assert.deepEqual(price, {
    ...{ ...rates(3_000_000n), longInput },
    serviceTiers: { priority: { ...rates(4_000_000n), longInput } },
    version: "config",
  });
});

test("tiered_pricing names the length of the input each price is for", async (context) => {
  const { price } = await deploymentOf(context, {
    litellm_params: {
      ...{ model: "mock/m", mock_response: "hi", output_cost_per_token: 5e-6 },
      tiered_pricing: [
        { range: [0, 32_000], input_cost_per_token: 1e-6 },
        { range: [32_000, 256_000], input_cost_per_token: 2e-6, output_cost_per_token: 9e-6 },
      ],
    },
  });
  const rates = (input: bigint, outputPicos: bigint) => ({
    ...{ inputPicos: input, outputPicos, cacheReadPicos: input, cacheWritePicos: input },
  });
  assert.deepEqual(price, {
    ...rates(1_000_000n, 5_000_000n),
    longInput: [{ aboveTokens: 32_000, ...rates(2_000_000n, 9_000_000n) }],
    version: "config",
  });
});

test("each model behind a wildcard costs its own price, under what the deployment says of it", async (context) => {
  const entry = { litellm_params: { model: "openai/*", api_key: "k", output_cost_per_token: 9e-6 } };
  const deployment = await deploymentOf(context, entry);
  assert.equal(deployment.price, undefined);
  const costOf = (model: string) => {
    const { inputPicos, outputPicos } = behindWildcard(deployment, model, nowMs).price ?? {};
    return [inputPicos, outputPicos];
  };
  assert.deepEqual(costOf("gpt-4o-mini"), [150_000n, 9_000_000n]);
  assert.deepEqual(costOf("nobodys"), [undefined, undefined]);
  const named = await deploymentOf(context, { ...entry, model_info: { base_model: "nobodys" } });
  assert.equal(behindWildcard(named, "gpt-4o-mini", nowMs).price, undefined, "base_model says whose price");
});

test("calls to models without a price are refused to budgets, unless the file says otherwise", async (context) => {
  const entry = { model_name: "m", litellm_params: { model: "hosted_vllm/m", api_base: "http://127.0.0.1:1" } };
  const read = (settings: object) => configOf(context, JSON.stringify({ model_list: [entry], ...settings }));
  const refusing = await read({});
  assert.equal(refusing.unpricedModels, "refuse");
  assert.match(refusing.notices[0]?.message ?? "", /; until then callers with a budget are refused$/);
  const flagging = await read({ tollgate: { unpriced_models: "flag" } });
  assert.equal(flagging.unpricedModels, "flag");
  assert.match(flagging.notices[0]?.message ?? "", /; until then its calls are booked at \$0$/);
});

test("a deployment's id is its own, or depends on its parameters alone, whatever their order", async (context) => {
  const idOf = async (entry: object) => (await deploymentOf(context, entry)).id;
  const a = await idOf({ litellm_params: { model: "openai/gpt-4o", api_key: "sk-1", rpm: 3 } });
  const b = await idOf({ litellm_params: { rpm: 3, api_key: "sk-1", model: "openai/gpt-4o" } });
  const other = await idOf({ litellm_params: { model: "openai/gpt-4o", api_key: "sk-2", rpm: 3 } });
  assert.match(a, /^[0-9a-f]{64}$/);
  assert.equal(a, b);
  assert.notEqual(a, other);
  assert.equal(
    await idOf({ litellm_params: { model: "openai/gpt-4o", api_key: "sk-2" }, model_info: { id: "mine" } }),
    "mine",
  );
});

test("a list of organizations makes one deployment of each", async (context) => {
  const yaml = JSON.stringify({
    model_list: [
      { model_name: "m", litellm_params: { model: "openai/gpt-4o", api_key: "k", organization: ["org-1", "org-2"] } },
    ],
  });
  const deployments = (await configOf(context, yaml)).modelGroups.get("m") ?? [];
  assert.deepEqual(
    deployments.map(({ headers }) => headers),
    [{ "OpenAI-Organization": "org-1" }, { "OpenAI-Organization": "org-2" }],
  );
  assert.notEqual(deployments[0]?.id, deployments[1]?.id);
});

test("a mock answers its text word by word, its list piece by piece, losing nothing", async (context) => {
  const text = "  Hello,  world!\nBye. ";
  const worded = await mockOf(context, { mock_response: text });
  assert.deepEqual(worded?.chunks, ["  Hello,", "  world!", "\nBye. "]);
  assert.equal(worded?.chunks.join(""), text);
  const listed = await mockOf(context, {
    mock_response: ["a", "b c"],
    mock_delay: 1.5,
    mock_chunk_delay: "0.25",
    mock_usage: { prompt_tokens: 3, completion_tokens: 4 },
  });
  assert.deepEqual(listed, {
    chunks: ["a", "b c"],
    error: undefined,
    delayMs: 1500,
    chunkDelayMs: 250,
    usage: { inputTokens: 3, outputTokens: 4 },
  });
});

test("a mock fails in each of LiteLLM's ways, and in ours", async (context) => {
  const errorOf = async (mock_response: unknown) => (await mockOf(context, { mock_response }))?.error;
  assert.deepEqual(await errorOf("litellm.RateLimitError"), {
    status: 429,
    message: "Mock rate limit error",
    retryAfterMs: undefined,
  });
  assert.equal((await errorOf("litellm.ContextWindowExceededError"))?.status, 400);
  assert.deepEqual(await errorOf("litellm.InternalServerError: boom"), {
    status: 500,
    message: "boom",
    retryAfterMs: undefined,
  });
  assert.deepEqual(await errorOf("Exception: boom"), { status: 500, message: "boom", retryAfterMs: undefined });
  assert.deepEqual(await errorOf({ error: "litellm.Timeout" }), {
    status: 408,
    message: "Mock timeout",
    retryAfterMs: undefined,
  });
  assert.deepEqual(await errorOf({ error: { status: 503, message: "no", retry_after: 0.5 } }), {
    status: 503,
    message: "no",
    retryAfterMs: 500,
  });
  assert.equal(await errorOf("litellm.constructor"), undefined);
});

describe("kept answers", () => {
  const redis = { type: "redis", host: "r" };
  const kept = { redis: undefined, ttlMs: 600_000, namespace: "", isDefaultOn: true, sharing: "all" };

  async function cacheOf(context: Context, params: object | undefined, more: object = {}, env = {}) {
    const settings = { cache: true, ...(params === undefined ? {} : { cache_params: params }) };
    const config = await configOf(context, JSON.stringify({ litellm_settings: settings, ...more }), env);
    const { answerCache, notices } = config;
    const told = notices.filter(({ path }) => path.includes("cache")).map(({ message }) => message);
    const host = answerCache?.redis?.nodes[0]?.host;
    return [answerCache && { ...answerCache, redis: host }, told] as const;
  }

  test("are where the file says, for as long as it says", async (context) => {
    assert.deepEqual(await cacheOf(context, { type: "local" }), [kept, []]);
    assert.deepEqual(await cacheOf(context, redis), [{ ...kept, redis: "r", ttlMs: 60_000 }, []]);
    const ttls = { default_in_memory_ttl: 5, default_in_redis_ttl: 7 };
    assert.equal((await cacheOf(context, { type: "local", ...ttls }))[0]?.ttlMs, 5_000);
    assert.equal((await cacheOf(context, { ...redis, ...ttls }))[0]?.ttlMs, 7_000);
    assert.equal((await cacheOf(context, { ...redis, ...ttls, ttl: 1.5 }))[0]?.ttlMs, 1_500);
    const more = { mode: "default_off", namespace: "n", supported_call_types: ["acompletion", "embedding"] };
    assert.deepEqual(await cacheOf(context, { type: "local", ...more }, { tollgate: { cache_sharing: "team" } }), [
      { ...kept, namespace: "n", isDefaultOn: false, keepsOnly: "chat", sharing: "team" },
      [],
    ]);
    const responses = { type: "local", supported_call_types: ["aresponses"] };
    assert.deepEqual(await cacheOf(context, responses), [{ ...kept, keepsOnly: "responses" }, []]);
    const both = { type: "local", supported_call_types: ["completion", "responses"] };
    assert.deepEqual(await cacheOf(context, both), [kept, []]);
  });

  test("are in the counters' Redis unless they have their own", async (context) => {
    const router = { router_settings: { redis_host: "router" } };
    assert.equal((await cacheOf(context, redis, router))[0]?.redis, "r");
    assert.equal((await cacheOf(context, { type: "redis" }, router))[0]?.redis, "router");
    assert.equal((await cacheOf(context, undefined, router))[0]?.redis, "router");
    assert.equal((await cacheOf(context, undefined, {}, { REDIS_HOST: "env" }))[0]?.redis, "env");
  });

  test("are not, where the file wants none or what is not there, which is told", async (context) => {
    assert.deepEqual(await cacheOf(context, { ...redis, supported_call_types: [] }), [undefined, []]);
    assert.deepEqual(await cacheOf(context, { ...redis, supported_call_types: ["embedding"] }), [undefined, []]);
    const none = "no Redis is named, so no answers are kept; write cache_params.host, or cache_params: {type: local}";
    assert.deepEqual(await cacheOf(context, undefined), [undefined, [none]]);
    const s3 = "s3 is understood, but not served yet: no answers are kept; local and redis are served";
    assert.deepEqual(await cacheOf(context, { type: "s3" }), [undefined, [s3]]);
    const off = await configOf(context, JSON.stringify({ litellm_settings: { cache: false, cache_params: redis } }));
    assert.equal(off.answerCache, undefined);
  });
});

test("retries are the router's, else the settings', else two", async (context) => {
  const retriesOf = async (settings: object) =>
    (await configOf(context, JSON.stringify({ model_list: [], ...settings }))).router.retries;
  assert.equal(await retriesOf({}), 2);
  assert.equal(await retriesOf({ litellm_settings: { num_retries: 4 } }), 4);
  assert.equal(await retriesOf({ litellm_settings: { num_retries: 4 }, router_settings: { num_retries: 0 } }), 0);
});

test("limits are shared out while Redis is away, unless the file says otherwise", async (context) => {
  const modeOf = async (settings: object) =>
    (await configOf(context, JSON.stringify({ general_settings: {}, ...settings }))).redisUnavailable;
  assert.equal(await modeOf({}), "local_share");
  assert.equal(await modeOf({ tollgate: {} }), "local_share");
  assert.equal(await modeOf({ tollgate: { redis_unavailable: "closed" } }), "closed");
  assert.equal(await modeOf({ tollgate: { redis_unavailable: "open" } }), "open");
});

test("while the KeyService is away pods live on what they borrowed, unless the file says otherwise", async (context) => {
  const modeOf = async (tollgate: object) =>
    (await configOf(context, JSON.stringify({ general_settings: {}, tollgate }))).keyServiceUnavailable;
  assert.deepEqual(await modeOf({}), { mode: "lease_only" });
  assert.deepEqual(await modeOf({ keyservice_unavailable: "closed" }), { mode: "closed" });
  const open = await modeOf({ keyservice_unavailable: "open", keyservice_open_max_budget: 0.25 });
  assert.deepEqual(open, { mode: "open", max: 250_000_000n });
});
