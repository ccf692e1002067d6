/** Google's generateContent: reading an answer whole, and as it comes (`alt=sse`). */

import type { CompletionEvent, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { type AnswerFacts, GeminiAnswer } from "./gemini-answer.ts";
import { isObject, parseJson } from "./json.ts";
import { hasError } from "./openai-chat-answer.ts";
import { inBandError } from "./openai-error.ts";
import { SseAnswerReader } from "./sse-answer.ts";

/** A frame may hold a picture. */
const frameBytesMax = 32 * 1024 * 1024;

/**
 * Reads a whole answer (status 200).
 *
 * @returns its events, `start` to `end`; a GatewayError if it is no answer.
 */
export function readGeminiAnswer(bytes: Buffer, facts: AnswerFacts): readonly CompletionEvent[] | GatewayError {
  const body = parseJson(bytes.toString());
  if (!isObject(body)) {
    return new GatewayError("provider_error", "The provider answered something that is not a JSON object.");
  }
  if (hasError(body)) return inBandError(body);
  const answer = new GeminiAnswer(facts);
  const events = answer.push(body);
  if (!answer.isStarted) {
    return new GatewayError("provider_error", "The provider answered something that is no generated content.");
  }
  return [...events, ...answer.end()];
}

/** Reads the body of a streamed answer. Google has no last word; the body's end is one. */
export class GeminiStreamReader extends SseAnswerReader {
  readonly #answer: GeminiAnswer;

  constructor(facts: AnswerFacts, bytesMax: number = frameBytesMax) {
    super(bytesMax);
    this.#answer = new GeminiAnswer(facts);
  }

  protected override judgeEnd(): GatewayError | undefined {
    if (!this.#answer.isStarted) {
      return new GatewayError("provider_error", "The provider answered something that is no stream of content.");
    }
    if (this.#answer.isWhole) return undefined;
    return new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
  }

  protected override lastEvents(): readonly CompletionEvent[] {
    return this.#answer.end();
  }

  protected override read(body: JsonObject): void {
    if (hasError(body)) this.fail(inBandError(body));
    else this.events.push(...this.#answer.push(body));
  }
}
