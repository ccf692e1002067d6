/** Anthropic's Messages: reading an answer as it comes. */

import type { CompletionEvent, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { endFacts, pushFinish, startEvent } from "./anthropic-answer.ts";
import { BlockReader } from "./anthropic-blocks.ts";
import { mergeUsage, readUsage } from "./anthropic-usage.ts";
import { countOf, isObject, objectOf, parseJson, textOf } from "./json.ts";
import { inBandError } from "./openai-error.ts";
import { joinAdjacent, type SseFrame, SseSplitter } from "./sse.ts";

const blankLine = Buffer.from("\n\n");
const stopFrame = Buffer.from('event: message_stop\ndata: {"type":"message_stop"}\n\n');

/** How a stream is to be read. */
export interface MessageStreamOptions {
  /** `raw`: the caller speaks this wire too, so frames are passed on as they are. `neutral`: it does not. */
  readonly lane: "raw" | "neutral";
  readonly readsJsonTool: boolean;
  /** Unix time, milliseconds. */
  readonly nowMs: number;
  /** The longest frame, in bytes. Default: 1 MiB. */
  readonly frameBytesMax?: number;
}

/**
 * Reads the body of a streamed answer, however the network cut it. Nothing is given out before the first content: a provider
 * that says it is overloaded right after it began can so be replaced by another.
 */
export class MessageStreamReader {
  readonly #options: MessageStreamOptions;
  readonly #splitter: SseSplitter;
  readonly #blocks: BlockReader;
  #failure: GatewayError | undefined;
  #sawStop = false;
  #sawReason = false;
  #reason: string | undefined;
  #hasContent = false;
  #message: JsonObject | undefined;
  #usage: JsonObject = {};
  /** Frames to pass on, and roughly the output tokens in them. */
  #frames: Buffer[] = [];
  #outputBytes = 0;
  #lastFrame: Buffer | undefined;
  #events: CompletionEvent[] = [];

  constructor(options: MessageStreamOptions) {
    this.#options = options;
    this.#splitter = new SseSplitter(options.frameBytesMax ?? 1_048_576);
    this.#blocks = new BlockReader({ lane: "stream", readsJsonTool: options.readsJsonTool });
  }

  /** Whether nothing more is wanted of the body: it has ended by its own word, or it is broken. */
  get over(): boolean {
    return this.#sawStop || this.#failure !== undefined;
  }

  /**
   * Why the answer is not whole: the provider's own error, `provider_error` for what is no message, `stream_interrupted` when
   * it broke off. What came before it has been given out.
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
    if (tail !== undefined && isObject(parseJson(tail.data ?? ""))) {
      this.#take({ ...tail, bytes: Buffer.concat([tail.bytes, blankLine]) });
    }
    this.#failure ??= this.#judgeEnd();
    // A message may be whole without any content.
    if (this.#failure === undefined) this.#hasContent = true;
    const events = [...this.#drain()];
    if (this.#failure !== undefined) return events;
    const raw = this.#options.lane === "raw" ? (this.#lastFrame ?? stopFrame) : undefined;
    const { id, model = null } = this.#message ?? {};
    const end = { type: "end", usage: readUsage(this.#usage), responseId: textOf(id), raw } as const;
    const facts = endFacts({ model, stop_reason: this.#reason ?? null });
    events.push(this.#options.lane === "raw" ? { ...end, ...facts } : end);
    return events;
  }

  #judgeEnd(): GatewayError | undefined {
    if (this.#message === undefined) {
      return new GatewayError("provider_error", "The provider answered something that is no stream of a message.");
    }
    // Not every server says message_stop.
    if (this.#sawStop || this.#sawReason) return undefined;
    return new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
  }

  #take(frame: SseFrame): void {
    // Comments and the like: the door has its own keep-alive.
    if (frame.data === undefined || frame.data === "") return;
    const event = parseJson(frame.data);
    if (!isObject(event)) {
      this.#failure = new GatewayError("provider_error", "The provider sent an event that is not JSON.");
      return;
    }
    if (event.type === "error" || frame.event === "error") {
      this.#failure = inBandError(isObject(event.error) ? event : { error: event });
      return;
    }
    if (event.type === "message_stop") {
      this.#sawStop = true;
      this.#lastFrame = frame.bytes;
      return;
    }
    this.#read(event);
    if (this.#options.lane === "raw") this.#frames.push(frame.bytes);
  }

  #read(event: JsonObject): void {
    const isNeutral = this.#options.lane === "neutral";
    const index = countOf(event.index) ?? 0;
    switch (event.type) {
      case "message_start": {
        this.#message = objectOf(event.message) ?? {};
        this.#usage = mergeUsage(this.#usage, this.#message.usage);
        if (isNeutral) this.#events.push(startEvent(this.#message, this.#options.nowMs));
        break;
      }
      case "content_block_start":
        this.#hasContent = true;
        if (isNeutral) this.#blocks.start(this.#events, index, objectOf(event.content_block) ?? {});
        break;
      case "content_block_delta": {
        this.#hasContent = true;
        const delta = objectOf(event.delta) ?? {};
        if (isNeutral) this.#blocks.delta(this.#events, index, delta);
        else this.#outputBytes += bytesOf(delta);
        break;
      }
      case "content_block_stop":
        if (isNeutral) this.#blocks.stop(this.#events, index);
        break;
      case "message_delta": {
        const delta = objectOf(event.delta) ?? {};
        this.#usage = mergeUsage(this.#usage, event.usage);
        this.#hasContent = true;
        if (textOf(delta.stop_reason) === undefined || this.#sawReason) break;
        this.#sawReason = true;
        this.#reason = textOf(delta.stop_reason);
        if (isNeutral) pushFinish(this.#events, this.#blocks, delta);
        break;
      }
    }
  }

  /** Hands over what has gathered. */
  #drain(): readonly CompletionEvent[] {
    if (!this.#hasContent) return [];
    if (this.#frames.length > 0) {
      // Four bytes a token, as most tokenizers have it for most text.
      const outputTokens = Math.ceil(this.#outputBytes / 4);
      this.#events.push({ type: "raw", bytes: joinAdjacent(this.#frames), outputTokens });
      this.#frames = [];
      this.#outputBytes = 0;
    }
    const events = this.#events;
    this.#events = [];
    return events;
  }
}

function bytesOf(delta: JsonObject): number {
  const text = delta.text ?? delta.thinking ?? delta.partial_json;
  return typeof text === "string" ? Buffer.byteLength(text) : 0;
}
