import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Collector } from "../collector.ts";
import { masterKey, Stack } from "./stack.ts";

const traceId = (digit: string) => digit.repeat(32);
const parent = "b7ad6b7169203331";

describe("traces of the running program", () => {
  let collector: Collector;
  let stack: Stack;
  let key: string;
  before(async () => {
    collector = await Collector.start();
    stack = await Stack.start({
      sidecars: 1,
      retries: 1,
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "50" },
      models: `
  - model_name: pair
    litellm_params: { model: openai/down, api_base: "http://127.0.0.1:1/v1", api_key: sk-upstream-secret, order: 1,
      input_cost_per_token: 0.000001, output_cost_per_token: 0.000002 }
  - model_name: pair
    litellm_params: { model: gpt, mock_response: "Hello", order: 2, input_cost_per_token: 0, output_cost_per_token: 0 }`,
    });
    key = await stack.generateKey({ max_budget: 1 });
  });
  after(async () => {
    await stack.close();
    await collector.close();
  });

  const chat = (model: string, trace: string, fields: object = {}): Promise<Response> =>
    fetch(`${stack.sidecars[0]?.url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${key}`,
        "content-type": "application/json",
        traceparent: `00-${trace}-${parent}-01`,
      },
      body: JSON.stringify({ model, messages: [{ role: "user", content: "my very private prompt" }], ...fields }),
    });

  for (const [digit, fields] of [
    ["1", {}],
    ["2", { stream: true }],
  ] as const) {
    test(`a call ${digit === "1" ? "" : "with a stream "}is one SERVER span below the app's and one CLIENT span`, async () => {
      const answer = await chat("ok", traceId(digit), fields);
      await answer.text();
      const spans = await collector.trace(traceId(digit), 2);
      assert.equal(spans.length, 2);
      const [server, client] = ["SERVER", "CLIENT"].map((kind) => spans.find((span) => span.kind === kind));
      assert.equal(server?.parentId, parent);
      assert.equal(client?.parentId, server?.spanId);
      assert.equal(server?.attributes["tollgate.request.id"], answer.headers.get("x-request-id"));
      assert.equal(client?.attributes["gen_ai.request.model"], "ok");
      assert.equal(client?.attributes["gen_ai.usage.input_tokens"], 10);
      assert.equal(server?.resource["service.name"], "tollgate");
      assert.equal(stack.upstream.calls.at(-1)?.headers.traceparent, undefined);
    });
  }

  test("each attempt is a CLIENT span of its own", async () => {
    assert.equal((await chat("pair", traceId("3"))).status, 200);
    const spans = await collector.trace(traceId("3"), 3);
    assert.equal(spans.filter(({ kind }) => kind === "SERVER").length, 1);
    const attempts = spans.filter(({ kind }) => kind === "CLIENT");
    assert.deepEqual(attempts.map(({ attributes }) => attributes["error.type"]).sort(), [
      "provider_unavailable",
      undefined,
    ]);
  });

  test("a refused call is a SERVER span alone", async () => {
    assert.equal((await chat("nobody-has-this", traceId("4"))).status, 404);
    const spans = await collector.trace(traceId("4"), 1);
    assert.deepEqual(
      spans.map(({ kind, attributes }) => [kind, attributes["error.type"]]),
      [["SERVER", "model_not_found"]],
    );
  });

  test("no span has a prompt, an answer or a key in it, and no log line either", async () => {
    const sent = collector.bytes.toString("latin1") + stack.sidecars[0]?.process.output + stack.keyService.output;
    assert.ok(collector.spans.length > 0);
    for (const secret of ["private prompt", "wörld", key, masterKey, "sk-upstream-secret", "nobody-has-this"]) {
      assert.equal(sent.includes(secret), false, secret);
    }
  });
});
