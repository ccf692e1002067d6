import assert from "node:assert/strict";
import { test } from "node:test";
import type { DeltaEvent, FinishEvent, JsonObject, StartEvent, Usage } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { answerEvents, readChatAnswer } from "../../src/wires/openai-chat-answer.ts";
import { ChatAnswerEncoder, ChatStreamEncoder } from "../../src/wires/openai-chat-encoder.ts";
import { ChatStreamReader } from "../../src/wires/openai-chat-stream.ts";

const usage: Usage = {
  inputTokens: 10,
  outputTokens: 5,
  cacheReadInputTokens: 4,
  cacheWriteInputTokens: 1,
  reasoningOutputTokens: 2,
  estimated: false,
};

const events: (StartEvent | DeltaEvent | FinishEvent)[] = [
  { type: "start", id: "chatcmpl-1", model: "real", createdS: 1_700_000_000 },
  { type: "delta", choice: 0, reasoning: "hm" },
  { type: "delta", choice: 0, text: 'a "quoted"\n' },
  { type: "delta", choice: 0, toolCalls: [{ index: 0, id: "call_1", name: "f", arguments: '{"a' }] },
  { type: "delta", choice: 0, toolCalls: [{ index: 0, arguments: '":1}' }] },
  { type: "finish", choice: 0, reason: "tool_calls" },
];

function stream(includeUsage: boolean): string {
  const encoder = new ChatStreamEncoder(includeUsage);
  const frames = events.map((event) => encoder.encode(event)?.toString() ?? "");
  return frames.join("") + encoder.end(usage).toString();
}

test("a stream is written as OpenAI writes it", () => {
  const head = '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"real","choices":';
  assert.equal(
    stream(true),
    `data: ${head}[{"index":0,"delta":{"role":"assistant","reasoning_content":"hm","thinking_blocks":[{"type":"thinking","thinking":"hm"}]},"finish_reason":null}],"usage":null}\n\n` +
      `data: ${head}[{"index":0,"delta":{"content":"a \\"quoted\\"\\n"},"finish_reason":null}],"usage":null}\n\n` +
      `data: ${head}[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\\"a"}}]},"finish_reason":null}],"usage":null}\n\n` +
      `data: ${head}[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\":1}"}}]},"finish_reason":null}],"usage":null}\n\n` +
      `data: ${head}[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}\n\n` +
      `data: ${head}[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":1,"cache_creation_tokens":1,"cache_creation_token_details":{"ephemeral_5m_input_tokens":1,"ephemeral_1h_input_tokens":0}},"completion_tokens_details":{"reasoning_tokens":2},"cache_read_input_tokens":4,"cache_creation_input_tokens":1}}\n\n` +
      "data: [DONE]\n\n",
  );
});

test("usage stands nowhere unless it was asked for", () => {
  assert.doesNotMatch(stream(false), /usage/);
  assert.ok(stream(false).endsWith('"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'));
});

test("each choice begins with the role", () => {
  const encoder = new ChatStreamEncoder(false);
  const texts = [
    encoder.encode({ type: "delta", choice: 0, text: "a" }),
    encoder.encode({ type: "delta", choice: 1, text: "b" }),
    encoder.encode({ type: "delta", choice: 1, text: "c" }),
    encoder.encode({ type: "finish", choice: 2, reason: "stop" }),
  ].map((bytes) => bytes?.toString().includes('"role":"assistant"'));
  assert.deepEqual(texts, [true, true, false, true]);
});

test("what is written is read back as it was", () => {
  const reader = new ChatStreamReader({ lane: "neutral", includeUsage: true, choiceCount: 1 });
  const back = [...reader.push(Buffer.from(stream(true))), ...reader.end()];
  assert.deepEqual(back, [...events, { type: "end", usage, responseId: "chatcmpl-1", raw: undefined }]);
});

test("a whole answer gathers its pieces", () => {
  const encoder = new ChatAnswerEncoder();
  for (const event of events) encoder.add(event);
  encoder.add({ type: "delta", choice: 1, text: "second", logprobs: { content: [{ token: "second", logprob: -1 }] } });
  encoder.add({ type: "finish", choice: 1, reason: "length" });
  const bytes = encoder.end(usage);
  const body = JSON.parse(bytes.toString());
  assert.equal(body.object, "chat.completion");
  assert.deepEqual(body.choices[0], {
    index: 0,
    message: {
      role: "assistant",
      content: 'a "quoted"\n',
      refusal: null,
      reasoning_content: "hm",
      thinking_blocks: [{ type: "thinking", thinking: "hm" }],
      tool_calls: [{ id: "call_1", type: "function", function: { name: "f", arguments: '{"a":1}' } }],
    },
    logprobs: null,
    finish_reason: "tool_calls",
  });
  assert.deepEqual(body.choices[1].logprobs, { content: [{ token: "second", logprob: -1 }] });
  const answer = readChatAnswer(bytes);
  assert.ok(!(answer instanceof GatewayError));
  assert.deepEqual(answer.usage, usage);
  assert.equal(answerEvents(answer).length, 6);
});

test("blocks of reasoning, sources and a provider's own words are written in LiteLLM's fields", () => {
  const source: JsonObject = { type: "url_citation", url_citation: { url: "https://example.com" } };
  const pieces: DeltaEvent[] = [
    { type: "delta", choice: 0, reasoning: "first " },
    { type: "delta", choice: 0, reasoning: "thought" },
    { type: "delta", choice: 0, signature: "c2ln" },
    { type: "delta", choice: 0, redactedReasoning: "b3BhcXVl" },
    { type: "delta", choice: 0, reasoning: "second" },
    { type: "delta", choice: 0, text: "said", annotations: [source], providerFields: { citations: [["a"]], x: 1 } },
    { type: "delta", choice: 0, providerFields: { citations: [["b"]], x: 2 } },
    {
      type: "delta",
      choice: 0,
      toolCalls: [{ index: 0, id: "c", name: "f", providerFields: { thought_signature: "s" } }],
    },
  ];
  const whole = new ChatAnswerEncoder();
  const stream = new ChatStreamEncoder(false);
  const deltas: JsonObject[] = [];
  stream.encode({ type: "start", id: "1", model: "m", createdS: 1 });
  for (const piece of pieces) {
    whole.add(piece);
    deltas.push(JSON.parse(stream.encode(piece)?.toString().slice(6) ?? "").choices[0].delta);
  }
  assert.deepEqual(JSON.parse(whole.end(usage).toString()).choices[0].message, {
    role: "assistant",
    content: "said",
    refusal: null,
    reasoning_content: "first thoughtsecond",
    thinking_blocks: [
      { type: "thinking", thinking: "first thought", signature: "c2ln" },
      { type: "redacted_thinking", data: "b3BhcXVl" },
      { type: "thinking", thinking: "second" },
    ],
    tool_calls: [
      {
        id: "c",
        type: "function",
        function: { name: "f", arguments: "" },
        provider_specific_fields: { thought_signature: "s" },
      },
    ],
    annotations: [source],
    provider_specific_fields: { citations: [["a"], ["b"]], x: 2 },
  });
  assert.deepEqual(deltas[2], { thinking_blocks: [{ type: "thinking", thinking: "", signature: "c2ln" }] });
  assert.deepEqual(deltas[3], { thinking_blocks: [{ type: "redacted_thinking", data: "b3BhcXVl" }] });
  assert.deepEqual(deltas[5], {
    content: "said",
    annotations: [source],
    provider_specific_fields: { citations: [["a"]], x: 1 },
  });
});
