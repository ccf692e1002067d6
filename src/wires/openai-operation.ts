/** OpenAI's operations besides chat: requests whose bodies pass as they came. Their answers: `openai-operation-answer.ts`. */

import type { CompletionRequest, FormOperation, JsonObject, PlainOperation } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, objectOf, textOf } from "./json.ts";
import { rewriteMembers, scanObject } from "./json-spans.ts";
import { encodeForm } from "./openai-form.ts";
import { type Measure, measureImages, measureRanking, measureSpeech } from "./openai-media.ts";
import { readRepeatWishes } from "./repeat-wishes.ts";
import { commonFault, countFault, isGatewayField, numberOf, parseBody, readTags } from "./request-body.ts";

/** The operations whose requests are JSON. */
export type JsonOperation = Exclude<PlainOperation, FormOperation>;

/** What is particular to an operation. */
interface Form {
  /** The member without which nothing is asked. */
  readonly content: string;
  /** The model where a request names none. */
  readonly model?: string;
  /** Whether its answer comes as a stream: if that is asked for, always, or never. */
  readonly streams: "asked" | "always" | "never";
  /** How much it may come to. Without an `outputTokensMax` the gateway may choose. */
  readonly measure: (body: JsonObject, bytes: number) => Partial<Measure> | GatewayError;
}

const outputless = { outputTokensMax: 0, outputCount: 1 };

const forms: Readonly<Record<JsonOperation, Form>> = {
  embeddings: { content: "input", streams: "never", measure: () => outputless },
  text_completion: { content: "prompt", streams: "asked", measure: measureTexts },
  // OpenAI's own choice.
  moderation: { content: "input", model: "omni-moderation-latest", streams: "never", measure: () => outputless },
  rerank: {
    content: "query",
    streams: "never",
    measure: (body, bytes) => ({ ...outputless, ...measureRanking(body, bytes) }),
  },
  image_generation: { content: "prompt", streams: "asked", measure: measureImages },
  speech: { content: "input", streams: "always", measure: measureSpeech },
};

const paths: Readonly<Record<PlainOperation, string>> = {
  embeddings: "embeddings",
  text_completion: "completions",
  moderation: "moderations",
  rerank: "rerank",
  image_generation: "images/generations",
  speech: "audio/speech",
  transcription: "audio/transcriptions",
  translation: "audio/translations",
};

/** Where it is asked for, behind the address of a provider. */
export function operationPath(operation: PlainOperation): string {
  return paths[operation];
}

/** How many choices, and prompts in one request. */
const countMax = 2_048;

/**
 * Reads the body of a request.
 *
 * @returns `invalid_json` or `invalid_request` (with `param`) if it is none. Messages of errors never quote the body.
 */
export function decodeOperation(operation: JsonOperation, bytes: Buffer): CompletionRequest | GatewayError {
  const form = forms[operation];
  const parsed = parseBody(bytes);
  if (parsed instanceof GatewayError) return parsed;
  const { body, spans, repeated } = parsed;
  const named = form.model === undefined ? body : { ...body, model: body.model ?? form.model };
  const fault = commonFault(named, [...governed, form.content], repeated, form.content);
  if (fault !== undefined) return fault;
  const measure = form.measure(body, bytes.length);
  if (measure instanceof GatewayError) return measure;
  const repeat = readRepeatWishes(body);
  if (repeat instanceof GatewayError) return repeat;
  const stream = form.streams === "always" || (form.streams === "asked" && body.stream === true);
  const { outputTokensMax, outputCount = 1, pieces, piecesMax } = measure;
  return {
    operation,
    wire: undefined,
    raw: { bytes, value: body, spans },
    model: String(named.model),
    stream,
    includeUsage: stream && objectOf(body.stream_options)?.include_usage === true,
    outputTokensMax,
    choiceCount: outputCount,
    // Numbers that stand for tokens have a comma each.
    inputTokensMax: bytes.length,
    ...(pieces !== undefined && { pieces }),
    ...(piecesMax !== undefined && { piecesMax }),
    endUser: textOf(body.user),
    tags: readTags(body),
    ...(repeat !== undefined && { repeat }),
    chat: () => body,
  };
}

/** Members the gateway acts on. */
const governed = ["model", "stream", "stream_options", "n", "best_of", "max_tokens", "size", "speed", "partial_images"];

function measureTexts(body: JsonObject): Partial<Measure> | GatewayError {
  const fault =
    countFault(body, "n", countMax) ??
    countFault(body, "best_of", countMax) ??
    countFault(body, "max_tokens", Number.MAX_SAFE_INTEGER);
  if (fault !== undefined) return fault;
  const cap = numberOf(body.max_tokens);
  return { outputCount: choicesOf(body), ...(cap !== undefined && { outputTokensMax: cap }) };
}

/** Of each prompt so many are made; `best_of` are paid for and the best `n` told. */
function choicesOf(body: JsonObject): number {
  const prompts = arrayOf(body.prompt);
  const promptCount = typeof prompts[0] === "number" ? 1 : Math.max(1, prompts.length);
  return promptCount * Math.max(numberOf(body.n) ?? 1, numberOf(body.best_of) ?? 1);
}

/**
 * Writes the body for a provider: everything stays byte for byte but the model, the cap, and what speaks to the gateway.
 *
 * @param target.outputTokensMax the cap to send where the caller gave none.
 */
export function encodeOperation(
  request: CompletionRequest,
  target: { readonly model: string; readonly outputTokensMax: number | undefined },
): { readonly body: Buffer; readonly mediaType: string } {
  const { raw, chat, operation, stream, outputTokensMax } = request;
  const body = chat();
  const left = Object.keys(body).filter(isGatewayField);
  if (raw?.boundary !== undefined) return encodeForm(raw, raw.boundary, target.model, left);
  const changes = new Map<string, string | undefined>([["model", JSON.stringify(target.model)]]);
  for (const key of left) changes.set(key, undefined);
  if (outputTokensMax === undefined && target.outputTokensMax !== undefined) {
    changes.set("max_tokens", String(target.outputTokensMax));
  }
  if (operation === "text_completion" && stream && objectOf(body.stream_options)?.include_usage !== true) {
    changes.set("stream_options", JSON.stringify({ ...objectOf(body.stream_options), include_usage: true }));
  }
  const bytes = raw?.bytes ?? Buffer.from(JSON.stringify(body));
  const written = rewriteMembers(raw ?? { bytes, spans: scanObject(bytes).spans }, changes);
  return { body: written, mediaType: "application/json" };
}
