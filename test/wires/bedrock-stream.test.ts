import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { GatewayError } from "../../src/errors.ts";
import { readBedrockAnswer } from "../../src/wires/bedrock-answer.ts";
import { BedrockStreamReader } from "../../src/wires/bedrock-stream.ts";
import { bedrockEvent, bedrockExceptionFrame, eventFrame } from "../event-frame.ts";
import { allCuts, cutAt, joined, readPieces } from "./reading.ts";

const facts = { id: "request-1", model: "anthropic.claude", nowS: 1_700_000_000, readsJsonTool: false };
const id = "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q";

const read = (pieces: readonly Buffer[], readsJsonTool = false) =>
  readPieces(new BedrockStreamReader({ ...facts, readsJsonTool }), pieces);
const delta = (contentBlockIndex: number, fields: object) =>
  bedrockEvent("contentBlockDelta", { contentBlockIndex, delta: fields });
const usage = { inputTokens: 47, outputTokens: 20, totalTokens: 67 };

/** AWS's example of a stream that calls a tool, with a thought before and a second call without arguments behind. */
const stream = Buffer.concat([
  bedrockEvent("messageStart", { role: "assistant", p: "abcdef" }),
  delta(0, { reasoningContent: { text: "They ask for " } }),
  delta(0, { reasoningContent: { text: "a song." } }),
  delta(0, { reasoningContent: { signature: "c2ln" } }),
  bedrockEvent("contentBlockStop", { contentBlockIndex: 0 }),
  delta(1, { reasoningContent: { redactedContent: "c2VjcmV0" } }),
  delta(2, { text: "I will lóok " }),
  delta(2, { text: "it up 🎵." }),
  bedrockEvent("contentBlockStop", { contentBlockIndex: 2 }),
  bedrockEvent("contentBlockStart", { contentBlockIndex: 3, start: { toolUse: { toolUseId: id, name: "top_song" } } }),
  delta(3, { toolUse: { input: "" } }),
  delta(3, { toolUse: { input: '{"si' } }),
  delta(3, { toolUse: { input: 'gn":"WZPZ"}' } }),
  bedrockEvent("contentBlockStop", { contentBlockIndex: 3 }),
  bedrockEvent("contentBlockStart", { contentBlockIndex: 4, start: { toolUse: { toolUseId: "b", name: "now" } } }),
  bedrockEvent("contentBlockStop", { contentBlockIndex: 4 }),
  bedrockEvent("messageStop", { stopReason: "tool_use" }),
  bedrockEvent("metadata", {
    usage: {
      ...usage,
      cacheReadInputTokens: 100,
      cacheWriteInputTokens: 30,
      cacheDetails: [{ ttl: "1h", inputTokens: 10 }],
    },
    metrics: { latencyMs: 1 },
    serviceTier: { type: "priority" },
  }),
]);
const calls = [
  { id, name: "top_song", arguments: '{"sign":"WZPZ"}' },
  { id: "b", name: "now", arguments: "{}" },
];
const fullUsage = {
  inputTokens: 177,
  outputTokens: 20,
  cacheReadInputTokens: 100,
  cacheWriteInputTokens: 30,
  cacheWrite1hInputTokens: 10,
  reasoningOutputTokens: 0,
  serviceTier: "priority",
  estimated: false,
};

describe("Bedrock's stream", () => {
  test("thoughts, text, tool calls, the reason and the usage are read, wherever the network cuts", () => {
    const whole = read([stream]);
    assert.equal(whole.failure, undefined);
    const { text, reasoning, reason, end, calls: made } = joined(whole.events);
    assert.deepEqual([text, reasoning, reason], ["I will lóok it up 🎵.", "They ask for a song.", "tool_calls"]);
    assert.deepEqual(made, calls);
    assert.deepEqual(end, { type: "end", usage: fullUsage, responseId: "request-1", raw: undefined });
    assert.deepEqual(whole.events[0], {
      type: "start",
      id: "request-1",
      model: "anthropic.claude",
      createdS: 1_700_000_000,
    });
    const proofs = whole.events.filter(
      (event) => event.type === "delta" && (event.signature ?? event.redactedReasoning),
    );
    assert.deepEqual(proofs, [
      { type: "delta", choice: 0, signature: "c2ln" },
      { type: "delta", choice: 0, redactedReasoning: "c2VjcmV0" },
    ]);
    for (const pieces of allCuts(stream)) assert.deepEqual(read(pieces), whole);
  });

  test("an answer that comes as a tool's input is a text; other calls stay calls", () => {
    const start = (contentBlockIndex: number, name: string) =>
      bedrockEvent("contentBlockStart", { contentBlockIndex, start: { toolUse: { toolUseId: name, name } } });
    const stop = (contentBlockIndex: number) => bedrockEvent("contentBlockStop", { contentBlockIndex });
    const done = bedrockEvent("messageStop", { stopReason: "tool_use" });
    const json = [
      start(0, "json_tool_call"),
      delta(0, { toolUse: { input: '{"a"' } }),
      delta(0, { toolUse: { input: ":1}" } }),
      stop(0),
    ];
    const alone = joined(read([Buffer.concat([...json, done])], true).events);
    assert.deepEqual([alone.text, alone.calls, alone.reason], ['{"a":1}', [], "stop"]);
    const both = joined(read([Buffer.concat([...json, start(1, "now"), stop(1), done])], true).events);
    assert.deepEqual([both.text, both.calls.length, both.reason], ['{"a":1}', 1, "tool_calls"]);
    const empty = joined(read([Buffer.concat([start(0, "json_tool_call"), stop(0), done])], true).events);
    assert.equal(empty.text, "{}");
    // Who did not ask for JSON may have a tool of that name.
    assert.equal(joined(read([Buffer.concat([...json, done])]).events).calls.length, 1);
  });

  test("nothing is waited for after the last event", () => {
    const reader = new BedrockStreamReader(facts);
    reader.push(stream);
    assert.equal(reader.over, true);
  });

  test("a stream cut anywhere before its reason is interrupted, and what came is given out", () => {
    const at = stream.indexOf("messageStop") - 40;
    for (const cut of [at, at - 100, 400]) {
      const reading = read([stream.subarray(0, cut)]);
      assert.equal(reading.failure?.code, "stream_interrupted");
      assert.match(joined(reading.events).reasoning, /^They/);
    }
    // Cut inside of the first message, something was there to be read.
    assert.equal(read([stream.subarray(0, 20)]).failure?.code, "stream_interrupted");
  });

  test("a stream without its last event is whole, and its usage unknown", () => {
    const reading = read([stream.subarray(0, stream.indexOf("metadata") - 27)]);
    assert.equal(reading.failure, undefined);
    assert.equal(joined(reading.events).end?.usage, undefined);
  });

  test("exceptions in the stream are of the classes that their names say", () => {
    const failed = (type: string, message = "no") =>
      read([bedrockEvent("messageStart", { role: "assistant" }), bedrockExceptionFrame(type, message)]).failure;
    assert.equal(failed("throttlingException")?.code, "provider_rate_limited");
    assert.equal(failed("serviceUnavailableException")?.code, "provider_unavailable");
    assert.equal(failed("internalServerException")?.code, "provider_error");
    assert.equal(failed("modelStreamErrorException")?.code, "provider_error");
    assert.equal(failed("modelTimeoutException")?.code, "provider_timeout");
    assert.equal(failed("validationException")?.code, "provider_error");
    assert.equal(
      failed("validationException", "Input is too long for requested model.")?.code,
      "context_length_exceeded",
    );
    const secret = failed("internalServerException", "key AKIAIOSFODNN7EXAMPLE is bad");
    assert.doesNotMatch(secret?.message ?? "", /AKIA/);
    const error = eventFrame(
      { ":message-type": "error", ":error-code": "ThrottlingException", ":error-message": "x" },
      "",
    );
    assert.equal(read([error]).failure?.code, "provider_rate_limited");
  });

  test("what is no event stream is no answer", () => {
    assert.equal(read([]).failure?.code, "provider_error");
    assert.equal(read([Buffer.from("<html><body>Welcome to nginx!</body></html>")]).failure?.code, "provider_error");
    assert.equal(read([eventFrame({ ":message-type": "event" }, "[1]")]).failure?.code, "provider_error");
  });

  test("citations and blocks nobody here knows survive", () => {
    const web = { title: "T", location: { web: { url: "https://a.example/" } } };
    const page = { title: "P", location: { documentPage: { documentIndex: 0, start: 1, end: 2 } } };
    const reading = read([
      delta(0, { citation: web }),
      delta(0, { citation: page }),
      delta(0, { hologram: { z: 1 } }),
      bedrockEvent("brandNew", { x: 1 }),
      bedrockEvent("messageStop", { stopReason: "model_made_tea" }),
    ]);
    const [, first, second, third] = reading.events;
    const url_citation = { url: "https://a.example/", title: "T", start_index: 0, end_index: 0 };
    assert.deepEqual(first, { type: "delta", choice: 0, annotations: [{ type: "url_citation", url_citation }] });
    assert.deepEqual(second, { type: "delta", choice: 0, providerFields: { citations: [page] } });
    assert.deepEqual(third, { type: "delta", choice: 0, providerFields: { blocks: [{ hologram: { z: 1 } }] } });
    assert.equal(joined(reading.events).reason, "model_made_tea");
  });

  test("fuzz: mutated streams in random pieces neither throw nor hang, and end as they should", () => {
    const mutation = fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(255));
    const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
    fc.assert(
      fc.property(fc.array(mutation, { maxLength: 4 }), places, (mutations, cuts) => {
        const body = Buffer.from(stream);
        for (const [place, value] of mutations) body[Math.floor(place * body.length)] = value;
        const whole = read([body]);
        assert.deepEqual(read(cutAt(body, cuts)), whole);
        const ended = whole.events.at(-1)?.type === "end";
        assert.equal(ended, whole.failure === undefined);
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.string(), fc.jsonValue())), (events) => {
        const frames = events.map(([type, value]) =>
          eventFrame({ ":event-type": type.slice(0, 40), ":message-type": "event" }, JSON.stringify(value) ?? ""),
        );
        const named = events.map(([, value]) => bedrockEvent("contentBlockDelta", { delta: value as object }));
        read([...frames, ...named]);
      }),
      { numRuns: 300 },
    );
  });
});

describe("Bedrock's whole answer", () => {
  const answer = (content: object[], others: object = {}, readsJsonTool = false) =>
    readBedrockAnswer(
      Buffer.from(
        JSON.stringify({
          output: { message: { role: "assistant", content } },
          stopReason: "end_turn",
          usage: { inputTokens: 25, outputTokens: 406, totalTokens: 431 },
          metrics: { latencyMs: 6551 },
          ...others,
        }),
      ),
      { ...facts, readsJsonTool },
    );

  test("AWS's examples: a text, and a tool that is wanted", () => {
    const events = answer([{ text: "<text generated by the model>" }]);
    assert.ok(!(events instanceof GatewayError));
    const { text, reason, end } = joined(events);
    assert.deepEqual([text, reason], ["<text generated by the model>", "stop"]);
    assert.deepEqual([end?.usage?.inputTokens, end?.usage?.outputTokens], [25, 406]);
    const called = answer([{ toolUse: { toolUseId: id, name: "top_song", input: { sign: "WZPZ" } } }], {
      stopReason: "tool_use",
    });
    assert.ok(!(called instanceof GatewayError));
    assert.deepEqual(joined(called).calls, [calls[0]]);
    assert.equal(joined(called).reason, "tool_calls");
  });

  test("a whole answer and a stream of the same come to the same", () => {
    const whole = answer(
      [
        { reasoningContent: { reasoningText: { text: "They ask for a song.", signature: "c2ln" } } },
        { reasoningContent: { redactedContent: "c2VjcmV0" } },
        { text: "I will lóok it up 🎵." },
        { toolUse: { toolUseId: id, name: "top_song", input: { sign: "WZPZ" } } },
        { toolUse: { toolUseId: "b", name: "now", input: {} } },
      ],
      {
        stopReason: "tool_use",
        usage: {
          ...usage,
          cacheReadInputTokens: 100,
          cacheWriteInputTokens: 30,
          cacheDetails: [{ ttl: "1h", inputTokens: 10 }],
        },
        serviceTier: { type: "priority" },
      },
    );
    assert.ok(!(whole instanceof GatewayError));
    assert.deepEqual(joined(whole), joined(read([stream]).events));
  });

  test("an answer that comes as a tool's input is a text", () => {
    const toolUse = { toolUseId: "x", name: "json_tool_call", input: { a: 1 } };
    const events = answer([{ toolUse }], { stopReason: "tool_use" }, true);
    assert.ok(!(events instanceof GatewayError));
    const { text, calls: made, reason } = joined(events);
    assert.deepEqual([text, made, reason], ['{"a":1}', [], "stop"]);
  });

  test("guardrails, filters and caps say why", () => {
    const reasonOf = (stopReason: string) => {
      const events = answer([{ text: "x" }], { stopReason });
      assert.ok(!(events instanceof GatewayError));
      return joined(events).reason;
    };
    assert.equal(reasonOf("guardrail_intervened"), "content_filter");
    assert.equal(reasonOf("content_filtered"), "content_filter");
    assert.equal(reasonOf("max_tokens"), "length");
    assert.equal(reasonOf("model_context_window_exceeded"), "length");
    assert.equal(reasonOf("stop_sequence"), "stop");
    assert.equal(reasonOf("malformed_tool_use"), "malformed_tool_use");
  });

  test("cited texts, and blocks nobody here knows", () => {
    const citation = { title: "T", location: { web: { url: "https://a.example/" } } };
    const events = answer([
      { citationsContent: { content: [{ text: "It is " }, { text: "so." }], citations: [citation] } },
      { image: { format: "png", source: { bytes: "AAEC" } } },
    ]);
    assert.ok(!(events instanceof GatewayError));
    assert.equal(joined(events).text, "It is so.");
    assert.deepEqual(
      events.flatMap((event) => (event.type === "delta" ? Object.keys(event).slice(2) : [])),
      ["text", "annotations", "providerFields"],
    );
  });

  test("what is no answer is the provider's failure", () => {
    for (const body of ["", "<html>", "[]", "{}", '{"output":{}}']) {
      const read = readBedrockAnswer(Buffer.from(body), facts);
      assert.ok(read instanceof GatewayError && read.code === "provider_error", body);
    }
  });
});
