import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Usage } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { GeminiStreamReader, readGeminiAnswer } from "../../src/wires/gemini-stream.ts";
import { readGeminiUsage } from "../../src/wires/gemini-usage.ts";
import { allCuts, cutAt, joined, readPieces } from "./reading.ts";

const facts = () => {
  let ids = 0;
  return { model: "gemini-asked", nowS: 1_700_000_000, newId: () => `id${++ids}` };
};
const frames = (bodies: readonly object[], end = "\r\n") =>
  Buffer.from(bodies.map((body) => `data: ${JSON.stringify(body)}${end}${end}`).join(""));
const read = (pieces: readonly Buffer[]) => readPieces(new GeminiStreamReader(facts()), pieces);
const whole = (body: unknown) => readGeminiAnswer(Buffer.from(JSON.stringify(body)), facts());

const usageMetadata = {
  ...{ promptTokenCount: 11, candidatesTokenCount: 73, thoughtsTokenCount: 20, cachedContentTokenCount: 4 },
  totalTokenCount: 104,
  promptTokensDetails: [{ modality: "TEXT", tokenCount: 11 }],
};
const usage: Usage = {
  inputTokens: 11,
  outputTokens: 93,
  cacheReadInputTokens: 4,
  cacheWriteInputTokens: 0,
  reasoningOutputTokens: 20,
  estimated: false,
};
const head = { modelVersion: "gemini-2.5-flash", responseId: "mAitaLmkHPPlz7IPvtfUqQ4" };
const piece = (parts: object[], others: object = {}) => ({
  candidates: [{ content: { parts, role: "model" }, index: 0, ...others }],
  usageMetadata: { promptTokenCount: 11, totalTokenCount: 11 },
  ...head,
});
const story = [
  piece([{ text: "Let me think.", thought: true }]),
  piece([{ text: "Es wár " }]),
  piece([{ text: "einmal 🐉", thoughtSignature: "c2ln" }], { safetyRatings: [] }),
  { ...piece([{ text: "." }], { finishReason: "STOP" }), usageMetadata },
];
const calls = [
  piece([{ functionCall: { name: "get_weather", args: { location: "Boston" } }, thoughtSignature: "c2ln" }]),
  piece([{ functionCall: { name: "now", id: "fc-2" } }]),
  { ...piece([{ text: "" }], { finishReason: "STOP" }), usageMetadata },
];

describe("Gemini's stream", () => {
  test("thoughts, text, the reason and the usage are read, wherever the network cuts", () => {
    for (const end of ["\r\n", "\n"]) {
      const body = frames(story, end);
      const reading = read([body]);
      assert.equal(reading.failure, undefined);
      const { text, reasoning, reason, end: last } = joined(reading.events);
      assert.deepEqual([text, reasoning, reason], ["Es wár einmal 🐉.", "Let me think.", "stop"]);
      assert.deepEqual(last, { type: "end", usage, responseId: head.responseId, raw: undefined });
      assert.deepEqual(reading.events[0], {
        ...{ type: "start", id: head.responseId, model: "gemini-2.5-flash", createdS: 1_700_000_000 },
      });
      const signed = reading.events.find((event) => event.type === "delta" && event.providerFields);
      assert.deepEqual(signed, {
        ...{ type: "delta", choice: 0, text: "einmal 🐉", providerFields: { thought_signatures: ["c2ln"] } },
      });
      for (const pieces of allCuts(body)) assert.deepEqual(read(pieces), reading);
    }
  });

  test("parallel calls keep their order, ids and signatures; ids are made where Google gives none", () => {
    const reading = read([frames(calls)]);
    const { calls: made, reason } = joined(reading.events);
    assert.equal(reason, "tool_calls");
    assert.deepEqual(made, [
      { id: "call_id1", name: "get_weather", arguments: '{"location":"Boston"}' },
      { id: "fc-2", name: "now", arguments: "{}" },
    ]);
    const first = reading.events.find((event) => event.type === "delta");
    assert.deepEqual(first?.type === "delta" && first.toolCalls?.[0]?.providerFields, { thought_signature: "c2ln" });
  });

  test("a whole answer and a stream of the same come to the same", () => {
    const events = whole({
      ...piece([{ text: "Let me think.", thought: true }, { text: "Es wár " }, { text: "einmal 🐉." }], {
        finishReason: "STOP",
      }),
      usageMetadata,
    });
    assert.ok(!(events instanceof GatewayError));
    assert.deepEqual(joined(events), joined(read([frames(story)]).events));
  });

  test("a stream that stops before its reason is interrupted, and what came is given out", () => {
    const body = frames(story.slice(0, -1));
    const reading = read([body]);
    assert.equal(reading.failure?.code, "stream_interrupted");
    assert.equal(joined(reading.events).text, "Es wár einmal 🐉");
    const last = frames(story);
    assert.equal(read([last.subarray(0, -60)]).failure?.code, "stream_interrupted");
    // A last frame that lacks its blank line counts.
    assert.equal(read([last.subarray(0, -4)]).failure, undefined);
  });

  test("several answers are told apart, and each must end", () => {
    const two = (finish: object) => ({
      candidates: [
        { content: { parts: [{ text: "a" }] }, finishReason: "STOP" },
        { index: 1, content: { parts: [{ text: "b" }] }, ...finish },
      ],
    });
    const reading = read([frames([two({ finishReason: "MAX_TOKENS" })])]);
    assert.deepEqual([joined(reading.events, 0).text, joined(reading.events, 1).text], ["a", "b"]);
    assert.equal(joined(reading.events, 1).reason, "length");
    assert.equal(read([frames([two({})])]).failure?.code, "stream_interrupted");
  });

  test("an error in the stream is the provider's failure, without credentials", () => {
    const failed = (error: object) => read([frames([story[1] ?? {}, { error }])]);
    const overloaded = failed({ code: 503, message: "The model is overloaded.", status: "UNAVAILABLE" });
    assert.equal(overloaded.failure?.code, "provider_unavailable");
    assert.equal(joined(overloaded.events).text, "Es wár ");
    assert.equal(failed({ code: 429, status: "RESOURCE_EXHAUSTED" }).failure?.code, "provider_rate_limited");
    const key = failed({ code: 500, message: "key AIzaSyD-abcdefghijklmnopqrstuvwxyz failed" });
    assert.doesNotMatch(key.failure?.message ?? "", /AIza/);
  });

  test("what is no answer is the provider's failure", () => {
    for (const body of ["", "data: {}\n\n", "data: <html>\n\n", "data: [1]\n\n", "<html>Welcome to nginx!</html>"]) {
      assert.equal(read([Buffer.from(body)]).failure?.code, "provider_error", body);
    }
    for (const body of [[], {}, null, "x"]) {
      const events = whole(body);
      assert.ok(events instanceof GatewayError && events.code === "provider_error");
    }
    const long = new GeminiStreamReader(facts(), 100);
    assert.equal(readPieces(long, [frames(story)]).failure?.code, "provider_error");
  });

  test("fuzz: mutated streams in random pieces neither throw nor hang, and end as they should", () => {
    const body = frames([...story, ...calls]);
    const mutation = fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(255));
    const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
    fc.assert(
      fc.property(fc.array(mutation, { maxLength: 6 }), places, (mutations, cuts) => {
        const bytes = Buffer.from(body);
        for (const [place, value] of mutations) bytes[Math.floor(place * bytes.length)] = value;
        const reading = read([bytes]);
        assert.deepEqual(read(cutAt(bytes, cuts)), reading);
        assert.equal(reading.events.at(-1)?.type === "end", reading.failure === undefined);
      }),
      { numRuns: 300 },
    );
    const candidate = fc.record({
      content: fc.record({ parts: fc.array(fc.jsonValue()) }),
      groundingMetadata: fc.jsonValue(),
    });
    fc.assert(
      fc.property(fc.array(candidate), fc.jsonValue(), (candidates, usageMetadata) => {
        read([frames([{ candidates, usageMetadata }])]);
        whole({ candidates, usageMetadata });
      }),
      { numRuns: 300 },
    );
  });
});

describe("Gemini's whole answer", () => {
  const reasonOf = (finishReason: string) => {
    const events = whole(piece([{ text: "x" }], { finishReason }));
    assert.ok(!(events instanceof GatewayError));
    return joined(events).reason;
  };

  test("why it ended, in OpenAI's words where it has them", () => {
    assert.equal(reasonOf("STOP"), "stop");
    assert.equal(reasonOf("MAX_TOKENS"), "length");
    for (const reason of ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST", "IMAGE_SAFETY"]) {
      assert.equal(reasonOf(reason), "content_filter", reason);
    }
    assert.equal(reasonOf("MALFORMED_FUNCTION_CALL"), "malformed_function_call");
  });

  test("a prompt that was blocked is a refused answer, and its tokens are counted", () => {
    const body = { promptFeedback: { blockReason: "SAFETY" }, usageMetadata: { promptTokenCount: 8 }, ...head };
    for (const events of [whole(body), read([frames([body])]).events]) {
      assert.ok(!(events instanceof GatewayError));
      assert.equal(joined(events).reason, "content_filter");
      assert.equal(joined(events).end?.usage?.inputTokens, 8);
      assert.deepEqual(events[1], { type: "delta", choice: 0, refusal: "The prompt was blocked: SAFETY." });
    }
  });

  test("probabilities of tokens", () => {
    const logprobsResult = {
      chosenCandidates: [{ token: "né", tokenId: 1, logProbability: -0.1 }],
      topCandidates: [
        {
          candidates: [
            { token: "né", logProbability: -0.1 },
            { token: "x", logProbability: -3 },
          ],
        },
      ],
    };
    const events = whole(piece([{ text: "né" }], { finishReason: "STOP", logprobsResult }));
    assert.ok(!(events instanceof GatewayError));
    const found = events.find((event) => event.type === "delta" && event.logprobs);
    const ne = { token: "né", logprob: -0.1, bytes: [110, 195, 169] };
    assert.deepEqual(found?.type === "delta" && found.logprobs, {
      content: [{ ...ne, top_logprobs: [ne, { token: "x", logprob: -3, bytes: [120] }] }],
    });
  });

  test("sources are told as OpenAI tells them, in characters where Google counts bytes", () => {
    const groundingMetadata = {
      webSearchQueries: ["q"],
      groundingChunks: [{ web: { uri: "https://a.example/", title: "A" } }],
      groundingSupports: [{ segment: { startIndex: 4, endIndex: 9, text: "ölig" }, groundingChunkIndices: [0, 9] }],
    };
    const events = whole(piece([{ text: "né ölig" }], { finishReason: "STOP", groundingMetadata }));
    assert.ok(!(events instanceof GatewayError));
    const found = events.find((event) => event.type === "delta" && event.annotations);
    const url_citation = { start_index: 3, end_index: 7, url: "https://a.example/", title: "A" };
    assert.deepEqual(found, {
      ...{ type: "delta", choice: 0, annotations: [{ type: "url_citation", url_citation }] },
      providerFields: { grounding_metadata: [groundingMetadata] },
    });
  });

  test("pictures and code that the model made survive", () => {
    const parts = [
      { inlineData: { mimeType: "image/png", data: "AAEC" } },
      { executableCode: { language: "PYTHON", code: "1+1" } },
    ];
    const events = whole(piece(parts, { finishReason: "STOP" }));
    assert.ok(!(events instanceof GatewayError));
    const fields = events.flatMap((event) => (event.type === "delta" ? [event.providerFields] : []));
    assert.deepEqual(fields, [
      { images: [{ type: "image_url", image_url: { url: "data:image/png;base64,AAEC" } }] },
      { code_execution: [{ language: "PYTHON", code: "1+1" }] },
    ]);
  });
});

describe("Gemini's usage", () => {
  test("what was thought is output, what Google's tools brought is input, and media are parts of both", () => {
    assert.deepEqual(
      readGeminiUsage({
        ...{ promptTokenCount: 100, toolUsePromptTokenCount: 30, candidatesTokenCount: 10, thoughtsTokenCount: 5 },
        ...{ totalTokenCount: 145, cachedContentTokenCount: 60, trafficType: "ON_DEMAND_PRIORITY" },
        promptTokensDetails: [
          { modality: "TEXT", tokenCount: 20 },
          { modality: "AUDIO", tokenCount: 50 },
          { modality: "IMAGE", tokenCount: 30 },
        ],
        cacheTokensDetails: [{ modality: "AUDIO", tokenCount: 40 }],
        candidatesTokensDetails: [{ modality: "AUDIO", tokenCount: 4 }],
      }),
      {
        ...{ inputTokens: 130, outputTokens: 15, cacheReadInputTokens: 60, cacheWriteInputTokens: 0 },
        ...{ reasoningOutputTokens: 5, audioInputTokens: 10, imageInputTokens: 30, audioOutputTokens: 4 },
        ...{ serviceTier: "priority", estimated: false },
      },
    );
  });

  test("thoughts that were counted with the candidates are not counted twice", () => {
    const counted = readGeminiUsage({
      ...{ promptTokenCount: 10, candidatesTokenCount: 30, thoughtsTokenCount: 20, totalTokenCount: 40 },
    });
    assert.equal(counted?.outputTokens, 30);
    assert.equal(readGeminiUsage({ promptTokenCount: "x" }), undefined);
    assert.equal(readGeminiUsage(undefined), undefined);
  });
});
