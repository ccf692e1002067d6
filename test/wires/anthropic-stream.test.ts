import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { CompletionEvent, JsonObject } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { messageEvents, readMessage } from "../../src/wires/anthropic-answer.ts";
import { MessageStreamReader } from "../../src/wires/anthropic-stream.ts";
import { framesOf, messageFor } from "../anthropic-upstream.ts";

const nowMs = 1_700_000_000_000;
const webCitation = { type: "web_search_result_location", url: "https://example.com/a", title: "A", cited_text: "x" };
const message = {
  ...messageFor({
    model: "claude-sonnet-4-5",
    messages: [{ role: "user", content: [{ type: "text", cache_control: {} }] }],
  }),
  content: [
    { type: "thinking", thinking: "First.", signature: "c2ln" },
    { type: "redacted_thinking", data: "b3Bh" },
    { type: "server_tool_use", id: "srv_1", name: "web_search", input: { query: "x" } },
    { type: "web_search_tool_result", tool_use_id: "srv_1", content: [{ type: "web_search_result", url: "u" }] },
    { type: "text", text: "Said — “so” 🚀", citations: [webCitation] },
    { type: "text", text: " and", citations: [{ type: "char_location", cited_text: "y", document_index: 0 }] },
    { type: "tool_use", id: "toolu_1", name: "f", input: { a: "ü" } },
    { type: "tool_use", id: "toolu_2", name: "g", input: {} },
  ],
  stop_reason: "tool_use",
};
const stream = Buffer.from(framesOf(message).join(""));

function read(pieces: readonly Buffer[], lane: "raw" | "neutral", frameBytesMax?: number) {
  const options = { lane, readsJsonTool: false, nowMs, ...(frameBytesMax !== undefined && { frameBytesMax }) };
  const reader = new MessageStreamReader(options);
  const events: CompletionEvent[] = [];
  for (const piece of pieces) {
    events.push(...reader.push(piece));
    if (reader.over) break;
  }
  events.push(...reader.end());
  return { events, failure: reader.failure };
}

/** What an answer comes to, however it was cut into pieces. */
function gathered(events: readonly CompletionEvent[]): JsonObject {
  const all: { [key: string]: string } = { text: "", reasoning: "", calls: "", others: "" };
  for (const event of events) {
    if (event.type !== "delta") all.others += JSON.stringify(event);
    else {
      all.text += event.text ?? "";
      all.reasoning += (event.reasoning ?? "") + (event.signature ?? "") + (event.redactedReasoning ?? "");
      for (const call of event.toolCalls ?? [])
        all.calls += `${call.id ?? ""}${call.name ?? ""}${call.arguments ?? ""}`;
      if (event.annotations !== undefined) all.others += JSON.stringify(event.annotations);
    }
  }
  return all;
}

test("a whole answer and a streamed one say the same", () => {
  const answer = readMessage(Buffer.from(JSON.stringify(message)));
  assert.ok(!(answer instanceof GatewayError));
  const whole = messageEvents(answer, { readsJsonTool: false, nowMs });
  const streamed = read([stream], "neutral");
  assert.equal(streamed.failure, undefined);
  assert.deepEqual(gathered(whole), {
    text: "Said — “so” 🚀 and",
    reasoning: "First.c2lnb3Bh",
    calls: 'toolu_1f{"a":"ü"}toolu_2g{}',
    others:
      '{"type":"start","id":"msg_01","model":"claude-sonnet-4-5","createdS":1700000000}' +
      '[{"type":"url_citation","url_citation":{"url":"https://example.com/a","title":"A","start_index":0,"end_index":14}}]' +
      '{"type":"finish","choice":0,"reason":"tool_calls"}' +
      '{"type":"end","usage":{"inputTokens":161,"outputTokens":7,"cacheReadInputTokens":100,"cacheWriteInputTokens":50,"reasoningOutputTokens":0,"cacheWrite1hInputTokens":30,"serviceTier":"standard","estimated":false},"responseId":"msg_01"}',
  });
  assert.deepEqual(gathered(streamed.events), gathered(whole));
});

test("what only Anthropic says is in LiteLLM's fields: citations, searches, what its tools found", () => {
  const answer = readMessage(Buffer.from(JSON.stringify(message)));
  assert.ok(!(answer instanceof GatewayError));
  const fields = (events: readonly CompletionEvent[]) =>
    events.flatMap((event) =>
      event.type === "delta" && event.providerFields !== undefined ? [event.providerFields] : [],
    );
  const citations = message.content.flatMap((block) => ("citations" in block ? [block.citations] : []));
  assert.deepEqual(fields(messageEvents(answer, { readsJsonTool: false, nowMs })), [
    { server_tool_use: [message.content[2]] },
    { web_search_results: [message.content[3]] },
    { citations: [citations[0]] },
    { citations: [citations[1]] },
  ]);
  assert.deepEqual(fields(read([stream], "neutral").events), [
    { server_tool_use: [message.content[2]] },
    { web_search_results: [message.content[3]] },
    { citation: webCitation },
    { citation: citations[1]?.[0] },
  ]);
});

test("nothing depends on where the network cuts: every byte", () => {
  const whole = gathered(read([stream], "neutral").events);
  for (let at = 1; at < stream.length; at += 1) {
    const pieces = [stream.subarray(0, at), stream.subarray(at)];
    assert.deepEqual(gathered(read(pieces, "neutral").events), whole, `cut at ${at}`);
    assert.ok(bytesOf(read(pieces, "raw").events).equals(stream), `cut at ${at}`);
  }
  const single = [...stream].map((byte) => Buffer.from([byte]));
  assert.deepEqual(gathered(read(single, "neutral").events), whole);
  assert.ok(bytesOf(read(single, "raw").events).equals(stream));
});

test("in the pass-through lane every byte passes, unknown fields and events included, and usage is read", () => {
  const odd = Buffer.from('event: tomorrow\ndata: {"type":"tomorrow","x":[1e5]}\n\n');
  const frames = framesOf(message).map((text) => Buffer.from(text));
  const bytes = Buffer.concat([...frames.slice(0, 5), odd, ...frames.slice(5)]);
  const { events, failure } = read([bytes], "raw");
  assert.equal(failure, undefined);
  assert.ok(bytesOf(events).equals(bytes));
  const end = events.at(-1);
  assert.ok(end?.type === "end");
  assert.equal(end.raw?.toString(), 'event: message_stop\ndata: {"type":"message_stop"}\n\n');
  assert.deepEqual([end.usage?.inputTokens, end.usage?.cacheWrite1hInputTokens], [161, 30]);
  const [first] = events;
  assert.ok(first?.type === "raw" && first.outputTokens > 0);
});

test("a server that never says message_stop has ended properly once it has said why; the caller is told the end", () => {
  const bytes = Buffer.from(framesOf(message).slice(0, -1).join(""));
  const { events, failure } = read([bytes], "raw");
  assert.equal(failure, undefined);
  assert.ok(bytesOf(events).equals(stream));
  const lastByteLost = read([stream.subarray(0, -1)], "raw");
  assert.equal(lastByteLost.failure, undefined);
  assert.match(bytesOf(lastByteLost.events).toString(), /message_stop"\}\n\n+$/);
});

test("a later report of usage goes before an earlier one, and null says nothing", () => {
  const usage = { input_tokens: 3, output_tokens: 1, cache_read_input_tokens: 5 };
  const late = { output_tokens: 9, input_tokens: null, output_tokens_details: { thinking_tokens: 4 } };
  const events = [
    { type: "message_start", message: { id: "m", usage } },
    { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: late },
    { type: "message_stop" },
  ];
  const bytes = Buffer.from(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(""));
  const end = read([bytes], "neutral").events.at(-1);
  assert.ok(end?.type === "end");
  assert.deepEqual(
    [
      end.usage?.inputTokens,
      end.usage?.outputTokens,
      end.usage?.cacheReadInputTokens,
      end.usage?.reasoningOutputTokens,
    ],
    [8, 9, 5, 4],
  );
});

test("a stream that stops before its end is interrupted, and what is none is a provider error", () => {
  const cases: [string, string][] = [
    [framesOf(message).slice(0, 5).join(""), "stream_interrupted"],
    ["<html>busy</html>", "provider_error"],
    ["", "provider_error"],
    ["event: message_start\ndata: {nonsense\n\n", "provider_error"],
    [
      'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"slow"}}\n\n',
      "provider_rate_limited",
    ],
    [
      'event: error\ndata: {"type":"error","error":{"type":"authentication_error","message":"x"}}\n\n',
      "provider_auth_failed",
    ],
  ];
  for (const [text, code] of cases) assert.equal(read([Buffer.from(text)], "raw").failure?.code, code, text);
  assert.equal(read([Buffer.from(`data: ${"x".repeat(2000)}`)], "raw", 1000).failure?.code, "provider_error");
});

test("why it stopped is told in OpenAI's words", () => {
  const reasonOf = (stop_reason: string) => {
    const answer = readMessage(Buffer.from(JSON.stringify({ content: [], stop_reason })));
    assert.ok(!(answer instanceof GatewayError));
    const finish = messageEvents(answer, { readsJsonTool: false, nowMs }).find(({ type }) => type === "finish");
    return finish?.type === "finish" ? finish.reason : "";
  };
  const stops = [
    "end_turn",
    "stop_sequence",
    "pause_turn",
    "max_tokens",
    "model_context_window_exceeded",
    "tool_use",
    "refusal",
    "new",
  ];
  assert.deepEqual(stops.map(reasonOf), [
    "stop",
    "stop",
    "stop",
    "length",
    "length",
    "tool_calls",
    "content_filter",
    "new",
  ]);
});

test("garbage and mutations neither throw nor hang, and never end an answer twice", () => {
  const mutation = fc.record({ at: fc.nat(stream.length - 1), byte: fc.nat(255), drop: fc.nat(40) });
  const cuts = fc.array(fc.nat(stream.length), { maxLength: 12 });
  fc.assert(
    fc.property(
      fc.array(mutation, { maxLength: 8 }),
      cuts,
      fc.constantFrom("raw", "neutral"),
      (mutations, at, lane) => {
        let bytes = Buffer.from(stream);
        for (const { at: place, byte, drop } of mutations) {
          bytes[Math.min(place, bytes.length - 1)] = byte;
          bytes = Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + drop)]);
          if (bytes.length === 0) bytes = Buffer.from("\n");
        }
        const edges = [0, ...at.filter((edge) => edge < bytes.length).sort((a, b) => a - b), bytes.length];
        const pieces = edges.slice(1).map((edge, index) => bytes.subarray(edges[index], edge));
        const { events, failure } = read(pieces, lane as "raw" | "neutral", 4096);
        const ends = events.filter(({ type }) => type === "end").length;
        assert.equal(ends, failure === undefined ? 1 : 0);
      },
    ),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), (noise) => {
      const answer = readMessage(Buffer.from(noise));
      assert.ok(answer instanceof GatewayError);
    }),
  );
});

test("answers of any shape are read without a throw", () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), fc.jsonValue(), (content, usage, block) => {
      const body = {
        content: [content, block, { type: "tool_use", input: content }, { type: "text", citations: [block] }],
        usage,
      };
      const answer = readMessage(Buffer.from(JSON.stringify(body)));
      assert.ok(!(answer instanceof GatewayError));
      assert.equal(messageEvents(answer, { readsJsonTool: true, nowMs }).at(-1)?.type, "end");
      const text = framesOf({ ...message, content: [{ type: "text", text: "x", citations: [block] }], usage }).join("");
      assert.equal(read([Buffer.from(text)], "neutral").failure, undefined);
    }),
    { numRuns: 200 },
  );
});

function bytesOf(events: readonly CompletionEvent[]): Buffer {
  const pieces = events.map((event) =>
    event.type === "raw" ? event.bytes : event.type === "end" ? (event.raw ?? "") : "",
  );
  return Buffer.concat(pieces.map((piece) => Buffer.from(piece)));
}
