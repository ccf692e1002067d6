/** OpenAI's operations besides chat: what is read, for the bill, of answers that pass as they came. */

import type { CompletionEvent, Json, JsonObject, PlainOperation, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, countOf, isObject, objectOf, parseJson, textOf } from "./json.ts";
import { hasError } from "./openai-chat-answer.ts";
import { inBandError } from "./openai-error.ts";
import { imageTokensLikely } from "./openai-media.ts";
import { readUsage } from "./openai-usage.ts";
import type { SseFrame } from "./sse.ts";
import { SseAnswerReader } from "./sse-answer.ts";

/** A frame may hold a picture. */
const frameBytesMax = 64 * 1024 * 1024;

/** A whole answer, read. */
export interface OperationAnswer {
  /** What the provider reported; undefined if it reported nothing. */
  readonly usage: Usage | undefined;
  readonly responseId: string | undefined;
  /** Roughly the tokens in it. */
  readonly outputTokens: number;
}

/**
 * Reads a whole answer.
 *
 * @param mediaType as the provider has it. Transcriptions may be plain text, of which nothing is read.
 * @returns a GatewayError if it is no answer (`provider_error`), or there is an `error` in it.
 */
export function readOperationAnswer(
  operation: PlainOperation,
  bytes: Buffer,
  mediaType = "application/json",
): OperationAnswer | GatewayError {
  if (!mediaType.includes("json")) {
    return { usage: undefined, responseId: undefined, outputTokens: Math.ceil(bytes.length / 4) };
  }
  const body = parseJson(bytes.toString());
  if (!isObject(body)) {
    return new GatewayError("provider_error", "The provider answered something that is not a JSON object.");
  }
  if (hasError(body)) return inBandError(body);
  return {
    usage: usageIn(operation, body),
    responseId: textOf(body.id),
    outputTokens: outputTokensIn(operation, body),
  };
}

function outputTokensIn(operation: PlainOperation, body: JsonObject): number {
  if (operation === "image_generation") return arrayOf(body.data).length * imageTokensLikely;
  const texts =
    operation === "text_completion" ? arrayOf(body.choices).map((choice) => objectOf(choice)?.text) : [body.text];
  return Math.ceil(Buffer.byteLength(texts.map((text) => textOf(text) ?? "").join("")) / 4);
}

function usageIn(operation: PlainOperation, body: JsonObject): Usage | undefined {
  switch (operation) {
    case "image_generation": {
      const usage = readMediaUsage(body.usage, "image");
      // An event of a stream has one.
      const generatedImage = Array.isArray(body.data) ? body.data.length : 1;
      return usage && { ...usage, pieces: { ...usage.pieces, generatedImage } };
    }
    case "speech":
      return readMediaUsage(body.usage, "audio");
    case "transcription":
    case "translation":
      return readMediaUsage(body.usage) ?? lengthOf(body.duration);
    case "rerank":
      return readRankingUsage(body);
    default:
      return readUsage(body.usage);
  }
}

/**
 * Reads `usage` of images and audio: in tokens, or in seconds of what was heard.
 *
 * @param output what output is where nothing more is said of it.
 */
function readMediaUsage(value: Json | undefined, output?: "image" | "audio"): Usage | undefined {
  const usage = objectOf(value);
  if (usage === undefined) return undefined;
  if (usage.type === "duration") return lengthOf(usage.seconds);
  const outputTokens = countOf(usage.output_tokens) ?? 0;
  const assumed = output === undefined ? {} : { [`${output}_tokens`]: outputTokens };
  return readUsage({
    prompt_tokens: usage.input_tokens ?? null,
    completion_tokens: outputTokens,
    prompt_tokens_details: usage.input_tokens_details ?? usage.input_token_details ?? null,
    completion_tokens_details: usage.output_tokens_details ?? usage.output_token_details ?? assumed,
  });
}

function lengthOf(seconds: Json | undefined): Usage | undefined {
  // Some write it as text.
  const length = Number(typeof seconds === "string" || typeof seconds === "number" ? seconds : Number.NaN);
  return Number.isFinite(length) && length >= 0
    ? { ...noTokens, pieces: { inputSecond: Math.ceil(length) } }
    : undefined;
}

/** Rerankers name one total of tokens, or what they bill: tokens, or units of a search. */
function readRankingUsage(body: JsonObject): Usage | undefined {
  const usage = objectOf(body.usage);
  const meta = objectOf(body.meta);
  const billed = objectOf(meta?.billed_units);
  const searchUnit = countOf(billed?.search_units);
  const tokens =
    usage === undefined
      ? (billed?.input_tokens ?? objectOf(meta?.tokens)?.input_tokens)
      : (countOf(usage.prompt_tokens) ?? usage.total_tokens);
  const counted = readUsage({ ...usage, prompt_tokens: tokens ?? null });
  if (searchUnit === undefined) return counted;
  return { ...(counted ?? noTokens), pieces: { searchUnit } };
}

const noTokens: Usage = {
  ...{ inputTokens: 0, outputTokens: 0, cacheReadInputTokens: 0, cacheWriteInputTokens: 0, reasoningOutputTokens: 0 },
  estimated: false,
};

/** Reads a stream of images, speech or a transcription as it passes. Its last event, which has the usage, leaves when it is booked. */
export class OperationStreamReader extends SseAnswerReader {
  readonly #operation: PlainOperation;
  #last: Buffer | undefined;
  #lastCount = 0;
  #usage: Usage | undefined;

  constructor(operation: PlainOperation) {
    super(frameBytesMax);
    this.#operation = operation;
  }

  protected override isLastWord(data: string): boolean {
    return data === "[DONE]";
  }

  protected override judgeEnd(): GatewayError | undefined {
    if (this.#last !== undefined) return undefined;
    return new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
  }

  protected override lastEvents(): readonly CompletionEvent[] {
    const outputTokens = this.#operation === "image_generation" ? this.#lastCount * imageTokensLikely : 0;
    return [{ type: "end", usage: this.#usage, responseId: undefined, raw: this.#last, outputTokens }];
  }

  protected override read(event: JsonObject, frame: SseFrame): void {
    if (hasError(event) || event.type === "error" || frame.event === "error") {
      this.fail(inBandError(hasError(event) ? event : { error: event }));
      return;
    }
    if (this.#last !== undefined) this.pass(this.#last, 0);
    this.#last = undefined;
    if (/\.(done|completed)$/.test(textOf(event.type) ?? "")) {
      // Of several images each has its own.
      this.#usage = sumOf(this.#usage, usageIn(this.#operation, event));
      this.#last = frame.bytes;
      this.#lastCount += 1;
    } else {
      this.pass(frame.bytes, Buffer.byteLength(textOf(event.delta) ?? "") / 4);
    }
  }
}

function sumOf(before: Usage | undefined, next: Usage | undefined): Usage | undefined {
  if (before === undefined || next === undefined) return before ?? next;
  const sum = (
    field: "inputTokens" | "outputTokens" | "cacheReadInputTokens" | "imageInputTokens" | "imageOutputTokens",
  ) => (before[field] ?? 0) + (next[field] ?? 0);
  return {
    ...next,
    inputTokens: sum("inputTokens"),
    outputTokens: sum("outputTokens"),
    cacheReadInputTokens: sum("cacheReadInputTokens"),
    imageInputTokens: sum("imageInputTokens"),
    imageOutputTokens: sum("imageOutputTokens"),
    pieces: { generatedImage: (before.pieces?.generatedImage ?? 0) + (next.pieces?.generatedImage ?? 0) },
  };
}
