/** How much images and audio may come to: what is asked for, what is likely, and what it cannot exceed. */

import type { JsonObject, Pieces } from "../completion.ts";
import type { GatewayError } from "../errors.ts";
import { countOf, textOf } from "./json.ts";
import { countFault, invalid, numberOf } from "./request-body.ts";

/** The size of a call. */
export interface Measure {
  /** Of each output, in tokens. */
  readonly outputTokensMax: number;
  readonly outputCount: number;
  readonly pieces: Pieces;
  readonly piecesMax: Pieces;
}

const imagesMax = 128;
/** The dearest image of gpt-image-1 has 6,240 tokens for 1.6 million pixels. */
const imageTokensMin = 16_384;
const pixelsPerToken = 128;
const partialImageTokens = 200;
/** An image of medium quality. */
export const imageTokensLikely = 1_056;

/** OpenAI's audio has 10 tokens a second where it is heard and 20 where it is spoken. */
const heardTokensPerSecondMax = 20;
const spokenTokensPerSecondMax = 25;
export const spokenTokensPerSecond = 20;
/** Who speaks in no hurry speaks so many characters a second; nobody was heard to speak slower than the lesser figure. */
const charactersPerSecond = 15;
const charactersPerSecondMin = 2.5;
const slowestSpeed = 0.25;
/** Of what is heard, text has no more tokens a second than this. */
const transcribedTokensPerSecondMax = 10;

/** No recording of speech has fewer bytes a second, be its own word for its length true or not. */
const bytesPerSecondMin = 1_000;
/** The same where nothing in it tells its length. */
const bytesPerSecondUnknownMin = 250;

/** Images to be made. */
export function measureImages(body: JsonObject): Measure | GatewayError {
  const fault = countFault(body, "n", imagesMax);
  if (fault !== undefined) return fault;
  const count = numberOf(body.n) ?? 1;
  const [, width = "0", height = "0"] = /^(\d{1,5})x(\d{1,5})$/.exec(textOf(body.size) ?? "") ?? [];
  const tokens = Math.max(imageTokensMin, Math.ceil((Number(width) * Number(height)) / pixelsPerToken));
  const partialTokens = (countOf(body.partial_images) ?? 0) * partialImageTokens;
  const pieces = { generatedImage: count };
  return { outputTokensMax: tokens + partialTokens, outputCount: count, pieces, piecesMax: pieces };
}

/** A text to be spoken. */
export function measureSpeech(body: JsonObject): Measure | GatewayError {
  if (typeof body.input !== "string") return invalid("input", "`input` must be a string.");
  let character = 0;
  for (const _ of body.input) character += 1;
  const speed = Math.max(slowestSpeed, numberOf(body.speed) ?? 1);
  const longest = Math.ceil(character / charactersPerSecondMin / Math.min(1, speed)) + 5;
  const likely = Math.ceil(character / charactersPerSecond / speed);
  return {
    outputTokensMax: longest * spokenTokensPerSecondMax,
    outputCount: 1,
    pieces: { character, outputSecond: likely },
    piecesMax: { character, outputSecond: longest },
  };
}

/**
 * A recording to be heard.
 *
 * @param seconds its length by its own word; undefined: it has none.
 */
export function measureRecording(
  bytes: number,
  seconds: number | undefined,
): Measure & { readonly inputTokensMax: number } {
  const longest =
    Math.ceil(seconds === undefined ? bytes / bytesPerSecondUnknownMin : Math.max(seconds, bytes / bytesPerSecondMin)) +
    1;
  return {
    inputTokensMax: longest * heardTokensPerSecondMax,
    outputTokensMax: longest * transcribedTokensPerSecondMax + 100,
    outputCount: 1,
    pieces: { inputSecond: Math.ceil(seconds ?? bytes / bytesPerSecondMin) },
    piecesMax: { inputSecond: longest },
  };
}

/** Cohere ranks up to a hundred documents for one unit, and takes a long one for several. */
export function measureRanking(body: JsonObject, bytes: number): Pick<Measure, "pieces" | "piecesMax"> {
  const documents = Array.isArray(body.documents) ? body.documents.length : 1;
  return {
    pieces: { searchUnit: Math.ceil(documents / 100) },
    piecesMax: { searchUnit: Math.ceil((documents + bytes / 100) / 100) },
  };
}
