import assert from "node:assert/strict";
import { test } from "node:test";
import type { DeltaEvent, FinishEvent, StartEvent, Usage } from "../../src/completion.ts";
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
    `data: ${head}[{"index":0,"delta":{"role":"assistant","reasoning_content":"hm"},"finish_reason":null}],"usage":null}\n\n` +
      `data: ${head}[{"index":0,"delta":{"content":"a \\"quoted\\"\\n"},"finish_reason":null}],"usage":null}\n\n` +
      `data: ${head}[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\\"a"}}]},"finish_reason":null}],"usage":null}\n\n` +
      `data: ${head}[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\":1}"}}]},"finish_reason":null}],"usage":null}\n\n` +
      `data: ${head}[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}\n\n` +
      `data: ${head}[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":1},"completion_tokens_details":{"reasoning_tokens":2}}}\n\n` +
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
