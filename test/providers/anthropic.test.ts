import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import type { CompletionEvent, CompletionRequest, JsonObject } from "../../src/completion.ts";
import type { Deployment } from "../../src/config/config.ts";
import { GatewayError, ProviderFailure } from "../../src/errors.ts";
import { anthropicDialect } from "../../src/providers/anthropic.ts";
import { ProviderHttp } from "../../src/providers/http.ts";
import { HttpProvider } from "../../src/providers/http-provider.ts";
import { Secret } from "../../src/secret.ts";
import { AnthropicUpstream, signature } from "../anthropic-upstream.ts";
import { all, sampleDeployment, sampleRequest } from "../sample-call.ts";

const signal = new AbortController().signal;
const apiKey = new Secret("sk-ant-upstream");
const weather = { type: "function", function: { name: "weather", parameters: { properties: { city: {} } } } };

describe("a provider that speaks Anthropic's wire", () => {
  let upstream: AnthropicUpstream;
  let http: ProviderHttp;
  let provider: HttpProvider;
  before(async () => {
    upstream = await AnthropicUpstream.start();
  });
  after(() => upstream.close());
  beforeEach(() => {
    http = new ProviderHttp({ clock: systemClock });
    provider = new HttpProvider({ http, clock: systemClock, dialect: anthropicDialect({ clock: systemClock }) });
  });
  afterEach(() => http.close());

  const complete = (
    request: CompletionRequest,
    facts: Partial<Deployment> = {},
    outputTokensMax?: number,
  ): AsyncGenerator<CompletionEvent> =>
    provider.complete({
      request,
      deployment: sampleDeployment({
        ...{ provider: "anthropic", wire: "anthropic-messages", apiBase: upstream.baseUrl, apiKey },
        model: request.model,
        ...facts,
      }),
      outputTokensMax,
      ...{ timeoutMs: 5_000, idleTimeoutMs: 5_000 },
      traceparent: undefined,
      signal,
    });
  const failureOf = async (...args: Parameters<typeof complete>): Promise<GatewayError> => {
    try {
      await all(complete(...args));
    } catch (error) {
      assert.ok(error instanceof GatewayError, String(error));
      return error;
    }
    throw new Error("it did not fail");
  };
  const asked = (fields: object) => sampleRequest({ model: "claude-sonnet-4-5", ...fields });
  const sent = async (...args: Parameters<typeof complete>): Promise<JsonObject> => {
    await all(complete(...args));
    return upstream.lastCall.body as JsonObject;
  };

  test("the request carries the deployment's key, version and headers, at the address with and without /v1", async () => {
    await all(complete(asked({}), { headers: { "anthropic-beta": "a-2025-01-01" } }));
    const { headers, path } = upstream.lastCall;
    assert.equal(path, "/v1/messages");
    assert.equal(headers["x-api-key"], "sk-ant-upstream");
    assert.equal(headers["anthropic-version"], "2023-06-01");
    assert.equal(headers["anthropic-beta"], "a-2025-01-01");
    assert.equal(headers.authorization, undefined);
    for (const apiBase of [`${upstream.baseUrl}/v1`, `${upstream.baseUrl}/v1/messages`]) {
      await all(complete({ ...asked({}), wireHeaders: { "anthropic-beta": "b-2025-02-02" } }, { apiBase }));
      assert.equal(upstream.lastCall.path, "/v1/messages");
      assert.equal(upstream.lastCall.headers["anthropic-beta"], "b-2025-02-02");
    }
  });

  test("text, whole and streamed, with usage, comes as neutral events", async () => {
    for (const stream of [false, true]) {
      const events = await all(complete(asked({ stream })));
      const [start] = events;
      assert.ok(start?.type === "start");
      assert.equal(start.id, "msg_01");
      assert.equal(start.model, "claude-sonnet-4-5");
      assert.equal(textOf(events), 'Hello wörld.\n\ndata: [DONE]\n\n "x" 🚀');
      assert.deepEqual(events.at(-2), { type: "finish", choice: 0, reason: "stop" });
      const end = events.at(-1);
      assert.ok(end?.type === "end");
      assert.deepEqual(
        [end.usage?.inputTokens, end.usage?.outputTokens, end.usage?.serviceTier, end.responseId],
        [11, 7, "standard", "msg_01"],
      );
    }
  });

  test("tools are called, in parallel too, whole and streamed, and one without parameters gets an empty object", async () => {
    for (const stream of [false, true]) {
      const bare = { type: "function", function: { name: "now" } };
      const events = await all(complete(asked({ stream, tools: [weather, bare] })));
      const calls = new Map<number, { id: string; name: string; arguments: string }>();
      for (const event of events) {
        if (event.type !== "delta") continue;
        for (const { index, id = "", name = "", arguments: piece = "" } of event.toolCalls ?? []) {
          const call = calls.get(index) ?? { id, name, arguments: "" };
          calls.set(index, { ...call, arguments: call.arguments + piece });
        }
      }
      assert.deepEqual(
        [...calls],
        [
          [0, { id: "toolu_01", name: "weather", arguments: '{"city":"Zürich 🚀","days":3}' }],
          [1, { id: "toolu_02", name: "now", arguments: "{}" }],
        ],
      );
      assert.deepEqual(events.at(-2), { type: "finish", choice: 0, reason: "tool_calls" });
    }
  });

  test("thinking comes with its signature, and may be sent back with the tool's result", async () => {
    const events = await all(complete(asked({ stream: true, reasoning_effort: "low", max_tokens: 3000 })));
    const deltas = events.filter((event) => event.type === "delta");
    assert.equal(deltas.map(({ reasoning = "" }) => reasoning).join(""), "Let me see. They want something.");
    assert.deepEqual(
      deltas.flatMap((delta) => delta.signature ?? []),
      [signature],
    );
    assert.deepEqual(
      deltas.flatMap((delta) => delta.redactedReasoning ?? []),
      ["b3BhcXVl"],
    );
    const body = await sent(
      asked({
        thinking: { type: "enabled", budget_tokens: 1024 },
        max_tokens: 3000,
        tools: [weather],
        messages: [
          { role: "user", content: "Weather?" },
          {
            role: "assistant",
            content: null,
            reasoning_content: "hm",
            thinking_blocks: [
              { type: "thinking", thinking: "hm", signature },
              { type: "thinking", thinking: "of another provider" },
              { type: "redacted_thinking", data: "b3BhcXVl" },
            ],
            tool_calls: [
              { id: "call:1", type: "function", function: { name: "weather", arguments: '{"city":"Bern"}' } },
            ],
          },
          { role: "tool", tool_call_id: "call:1", content: "sunny" },
        ],
      }),
    );
    assert.deepEqual((body.messages as JsonObject[]).slice(1), [
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "hm", signature },
          { type: "redacted_thinking", data: "b3BhcXVl" },
          { type: "tool_use", id: "call_1", name: "weather", input: { city: "Bern" } },
        ],
      },
      { role: "user", content: [{ type: "tool_result", tool_use_id: "call_1", content: "sunny" }] },
    ]);
  });

  test("a JSON schema is held to by the model itself where it can, else by a tool whose input is the answer", async () => {
    const schema = { type: "object", properties: { city: { type: "string" } }, additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: { name: "place", schema } };
    const native = await all(complete(asked({ response_format })));
    assert.equal(textOf(native), '{"city":"Zürich","days":3}');
    assert.deepEqual(upstream.lastCall.body.output_config, { format: { type: "json_schema", schema } });
    const open = { type: "object", properties: { city: { type: "string", maxLength: 9 } } };
    const cases: [string, object][] = [
      ["claude-3-7-sonnet-20250219", response_format],
      ["claude-sonnet-4-5", { type: "json_schema", json_schema: { name: "place", schema: open } }],
      ["claude-sonnet-4-5", { type: "json_object" }],
    ];
    for (const [model, format] of cases) {
      for (const stream of [false, true]) {
        const events = await all(complete(asked({ model, stream, response_format: format })));
        assert.deepEqual(JSON.parse(textOf(events)), { city: "Zürich 🚀", days: 3 });
        assert.deepEqual(events.at(-2), { type: "finish", choice: 0, reason: "stop" });
        assert.ok(events.every((event) => event.type !== "delta" || event.toolCalls === undefined));
        assert.deepEqual(upstream.lastCall.body.tool_choice, { type: "tool", name: "json_tool_call" });
      }
    }
  });

  test("caches are marked where the caller marks them, and their tokens are part of the input", async () => {
    const cache_control = { type: "ephemeral", ttl: "1h" };
    const events = await all(
      complete(
        asked({
          stream: true,
          messages: [
            { role: "system", content: [{ type: "text", text: "Long.", cache_control }] },
            { role: "user", content: "Hello", cache_control: { type: "ephemeral" } },
          ],
        }),
      ),
    );
    const { system, messages } = upstream.lastCall.body;
    assert.deepEqual(system, [{ type: "text", text: "Long.", cache_control }]);
    assert.deepEqual(messages, [
      { role: "user", content: [{ type: "text", text: "Hello", cache_control: { type: "ephemeral" } }] },
    ]);
    const end = events.at(-1);
    assert.ok(end?.type === "end");
    assert.deepEqual(end.usage, {
      inputTokens: 161,
      outputTokens: 7,
      cacheReadInputTokens: 100,
      cacheWriteInputTokens: 50,
      cacheWrite1hInputTokens: 30,
      reasoningOutputTokens: 0,
      serviceTier: "standard",
      estimated: false,
    });
  });

  test("a cap of the gateway's shortens the answer and what is thought", async () => {
    assert.equal((await sent(asked({}))).max_tokens, 100, "the deployment's, for Anthropic wants one");
    assert.equal((await sent(asked({ max_completion_tokens: 9 }))).max_tokens, 9);
    assert.equal((await sent(asked({ max_tokens: 9 }), {}, 7)).max_tokens, 7);
    const thinking = { type: "enabled", budget_tokens: 5000 };
    const shortened = await sent(asked({ thinking, max_tokens: 8000 }), {}, 2000);
    assert.deepEqual([shortened.max_tokens, shortened.thinking], [2000, { type: "enabled", budget_tokens: 1999 }]);
    assert.equal((await sent(asked({ reasoning_effort: "high", max_tokens: 50 }))).thinking, undefined);
    const free = await sent(asked({ reasoning_effort: "high" }));
    assert.deepEqual([free.max_tokens, free.thinking], [4196, { type: "enabled", budget_tokens: 4096 }]);
  });

  test("a refusal says why", async () => {
    const events = await all(complete(asked({ model: "refusing" })));
    assert.deepEqual(events.slice(1, 3), [
      { type: "delta", choice: 0, refusal: "This is not for me." },
      { type: "finish", choice: 0, reason: "content_filter" },
    ]);
  });

  describe("fails", () => {
    const cases: [string, string][] = [
      ["too-long", "context_length_exceeded"],
      ["too-long-together", "context_length_exceeded"],
      ["filtered", "content_policy_violation"],
      ["poor", "provider_auth_failed"],
      ["forbidden", "provider_auth_failed"],
      ["unknown", "provider_model_not_found"],
      ["huge", "provider_rejected"],
      ["limited", "provider_rate_limited"],
      ["broken", "provider_error"],
      ["overloaded", "provider_unavailable"],
    ];
    for (const [model, code] of cases) {
      test(`${model} is ${code}, and not charged`, async () => {
        const error = await failureOf(asked({ model }));
        assert.ok(error instanceof ProviderFailure);
        assert.equal(error.code, code);
        assert.equal(error.billable, false);
        if (model === "limited") assert.equal(error.facts.retryAfterMs, 7000);
      });
    }

    test("without the right key, and its words are not repeated", async () => {
      const error = await failureOf(asked({}), { apiKey: new Secret("sk-ant-wrong") });
      assert.equal(error.code, "provider_auth_failed");
      assert.doesNotMatch(error.message + String(error.cause), /abcdefgh|wrong/);
    });

    test("by a field Anthropic refuses, in its words", async () => {
      const error = await failureOf(asked({ temperature: 1.5 }));
      assert.equal(error.code, "provider_rejected");
      assert.match(error.message, /temperature: range/);
    });

    test("when it is overloaded before any content, so that another can answer", async () => {
      const events: CompletionEvent[] = [];
      await assert.rejects(
        async () => {
          for await (const event of complete(asked({ model: "overloaded-early", stream: true }))) events.push(event);
        },
        (error) => error instanceof ProviderFailure && error.code === "provider_unavailable" && !error.billable,
      );
      assert.deepEqual(events, []);
    });

    test("in the middle, after what came was given out", async () => {
      for (const [model, code] of [
        ["overloaded-late", "provider_unavailable"],
        ["cut", "stream_interrupted"],
      ]) {
        const events: CompletionEvent[] = [];
        await assert.rejects(
          async () => {
            for await (const event of complete(asked({ model, stream: true }))) events.push(event);
          },
          (error) => error instanceof GatewayError && error.code === code,
        );
        assert.match(textOf(events), /^Hello/);
      }
    });
  });
});

function textOf(events: readonly CompletionEvent[]): string {
  return events.map((event) => (event.type === "delta" ? (event.text ?? "") : "")).join("");
}
