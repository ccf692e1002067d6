import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { CompletionEvent, EndEvent, Json } from "../../src/completion.ts";
import type { GatewayError } from "../../src/errors.ts";
import { type ChatStreamOptions, ChatStreamReader } from "../../src/wires/openai-chat-stream.ts";

const head = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1_700_000_000, model: "gpt-real" };
const usage = {
  prompt_tokens: 10,
  completion_tokens: 5,
  total_tokens: 15,
  prompt_tokens_details: { cached_tokens: 4 },
  completion_tokens_details: { reasoning_tokens: 2 },
};

function frame(fields: Json, end = "\n"): string {
  return `data: ${JSON.stringify(fields)}${end}${end}`;
}

function piece(delta: Json, reason: string | null = null, index = 0): Json {
  return { ...head, choices: [{ index, delta, finish_reason: reason }], usage: null, x_unknown: 1 };
}

const content =
  frame(piece({ role: "assistant", content: "" })) +
  frame(piece({ content: "Grüß " })) +
  frame(piece({ content: "Gott" }, "stop"));
const usageFrame = frame({ ...head, choices: [], usage });
const done = "data: [DONE]\n\n";

interface Reading {
  readonly events: CompletionEvent[];
  readonly text: string;
  readonly end: EndEvent | undefined;
  readonly failure: GatewayError | undefined;
}

function read(chunks: readonly (string | Buffer)[], options: Partial<ChatStreamOptions> = {}): Reading {
  const reader = new ChatStreamReader({ lane: "raw", includeUsage: false, choiceCount: 1, ...options });
  const events: CompletionEvent[] = [];
  for (const chunk of chunks) {
    events.push(...reader.push(Buffer.from(chunk)));
    if (reader.over) break;
  }
  events.push(...reader.end());
  const raws = events.filter((event) => event.type === "raw");
  const end = events.find((event) => event.type === "end");
  return { events, text: Buffer.concat(raws.map((event) => event.bytes)).toString(), end, failure: reader.failure };
}

function cuts(text: string): Buffer[][] {
  const bytes = Buffer.from(text);
  return Array.from({ length: bytes.length + 1 }, (_, at) => [bytes.subarray(0, at), bytes.subarray(at)]);
}

test("frames pass unchanged, the usage frame and [DONE] are held back, and usage is read", () => {
  const reading = read([content + usageFrame + done]);
  assert.equal(reading.text, content);
  assert.equal(reading.events.length, 2);
  assert.equal(reading.failure, undefined);
  assert.equal(reading.end?.raw?.toString(), done);
  assert.equal(reading.end?.responseId, "chatcmpl-1");
  assert.deepEqual(reading.end?.usage, {
    inputTokens: 10,
    outputTokens: 5,
    cacheReadInputTokens: 4,
    cacheWriteInputTokens: 0,
    reasoningOutputTokens: 2,
    estimated: false,
  });
});

test("a caller who asked for usage gets the usage frame", () => {
  assert.equal(read([content + usageFrame + done], { includeUsage: true }).text, content + usageFrame);
});

test("nothing depends on where the network cuts", () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const text = (content + usageFrame + done).replaceAll("\n", end);
    for (const chunks of cuts(text)) {
      const reading = read(chunks);
      assert.equal(reading.failure, undefined);
      // The LF of the last CR LF may be what follows the held frames.
      assert.equal(reading.text.trimEnd(), content.replaceAll("\n", end).trimEnd());
      assert.equal(reading.end?.usage?.outputTokens, 5);
    }
    const bytes = [...Buffer.from(text)].map((byte) => Buffer.from([byte]));
    assert.equal(read(bytes).text.trimEnd(), content.replaceAll("\n", end).trimEnd());
  }
});

test("frames of one read leave in one piece of memory", () => {
  const chunk = Buffer.from(content);
  const reader = new ChatStreamReader({ lane: "raw", includeUsage: false, choiceCount: 1 });
  const [event, ...others] = reader.push(chunk);
  assert.ok(event?.type === "raw" && others.length === 0);
  assert.equal(event.bytes.buffer, chunk.buffer);
  assert.equal(event.bytes.length, chunk.length);
  assert.ok(event.outputTokens >= 2 && event.outputTokens <= 6);
});

test("a server that never says [DONE] has ended properly when every choice is finished", () => {
  assert.equal(read([content]).failure, undefined);
  assert.equal(read([content]).end?.raw?.toString(), done);
  assert.equal(read([content], { choiceCount: 2 }).failure?.code, "stream_interrupted");
  assert.equal(read([content + frame(piece({}, "stop", 1))], { choiceCount: 2 }).failure, undefined);
});

test("a stream that stops before its end is interrupted, and what came is given out", () => {
  for (const chunks of cuts(frame(piece({ content: "Gr" })))) {
    const reading = read([frame(piece({ content: "first" })), ...chunks]);
    assert.equal(reading.failure?.code, "stream_interrupted");
    assert.ok(reading.text.includes("first"));
    assert.equal(reading.end, undefined);
  }
  const cutJson = read([frame(piece({ content: "first" })), 'data: {"id":"x","choi']);
  assert.equal(cutJson.failure?.code, "stream_interrupted");
});

test("a last frame without its blank line counts", () => {
  for (const tail of ["data: [DONE]", "data: [DONE]\n", "data:[DONE]\r\n"]) {
    const reading = read([frame(piece({ content: "no finish reason" })) + tail]);
    assert.equal(reading.failure, undefined, JSON.stringify(tail));
  }
  assert.equal(read([content + usageFrame.trimEnd()]).end?.usage?.inputTokens, 10);
});

test("an error inside the stream is the provider's failure, without credentials", () => {
  const key = "sk-proj-abcdefghijklmnop";
  const error = { message: `Incorrect API key provided: ${key}`, type: "server_error", code: null };
  const reading = read([frame(piece({ content: "first" })) + frame({ error }) + frame(piece({ content: "never" }))]);
  assert.equal(reading.failure?.code, "provider_error");
  assert.doesNotMatch(reading.failure?.message ?? "", /abcdefgh/);
  assert.ok(reading.text.includes("first") && !reading.text.includes("never"));
  assert.equal(read([frame({ error: { message: "slow down", code: 429 } })]).failure?.code, "provider_rate_limited");
  assert.equal(
    read([`event: error\n${frame({ message: "no", type: "overloaded_error" })}`]).failure?.code,
    "provider_unavailable",
  );
});

test("what is no completion is a provider error", () => {
  for (const text of [
    "<html><body>502</body></html>",
    "data: hello\n\n",
    done,
    "",
    "data: [1]\n\n",
    '{"choices":[]}',
  ]) {
    assert.equal(read([text]).failure?.code, "provider_error", text);
  }
});

test("an endless event is given up at the limit", () => {
  const reading = read([frame(piece({ content: "first" })), `data: ${"x".repeat(5000)}`], { frameBytesMax: 1000 });
  assert.equal(reading.failure?.code, "provider_error");
  assert.ok(reading.text.includes("first"));
});

test("comments and foreign event names do not reach the caller, but no text is lost", () => {
  const chunk = piece({ content: "kept" });
  const reading = read([
    `: ping\n\nretry: 10\n\nevent: ping\ndata: {"type":"ping"}\n\nevent: x\n${frame(chunk)}${done}`,
  ]);
  assert.equal(reading.text, frame(chunk));
});

test("usage in a chunk with choices passes and is read", () => {
  const last = frame({ ...head, choices: [{ index: 0, delta: {}, finish_reason: "stop" }], usage });
  const reading = read([frame(piece({ content: "a" })) + last + done]);
  assert.ok(reading.text.endsWith(last));
  assert.equal(reading.end?.usage?.inputTokens, 10);
});

test("the neutral lane gives start, deltas, finishes and end", () => {
  const call = { index: 0, id: "call_1", type: "function", function: { name: "f", arguments: '{"a' } };
  const text =
    frame({ ...head, choices: [], prompt_filter_results: [] }) +
    frame(piece({ role: "assistant", content: "" })) +
    frame(piece({ reasoning_content: "hm" })) +
    frame(piece({ content: "ü" }, null, 1)) +
    frame(piece({ tool_calls: [call] })) +
    frame(piece({ tool_calls: [{ index: 0, function: { arguments: '":1}' } }] }, "tool_calls")) +
    frame(piece({}, "stop", 1)) +
    usageFrame +
    done;
  const { events, failure } = read([text], { lane: "neutral", choiceCount: 2 });
  assert.equal(failure, undefined);
  assert.deepEqual(events.slice(0, -1), [
    { type: "start", id: "chatcmpl-1", model: "gpt-real", createdS: 1_700_000_000 },
    { type: "delta", choice: 0, reasoning: "hm" },
    { type: "delta", choice: 1, text: "ü" },
    { type: "delta", choice: 0, toolCalls: [{ index: 0, id: "call_1", name: "f", arguments: '{"a' }] },
    { type: "delta", choice: 0, toolCalls: [{ index: 0, arguments: '":1}' }] },
    { type: "finish", choice: 0, reason: "tool_calls" },
    { type: "finish", choice: 1, reason: "stop" },
  ]);
  assert.equal(events.at(-1)?.type, "end");
});

test("garbage neither throws nor hangs, and never counts as an answer", () => {
  const part = fc.constantFrom(
    "data: ",
    "\n\n",
    "\r",
    '{"choices":',
    "[]",
    "{}",
    "}",
    "null",
    "[DONE]x",
    "event: error\n",
    '"error":',
    ": x\n",
  );
  fc.assert(
    fc.property(
      fc.array(fc.oneof(part, fc.string()), { maxLength: 20 }),
      fc.constantFrom("raw", "neutral"),
      (parts, lane) => {
        const reading = read(parts, { lane: lane as "raw" | "neutral" });
        assert.ok(reading.failure !== undefined || reading.end !== undefined);
      },
    ),
    { numRuns: 2000 },
  );
});
