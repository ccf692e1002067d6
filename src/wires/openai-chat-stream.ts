/** OpenAI's chat completions: reading an answer as it comes. */

import type { CompletionEvent, Json, JsonObject, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, countOf, isObject, objectOf, parseJson, textOf } from "./json.ts";
import { hasError, pushDelta, startEvent } from "./openai-chat-answer.ts";
import { inBandError } from "./openai-error.ts";
import { readUsage } from "./openai-usage.ts";
import { joinAdjacent, type SseFrame, SseSplitter } from "./sse.ts";

/** The frame that ends a stream of OpenAI's. */
const doneFrame = Buffer.from("data: [DONE]\n\n");

/** How a stream is to be read. */
export interface ChatStreamOptions {
  /** `raw`: the caller speaks this wire too, so frames are passed on as they are. `neutral`: it does not. */
  readonly lane: "raw" | "neutral";
  /** Whether the caller wants the usage frame; in the raw lane it is else held back. */
  readonly includeUsage: boolean;
  /** How many choices must be finished before a stream without `[DONE]` counts as whole. */
  readonly choiceCount: number;
  /** The longest frame, in bytes. Default: 1 MiB. */
  readonly frameBytesMax?: number;
}

/**
 * Reads the body of a streamed answer, however the network cut it.
 *
 * ```ts
 * for await (const chunk of body) {
 *   yield* reader.push(chunk);
 *   if (reader.over) break;
 * }
 * yield* reader.end();
 * if (reader.failure !== undefined) throw reader.failure;
 * ```
 */
export class ChatStreamReader {
  readonly #options: ChatStreamOptions;
  readonly #splitter: SseSplitter;
  /** Why each choice has ended. */
  readonly #finished = new Map<number, string>();
  #failure: GatewayError | undefined;
  #sawDone = false;
  #started = false;
  #chunkCount = 0;
  #serviceTier: Json | undefined;
  #usage: Usage | undefined;
  #responseId: string | undefined;
  #model: string | undefined;
  /** Frames to pass on, and roughly the output tokens in them. */
  #frames: Buffer[] = [];
  #outputTokens = 0;
  #events: CompletionEvent[] = [];

  constructor(options: ChatStreamOptions) {
    this.#options = options;
    this.#splitter = new SseSplitter(options.frameBytesMax ?? 1_048_576);
  }

  /** Whether nothing more is wanted of the body: it has ended by its own word, or it is broken. */
  get over(): boolean {
    return this.#sawDone || this.#failure !== undefined;
  }

  /**
   * Why the answer is not whole: the provider's own error, `provider_error` for what is no completion, `stream_interrupted`
   * when it broke off. What came before it has been given out.
   */
  get failure(): GatewayError | undefined {
    return this.#failure;
  }

  /** Takes what one read brought. @returns at most one event in the raw lane, any number in the neutral one. */
  push(chunk: Buffer): readonly CompletionEvent[] {
    if (this.over) return [];
    for (const frame of this.#splitter.push(chunk)) {
      this.#take(frame);
      if (this.over) break;
    }
    if (this.#splitter.overflowed && !this.over) {
      this.#failure = new GatewayError("provider_error", "The provider sent a longer event than the gateway takes.");
    }
    return this.#drain();
  }

  /** The body is over. @returns the last events, ending with `end` unless there is a `failure`. */
  end(): readonly CompletionEvent[] {
    const tail = this.over ? undefined : this.#splitter.flush();
    // A last frame that lacks its blank line is good if it is whole, else it is where the stream was cut.
    if (tail !== undefined && (tail.data === "[DONE]" || isObject(parseJson(tail.data ?? "")))) this.#take(tail);
    const events = [...this.#drain()];
    this.#failure ??= this.#judgeEnd();
    if (this.#failure !== undefined) return events;
    const raw = this.#options.lane === "raw" ? doneFrame : undefined;
    const facts = { model: this.#model, finishReasons: [...this.#finished.values()] };
    const end = { type: "end", usage: this.#usage, responseId: this.#responseId, raw } as const;
    events.push(this.#options.lane === "raw" ? { ...end, ...facts } : end);
    return events;
  }

  #judgeEnd(): GatewayError | undefined {
    if (this.#chunkCount === 0) {
      return new GatewayError("provider_error", "The provider answered something that is no stream of a completion.");
    }
    // Not every server says [DONE].
    if (this.#sawDone || this.#finished.size >= this.#options.choiceCount) return undefined;
    return new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
  }

  #take(frame: SseFrame): void {
    const { data } = frame;
    // Comments and the like: the door has its own keep-alive.
    if (data === undefined || data === "") return;
    if (data === "[DONE]") {
      this.#sawDone = true;
      return;
    }
    const chunk = parseJson(data);
    if (!isObject(chunk)) {
      this.#failure = new GatewayError("provider_error", "The provider sent an event that is not JSON.");
    } else if (hasError(chunk)) {
      this.#failure = inBandError(chunk);
    } else if (frame.event === "error") {
      this.#failure = inBandError({ error: chunk });
    } else {
      this.#read(frame, chunk);
    }
  }

  #read(frame: SseFrame, chunk: JsonObject): void {
    const choices = arrayOf(chunk.choices);
    // Some name the tier in the first chunks only, and the usage in the last.
    this.#serviceTier = chunk.service_tier ?? this.#serviceTier;
    const usage = readUsage(chunk.usage, this.#serviceTier);
    if (usage !== undefined) this.#usage = usage;
    this.#responseId ??= textOf(chunk.id);
    this.#model ??= textOf(chunk.model);
    if (chunk.choices !== undefined) this.#chunkCount += 1;
    for (const value of choices) {
      const choice = objectOf(value) ?? {};
      const reason = textOf(choice.finish_reason);
      if (reason !== undefined) this.#finished.set(countOf(choice.index) ?? 0, reason);
    }
    if (this.#options.lane === "neutral") {
      this.#pushNeutral(chunk);
    } else if (choices.length > 0 || usage === undefined || this.#options.includeUsage) {
      this.#pushRaw(frame, chunk);
    }
  }

  #pushRaw(frame: SseFrame, chunk: JsonObject): void {
    this.#outputTokens += estimateTokens(chunk);
    if (frame.event === "") this.#frames.push(frame.bytes);
    // A name OpenAI does not use: the client must not see it, but a chunk under it is still part of the answer.
    else if (chunk.choices !== undefined) this.#frames.push(Buffer.from(`data: ${JSON.stringify(chunk)}\n\n`));
  }

  #pushNeutral(chunk: JsonObject): void {
    const choices = arrayOf(chunk.choices);
    if (!this.#started && choices.length > 0) {
      this.#started = true;
      this.#events.push(startEvent(chunk));
    }
    for (const value of choices) {
      const choice = objectOf(value) ?? {};
      const index = countOf(choice.index) ?? 0;
      pushDelta(this.#events, index, objectOf(choice.delta) ?? {}, choice.logprobs);
      const reason = textOf(choice.finish_reason);
      if (reason !== undefined) this.#events.push({ type: "finish", choice: index, reason });
    }
  }

  /** Hands over what has gathered. */
  #drain(): readonly CompletionEvent[] {
    if (this.#frames.length > 0) {
      this.#events.push({ type: "raw", bytes: joinAdjacent(this.#frames), outputTokens: this.#outputTokens });
      this.#frames = [];
      this.#outputTokens = 0;
    }
    const events = this.#events;
    this.#events = [];
    return events;
  }
}

/** Four bytes a token, as most tokenizers have it for most text, and at least one for a piece that holds something. */
function estimateTokens(chunk: JsonObject): number {
  let bytes = 0;
  for (const value of arrayOf(chunk.choices)) {
    const choice = objectOf(value);
    // Chunks of plain completions have no delta.
    bytes += sizeOf(choice?.text);
    const delta = objectOf(choice?.delta);
    if (delta === undefined) continue;
    for (const field of ["content", "reasoning_content", "reasoning", "refusal"]) bytes += sizeOf(delta[field]);
    for (const call of arrayOf(delta.tool_calls)) {
      const called = objectOf(objectOf(call)?.function);
      bytes += sizeOf(called?.name) + sizeOf(called?.arguments);
    }
  }
  return Math.ceil(bytes / 4);
}

function sizeOf(value: unknown): number {
  return typeof value === "string" ? Buffer.byteLength(value) : 0;
}
