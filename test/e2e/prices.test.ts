import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { installedVersion } from "../config/price-table-writer.ts";
import { chunk, sendJson, Upstream } from "../upstream.ts";
import { Stack } from "./stack.ts";

const table = `genai-prices@${installedVersion()}`;

/** What the upstream reports for a model, and what that costs by hand: the figures are the published prices per token. */
const bills: Readonly<Record<string, { usage: object; body?: object; nanos: bigint; version: string }>> = {
  // $3, $0.30 and $3.75 per million; 100 + 1000 + 2000 in; $15 out; the hour's cache at $6.
  "claude-bill": {
    usage: {
      prompt_tokens: 3600,
      completion_tokens: 40,
      cache_read_input_tokens: 1000,
      cache_creation_input_tokens: 2500,
      cache_creation: { ephemeral_5m_input_tokens: 2000, ephemeral_1h_input_tokens: 500 },
    },
    nanos: 100n * 3_000n + 1000n * 300n + 2000n * 3_750n + 500n * 6_000n + 40n * 15_000n,
    version: table,
  },
  // Over 200,000 tokens all of them cost $2.50 ($0.25 cached) and $15 instead of $1.25 ($0.125) and $10.
  "gemini-bill": {
    usage: {
      prompt_tokens: 250_000,
      completion_tokens: 1000,
      prompt_tokens_details: { cached_tokens: 50_000 },
      completion_tokens_details: { reasoning_tokens: 700 },
    },
    nanos: 200_000n * 2_500n + 50_000n * 250n + 1000n * 15_000n,
    version: table,
  },
  "gpt-4o-mini": {
    usage: { prompt_tokens: 2000, completion_tokens: 10, prompt_tokens_details: { cached_tokens: 1024 } },
    nanos: (976n * 150_000n + 1024n * 75_000n + 10n * 600_000n) / 1_000n,
    version: table,
  },
  "audio-bill": {
    usage: {
      prompt_tokens: 120,
      completion_tokens: 90,
      prompt_tokens_details: { audio_tokens: 100 },
      completion_tokens_details: { audio_tokens: 60, reasoning_tokens: 10 },
    },
    nanos: 20n * 1_000n + 100n * 40_000n + 60n * 80_000n + 10n * 3_000n + 20n * 2_000n + 5_000_000n,
    version: "config",
  },
  "tier-bill": {
    usage: { prompt_tokens: 1000, completion_tokens: 100 },
    body: { service_tier: "flex" },
    nanos: 1000n * 500n + 100n * 1_000n,
    version: "config",
  },
};

const models = (url: string) => `
  - model_name: claude-bill
    litellm_params: { model: openai/claude-bill, api_base: ${url} }
    model_info: { base_model: anthropic/claude-sonnet-4-5 }
  - model_name: gemini-bill
    litellm_params: { model: openai/gemini-bill, api_base: ${url} }
    model_info: { base_model: gemini/gemini-2.5-pro }
  - model_name: audio-bill
    litellm_params:
      model: openai/audio-bill
      api_base: ${url}
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
      output_cost_per_reasoning_token: 0.000003
    model_info:
      input_cost_per_audio_token: 0.00004
      output_cost_per_audio_token: 0.00008
      input_cost_per_request: 0.005
  - model_name: tier-bill
    litellm_params:
      model: openai/tier-bill
      api_base: ${url}
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
      input_cost_per_token_flex: 0.0000005
      output_cost_per_token_flex: 0.000001
  - model_name: openai/*
    litellm_params: { model: openai/*, api_base: ${url} }
`;

describe("prices", () => {
  let upstream: Upstream;
  let stack: Stack;
  let flagging: Stack;
  before(async () => {
    upstream = await Upstream.start();
    for (const [model, { usage, body }] of Object.entries({
      ...bills,
      nobodys: { usage: { prompt_tokens: 5, completion_tokens: 5 }, body: {} },
    })) {
      upstream.scripts.set(model, (_call, res, request) => {
        const answer = { id: "chatcmpl-bill", object: "chat.completion", created: 1, model, ...body };
        if (request.stream !== true) {
          const message = { role: "assistant", content: "Yes." };
          return sendJson(res, 200, { ...answer, choices: [{ index: 0, message, finish_reason: "stop" }], usage });
        }
        res.writeHead(200, { "content-type": "text/event-stream" });
        res.write(chunk(request, { role: "assistant", content: "Yes." }));
        res.write(chunk(request, {}, "stop"));
        res.end(`data: ${JSON.stringify({ ...answer, choices: [], usage })}\n\ndata: [DONE]\n\n`);
      });
    }
    [stack, flagging] = await Promise.all([
      Stack.start({ sidecars: 1, models: models(upstream.baseUrl) }),
      Stack.start({
        sidecars: 1,
        models: models(upstream.baseUrl),
        config: "tollgate: { unpriced_models: flag }",
      }),
    ]);
  });
  after(() => Promise.all([stack?.close(), flagging?.close(), upstream.close()]));

  for (const [model, { nanos, version }] of Object.entries(bills)) {
    for (const stream of [false, true]) {
      test(`the books have what ${model} costs by hand, ${stream ? "streamed" : "whole"}`, async () => {
        const key = await stack.generateKey({ max_budget: 100 });
        const name = model.startsWith("gpt") ? `openai/${model}` : model;
        const answer = await stack.chat(0, key, { model: name, stream });
        assert.equal(answer.status, 200);
        await answer.text();
        const [row] = await stack.booked(key, 1);
        assert.equal(row?.cost_nanos, String(nanos));
        assert.equal(row?.price_version, version);
        assert.equal((await stack.spent(key)).spent, nanos);
      });
    }
  }

  test("a model nobody knows the price of is refused to a key with a budget, and counted", async () => {
    const [limited, free] = [await stack.generateKey({ max_budget: 100 }), await stack.generateKey({})];
    const calls = upstream.calls.length;
    const refused = await stack.chat(0, limited, { model: "openai/nobodys" });
    assert.equal(refused.status, 503);
    assert.match(await refused.text(), /"unpriced_model"/);
    assert.equal(upstream.calls.length, calls);
    assert.equal((await stack.chat(0, free, { model: "openai/nobodys" })).status, 200);
    assert.match(await metricsOf(stack), /^tollgate_unpriced_model_requests_total\{model="openai\/\*"\} 2$/m);
  });

  test("or it is served and booked at nothing, where the configuration says so", async () => {
    const key = await flagging.generateKey({ max_budget: 100 });
    assert.equal((await flagging.chat(0, key, { model: "openai/nobodys" })).status, 200);
    const [row] = await flagging.booked(key, 1);
    assert.deepEqual([row?.cost_nanos, row?.price_version, row?.input_tokens], ["0", "unpriced", "5"]);
    assert.match(await metricsOf(flagging), /^tollgate_unpriced_model_requests_total\{model="openai\/\*"\} 1$/m);
  });

  test("a call without a cap is sent the longest its budget can pay, and no token more", async () => {
    const fields = { model: "tier-bill", service_tier: "default" };
    const bytes = JSON.stringify({ ...fields, messages: [{ role: "user", content: "Hello" }] }).length;
    const key = await stack.generateKey({ max_budget: (bytes * 1_000 + 321 * 2_000) / 1e9 });
    await stack.chat(0, key, { ...fields });
    assert.equal(JSON.parse(upstream.calls.at(-1)?.body ?? "").max_tokens, 321);
  });
});

async function metricsOf(stack: Stack): Promise<string> {
  return (await fetch(`${stack.sidecars[0]?.adminUrl}/metrics`)).text();
}
