/** Google's generateContent: reading an answer whole, and as it comes (`alt=sse`). */

import type { CompletionEvent, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { type AnswerFacts, GeminiAnswer } from "./gemini-answer.ts";
import { isObject, parseJson } from "./json.ts";
import { hasError } from "./openai-chat-answer.ts";
import { inBandError } from "./openai-error.ts";
import { type SseFrame, SseSplitter } from "./sse.ts";

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

/** Reads the body of a streamed answer, however the network cut it. An AnswerReader. */
export class GeminiStreamReader {
  readonly #splitter: SseSplitter;
  readonly #answer: GeminiAnswer;
  #failure: GatewayError | undefined;

  constructor(facts: AnswerFacts, bytesMax: number = frameBytesMax) {
    this.#splitter = new SseSplitter(bytesMax);
    this.#answer = new GeminiAnswer(facts);
  }

  /** Whether nothing more is wanted of the body: it is broken. Google has no last word; the body's end is one. */
  get over(): boolean {
    return this.#failure !== undefined;
  }

  /** Why the answer is not whole. What came before it has been given out. */
  get failure(): GatewayError | undefined {
    return this.#failure;
  }

  push(chunk: Buffer): readonly CompletionEvent[] {
    const events: CompletionEvent[] = [];
    if (this.over) return events;
    for (const frame of this.#splitter.push(chunk)) {
      this.#take(frame, events);
      if (this.over) break;
    }
    if (this.#splitter.overflowed && !this.over) {
      this.#failure = new GatewayError("provider_error", "The provider sent a longer event than the gateway takes.");
    }
    return events;
  }

  /** The body is over. @returns the last events, ending with `end` unless there is a `failure`. */
  end(): readonly CompletionEvent[] {
    const events: CompletionEvent[] = [];
    const tail = this.over ? undefined : this.#splitter.flush();
    // A last frame that lacks its blank line is good if it is whole, else it is where the stream was cut.
    if (tail !== undefined && isObject(parseJson(tail.data ?? ""))) this.#take(tail, events);
    if (this.over) return events;
    if (!this.#answer.isStarted) {
      this.#failure = new GatewayError(
        "provider_error",
        "The provider answered something that is no stream of content.",
      );
    } else if (!this.#answer.isWhole) {
      this.#failure = new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
    } else {
      events.push(...this.#answer.end());
    }
    return events;
  }

  #take({ data }: SseFrame, events: CompletionEvent[]): void {
    if (data === undefined || data === "") return;
    const body = parseJson(data);
    if (!isObject(body)) {
      this.#failure = new GatewayError("provider_error", "The provider sent an event that is not JSON.");
    } else if (hasError(body)) {
      this.#failure = inBandError(body as JsonObject);
    } else {
      events.push(...this.#answer.push(body));
    }
  }
}
