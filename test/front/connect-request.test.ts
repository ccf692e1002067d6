import assert from "node:assert/strict";
import { test } from "node:test";
import {
  create,
  fromBinary,
  fromJsonString,
  type JsonObject,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { GatewayError } from "../../src/errors.ts";
import { completionRequest } from "../../src/front/connect-request.ts";
import { type Chat, ChatSchema, Role } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";

function chatOf(init: Omit<MessageInitShape<typeof ChatSchema>, "$typeName">): Chat {
  return create(ChatSchema, { model: "m", messages: [{ role: Role.USER, text: "hi" }], ...init });
}

function faultOf(init: Parameters<typeof chatOf>[0]): { code: string; param: string | undefined } {
  try {
    completionRequest(chatOf(init), false);
  } catch (error) {
    assert.ok(error instanceof GatewayError);
    return { code: error.code, param: error.facts.param };
  }
  return assert.fail("accepted");
}

test("the least a chat can be becomes the least a body can be", () => {
  const request = completionRequest(chatOf({}), false);
  assert.deepEqual(request.chat(), { model: "m", messages: [{ role: "user", content: "hi" }] });
  assert.equal(request.wire, undefined);
  assert.equal(request.raw, undefined);
  assert.equal(request.stream, false);
  assert.equal(request.choiceCount, 1);
  assert.equal(request.outputTokensMax, undefined);
  assert.equal(request.endUser, undefined);
  assert.equal(request.inputTokensMax, Buffer.byteLength(JSON.stringify(request.chat())));
});

test("a body is what its JSON says, whatever names its fields have", () => {
  const text =
    '{"model":"m","messages":[{"role":"ROLE_USER","text":"✓","extra":{"__proto__":{"type":"text"},"constructor":1}}],' +
    '"tools":[{"name":"f","parameters":{"__proto__":{"a":1},"toString":2}}],"extra":{"__proto__":{"stream":true},"hasOwnProperty":3}}';
  const inJson = fromJsonString(ChatSchema, text);
  for (const chat of [inJson, fromBinary(ChatSchema, toBinary(ChatSchema, inJson))]) {
    const request = completionRequest(chat, false);
    assert.equal(request.stream, false);
    const again = JSON.parse(JSON.stringify(request.chat()));
    assert.deepEqual(request.chat(), again);
    // Calling tools takes more than the caller sends.
    assert.equal(request.inputTokensMax, 1_000 + Buffer.byteLength(JSON.stringify(again)));
    const body =
      '{"model":"m","messages":[{"role":"user","content":"✓","__proto__":{"type":"text"},"constructor":1}],' +
      '"tools":[{"type":"function","function":{"name":"f","parameters":{"__proto__":{"a":1},"toString":2}}}],' +
      '"__proto__":{"stream":true},"hasOwnProperty":3}';
    assert.deepEqual(again, JSON.parse(body));
  }
});

test("what is nested deeper than a body may be is refused", () => {
  let deep: JsonObject = {};
  for (let level = 0; level < 130; level++) deep = { deep };
  assert.equal(faultOf({ extra: { deep } }).code, "invalid_request");
  assert.equal(faultOf({ tools: [{ name: "f", parameters: deep }] }).code, "invalid_request");
});

test("every typed field stands where OpenAI has it", () => {
  const schema = { type: "object", properties: { a: { type: "integer" } } };
  const request = completionRequest(
    chatOf({
      maxOutputTokens: 50,
      temperature: 0,
      topP: 0.5,
      stop: ["a", "b"],
      choiceCount: 2,
      seed: 42n,
      presencePenalty: 1,
      frequencyPenalty: -1,
      tools: [{ name: "f", description: "does f", parameters: schema, strict: false }, { name: "g" }],
      toolChoice: { choice: { case: "function", value: "f" } },
      parallelToolCalls: false,
      responseFormat: { format: { case: "jsonSchema", value: { name: "s", schema, strict: true } } },
      reasoningEffort: "low",
      logprobs: true,
      topLogprobs: 0,
      user: "u",
      tags: ["t", "t", "v"],
      extra: { service_tier: "flex", nested: { deep: [1, null, "x"] } },
    }),
    true,
  );
  assert.deepEqual(request.chat(), {
    model: "m",
    messages: [{ role: "user", content: "hi" }],
    max_completion_tokens: 50,
    temperature: 0,
    top_p: 0.5,
    stop: ["a", "b"],
    n: 2,
    seed: 42,
    presence_penalty: 1,
    frequency_penalty: -1,
    tools: [
      { type: "function", function: { name: "f", description: "does f", parameters: schema, strict: false } },
      { type: "function", function: { name: "g" } },
    ],
    tool_choice: { type: "function", function: { name: "f" } },
    parallel_tool_calls: false,
    response_format: { type: "json_schema", json_schema: { name: "s", schema, strict: true } },
    reasoning_effort: "low",
    logprobs: true,
    top_logprobs: 0,
    user: "u",
    tags: ["t", "t", "v"],
    service_tier: "flex",
    nested: { deep: [1, null, "x"] },
  });
  assert.equal(request.stream, true);
  assert.equal(request.outputTokensMax, 50);
  assert.equal(request.choiceCount, 2);
  assert.equal(request.endUser, "u");
  assert.deepEqual(request.tags, ["t", "v"]);
});

test("the two simpler forms of tool_choice and response_format", () => {
  const request = completionRequest(
    chatOf({
      toolChoice: { choice: { case: "mode", value: "required" } },
      responseFormat: { format: { case: "type", value: "json_object" } },
    }),
    false,
  );
  assert.equal(request.chat().tool_choice, "required");
  assert.deepEqual(request.chat().response_format, { type: "json_object" });
});

test("messages: every role, parts, tool calls and their results", () => {
  const request = completionRequest(
    chatOf({
      messages: [
        { role: Role.SYSTEM, text: "be brief" },
        { role: Role.DEVELOPER, text: "be kind" },
        {
          role: Role.USER,
          name: "ann",
          parts: [
            { content: { case: "text", value: "what is this" } },
            { content: { case: "image", value: { url: "https://x/y.png", detail: "low" } } },
            { content: { case: "image", value: { url: "data:image/png;base64,AA==" } } },
            {
              content: { case: "other", value: { type: "input_audio", input_audio: { data: "AA==", format: "wav" } } },
            },
          ],
        },
        { role: Role.ASSISTANT, toolCalls: [{ id: "c1", name: "f", arguments: '{"a": 1}' }] },
        { role: Role.TOOL, toolCallId: "c1", text: "2" },
        { role: Role.ASSISTANT },
      ],
    }),
    false,
  );
  assert.deepEqual(request.chat().messages, [
    { role: "system", content: "be brief" },
    { role: "developer", content: "be kind" },
    {
      role: "user",
      content: [
        { type: "text", text: "what is this" },
        { type: "image_url", image_url: { url: "https://x/y.png", detail: "low" } },
        { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } },
        { type: "input_audio", input_audio: { data: "AA==", format: "wav" } },
      ],
      name: "ann",
    },
    {
      role: "assistant",
      content: null,
      tool_calls: [{ id: "c1", type: "function", function: { name: "f", arguments: '{"a": 1}' } }],
    },
    { role: "tool", content: "2", tool_call_id: "c1" },
    { role: "assistant", content: "" },
  ]);
  // An image may cost far more tokens than its URL has bytes.
  assert.ok(request.inputTokensMax > 10_000);
});

test("what bounds the cost is read from `extra` too", () => {
  const request = completionRequest(chatOf({ extra: { n: 3, max_tokens: 7, user: "u" } }), false);
  assert.equal(request.choiceCount, 3);
  assert.equal(request.outputTokensMax, 7);
  assert.equal(request.endUser, "u");
  assert.equal(completionRequest(chatOf({ maxOutputTokens: 5, extra: { max_tokens: 9 } }), false).outputTokensMax, 5);
});

test("`extra` may not override a typed field, choose streaming, or say where the call goes", () => {
  const cases: [Parameters<typeof chatOf>[0], string][] = [
    [{ extra: { model: "other" } }, "chat.extra.model"],
    [{ extra: { messages: [] } }, "chat.extra.messages"],
    [{ temperature: 1, extra: { temperature: 2 } }, "chat.extra.temperature"],
    [{ maxOutputTokens: 5, extra: { max_completion_tokens: 500 } }, "chat.extra.max_completion_tokens"],
    [{ extra: { stream: true } }, "chat.extra.stream"],
    [{ extra: { stream_options: {} } }, "chat.extra.stream_options"],
    [{ extra: { n: -1 } }, "chat.extra.n"],
    ...["api_base", "base_url", "api_key", "user_config", "extra_headers", "organization"].map(
      (key): [Parameters<typeof chatOf>[0], string] => [{ extra: { [key]: "x" } }, `chat.extra.${key}`],
    ),
  ];
  for (const [init, param] of cases) assert.deepEqual(faultOf(init), { code: "invalid_request", param });
});

test("what JSON cannot carry is refused", () => {
  assert.equal(faultOf({ temperature: Number.NaN }).param, "chat.temperature");
  assert.equal(faultOf({ topP: Number.POSITIVE_INFINITY }).param, "chat.top_p");
  assert.equal(faultOf({ seed: 2n ** 60n }).param, "chat.seed");
});

test("a message has text or parts, not both", () => {
  const both = { role: Role.USER, text: "a", parts: [{ content: { case: "text" as const, value: "b" } }] };
  assert.equal(faultOf({ messages: [{ role: Role.USER, text: "x" }, both] }).param, "chat.messages[1].parts");
});

test("reasoning goes back in its blocks, and `extra` of messages, calls and tools stands where OpenAI's form has it", () => {
  const mark = { cache_control: { type: "ephemeral" } };
  const said = { provider_specific_fields: { thought_signature: "c2ln" } };
  const request = completionRequest(
    chatOf({
      messages: [
        { role: Role.USER, text: "hi", extra: mark },
        {
          role: Role.ASSISTANT,
          reasoningBlocks: [{ text: "hm", signature: "s1" }, { redacted: "opaque" }, { text: "plain" }],
          toolCalls: [{ id: "c1", name: "f", arguments: "{}", extra: said }],
          extra: said,
        },
      ],
      tools: [{ name: "f", extra: mark }],
    }),
    false,
  );
  assert.deepEqual(request.chat().messages, [
    { role: "user", content: "hi", ...mark },
    {
      role: "assistant",
      content: null,
      tool_calls: [{ id: "c1", type: "function", function: { name: "f", arguments: "{}" }, ...said }],
      thinking_blocks: [
        { type: "thinking", thinking: "hm", signature: "s1" },
        { type: "redacted_thinking", data: "opaque" },
        { type: "thinking", thinking: "plain" },
      ],
      ...said,
    },
  ]);
  assert.deepEqual(request.chat().tools, [{ type: "function", function: { name: "f" }, ...mark }]);
});

test("`extra` of a message, a call or a tool may not override a typed field", () => {
  const call = { id: "c", name: "f", arguments: "", extra: { function: {} } };
  const cases: [Parameters<typeof chatOf>[0], string][] = [
    [{ messages: [{ role: Role.USER, text: "x", extra: { role: "system" } }] }, "chat.messages[0].extra.role"],
    [{ messages: [{ role: Role.ASSISTANT, toolCalls: [call] }] }, "chat.messages[0].tool_calls[0].extra.function"],
    [{ tools: [{ name: "f", extra: { type: "web_search" } }] }, "chat.tools[0].extra.type"],
  ];
  for (const [init, param] of cases) assert.deepEqual(faultOf(init), { code: "invalid_request", param });
});
