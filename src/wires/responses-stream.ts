/** OpenAI's responses: reading an answer as it comes. */

import type { CompletionEvent, JsonObject, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { isObject, objectOf, parseJson, textOf } from "./json.ts";
import { rewriteMembers, scanObject } from "./json-spans.ts";
import { inBandError } from "./openai-error.ts";
import { type ResponseNames, renamed } from "./responses-answer.ts";
import { ResponseEvents } from "./responses-events.ts";
import { readUsage } from "./responses-usage.ts";
import { joinAdjacent, type SseFrame, SseSplitter } from "./sse.ts";

/** The last frame holds the whole response, images it has drawn included. */
const frameBytesMax = 64 * 1_048_576;

/**
 * Reads the body of a streamed response, however the network cut it. For a caller of this wire, frames pass as they are but for the
 * ids in those that hold the response; for others they become neutral events. It is used as `ChatStreamReader` is.
 */
export class ResponseStreamReader {
  /** Undefined: the caller speaks another wire. */
  readonly #names: ResponseNames | undefined;
  readonly #neutral = new ResponseEvents();
  #events: CompletionEvent[] = [];
  readonly #splitter = new SseSplitter(frameBytesMax);
  #failure: GatewayError | undefined;
  #frames: Buffer[] = [];
  #outputTokens = 0;
  #eventCount = 0;
  #usage: Usage | undefined;
  #responseId: string | undefined;
  #isWhole = false;
  /** The frame with which the response says that it has ended. */
  #last: Buffer | undefined;

  /** @param names undefined: the caller speaks another wire. */
  constructor(names: ResponseNames | undefined) {
    this.#names = names;
  }

  get over(): boolean {
    return this.#isWhole || this.#failure !== undefined;
  }

  get failure(): GatewayError | undefined {
    return this.#failure;
  }

  /** Takes what one read brought. @returns at most one event, if frames pass. */
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
    if (tail !== undefined && isObject(parseJson(tail.data ?? ""))) this.#take(tail);
    const events = this.#drain();
    this.#failure ??= this.#judgeEnd();
    if (this.#failure !== undefined) return events;
    return [...events, { type: "end", usage: this.#usage, responseId: this.#responseId, raw: this.#last }];
  }

  #judgeEnd(): GatewayError | undefined {
    if (this.#isWhole) return undefined;
    return this.#eventCount === 0
      ? new GatewayError("provider_error", "The provider answered something that is no stream of a response.")
      : new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
  }

  #take(frame: SseFrame): void {
    const { data } = frame;
    // Comments and the like: the door has its own keep-alive. Some servers end with chat's last word.
    if (data === undefined || data === "" || data === "[DONE]") return;
    const event = parseJson(data);
    if (!isObject(event)) {
      this.#failure = new GatewayError("provider_error", "The provider sent an event that is not JSON.");
      return;
    }
    const type = textOf(event.type);
    const response = objectOf(event.response);
    if (type === "error" || (type === undefined && isObject(event.error))) {
      this.#failure = inBandError({ error: event.error ?? event });
    } else if (type === "response.failed") {
      this.#failure = inBandError({ error: response?.error ?? {} });
    } else if (type !== undefined) {
      this.#eventCount += 1;
      if (type === "response.completed" || type === "response.incomplete") this.#finish(response ?? {});
      if (this.#names === undefined) this.#events.push(...this.#neutral.read(event));
      else this.#pass(response === undefined ? frame.bytes : renamedFrame(frame, type, response, this.#names), event);
    }
  }

  #finish(response: JsonObject): void {
    this.#isWhole = true;
    this.#usage = readUsage(response.usage, response.service_tier);
    this.#responseId = textOf(response.id);
  }

  #pass(bytes: Buffer, event: JsonObject): void {
    if (this.#isWhole) {
      this.#last = bytes;
      return;
    }
    this.#frames.push(bytes);
    if (typeof event.delta === "string") this.#outputTokens += Math.ceil(Buffer.byteLength(event.delta) / 4);
  }

  /** Hands over what has gathered. */
  #drain(): readonly CompletionEvent[] {
    const events = this.#events;
    this.#events = [];
    if (this.#frames.length === 0) return events;
    const [bytes, outputTokens] = [joinAdjacent(this.#frames), this.#outputTokens];
    this.#frames = [];
    this.#outputTokens = 0;
    return [...events, { type: "raw", bytes, outputTokens }];
  }
}

function renamedFrame(frame: SseFrame, type: string, response: JsonObject, names: ResponseNames): Buffer {
  // Between the tokens of JSON a space is as good as a line's end, which would end the field.
  const bytes = Buffer.from((frame.data ?? "").replaceAll("\n", " "));
  const { spans } = scanObject(bytes);
  const span = spans.get("response") ?? { start: 0, end: 0 };
  const inner = bytes.subarray(span.start, span.end);
  const named = renamed(inner, response, names);
  if (named === inner) return frame.bytes;
  const written = rewriteMembers({ bytes, spans }, new Map([["response", named.toString()]]));
  return Buffer.concat([Buffer.from(`event: ${type}\ndata: `), written, Buffer.from("\n\n")]);
}
