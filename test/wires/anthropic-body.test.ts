import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { CompletionRequest, JsonObject } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { decodeMessagesRequest } from "../../src/wires/anthropic-body.ts";
import { encodeMessagesRequest, type MessagesTarget } from "../../src/wires/anthropic-request.ts";
import { type ChatTarget, encodeChatRequest } from "../../src/wires/openai-chat.ts";
import { faultOf } from "../anthropic-rules.ts";

const params = { lacks: new Set<string>(), drops: false, leavesOut: [], modifies: false };
const anthropic: MessagesTarget = {
  ...{ model: "claude-real", outputTokensMax: undefined, outputTokensDefault: 4096, provider: "anthropic", params },
};
const openai: ChatTarget = {
  ...{ model: "gpt-real", outputTokensMax: undefined, outputCapField: "max_tokens", provider: "openai", params },
};
const cache_control = { type: "ephemeral" };
const user = { role: "user", content: "Hello" };

function decode(body: unknown, counts = false): CompletionRequest {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const request = decodeMessagesRequest(Buffer.from(text), { counts });
  if (request instanceof GatewayError) throw request;
  return request;
}

const ask = (fields: object = {}) => ({ model: "m", max_tokens: 100, messages: [user], ...fields });
/** What an OpenAI-compatible server is sent. */
const atOpenAi = (fields: object): JsonObject =>
  JSON.parse(encodeChatRequest(decode(ask(fields)), openai).toString()) as JsonObject;
/** What Anthropic is sent. */
const atAnthropic = (body: unknown, facts: Partial<MessagesTarget> = {}): string =>
  encodeMessagesRequest(decode(body), { ...anthropic, ...facts }).toString();

function refusal(body: unknown): string | undefined {
  const error = decodeMessagesRequest(Buffer.from(JSON.stringify(body)), { counts: false });
  return error instanceof GatewayError ? `${error.code} ${error.facts.param}` : undefined;
}

test("a request's facts are read", () => {
  const image = { type: "image", source: { type: "url", url: "https://x.test" } };
  const body = ask({
    stream: true,
    messages: [{ role: "user", content: [image, { type: "tool_result", tool_use_id: "t", content: [image] }] }],
    metadata: { user_id: "u-1", tags: ["a"] },
    tags: ["b"],
    service_tier: "standard_only",
  });
  const request = decode(body);
  const { model, stream, outputTokensMax, endUser, tags, pieces, serviceTier, choiceCount } = request;
  assert.deepEqual(
    { model, stream, outputTokensMax, endUser, tags, pieces, serviceTier, choiceCount },
    {
      ...{ model: "m", stream: true, outputTokensMax: 100, endUser: "u-1", tags: ["b", "a"], pieces: { image: 2 } },
      ...{ serviceTier: "default", choiceCount: 1 },
    },
  );
  assert.equal(request.inputTokensMax, JSON.stringify(body).length + 100_000);
});

test("what is no such request is refused by name", () => {
  const cases: [object, string][] = [
    [ask({ max_tokens: undefined }), "invalid_request max_tokens"],
    [ask({ max_tokens: 0 }), "invalid_request max_tokens"],
    [ask({ messages: [] }), "invalid_request messages"],
    [ask({ model: "" }), "invalid_request model"],
    [ask({ stream: "yes" }), "invalid_request stream"],
    [ask({ api_key: "sk-x" }), "invalid_request api_key"],
  ];
  for (const [body, expected] of cases) assert.equal(refusal(body), expected);
  assert.equal(decode(ask({ max_tokens: undefined }), true).outputTokensMax, undefined, "counting wants no cap");
  const twice = decodeMessagesRequest(Buffer.from('{"model":"a","model":"b","max_tokens":1,"messages":[1]}'), {
    counts: false,
  });
  assert.ok(twice instanceof GatewayError && twice.facts.param === "model");
});

test("in the pass-through lane the model's bytes change and no others", () => {
  const text =
    '{ "model" : "m",\n "max_tokens":5 , "messages":[{"role":"user","content":"\\u00fc"}], "x": [1e5, {"y" : null}]}';
  assert.equal(atAnthropic(text), text.replace('"m"', '"claude-real"'));
  assert.equal(
    atAnthropic(text, { outputTokensMax: 3 }),
    text.replace('"m"', '"claude-real"').replace('"max_tokens":5', '"max_tokens":3'),
  );
});

test("what speaks to the gateway stays here, and what the operator leaves out is left out", () => {
  const body = ask({ tags: ["t"], num_retries: 1, metadata: { user_id: "u", tags: ["x"] }, top_k: 3 });
  const expected = { ...ask(), model: "claude-real", metadata: { user_id: "u" }, top_k: 3 };
  assert.equal(atAnthropic(body), JSON.stringify(expected));
  const without = atAnthropic(ask({ top_k: 3, thinking: { type: "x" } }), {
    params: { ...params, leavesOut: ["top_k", "thinking.type"] },
  });
  assert.deepEqual(JSON.parse(without), { ...ask(), model: "claude-real", thinking: {} });
  assert.equal(JSON.parse(atAnthropic(ask({ metadata: { tags: ["x"] } }))).metadata, undefined);
});

test("unknown fields survive, whatever they are", () => {
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.string().map((name) => `x-${name}`),
        fc.jsonValue(),
      ),
      fc.constantFrom(undefined, 2),
      (extra, indent) => {
        const text = JSON.stringify({ ...extra, ...ask() }, null, indent);
        assert.equal(atAnthropic(text), text.replace(/("model": ?)"m"/, '$1"claude-real"'));
      },
    ),
  );
});

test("a request like Claude Code's is one of OpenAI's", () => {
  const body = atOpenAi({
    system: [
      { type: "text", text: "You are Claude Code." },
      { type: "text", text: "Be brief.", cache_control },
    ],
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "<system-reminder>" },
          { type: "text", text: "List files", cache_control },
        ],
      },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "I need ls.", signature: "c2ln" },
          { type: "text", text: "I look." },
          { type: "tool_use", id: "toolu_1", name: "Bash", input: { command: "ls" } },
          { type: "tool_use", id: "toolu_2", name: "Read", input: {} },
        ],
      },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "toolu_1", content: "a.txt", cache_control },
          {
            type: "tool_result",
            tool_use_id: "toolu_2",
            is_error: true,
            content: [
              { type: "text", text: "see" },
              { type: "image", source: { type: "base64", media_type: "image/png", data: "AA" } },
            ],
          },
          { type: "text", text: "Go on." },
        ],
      },
    ],
    tools: [
      {
        name: "Bash",
        description: "Run.",
        input_schema: { type: "object", properties: { command: { type: "string" } } },
      },
      { name: "Read", input_schema: { type: "object" }, cache_control },
    ],
    tool_choice: { type: "auto", disable_parallel_tool_use: true },
    metadata: { user_id: "user_abc" },
    thinking: { type: "enabled", budget_tokens: 12_000 },
    context_management: { edits: [] },
    stop_sequences: ["END"],
    temperature: 1,
    stream: true,
  });
  assert.deepEqual(body, {
    model: "gpt-real",
    max_tokens: 100,
    messages: [
      {
        role: "system",
        content: [
          { type: "text", text: "You are Claude Code." },
          { type: "text", text: "Be brief." },
        ],
      },
      {
        role: "user",
        content: [
          { type: "text", text: "<system-reminder>" },
          { type: "text", text: "List files" },
        ],
      },
      {
        role: "assistant",
        content: "I look.",
        tool_calls: [
          { id: "toolu_1", type: "function", function: { name: "Bash", arguments: '{"command":"ls"}' } },
          { id: "toolu_2", type: "function", function: { name: "Read", arguments: "{}" } },
        ],
      },
      { role: "tool", tool_call_id: "toolu_1", content: "a.txt" },
      { role: "tool", tool_call_id: "toolu_2", content: [{ type: "text", text: "see" }] },
      { role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,AA" } }] },
      { role: "user", content: "Go on." },
    ],
    tools: [
      {
        type: "function",
        function: {
          name: "Bash",
          description: "Run.",
          parameters: { type: "object", properties: { command: { type: "string" } } },
        },
      },
      { type: "function", function: { name: "Read", parameters: { type: "object" } } },
    ],
    tool_choice: "auto",
    parallel_tool_calls: false,
    user: "user_abc",
    reasoning_effort: "high",
    stop: ["END"],
    temperature: 1,
    stream: true,
    stream_options: { include_usage: true },
  });
});

test("formats, documents and choices have OpenAI's words", () => {
  const schema = { type: "object", properties: {}, additionalProperties: false };
  const tools = [{ name: "f", input_schema: schema }];
  const body = atOpenAi({
    messages: [
      {
        role: "user",
        content: [
          { type: "document", title: "A", source: { type: "base64", media_type: "application/pdf", data: "JVBE" } },
          { type: "document", title: "B", source: { type: "text", media_type: "text/plain", data: "plain" } },
          { type: "image", source: { type: "url", url: "https://x.test/a.png" } },
        ],
      },
      { role: "system", content: "From here on: rhyme." },
    ],
    tools,
    tool_choice: { type: "tool", name: "f" },
    output_config: { format: { type: "json_schema", schema }, effort: "max" },
  });
  assert.deepEqual(body.messages, [
    {
      role: "user",
      content: [
        { type: "file", file: { filename: "A", file_data: "data:application/pdf;base64,JVBE" } },
        { type: "text", text: "B" },
        { type: "text", text: "plain" },
        { type: "image_url", image_url: { url: "https://x.test/a.png" } },
      ],
    },
    { role: "system", content: "From here on: rhyme." },
  ]);
  assert.deepEqual(body.tool_choice, { type: "function", function: { name: "f" } });
  assert.deepEqual(body.response_format, {
    type: "json_schema",
    json_schema: { name: "answer", schema, strict: true },
  });
  assert.equal(body.reasoning_effort, "high");
  assert.equal(atOpenAi({ tools, tool_choice: { type: "any" } }).tool_choice, "required");
  assert.equal(atOpenAi({ tools, tool_choice: { type: "none" } }).tool_choice, "none");
});

test("a conversation goes through the neutral form and back as it was, caches and signatures included", () => {
  const conversation = {
    system: [{ type: "text", text: "Be brief.", cache_control }],
    messages: [
      { role: "user", content: [{ type: "text", text: "Look", cache_control: { type: "ephemeral", ttl: "1h" } }] },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "Hm.", signature: "c2ln" },
          { type: "redacted_thinking", data: "b3Bh" },
          { type: "text", text: "I look." },
          { type: "tool_use", id: "toolu_1", name: "f", input: { a: [1, { b: null }] } },
        ],
      },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "toolu_1", content: "no", is_error: true },
          { type: "image", source: { type: "base64", media_type: "image/png", data: "AA" } },
          { type: "document", source: { type: "url", url: "https://x.test/a.pdf" } },
        ],
      },
    ],
    tools: [{ name: "f", description: "F.", input_schema: { type: "object", properties: { a: {} } }, cache_control }],
    tool_choice: { type: "any", disable_parallel_tool_use: true },
    stop_sequences: ["x"],
    thinking: { type: "adaptive" },
    temperature: 1,
    metadata: { user_id: "u" },
  };
  // As a server of another wire's would get it, written in Anthropic's again.
  const neutral = { ...decode(ask(conversation)), wire: undefined, raw: undefined };
  const body = JSON.parse(encodeMessagesRequest(neutral, anthropic).toString());
  assert.deepEqual(body, { ...ask(conversation), model: "claude-real" });
});

test("bodies of any shape are read or refused, and written for either wire, never thrown over", () => {
  const type = fc.constantFrom(
    "text",
    "image",
    "document",
    "tool_use",
    "tool_result",
    "thinking",
    "search_result",
    "x",
  );
  const block = fc.record({
    type,
    text: fc.jsonValue(),
    source: fc.jsonValue(),
    content: fc.jsonValue(),
    input: fc.jsonValue(),
  });
  const message = fc.record({
    role: fc.constantFrom("user", "assistant", "system", "x"),
    content: fc.oneof(fc.string(), fc.array(block), fc.jsonValue()),
  });
  const fields = fc.record({
    tools: fc.jsonValue(),
    tool_choice: fc.jsonValue(),
    system: fc.jsonValue(),
    output_config: fc.jsonValue(),
    thinking: fc.jsonValue(),
  });
  fc.assert(
    fc.property(fc.array(fc.oneof(message, fc.jsonValue()), { minLength: 1 }), fields, (messages, others) => {
      const request = decode(ask({ messages, ...others }));
      JSON.parse(encodeChatRequest(request, openai).toString());
      JSON.parse(encodeMessagesRequest(request, anthropic).toString());
    }),
    { numRuns: 300 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
      assert.ok(decodeMessagesRequest(Buffer.from(noise), { counts: false }) instanceof GatewayError);
    }),
  );
});

test("what is sent to Anthropic after the way through the neutral form is what Anthropic takes", () => {
  const body = ask({ system: "s", messages: [user, { role: "assistant", content: "a" }, user] });
  const neutral = { ...decode(body), wire: undefined, raw: undefined };
  assert.equal(faultOf(JSON.parse(encodeMessagesRequest(neutral, anthropic).toString()), "2026-10-21"), undefined);
});
