import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { createCompletionClient, Role } from "../../src/client.ts";
import { AnthropicUpstream, signature } from "../anthropic-upstream.ts";
import { sendJson, Upstream } from "../upstream.ts";
import { Stack } from "./stack.ts";

const schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
} as const;
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const text = 'Hello wörld.\n\ndata: [DONE]\n\n "x" 🚀';

/** What Claude Sonnet 4.5 costs, in nano-dollars a token, as Anthropic's price list has it. */
const price = { input: 3_000n, read: 300n, write5m: 3_750n, write1h: 6_000n, output: 15_000n };
/** Reckoned by hand from what the upstream says it used (anthropic-upstream.ts). */
const plainCost = 11n * price.input + 7n * price.output;
const cachedCost =
  11n * price.input + 100n * price.read + 20n * price.write5m + 30n * price.write1h + 7n * price.output;

describe("Anthropic's wire, through a sidecar", () => {
  let stack: Stack;
  let claude: AnthropicUpstream;
  let gpt: Upstream;
  let key: string;
  before(async () => {
    [claude, gpt] = await Promise.all([AnthropicUpstream.start(), Upstream.start()]);
    gpt.scripts.set("gpt-like", (call, res, request) => answerLikeGpt(call.body, res, request.stream === true));
    stack = await Stack.start({ sidecars: 1, models: models(claude, gpt) });
    key = await stack.generateKey({ max_budget: 5 });
  });
  after(async () => {
    await stack.close();
    await Promise.all([claude.close(), gpt.close()]);
  });

  const url = () => stack.sidecars[0]?.url ?? "";
  const anthropic = (apiKey = key) => new Anthropic({ baseURL: url(), apiKey, maxRetries: 0 });
  const openai = () => new OpenAI({ baseURL: `${url()}/v1`, apiKey: key, maxRetries: 0 });
  const hello = { max_tokens: 100, messages: [{ role: "user" as const, content: "Hello" }] };
  const weather = {
    name: "weather",
    description: "W.",
    input_schema: { type: "object" as const, properties: { city: { type: "string" } } },
  };
  const weatherFunction = {
    type: "function" as const,
    function: { name: "weather", parameters: weather.input_schema },
  };

  for (const [model, said] of [
    ["claude", text],
    ["gpt", text],
  ] as const) {
    test(`Anthropic's client completes, streams and is told the usage, with ${model} behind`, async () => {
      const whole = await anthropic().messages.create({ model, ...hello });
      assert.deepEqual(
        whole.content.map((block) => ("text" in block ? block.text : block.type)),
        [said],
      );
      assert.deepEqual([whole.stop_reason, whole.usage.input_tokens, whole.usage.output_tokens], ["end_turn", 11, 7]);
      const streamed = await anthropic()
        .messages.stream({ model, ...hello })
        .finalMessage();
      assert.deepEqual(
        streamed.content.map((block) => ("text" in block ? block.text : block.type)),
        [said],
      );
      assert.deepEqual([streamed.usage.input_tokens, streamed.usage.output_tokens], [11, 7]);
    });

    test(`Anthropic's client calls tools and brings their results, with ${model} behind`, async () => {
      const tools = [weather];
      const ask = { model, ...hello, tools };
      for (const answer of [
        await anthropic().messages.create(ask),
        await anthropic().messages.stream(ask).finalMessage(),
      ]) {
        assert.equal(answer.stop_reason, "tool_use");
        const call = answer.content.find(({ type }) => type === "tool_use");
        assert.ok(call?.type === "tool_use");
        assert.deepEqual([call.name, call.input], ["weather", { city: "Zürich 🚀", days: 3 }]);
        const results = answer.content
          .filter((block) => block.type === "tool_use")
          .map(({ id }) => ({ type: "tool_result" as const, tool_use_id: id, content: "sunny" }));
        const content = answer.content as Anthropic.ContentBlockParam[];
        const messages = [
          ...hello.messages,
          { role: "assistant" as const, content },
          { role: "user" as const, content: results },
        ];
        const last = await anthropic().messages.create({ ...ask, messages });
        assert.equal(last.stop_reason, "end_turn");
      }
    });

    test(`Anthropic's client shows an image and gets JSON by a schema, with ${model} behind`, async () => {
      const source = { type: "base64" as const, media_type: "image/png" as const, data: pixel };
      const content = [{ type: "image" as const, source }];
      const shown = await anthropic().messages.create({
        model,
        max_tokens: 100,
        messages: [{ role: "user", content }],
      });
      assert.match(JSON.stringify(shown.content), /\[image:base64\]/);
      const format = { type: "json_schema" as const, schema };
      const answer = await anthropic().messages.create({ model, ...hello, output_config: { format } });
      assert.deepEqual(
        answer.content.map((block) => block.type === "text" && JSON.parse(block.text)),
        [{ city: "Zürich", days: 3 }],
      );
    });
  }

  test("OpenAI's client completes, streams, calls tools, shows an image and gets JSON, with Claude behind", async () => {
    const { messages } = hello;
    const model = "claude";
    const whole = await openai().chat.completions.create({ model, messages });
    assert.deepEqual([whole.choices[0]?.message.content, whole.choices[0]?.finish_reason], [text, "stop"]);
    assert.deepEqual([whole.usage?.prompt_tokens, whole.usage?.completion_tokens], [11, 7]);
    const streamed = await openai()
      .chat.completions.stream({ model, messages, stream_options: { include_usage: true } })
      .finalChatCompletion();
    assert.deepEqual([streamed.choices[0]?.message.content, streamed.usage?.total_tokens], [text, 18]);
    for (const called of [
      await openai().chat.completions.create({ model, messages, tools: [weatherFunction] }),
      await openai()
        .chat.completions.stream({ model, messages, tools: [weatherFunction] })
        .finalChatCompletion(),
    ]) {
      const [choice] = called.choices;
      assert.equal(choice?.finish_reason, "tool_calls");
      const [call] = choice?.message.tool_calls ?? [];
      assert.ok(call?.type === "function");
      assert.deepEqual(
        [call.function.name, JSON.parse(call.function.arguments)],
        ["weather", { city: "Zürich 🚀", days: 3 }],
      );
      const calls = choice?.message.tool_calls ?? [];
      const results = calls.map(({ id }) => ({ role: "tool" as const, tool_call_id: id, content: "sunny" }));
      const asked = [...messages, { role: "assistant" as const, tool_calls: calls }, ...results];
      const last = await openai().chat.completions.create({ model, messages: asked, tools: [weatherFunction] });
      assert.equal(last.choices[0]?.finish_reason, "stop");
    }
    const image = { type: "image_url" as const, image_url: { url: `data:image/png;base64,${pixel}` } };
    const shown = await openai().chat.completions.create({ model, messages: [{ role: "user", content: [image] }] });
    assert.match(shown.choices[0]?.message.content ?? "", /\[image:base64\]/);
    const json_schema = { name: "place", schema, strict: true };
    const json = await openai().chat.completions.create({
      model,
      messages,
      response_format: { type: "json_schema", json_schema },
    });
    assert.deepEqual(JSON.parse(json.choices[0]?.message.content ?? ""), { city: "Zürich", days: 3 });
  });

  test("Claude's thoughts reach OpenAI's client, and go back with a tool's result", async () => {
    const ask = {
      model: "claude",
      ...hello,
      max_tokens: 3000,
      reasoning_effort: "low" as const,
      tools: [weatherFunction],
    };
    const { choices } = await openai().chat.completions.create(ask);
    const message = choices[0]?.message as OpenAI.ChatCompletionMessage & {
      reasoning_content?: string;
      thinking_blocks?: unknown;
    };
    assert.equal(message.reasoning_content, "Let me see. They want something.");
    assert.deepEqual(message.thinking_blocks, [
      { type: "thinking", thinking: "Let me see. They want something.", signature },
      { type: "redacted_thinking", data: "b3BhcXVl" },
    ]);
    const results = (message.tool_calls ?? []).map(({ id }) => ({
      role: "tool" as const,
      tool_call_id: id,
      content: "x",
    }));
    await openai().chat.completions.create({ ...ask, messages: [...hello.messages, message, ...results] });
    const sent = claude.lastCall.body.messages as { content: { type: string }[] }[];
    assert.deepEqual(
      sent[1]?.content.map(({ type }) => type),
      ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"],
    );
  });

  test("a gRPC client completes, streams, calls tools, shows an image and gets JSON, with Claude behind", async () => {
    const client = createCompletionClient({ apiKey: key, baseUrl: url() });
    const hello = { role: Role.USER, text: "Hello" };
    const whole = await client.complete({ chat: { model: "claude", messages: [hello] } });
    assert.deepEqual([whole.choices[0]?.text, whole.usage?.inputTokens, whole.usage?.outputTokens], [text, 11n, 7n]);
    let streamed = "";
    for await (const { event } of client.streamComplete({ chat: { model: "claude", messages: [hello] } })) {
      if (event.case === "delta") streamed += event.value.text;
    }
    assert.equal(streamed, text);
    const tools = [{ name: "weather", parameters: { type: "object" } }];
    const chat = { model: "claude", messages: [hello], tools, reasoningEffort: "low", maxOutputTokens: 3000 };
    const [called] = (await client.complete({ chat })).choices;
    assert.equal(called?.toolCalls[0]?.arguments, '{"city":"Zürich 🚀","days":3}');
    assert.equal(called?.reasoning, "Let me see. They want something.");
    const image = { content: { case: "image" as const, value: { url: `data:image/png;base64,${pixel}` } } };
    const shown = await client.complete({ chat: { model: "claude", messages: [{ role: Role.USER, parts: [image] }] } });
    assert.match(shown.choices[0]?.text ?? "", /\[image:base64\]/);
    const value = { name: "place", schema: { ...schema, required: [...schema.required] } };
    const responseFormat = { format: { case: "jsonSchema" as const, value } };
    const json = await client.complete({ chat: { model: "claude", messages: [hello], responseFormat } });
    assert.deepEqual(JSON.parse(json.choices[0]?.text ?? ""), { city: "Zürich", days: 3 });
  });

  test("searches of the web cost their fee, and are reserved for", async () => {
    const search = { type: "web_search_20250305" as const, name: "web_search" as const, max_uses: 3 };
    const ask = { model: "claude", ...hello, tools: [search] };
    const stream = { model: "claude", messages: hello.messages, stream: true as const, web_search_options: {} };
    const calls: ((baseURL: string, apiKey: string) => Promise<number | undefined>)[] = [
      async (baseURL, apiKey) => {
        const { usage } = await new Anthropic({ baseURL, apiKey }).messages.create(ask);
        return usage.server_tool_use?.web_search_requests;
      },
      async (baseURL, apiKey) => {
        const { usage } = await new Anthropic({ baseURL, apiKey }).messages.stream(ask).finalMessage();
        return usage.server_tool_use?.web_search_requests;
      },
      async (baseURL, apiKey) => {
        const chunks = await new OpenAI({ baseURL: `${baseURL}/v1`, apiKey }).chat.completions.create(stream);
        for await (const _ of chunks);
        return 2;
      },
    ];
    for (const call of calls) {
      const own = await stack.generateKey({ max_budget: 1 });
      assert.equal(await call(url(), own), 2);
      const [row] = await stack.booked(own, 1);
      // $10 for a thousand.
      assert.equal(BigInt(row?.cost_nanos ?? -1), plainCost + 2n * 10_000_000n);
    }
    // 3 x $0.01, and 3 x 10,000 tokens at no less than $3 a million.
    const poor = new Anthropic({ baseURL: url(), apiKey: await stack.generateKey({ max_budget: 0.1 }), maxRetries: 0 });
    await assert.rejects(poor.messages.create(ask), Anthropic.RateLimitError);
    await poor.messages.create({ model: "claude", ...hello });
  });

  test("between Anthropic's client and Anthropic nothing is rebuilt, and the client's version goes along", async () => {
    const body = `{ "model":"claude", "max_tokens": 1e2,\n "messages":[{"role":"user","content":"\\u00fc"}] }`;
    const headers = { "content-type": "application/json", "x-api-key": key, "anthropic-version": "2026-10-21" };
    const answer = await fetch(`${url()}/v1/messages`, { method: "POST", headers, body });
    assert.match(await answer.text(), /"unknown_field":\{"kept":true\}/);
    assert.equal(claude.lastCall.text, body.replace('"claude"', '"claude-sonnet-4-5"'));
    const sent = claude.lastCall.headers;
    assert.deepEqual(
      [sent["anthropic-version"], sent["x-api-key"], sent.authorization],
      ["2026-10-21", "sk-ant-upstream", undefined],
    );
  });

  test("failures come in the form of the client's wire, whoever failed", async () => {
    const failureOf = async (model: string, fields: object = {}) => {
      const thrown = await anthropic()
        .messages.create({ model, ...hello, ...fields })
        .catch((error: unknown) => error);
      assert.ok(thrown instanceof APIError, String(thrown));
      return [thrown.status, thrown.type, thrown.errorCode];
    };
    assert.deepEqual(await failureOf("too-long"), [400, "invalid_request_error", "context_length_exceeded"]);
    assert.deepEqual(await failureOf("overloaded"), [503, "overloaded_error", "provider_unavailable"]);
    assert.deepEqual(await failureOf("bad-request"), [400, "invalid_request_error", "provider_rejected"]);
    assert.deepEqual(await failureOf("nowhere"), [404, "not_found_error", "model_not_found"]);
    await assert.rejects(
      anthropic("sk-wrong").messages.create({ model: "claude", ...hello }),
      Anthropic.AuthenticationError,
    );
    await assert.rejects(
      openai().chat.completions.create({ model: "claude", messages: hello.messages, logprobs: true }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "logprobs",
    );
    await assert.rejects(
      openai().chat.completions.create({ model: "too-long", messages: hello.messages }),
      (error) => error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded",
    );
  });

  test("tokens are counted by Anthropic for Claude and here for others, and nobody pays", async () => {
    const own = await stack.generateKey({ max_budget: 5 });
    const { messages } = hello;
    assert.deepEqual(await anthropic(own).messages.countTokens({ model: "claude", messages }), { input_tokens: 42 });
    assert.equal(claude.lastCall.path, "/v1/messages/count_tokens");
    assert.equal(claude.lastCall.body.model, "claude-sonnet-4-5");
    const counted = await anthropic(own).messages.countTokens({ model: "gpt", messages });
    assert.ok(counted.input_tokens > 0 && counted.input_tokens < 10, String(counted.input_tokens));
    await assert.rejects(
      anthropic("sk-wrong").messages.countTokens({ model: "claude", messages }),
      Anthropic.AuthenticationError,
    );
    await anthropic(own).messages.create({ model: "claude", ...hello });
    const rows = await stack.booked(own, 1);
    assert.deepEqual(
      rows.map((row) => row.cost_nanos),
      [String(plainCost)],
      "the counts left no row",
    );
  });

  test("the books have what Anthropic charges, to the last cached token, by either door, whole and streamed", async () => {
    const own = await stack.generateKey({ max_budget: 5 });
    const cache_control = { type: "ephemeral" as const };
    const marked = { role: "user" as const, content: [{ type: "text" as const, text: "Long.", cache_control }] };
    const ask = { model: "claude", max_tokens: 100, messages: [marked] };
    const answer = await anthropic(own).messages.create(ask);
    assert.equal(answer.usage.cache_creation?.ephemeral_1h_input_tokens, 30);
    await anthropic(own).messages.stream(ask).finalMessage();
    const client = new OpenAI({ baseURL: `${url()}/v1`, apiKey: own, maxRetries: 0 });
    const whole = await client.chat.completions.create(ask);
    assert.equal(whole.usage?.prompt_tokens_details?.cached_tokens, 100);
    await client.chat.completions.stream(ask).finalChatCompletion();
    const rows = await stack.booked(own, 4);
    assert.deepEqual(
      rows.map((row) => row.cost_nanos),
      rows.map(() => String(cachedCost)),
    );
    assert.equal(rows.length, 4);
    for (const row of rows) {
      const tokens = [row.input_tokens, row.cache_read_input_tokens, row.cache_write_input_tokens, row.output_tokens];
      assert.deepEqual(tokens.map(Number), [161, 100, 50, 7]);
      assert.deepEqual([row.provider, row.status, row.usage_estimated], ["anthropic", "success", false]);
    }
    assert.equal((await stack.spent(own)).spent, cachedCost * 4n);
  });
});

function models(claude: AnthropicUpstream, gpt: Upstream): string {
  const of = (name: string, model: string) => `
  - model_name: ${name}
    litellm_params: { model: anthropic/${model}, api_base: "${claude.baseUrl}", api_key: sk-ant-upstream }`;
  const free = (name: string) => `${of(name, name)}
    model_info: { input_cost_per_token: 0, output_cost_per_token: 0 }`;
  return `${of("claude", "claude-sonnet-4-5")}${["too-long", "overloaded"].map(free).join("")}
  - model_name: gpt
    litellm_params:
      { model: openai/gpt-like, api_base: "${gpt.baseUrl}", api_key: k, input_cost_per_token: 0.000001, output_cost_per_token: 0 }`;
}

interface GptBody {
  readonly messages: readonly { readonly role: string; readonly content: unknown }[];
  readonly tools?: readonly { readonly function: { readonly name: string } }[];
  readonly response_format?: { readonly type: string };
}

/** An OpenAI-compatible model that calls the first tool it is given, keeps to a JSON format, and tells what it was shown. */
function answerLikeGpt(body: string, res: Parameters<typeof sendJson>[0], isStream: boolean): void {
  const { messages, tools, response_format } = JSON.parse(body) as GptBody;
  const last = messages.at(-1);
  const isCalling = tools !== undefined && last?.role === "user";
  const shown = JSON.stringify(last?.content).includes('"image_url":{"url":"data:image/png;base64,')
    ? " [image:base64]"
    : "";
  const called = { name: tools?.[0]?.function.name, arguments: '{"city":"Zürich 🚀","days":3}' };
  const message = isCalling
    ? { role: "assistant", content: null, tool_calls: [{ index: 0, id: "call_1", type: "function", function: called }] }
    : { role: "assistant", content: response_format === undefined ? text + shown : '{"city":"Zürich","days":3}' };
  const finish_reason = isCalling ? "tool_calls" : "stop";
  const head = { id: "chatcmpl-1", created: 1_700_000_000, model: "gpt-like" };
  const usage = { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 };
  if (!isStream) {
    sendJson(res, 200, { ...head, choices: [{ index: 0, message, finish_reason }], usage });
    return;
  }
  res.writeHead(200, { "content-type": "text/event-stream" });
  const frame = (fields: object) => `data: ${JSON.stringify({ ...head, ...fields })}\n\n`;
  res.write(frame({ choices: [{ index: 0, delta: message, finish_reason: null }] }));
  res.write(frame({ choices: [{ index: 0, delta: {}, finish_reason }] }));
  res.end(`${frame({ choices: [], usage })}data: [DONE]\n\n`);
}
