import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import OpenAI from "openai";
import { createCompletionClient, Role } from "../../src/client.ts";
import { inputTokens, words } from "../upstream.ts";
import { masterKey, Stack } from "./stack.ts";

const costNanos = BigInt(inputTokens) * 1_000n + BigInt(words.length) * 2_000n;

describe("the main job", () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ sidecars: 1 });
  });
  after(() => stack.close());

  const openAi = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${stack.sidecars[0]?.url}/v1`, maxRetries: 0 });

  test("an unchanged OpenAI client completes, and the books show what it cost", async () => {
    const key = await stack.generateKey({ max_budget: 1, models: ["ok"] });
    const { data, response } = await openAi(key)
      .chat.completions.create({ model: "ok", messages: [{ role: "user", content: "Hello" }] })
      .withResponse();
    assert.equal(data.choices[0]?.message.content, words.join(""));
    assert.deepEqual((data as unknown as Record<string, unknown>).unknown_field, { kept: true });
    assert.equal(response.headers.get("x-litellm-response-cost"), "0.000024");
    assert.match(response.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
    const rows = await stack.booked(key, 1);
    assert.equal(rows.length, 1);
    assert.equal(rows[0]?.cost_nanos, String(costNanos));
    assert.equal(rows[0]?.status, "success");
    assert.equal(rows[0]?.call_id, response.headers.get("x-litellm-call-id"));
    assert.equal((await stack.spent(key)).spent, costNanos);
  });

  test("a stream's text is byte-identical to what the upstream sent", async () => {
    const key = await stack.generateKey({});
    const stream = await openAi(key).chat.completions.create({
      model: "ok",
      messages: [{ role: "user", content: "Hello" }],
      stream: true,
    });
    const texts: string[] = [];
    for await (const chunk of stream) {
      assert.notEqual(chunk.choices.length, 0, "the usage chunk is not for those who did not ask for it");
      texts.push(chunk.choices[0]?.delta.content ?? "");
    }
    assert.deepEqual(
      texts.filter((text) => text !== ""),
      words,
    );
    const [row] = await stack.booked(key, 1);
    assert.equal(row?.cost_nanos, String(costNanos));
  });

  test("usage comes at the end of a stream that asked for it", async () => {
    const key = await stack.generateKey({});
    const stream = await openAi(key).chat.completions.create({
      model: "ok",
      messages: [{ role: "user", content: "Hello" }],
      stream: true,
      stream_options: { include_usage: true },
    });
    let total: number | undefined;
    for await (const chunk of stream) total = chunk.usage?.total_tokens ?? total;
    assert.equal(total, inputTokens + words.length);
  });

  test("the upstream gets its own model name, its own key, and fields nobody here knows, but nothing of the caller's credentials", async () => {
    const key = await stack.generateKey({});
    await stack.chat(0, key, { brand_new_field: { deep: [1, 2.5] }, tags: ["a"] });
    const call = stack.upstream.calls.at(-1);
    assert.equal(call?.headers.authorization, "Bearer sk-upstream-secret");
    assert.equal(JSON.stringify(call).includes(key), false);
    assert.deepEqual(JSON.parse(call?.body ?? "").brand_new_field, { deep: [1, 2.5] });
    assert.equal("tags" in JSON.parse(call?.body ?? ""), false);
  });

  test("a generated client completes and streams over gRPC with the same books", async () => {
    const apiKey = await stack.generateKey({ max_budget: 1 });
    const client = createCompletionClient({ apiKey, baseUrl: stack.sidecars[0]?.url ?? "" });
    const chat = { model: "ok", messages: [{ role: Role.USER, text: "Hello" }] };
    const answer = await client.complete({ chat });
    assert.equal(answer.choices[0]?.text, words.join(""));
    assert.equal(answer.call?.costUsd, "0.000024");
    let text = "";
    let cost: string | undefined;
    for await (const { event } of client.streamComplete({ chat })) {
      if (event.case === "delta") text += event.value.text;
      if (event.case === "ended") cost = event.value.call?.costUsd;
    }
    assert.equal(text, words.join(""));
    assert.equal(cost, "0.000024");
    assert.equal((await stack.booked(apiKey, 2)).length, 2);
    assert.equal((await stack.spent(apiKey)).spent, 2n * costNanos);
  });

  test("a key sees and uses only the models of its whitelist", async () => {
    const key = await stack.generateKey({ models: ["ok", "s*"], aliases: { mine: "ok" } });
    const models = await openAi(key).models.list();
    assert.deepEqual(models.data.map((model) => model.id).sort(), ["mine", "ok", "short", "silent", "slow"]);
    assert.equal((await stack.chat(0, key, { model: "mine" })).status, 200);
    const refused = await stack.chat(0, key, { model: "html" });
    const unknown = await stack.chat(0, key, { model: "no-such-model" });
    assert.equal(refused.status, 403);
    assert.equal(unknown.status, 403, "whether the model exists is nobody's business");
    assert.equal(((await refused.json()) as { error: { type: string } }).error.type, "key_model_access_denied");
  });

  test("the master key calls too, and its calls are booked", async () => {
    assert.equal((await stack.chat(0, masterKey)).status, 200);
    for (let tries = 0; tries < 50; tries++) {
      const { rows } = await stack.database.query("SELECT 1 FROM spend_log WHERE key_id = 'key_master'");
      if (rows.length > 0) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.fail("no row of the master key");
  });

  test("health and metrics are on the other port only", async () => {
    const sidecar = stack.sidecars[0];
    for (const path of ["/livez", "/readyz", "/startupz", "/metrics"]) {
      assert.equal((await fetch(`${sidecar?.adminUrl}${path}`)).status, 200, path);
    }
    assert.equal((await fetch(`${sidecar?.adminUrl}/v1/models`)).status, 404);
    assert.match(await (await fetch(`${sidecar?.url}/metrics`)).text(), /Metrics are at the admin port/);
    const metrics = await (await fetch(`${sidecar?.adminUrl}/metrics`)).text();
    assert.match(
      metrics,
      /tollgate_requests_total\{(?=[^}]*route="\/v1\/chat\/completions")(?=[^}]*model="ok")(?=[^}]*code="ok")(?=[^}]*stream="false")[^}]*\} [1-9]/,
    );
    assert.equal((await fetch(`${sidecar?.url}/health/liveliness`)).status, 200);
  });
});
