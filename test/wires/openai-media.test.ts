import assert from "node:assert/strict";
import { test } from "node:test";
import type { CompletionRequest, Usage } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { decodeForm, encodeForm, withLength } from "../../src/wires/openai-form.ts";
import { decodeOperation, type JsonOperation } from "../../src/wires/openai-operation.ts";
import { OperationStreamReader, readOperationAnswer } from "../../src/wires/openai-operation-answer.ts";
import { withOverrides } from "../../src/wires/overrides.ts";
import { recordingSeconds } from "../../src/wires/recording-length.ts";
import { SpeechReader } from "../../src/wires/speech-stream.ts";
import { toneOf } from "../recording.ts";
import { allCuts, readPieces } from "./reading.ts";

function decode(operation: JsonOperation, body: object): CompletionRequest {
  const read = decodeOperation(operation, Buffer.from(JSON.stringify({ model: "m", ...body })));
  if (read instanceof GatewayError) throw read;
  return read;
}

const faultOf = (operation: JsonOperation, body: object) => {
  const read = decodeOperation(operation, Buffer.from(JSON.stringify({ model: "m", ...body })));
  return read instanceof GatewayError ? read.facts.param : undefined;
};

function formOf(recording: Buffer, fields: Readonly<Record<string, string>> = {}): Buffer {
  const texts = Object.entries({ model: "ours", ...fields }).map(([name, text]) => `name="${name}"\r\n\r\n${text}`);
  const head = "--b\r\ncontent-disposition: form-data; ";
  return Buffer.concat([
    Buffer.from(texts.map((text) => `${head}${text}\r\n`).join("")),
    Buffer.from(`${head}name="file"; filename="a.wav"\r\n\r\n`),
    recording,
    Buffer.from("\r\n--b--\r\n"),
  ]);
}

function decodedForm(bytes: Buffer) {
  const read = decodeForm("transcription", bytes, "b");
  if (read instanceof GatewayError) throw read;
  return read;
}

/** Published: what gpt-image-1 makes of its dearest images. */
const dearestImages = [
  ["1024x1024", 4160],
  ["1024x1536", 6240],
  ["auto", 6240],
] as const;

test("every image is reserved for at more tokens than the dearest of its size has", () => {
  for (const [size, tokens] of dearestImages) {
    const { outputTokensMax, choiceCount, pieces } = decode("image_generation", { prompt: "x", size, n: 3 });
    assert.ok((outputTokensMax ?? 0) > tokens, size);
    assert.deepEqual([choiceCount, pieces], [3, { generatedImage: 3 }]);
  }
  const large = decode("image_generation", { prompt: "x", size: "3840x2160" });
  assert.ok((large.outputTokensMax ?? 0) > (4160 * 3840 * 2160) / 1024 ** 2);
  assert.equal(faultOf("image_generation", { prompt: "x", n: 0 }), "n");
  assert.equal(faultOf("image_generation", {}), "prompt");
});

test("speech is counted in characters as people do, and reserved for at the slowest that anybody speaks", () => {
  const { pieces, piecesMax, outputTokensMax, stream } = decode("speech", { input: "wörld 🚀".repeat(10) });
  assert.deepEqual(pieces, { character: 70, outputSecond: 5 });
  assert.deepEqual(piecesMax, { character: 70, outputSecond: 33 });
  assert.equal(outputTokensMax, 33 * 25);
  assert.equal(stream, true);
  const slow = decode("speech", { input: "x".repeat(150), speed: 0.25 });
  assert.deepEqual([slow.pieces?.outputSecond, slow.piecesMax?.outputSecond], [40, 245]);
  assert.equal(faultOf("speech", { input: ["x"] }), "input");
});

test("a recording is reserved for at its length by its own word, or by its bytes, whichever is more", async () => {
  const recording = toneOf(30);
  const read = decodedForm(formOf(recording));
  const seconds = await recordingSeconds(read.recording);
  assert.equal(seconds, 30);
  const { pieces, piecesMax } = withLength(read, seconds);
  assert.deepEqual(pieces, { inputSecond: 30 });
  // 480044 bytes at 1000 a second.
  assert.deepEqual(piecesMax, { inputSecond: 482 });
  assert.deepEqual(withLength(read, 5_000).piecesMax, { inputSecond: 5_001 });
  assert.deepEqual(withLength(read, undefined).piecesMax, { inputSecond: 1_922 }, "250 bytes a second");
});

test("nothing that claims to be a recording throws, or takes long", async () => {
  const heads = [
    "RIFF\0\0\0\0WAVEfmt ",
    "ID3\u0004\0\0\x7f\x7f\x7f\x7f",
    "OggS",
    "fLaC",
    "\u001aE\u00df\u00a3",
    "\0\0\0\x18ftypM4A ",
  ];
  const startedMs = performance.now();
  for (const head of heads) {
    for (const filling of [0, 0xff, 0x41]) {
      await recordingSeconds(Buffer.concat([Buffer.from(head, "latin1"), Buffer.alloc(2_000_000, filling)]));
    }
    await recordingSeconds(Buffer.from(head, "latin1"));
  }
  assert.equal(await recordingSeconds(Buffer.alloc(0)), undefined);
  assert.ok(performance.now() - startedMs < 5_000);
});

test("a form passes byte for byte where nothing differs, and else but for the model and the gateway's fields", () => {
  const recording = Buffer.from("\r\n--c\r\n\0");
  const bytes = formOf(recording, { prompt: "hi" });
  const { request } = decodedForm(bytes);
  const mediaType = 'multipart/form-data; boundary="b"';
  assert.ok(request.raw);
  assert.deepEqual(encodeForm(request.raw, "b", "ours", []), { body: bytes, mediaType });
  const { body } = encodeForm(request.raw, "b", "theirs", ["prompt"]);
  const again = decodedForm(body);
  assert.deepEqual({ ...again.request.chat() }, { model: "theirs", file: "file" });
  assert.ok(again.recording.equals(recording));
});

test("a fallback's fields are put into a form, and its length stays known", () => {
  const request = withLength(decodedForm(formOf(toneOf(2))), 2);
  const changed = withOverrides({ ...request, model: "other" }, { language: "de" });
  assert.deepEqual({ ...changed.chat() }, { model: "other", language: "de", file: "file" });
  assert.deepEqual([changed.pieces, changed.piecesMax], [request.pieces, request.piecesMax]);
});

test("a form that asks twice, for what is decided elsewhere, or for no flag is refused by name", () => {
  const paramOf = (fields: Readonly<Record<string, string>>, more = "") => {
    const bytes = Buffer.concat([Buffer.from(more), formOf(Buffer.from("x"), fields)]);
    const read = decodeForm("transcription", bytes, "b");
    return read instanceof GatewayError ? read.facts.param : undefined;
  };
  assert.equal(paramOf({ stream: "True" }), undefined);
  assert.equal(paramOf({ stream: "maybe" }), "stream");
  assert.equal(paramOf({ api_key: "k" }), "api_key");
  assert.equal(paramOf({ num_retries: "many" }), "num_retries");
  assert.equal(paramOf({}, '--b\r\ncontent-disposition: form-data; name="model"\r\n\r\ntwo\r\n'), "model");
});

test("usage of images and audio is read in tokens, seconds and pieces", () => {
  const usageOf = (operation: Parameters<typeof readOperationAnswer>[0], body: object) => {
    const read = readOperationAnswer(operation, Buffer.from(JSON.stringify(body)));
    if (read instanceof GatewayError) throw read;
    const {
      cacheReadInputTokens: _,
      cacheWriteInputTokens: __,
      reasoningOutputTokens: ___,
      ...usage
    } = { ...(read.usage as Partial<Usage>) };
    return usage;
  };
  const none = { inputTokens: 0, outputTokens: 0, estimated: false };
  const tokens = { input_tokens: 50, output_tokens: 100, total_tokens: 150 };
  assert.deepEqual(usageOf("image_generation", { data: [{}, {}], usage: tokens }), {
    ...{ inputTokens: 50, outputTokens: 100, imageOutputTokens: 100, pieces: { generatedImage: 2 }, estimated: false },
  });
  const split = { ...tokens, output_tokens_details: { text_tokens: 30, image_tokens: 70 } };
  assert.equal(usageOf("image_generation", { data: [{}], usage: split }).imageOutputTokens, 70);
  assert.deepEqual(usageOf("image_generation", { data: [{}] }), {});
  const heard = { ...tokens, type: "tokens", input_token_details: { text_tokens: 10, audio_tokens: 40 } };
  assert.equal(usageOf("transcription", { text: "x", usage: heard }).audioInputTokens, 40);
  assert.deepEqual(usageOf("transcription", { text: "x", usage: { type: "duration", seconds: 9 } }), {
    ...{ ...none, pieces: { inputSecond: 9 } },
  });
  assert.deepEqual(usageOf("translation", { text: "x", duration: "8.47" }).pieces, { inputSecond: 9 });
  assert.deepEqual(usageOf("rerank", { results: [], meta: { billed_units: { search_units: 3 } } }), {
    ...{ ...none, pieces: { searchUnit: 3 } },
  });
});

const frame = (event: { readonly type: string }) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
const partial = { type: "image_generation.partial_image", b64_json: "QUJD" };
const completed = {
  type: "image_generation.completed",
  b64_json: "QUJD",
  usage: { input_tokens: 3, output_tokens: 5 },
};

test("a stream of images passes byte for byte, however it is cut, and its last event leaves with the bill", () => {
  const body = Buffer.from([partial, completed, partial, completed].map(frame).join(""));
  for (const pieces of allCuts(body)) {
    const { events, failure } = readPieces(new OperationStreamReader("image_generation"), pieces);
    assert.equal(failure, undefined);
    const end = events.at(-1);
    assert.ok(end?.type === "end");
    assert.equal(end.raw?.toString(), frame(completed));
    assert.deepEqual([end.usage?.inputTokens, end.usage?.pieces], [6, { generatedImage: 2 }]);
    const passed = events.map((event) => (event.type === "raw" ? event.bytes : Buffer.alloc(0)));
    assert.equal(Buffer.concat([...passed, end.raw ?? Buffer.alloc(0)]).toString(), body.toString());
  }
});

test("a stream of images that breaks off, or fails, is no answer", () => {
  const cut = readPieces(new OperationStreamReader("image_generation"), [Buffer.from(frame(partial))]);
  assert.equal(cut.failure?.code, "stream_interrupted");
  const error = { type: "error", error: { type: "rate_limit", message: "slow down" } };
  const failed = readPieces(new OperationStreamReader("image_generation"), [Buffer.from(frame(error))]);
  assert.equal(failed.failure?.code, "provider_rate_limited");
});

test("audio passes byte for byte, however it is cut, and its last byte leaves with the bill", () => {
  const body = Buffer.from(Array.from({ length: 64 }, (_, index) => index));
  for (const pieces of allCuts(body)) {
    const { events, failure } = readPieces(new SpeechReader({ mediaType: "audio/mpeg", outputTokens: 7 }), pieces);
    assert.equal(failure, undefined);
    const raws = events.map((event) =>
      event.type === "raw" ? event.bytes : event.type === "end" ? event.raw : undefined,
    );
    assert.ok(Buffer.concat(raws.filter((raw) => raw !== undefined)).equals(body));
    assert.equal(
      events.reduce((sum, event) => sum + ("outputTokens" in event ? (event.outputTokens ?? 0) : 0), 0),
      7,
    );
  }
  const silent = readPieces(new SpeechReader({ mediaType: "audio/mpeg", outputTokens: 7 }), []);
  assert.equal(silent.failure?.code, "provider_error");
});
