/** Every codec under mutations, random cuts and sizes: no crash, no hang, bounded memory. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { CompletionEvent, CompletionRequest } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import type { AnswerReader } from "../../src/providers/http-provider.ts";
import { readMessage } from "../../src/wires/anthropic-answer.ts";
import { decodeMessagesRequest } from "../../src/wires/anthropic-body.ts";
import { encodeMessagesRequest } from "../../src/wires/anthropic-request.ts";
import { MessageStreamReader } from "../../src/wires/anthropic-stream.ts";
import { readBedrockAnswer } from "../../src/wires/bedrock-answer.ts";
import { encodeBedrockCount, encodeBedrockRequest } from "../../src/wires/bedrock-chat.ts";
import { BedrockStreamReader } from "../../src/wires/bedrock-stream.ts";
import { encodeGeminiCount, encodeGeminiRequest } from "../../src/wires/gemini-chat.ts";
import { GeminiStreamReader, readGeminiAnswer } from "../../src/wires/gemini-stream.ts";
import { decodeChatRequest, encodeChatRequest } from "../../src/wires/openai-chat.ts";
import { readChatAnswer } from "../../src/wires/openai-chat-answer.ts";
import { ChatStreamReader } from "../../src/wires/openai-chat-stream.ts";
import { decodeForm } from "../../src/wires/openai-form.ts";
import { decodeOperation, encodeOperation } from "../../src/wires/openai-operation.ts";
import { OperationStreamReader, readOperationAnswer } from "../../src/wires/openai-operation-answer.ts";
import { decodeResponsesRequest } from "../../src/wires/responses-body.ts";
import { ResponseStreamReader } from "../../src/wires/responses-stream.ts";
import { framesOf, messageFor } from "../anthropic-upstream.ts";
import { textEvents } from "../bedrock-upstream.ts";
import { textPieces } from "../gemini-upstream.ts";
import { cutAt, readPieces } from "./reading.ts";

const facts = { model: "m", nowS: 1, newId: () => "id" };
const sse = (values: readonly object[]) => values.map((value) => `data: ${JSON.stringify(value)}\n\n`).join("");
const usage = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 };
const call = { index: 0, id: "c", type: "function", function: { name: "look", arguments: '{"a":1}' } };
const chat = `${sse([
  { id: "x", choices: [{ index: 0, delta: { role: "assistant", content: "Grüß 🚀" } }] },
  { id: "x", choices: [{ index: 0, delta: { tool_calls: [call] }, finish_reason: "tool_calls" }] },
  { id: "x", choices: [], usage },
])}data: [DONE]\n\n`;
const completion = `${sse([{ id: "x", choices: [{ index: 0, text: "a", finish_reason: "stop" }], usage }])}data: [DONE]\n\n`;
const images = sse([
  { type: "image_generation.partial_image", b64_json: "QUJD" },
  { type: "image_generation.completed", b64_json: "QUJD", usage: { input_tokens: 1, output_tokens: 2 } },
]);
const responses = sse([
  { type: "response.created", response: { id: "r", output: [] } },
  { type: "response.output_text.delta", delta: "Grüß 🚀" },
  { type: "response.completed", response: { id: "r", output: [], usage: { input_tokens: 1, output_tokens: 2 } } },
]);
const message = messageFor({
  ...{ model: "claude", thinking: { type: "enabled", budget_tokens: 1024 } },
  ...{ messages: [], tools: [{ name: "look", input_schema: {} }] },
});

interface Codec {
  readonly body: Buffer;
  readonly reader: () => AnswerReader;
  /** Of one frame; it is given up soon after. */
  readonly bytesMax: number;
}

const megabyte = 1_048_576;
const chatOptions = { includeUsage: false, choiceCount: 1 };
const messageOptions = { readsJsonTool: false, nowMs: 1 };
const codecs: Readonly<Record<string, Codec>> = {
  "OpenAI's chat, passed on": {
    ...{ body: Buffer.from(chat), bytesMax: megabyte },
    reader: () => new ChatStreamReader({ ...chatOptions, lane: "raw" }),
  },
  "OpenAI's chat": {
    ...{ body: Buffer.from(chat), bytesMax: megabyte },
    reader: () => new ChatStreamReader({ ...chatOptions, lane: "neutral" }),
  },
  "the former completions": {
    ...{ body: Buffer.from(completion), bytesMax: megabyte },
    reader: () => new ChatStreamReader({ ...chatOptions, lane: "raw" }),
  },
  "streams of images": {
    ...{ body: Buffer.from(images), bytesMax: 64 * megabyte },
    reader: () => new OperationStreamReader("image_generation"),
  },
  "OpenAI's responses": {
    ...{ body: Buffer.from(responses), bytesMax: 64 * megabyte },
    reader: () => new ResponseStreamReader({ nameOf: (id) => `resp_${id}`, previous: undefined }),
  },
  "Anthropic's messages, passed on": {
    ...{ body: Buffer.from(framesOf(message).join("")), bytesMax: megabyte },
    reader: () => new MessageStreamReader({ ...messageOptions, lane: "raw" }),
  },
  "Anthropic's messages": {
    ...{ body: Buffer.from(framesOf(message).join("")), bytesMax: megabyte },
    reader: () => new MessageStreamReader({ ...messageOptions, lane: "neutral" }),
  },
  "Google's content": {
    ...{ body: Buffer.from(sse(textPieces())), bytesMax: 32 * megabyte },
    reader: () => new GeminiStreamReader(facts),
  },
  "Bedrock's event stream": {
    ...{ body: Buffer.concat(textEvents()), bytesMax: 17 * megabyte },
    reader: () => new BedrockStreamReader({ ...facts, id: "id", readsJsonTool: false }),
  },
};

/** Bytes changed, taken out, doubled and put in. */
const mutations = fc.array(
  fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    drops: fc.nat(30),
    repeats: fc.nat(30),
    puts: fc.oneof(
      fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes)),
      fc.constantFrom(
        ...["null", "[]", "{", "}", '"', "1e999", "-1", "\n\n", "\r", "data: ", "\\ud800"].map((text) =>
          Buffer.from(text),
        ),
      ),
    ),
  }),
  { maxLength: 6 },
);
type Mutations = typeof mutations extends fc.Arbitrary<infer Value> ? Value : never;
const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 });

function mutated(body: Buffer, changes: Mutations): Buffer {
  return changes.reduce((bytes, { at, drops, repeats, puts }) => {
    const place = Math.floor(at * bytes.length);
    const again = bytes.subarray(place, place + repeats);
    return Buffer.concat([bytes.subarray(0, place), again, puts, bytes.subarray(place + drops)]);
  }, body);
}

/** What a caller gets of events, however they were gathered. */
function told(events: readonly CompletionEvent[]): object {
  const deltas = events.filter((event) => event.type === "delta");
  const raws = events.map((event) =>
    event.type === "raw" ? event.bytes : event.type === "end" ? event.raw : undefined,
  );
  return {
    text: deltas.map(({ text = "" }) => text).join(""),
    raw: Buffer.concat(raws.filter((raw) => raw !== undefined)).toString("latin1"),
    ends: events.filter(({ type }) => type === "end").length,
    usage: events.map((event) => (event.type === "end" ? event.usage : undefined)).at(-1),
  };
}

for (const [name, { body, reader }] of Object.entries(codecs)) {
  test(`${name}: mutations and cuts neither throw nor end an answer twice, and cuts change nothing`, () => {
    fc.assert(
      fc.property(mutations, places, (changes, at) => {
        const bytes = mutated(body, changes);
        const whole = readPieces(reader(), [bytes]);
        const ends = whole.events.filter(({ type }) => type === "end").length;
        assert.equal(ends, whole.failure === undefined ? 1 : 0);
        const cut = readPieces(reader(), cutAt(bytes, at));
        assert.equal(cut.failure?.code, whole.failure?.code);
        assert.deepEqual(told(cut.events), told(whole.events));
      }),
      { numRuns: 300 },
    );
  });
}

for (const [name, { body, reader, bytesMax }] of Object.entries(codecs)) {
  test(`${name}: an event without an end is given up at the limit, and nothing is held of what passed`, () => {
    const piece = Buffer.alloc(65_536, 0x61);
    const endless = reader();
    endless.push(Buffer.from("data: "));
    let fed = 0;
    while (!endless.over && fed <= bytesMax + megabyte) {
      endless.push(piece);
      fed += piece.length;
    }
    endless.end();
    assert.ok(endless.failure);
    assert.ok(fed <= bytesMax + megabyte, `${fed}`);
    const long = reader();
    const before = process.memoryUsage().arrayBuffers;
    // The answer's first event again and again, from a network that cuts where it likes.
    const first = body.subarray(0, firstEventBytes(body));
    const many = Buffer.concat(Array.from({ length: 64 }, () => first));
    for (let count = 0; count < 200 && !long.over; count++) {
      for (const each of cutAt(many, [0.3, 0.71])) long.push(each);
    }
    assert.ok(process.memoryUsage().arrayBuffers - before < 24 * megabyte);
  });
}

/** Up to the first blank line, or by the length that it says it has. */
function firstEventBytes(body: Buffer): number {
  return body[0] === 0 ? body.readUInt32BE(0) : body.indexOf("\n\n") + 2;
}

const params = { lacks: new Set<string>(), drops: true, leavesOut: [], modifies: true };
const target = { model: "claude-sonnet-4-5", outputTokensMax: 100, provider: "p", params };
const encoders: readonly ((request: CompletionRequest) => Buffer)[] = [
  (request) => encodeChatRequest(request, { ...target, outputCapField: "max_tokens" }),
  (request) => encodeMessagesRequest(request, { ...target, outputTokensDefault: 100 }),
  (request) => encodeGeminiRequest(request, target),
  (request) => encodeGeminiCount(request, target, "studio"),
  (request) => encodeBedrockRequest(request, target),
  (request) => encodeBedrockCount(request, target),
];

const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAEC" } };
const asked = {
  ...{ model: "m", max_tokens: 9, stream: true, stop: ["x"], temperature: 0.5, reasoning_effort: "low" },
  messages: [
    { role: "system", content: "Be kind." },
    { role: "user", content: [{ type: "text", text: "Look" }, image] },
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", tool_call_id: "c", content: "sunny" },
  ],
  tools: [{ type: "function", function: { name: "look", parameters: { type: "object", properties: {} } } }],
  tool_choice: "auto",
  response_format: { type: "json_schema", json_schema: { name: "x", schema: { type: "object" } } },
  web_search_options: { search_context_size: "low" },
};
const askedByMessages = {
  ...{ model: "m", max_tokens: 9, system: [{ type: "text", text: "x", cache_control: { type: "ephemeral" } }] },
  messages: [
    { role: "user", content: [{ type: "image", source: { type: "base64", media_type: "image/png", data: "AAEC" } }] },
    { role: "assistant", content: [{ type: "tool_use", id: "t", name: "look", input: { a: 1 } }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: "sunny" }] },
  ],
  tools: [
    { name: "look", input_schema: { type: "object" } },
    { type: "web_search_20250305", name: "w", max_uses: 2 },
  ],
};

const askedByResponses = {
  ...{ model: "m", max_output_tokens: 9, instructions: "Be kind.", reasoning: { effort: "low" } },
  input: [
    {
      role: "user",
      content: [
        { type: "input_text", text: "Look" },
        { type: "input_image", image_url: "https://x/y" },
      ],
    },
    { type: "function_call", call_id: "c", name: "look", arguments: "{}" },
    { type: "function_call_output", call_id: "c", output: "sunny" },
  ],
  tools: [{ type: "function", name: "look", parameters: { type: "object" } }],
  text: { format: { type: "json_schema", name: "x", schema: { type: "object" } } },
};

/** Any JSON in any place of a body. */
function grafted(body: object): fc.Arbitrary<object> {
  const texts = JSON.stringify(body).split(/(?<=[:,[])(?=["\d{[tn])/);
  const grafts = fc.array(fc.tuple(fc.nat(texts.length - 1), fc.jsonValue({ maxDepth: 2 })), {
    minLength: 1,
    maxLength: 3,
  });
  return grafts
    .map((all) => {
      const changed = [...texts];
      for (const [at, value] of all) changed[at] = `${JSON.stringify(value)},${changed[at]}`;
      return changed.join("");
    })
    .filter(isJson)
    .map((text) => JSON.parse(text) as object);
}

function isJson(text: string): boolean {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}

/** A body with one member, however deep, of another type. */
function replaced(body: object): fc.Arbitrary<object> {
  return fc.tuple(fc.nat(200), fc.jsonValue({ maxDepth: 2 })).map(([place, value]) => {
    let at = 0;
    return JSON.parse(JSON.stringify(body), (_, old: unknown) => (at++ === place ? value : old)) as object;
  });
}

for (const [name, body, decode] of [
  ["OpenAI's", asked, decodeChatRequest],
  ["OpenAI's newer", askedByResponses, decodeResponsesRequest],
  ["Anthropic's", askedByMessages, (bytes: Buffer) => decodeMessagesRequest(bytes, { counts: false })],
] as const) {
  test(`a request in ${name} words, with anything in any place, is refused in words or written in every wire`, () => {
    let written = 0;
    fc.assert(
      fc.property(fc.oneof(replaced(body), grafted(body)), (value) => {
        const request = decode(Buffer.from(JSON.stringify(value)));
        if (request instanceof GatewayError) return;
        assert.ok(Number.isSafeInteger(request.inputTokensMax) && request.choiceCount >= 1);
        for (const encode of encoders) {
          try {
            JSON.parse(encode(request).toString());
            written += 1;
          } catch (thrown) {
            assert.ok(thrown instanceof GatewayError, String((thrown as Error).stack));
          }
        }
      }),
      { numRuns: 500 },
    );
    assert.ok(written > 500, `${written}`);
  });
}

test("bytes that are changed anywhere are read or refused, by every door", () => {
  const operations = ["embeddings", "text_completion", "moderation", "rerank", "image_generation", "speech"] as const;
  const plain = { model: "m", input: "x", prompt: "y", query: "q", documents: ["a"], n: 2, size: "1x1", speed: 1 };
  const form = `--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--b--\r\n`;
  const bounded = (request: CompletionRequest | GatewayError) => {
    if (request instanceof GatewayError) return;
    for (const number of [request.inputTokensMax, request.choiceCount, ...Object.values(request.piecesMax ?? {})]) {
      assert.ok(Number.isFinite(number) && number >= 0, `${number}`);
    }
    if (request.operation !== "chat") encodeOperation(request, { model: "theirs", outputTokensMax: 9 });
  };
  fc.assert(
    fc.property(mutations, (changes) => {
      const bytes = (value: object) => mutated(Buffer.from(JSON.stringify(value)), changes);
      bounded(decodeChatRequest(bytes(asked)));
      bounded(decodeMessagesRequest(bytes(askedByMessages), { counts: true }));
      for (const operation of operations) bounded(decodeOperation(operation, bytes(plain)));
      const decoded = decodeForm("transcription", mutated(Buffer.from(form), changes), "b");
      bounded(decoded instanceof GatewayError ? decoded : decoded.request);
    }),
    { numRuns: 500 },
  );
});

test("whole answers that are changed anywhere are read or refused", () => {
  const answers: readonly (readonly [object, (bytes: Buffer) => unknown])[] = [
    [{ id: "x", choices: [{ index: 0, message: { content: "a", tool_calls: [call] } }], usage }, readChatAnswer],
    [message, readMessage],
    [textPieces()[0] ?? {}, (bytes) => readGeminiAnswer(bytes, facts)],
    [
      { output: { message: { content: [{ text: "a" }] } }, stopReason: "end_turn", usage: { inputTokens: 1 } },
      (bytes) => readBedrockAnswer(bytes, { ...facts, id: "id", readsJsonTool: false }),
    ],
    [
      { data: [{ b64_json: "x" }], usage: { input_tokens: 1 } },
      (bytes) => readOperationAnswer("image_generation", bytes),
    ],
    [{ text: "x", usage: { type: "duration", seconds: 1 } }, (bytes) => readOperationAnswer("transcription", bytes)],
    [{ meta: { billed_units: { search_units: 1 } } }, (bytes) => readOperationAnswer("rerank", bytes)],
  ];
  for (const [answer, read] of answers) {
    fc.assert(
      fc.property(
        fc.oneof(
          replaced(answer).map((value) => JSON.stringify(value)),
          mutations.map((changes) => mutated(Buffer.from(JSON.stringify(answer)), changes).toString()),
        ),
        (text) => {
          read(Buffer.from(text));
        },
      ),
      { numRuns: 300 },
    );
  }
});
