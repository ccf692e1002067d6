import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import OpenAI, { AzureOpenAI } from "openai";
import { createCompletionClient } from "../../src/client.ts";
import { sendJson, Upstream } from "../upstream.ts";
import { Stack } from "./stack.ts";

/** 8 tokens at $0.02, of a plain completion 5 at $1 and 3 at $2, of a ranking 40 at $0.05; each a million. */
const bills = { embeddings: 8n * 20n, text_completion: 5n * 1_000n + 3n * 2_000n, rerank: 40n * 50n, moderation: 0n };

const models = (base: string) => `
  - model_name: embedder
    litellm_params:
      model: openai/text-embedding-3-small
      api_base: ${base}
      api_key: sk-upstream
    model_info: { mode: embedding }
  - model_name: speaker
    litellm_params:
      model: openai_like/plain
      api_base: ${base}
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
  - model_name: ranker
    litellm_params:
      model: hosted_vllm/bge-reranker
      api_base: ${base}
      input_cost_per_token: 0.00000005
    model_info: { mode: rerank }
  - model_name: omni-moderation-latest
    litellm_params:
      model: openai/omni-moderation-latest
      api_base: ${base}
      input_cost_per_token: 0
    model_info: { mode: moderation }
  - model_name: claude
    litellm_params:
      model: anthropic/claude-x
      api_base: http://127.0.0.1:9
      api_key: sk-upstream
      input_cost_per_token: 0
      output_cost_per_token: 0
`;
const vector = [0.25, -0.5, 1];

describe("an unchanged OpenAI client asks for more than chat", () => {
  let upstream: Upstream;
  let stack: Stack;
  before(async () => {
    upstream = await Upstream.start();
    // Continuing is for chat only; plain completions must not be taken for one.
    const config = "tollgate: { continue_streams: true }";
    stack = await Stack.start({ sidecars: 1, models: models(upstream.baseUrl), config });
    const { scripts } = upstream;
    scripts.set("text-embedding-3-small", (call, res) => {
      const { input, encoding_format: format } = JSON.parse(call.body);
      const bytes = Buffer.from(new Float32Array(vector).buffer).toString("base64");
      const items = Array.isArray(input) ? input : [input];
      const data = items.map((_, index) => ({
        object: "embedding",
        index,
        embedding: format === "base64" ? bytes : vector,
      }));
      sendJson(res, 200, { object: "list", data, model: "x", usage: { prompt_tokens: 8, total_tokens: 8 } });
    });
    scripts.set("plain", (call, res) => {
      const usage = { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 };
      const head = { id: "cmpl-1", object: "text_completion", created: 1, model: "plain" };
      if (!JSON.parse(call.body).stream) {
        return sendJson(res, 200, { ...head, choices: [{ index: 0, text: "one two", finish_reason: "stop" }], usage });
      }
      res.writeHead(200, { "content-type": "text/event-stream" });
      const texts = ["one", " two", ""];
      for (const [index, text] of texts.entries()) {
        const choice = { index: 0, text, finish_reason: index === 2 ? "stop" : null };
        res.write(`data: ${JSON.stringify({ ...head, choices: [choice] })}\n\n`);
      }
      res.end(`data: ${JSON.stringify({ ...head, choices: [], usage })}\n\ndata: [DONE]\n\n`);
    });
    scripts.set("bge-reranker", (_call, res) =>
      sendJson(res, 200, { id: "r1", results: [{ index: 1, relevance_score: 0.9 }], usage: { total_tokens: 40 } }),
    );
    scripts.set("omni-moderation-latest", (_call, res) =>
      sendJson(res, 200, { id: "modr-1", model: "omni-moderation-latest", results: [{ flagged: false }] }),
    );
  });
  after(async () => {
    await stack.close();
    await upstream.close();
  });

  const url = () => stack.sidecars[0]?.url ?? "";
  const client = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${url()}/v1`, maxRetries: 0 });
  const lastPath = () => upstream.calls.at(-1)?.path;
  /** What the books have of a key's only call, and how LiteLLM's spend log names it. */
  const billOf = async (key: string) => {
    const [row] = await stack.booked(key, 1);
    const { body } = await stack.admin("GET", `/spend/logs?api_key=${encodeURIComponent(key)}`);
    const [entry] = body as unknown as { call_type: string }[];
    return { cost: BigInt(row?.cost_nanos ?? -1), operation: row?.operation, type: entry?.call_type };
  };
  const failed = async (promise: Promise<unknown>) => {
    const error = await promise.then(
      () => assert.fail("it did not fail"),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof OpenAI.APIError, String(error));
    return error;
  };

  test("embeddings, as numbers and in base64, of one text or many", async () => {
    const api = client(await stack.generateKey({ max_budget: 1 }));
    const one = await api.embeddings.create({ model: "embedder", input: "hello" });
    assert.deepEqual(one.data[0]?.embedding, vector);
    assert.equal(JSON.parse(upstream.calls.at(-1)?.body ?? "").encoding_format, "base64");
    const two = await api.embeddings.create({ model: "embedder", input: ["a", "b"], encoding_format: "float" });
    assert.deepEqual(
      two.data.map(({ embedding }) => embedding),
      [vector, vector],
    );
    assert.equal(lastPath(), "/v1/embeddings");
  });

  test("embeddings by gRPC, of texts or tokens, at the same price and under the same rules", async () => {
    const clientOf = (apiKey: string) => createCompletionClient({ apiKey, baseUrl: url(), retries: 0 });
    const key = await stack.generateKey({ max_budget: 1, allowed_routes: ["/v1/embeddings"] });
    const api = clientOf(key);
    const { embeddings, usage, call, model } = await api.embed({ model: "embedder", texts: ["a", "b"], dimensions: 3 });
    assert.deepEqual(
      embeddings.map(({ index, values }) => [index, values]),
      [
        [0, vector],
        [1, vector],
      ],
    );
    assert.deepEqual([model, usage?.inputTokens, call?.costUsd], ["x", 8n, "0.00000016"]);
    assert.deepEqual(await billOf(key), { cost: bills.embeddings, operation: "embeddings", type: "aembedding" });
    const extra = { encoding_format: "base64" };
    const inTokens = await api.embed({ model: "embedder", tokenLists: [{ tokens: [1, 2] }], extra });
    assert.deepEqual(inTokens.embeddings[0]?.values, vector);
    const sent = JSON.parse(upstream.calls.at(-1)?.body ?? "");
    assert.deepEqual(sent, { model: "text-embedding-3-small", input: [[1, 2]], encoding_format: "base64" });
    const codeOf = (promise: Promise<unknown>) =>
      promise.then(
        () => assert.fail("it did not fail"),
        (thrown) => ConnectError.from(thrown).code,
      );
    assert.equal(await codeOf(api.embed({ model: "embedder" })), Code.InvalidArgument);
    assert.equal(
      await codeOf(api.embed({ model: "embedder", texts: ["a"], extra: { input: "b" } })),
      Code.InvalidArgument,
    );
    assert.equal(
      await codeOf(api.embed({ model: "embedder", texts: ["a"], extra: { api_base: "x" } })),
      Code.InvalidArgument,
    );
    const other = clientOf(await stack.generateKey({ allowed_routes: ["/v1/chat/completions"] }));
    assert.equal(await codeOf(other.embed({ model: "embedder", texts: ["a"] })), Code.PermissionDenied);
    const metrics = await (await fetch(`${stack.sidecars[0]?.adminUrl}/metrics`)).text();
    assert.ok(!metrics.includes("client_closed_request"), "an embedding that was answered counts as abandoned");
  });

  test("plain completions, whole and streamed", async () => {
    const api = client(await stack.generateKey({ max_budget: 1 }));
    const whole = await api.completions.create({ model: "speaker", prompt: "count" });
    assert.equal(whole.choices[0]?.text, "one two");
    assert.equal(JSON.parse(upstream.calls.at(-1)?.body ?? "").max_tokens, 4096, "what the budget was asked for");
    let text = "";
    const stream = await api.completions.create({ model: "speaker", prompt: "count", stream: true, max_tokens: 9 });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? "";
      assert.equal(chunk.choices.length, 1, "the usage nobody asked for is not told");
    }
    assert.equal(text, "one two");
    assert.equal(lastPath(), "/v1/completions");
  });

  test("moderations and rankings", async () => {
    const key = await stack.generateKey({ max_budget: 1 });
    const { results } = await client(key).moderations.create({ input: "hello" });
    assert.equal(results[0]?.flagged, false);
    for (const path of ["/rerank", "/v1/rerank", "/v2/rerank"]) {
      const answer = await fetch(url() + path, {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
        body: JSON.stringify({ model: "ranker", query: "q", documents: ["a", "b"] }),
      });
      assert.deepEqual(((await answer.json()) as { results: object[] }).results, [{ index: 1, relevance_score: 0.9 }]);
    }
    assert.equal(lastPath(), "/v1/rerank");
  });

  test("each costs what was computed by hand, under LiteLLM's name for it", async () => {
    const made = {
      embeddings: (api: OpenAI) => api.embeddings.create({ model: "embedder", input: "hello" }),
      text_completion: (api: OpenAI) => api.completions.create({ model: "speaker", prompt: "count" }),
      rerank: (api: OpenAI) => api.post("/rerank", { body: { model: "ranker", query: "q", documents: ["a"] } }),
      // Free, and booked as a call all the same.
      moderation: (api: OpenAI) => api.moderations.create({ input: "hello" }),
    };
    const types = {
      embeddings: "aembedding",
      text_completion: "atext_completion",
      rerank: "arerank",
      moderation: "amoderation",
    };
    for (const name of ["embeddings", "text_completion", "rerank", "moderation"] as const) {
      const key = await stack.generateKey({ max_budget: 1 });
      await made[name](client(key));
      assert.deepEqual(await billOf(key), { cost: bills[name], operation: name, type: types[name] });
      assert.equal((await stack.spent(key)).spent, bills[name]);
    }
  });

  test("Azure's client, and paths of the former engines, have the model in the path", async () => {
    const apiKey = await stack.generateKey({});
    const azure = new AzureOpenAI({ apiKey, endpoint: url(), apiVersion: "2024-10-21", maxRetries: 0 });
    const chat = await azure.chat.completions.create({ model: "ok", messages: [{ role: "user", content: "Hello" }] });
    assert.match(chat.choices[0]?.message.content ?? "", /^Hello/);
    assert.equal((await azure.embeddings.create({ model: "embedder", input: "hello" })).data.length, 1);
    const answer = await fetch(`${url()}/engines/ok/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
      body: JSON.stringify({ messages: [{ role: "user", content: "Hello" }] }),
    });
    assert.equal(answer.status, 200);
  });

  test("limits, whitelists, budgets and allowed routes hold for them too", async () => {
    const of = async (fields: object) => client(await stack.generateKey(fields));
    const embed = (api: OpenAI) => api.embeddings.create({ model: "embedder", input: "hello" });
    assert.equal((await failed(embed(await of({ models: ["speaker"] })))).code, "model_not_allowed");
    assert.equal((await failed(embed(await of({ max_budget: 0 })))).code, "budget_exceeded");
    assert.equal(
      (await failed(embed(await of({ allowed_routes: ["/v1/chat/completions"] })))).code,
      "permission_denied",
    );
    await embed(await of({ allowed_routes: ["/v1/embeddings"] }));
    const limited = await of({ rpm_limit: 1 });
    await embed(limited);
    assert.equal((await failed(embed(limited))).status, 429);
  });

  test("what a model cannot do is refused without asking anybody", async () => {
    const api = client(await stack.generateKey({}));
    const before = upstream.calls.length;
    const unspoken = await failed(api.embeddings.create({ model: "claude", input: "hello" }));
    assert.deepEqual([unspoken.status, unspoken.code], [400, "invalid_request"]);
    assert.match(unspoken.message, /claude cannot take this call: it is behind a wire without embedding/);
    const other = await failed(
      api.chat.completions.create({ model: "embedder", messages: [{ role: "user", content: "x" }] }),
    );
    assert.match(other.message, /embedder cannot take this call: it is a model for embedding/);
    const empty = await failed(api.embeddings.create({ model: "embedder" } as never));
    assert.deepEqual([empty.status, empty.param], [400, "input"]);
    assert.equal(upstream.calls.length, before);
  });

  test("a provider's refusal has the client's own form", async () => {
    upstream.scripts.set("text-embedding-3-small", (_call, res) =>
      sendJson(res, 400, { error: { message: "dimensions must be at most 1536", type: "invalid_request_error" } }),
    );
    const error = await failed(
      client(await stack.generateKey({})).embeddings.create({ model: "embedder", input: "x" }),
    );
    assert.deepEqual([error.status, error.code], [400, "provider_rejected"]);
    assert.match(error.message, /dimensions must be/);
  });
});
