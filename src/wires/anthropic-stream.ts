/** Anthropic's Messages: reading an answer as it comes. */

import type { CompletionEvent, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { endFacts, pushFinish, startEvent } from "./anthropic-answer.ts";
import { BlockReader } from "./anthropic-blocks.ts";
import { mergeUsage, readUsage } from "./anthropic-usage.ts";
import { countOf, isObject, objectOf, textOf } from "./json.ts";
import { inBandError } from "./openai-error.ts";
import type { SseFrame } from "./sse.ts";
import { SseAnswerReader } from "./sse-answer.ts";

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
export class MessageStreamReader extends SseAnswerReader {
  readonly #options: MessageStreamOptions;
  readonly #blocks: BlockReader;
  #reason: string | undefined;
  #hasContent = false;
  #message: JsonObject | undefined;
  #usage: JsonObject = {};
  #lastFrame: Buffer | undefined;

  constructor(options: MessageStreamOptions) {
    super(options.frameBytesMax);
    this.#options = options;
    this.#blocks = new BlockReader({ lane: "stream", readsJsonTool: options.readsJsonTool });
  }

  protected override get holdsBack(): boolean {
    return !this.#hasContent;
  }

  protected override judgeEnd(): GatewayError | undefined {
    if (this.#message === undefined) {
      return new GatewayError("provider_error", "The provider answered something that is no stream of a message.");
    }
    // Not every server says message_stop.
    if (this.sawEnd || this.#reason !== undefined) return undefined;
    return new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
  }

  protected override lastEvents(): readonly CompletionEvent[] {
    const { id, model = null } = this.#message ?? {};
    const end = { type: "end", usage: readUsage(this.#usage), responseId: textOf(id) } as const;
    if (this.#options.lane === "neutral") return [{ ...end, raw: undefined }];
    return [{ ...end, raw: this.#lastFrame ?? stopFrame, ...endFacts({ model, stop_reason: this.#reason ?? null }) }];
  }

  protected override read(event: JsonObject, frame: SseFrame): void {
    if (event.type === "error" || frame.event === "error") {
      this.fail(inBandError(isObject(event.error) ? event : { error: event }));
    } else if (event.type === "message_stop") {
      this.finish();
      this.#lastFrame = frame.bytes;
    } else {
      const outputBytes = this.#read(event);
      // Four bytes a token, as most tokenizers have it for most text.
      if (this.#options.lane === "raw") this.pass(frame.bytes, outputBytes / 4);
    }
  }

  /** @returns how many bytes of output are in it. */
  #read(event: JsonObject): number {
    const isNeutral = this.#options.lane === "neutral";
    const index = countOf(event.index) ?? 0;
    switch (event.type) {
      case "message_start": {
        this.#message = objectOf(event.message) ?? {};
        this.#usage = mergeUsage(this.#usage, this.#message.usage);
        if (isNeutral) this.events.push(startEvent(this.#message, this.#options.nowMs));
        break;
      }
      case "content_block_start":
        this.#hasContent = true;
        if (isNeutral) this.#blocks.start(this.events, index, objectOf(event.content_block) ?? {});
        break;
      case "content_block_delta": {
        this.#hasContent = true;
        const delta = objectOf(event.delta) ?? {};
        if (!isNeutral) return bytesOf(delta);
        this.#blocks.delta(this.events, index, delta);
        break;
      }
      case "content_block_stop":
        if (isNeutral) this.#blocks.stop(this.events, index);
        break;
      case "message_delta": {
        const delta = objectOf(event.delta) ?? {};
        this.#usage = mergeUsage(this.#usage, event.usage);
        this.#hasContent = true;
        if (textOf(delta.stop_reason) === undefined || this.#reason !== undefined) break;
        this.#reason = textOf(delta.stop_reason);
        if (isNeutral) pushFinish(this.events, this.#blocks, delta);
        break;
      }
    }
    return 0;
  }
}

function bytesOf(delta: JsonObject): number {
  const text = delta.text ?? delta.thinking ?? delta.partial_json;
  return typeof text === "string" ? Buffer.byteLength(text) : 0;
}
