/** The loop that the readers of all answers in server-sent events have in common. */

import type { CompletionEvent, JsonObject, OutputEvent } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { isObject, parseJson } from "./json.ts";
import { joinAdjacent, type SseFrame, SseSplitter } from "./sse.ts";

const blankLine = Buffer.from("\n\n");
const frameBytesMaxDefault = 1_048_576;

/**
 * Reads the body of a streamed answer, however the network cut it: frame by frame, each a JSON object. An AnswerReader; what the
 * frames mean is a wire's to say.
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
export abstract class SseAnswerReader {
  readonly #splitter: SseSplitter;
  #failure: GatewayError | undefined;
  #sawEnd = false;
  /** Frames to pass on, and roughly the output tokens in them. */
  #frames: Buffer[] = [];
  #outputTokens = 0;
  /** What has been made of the frames and not handed over. */
  protected events: OutputEvent[] = [];

  /** @param frameBytesMax the longest frame. Default: 1 MiB. */
  constructor(frameBytesMax = frameBytesMaxDefault) {
    this.#splitter = new SseSplitter(frameBytesMax);
  }

  /** Whether nothing more is wanted of the body: it has ended by its own word, or it is broken. */
  get over(): boolean {
    return this.#sawEnd || this.#failure !== undefined;
  }

  /**
   * Why the answer is not whole: the provider's own error, `provider_error` for what is no answer, `stream_interrupted` when it
   * broke off. What came before it has been given out.
   */
  get failure(): GatewayError | undefined {
    return this.#failure;
  }

  /** Takes what one read brought. @returns at most one event where frames are passed on, else any number. */
  push(chunk: Buffer): readonly OutputEvent[] {
    if (this.over) return [];
    for (const frame of this.#splitter.push(chunk)) {
      this.#take(frame);
      if (this.over) break;
    }
    if (this.#splitter.overflowed && !this.over) {
      this.fail(new GatewayError("provider_error", "The provider sent a longer event than the gateway takes."));
    }
    return this.holdsBack ? [] : this.#drain();
  }

  /** The body is over. @returns the last events, ending with `end` unless there is a `failure`. */
  end(): readonly CompletionEvent[] {
    const tail = this.over ? undefined : this.#splitter.flush();
    // A last frame that lacks its blank line is good if it is whole, else it is where the stream was cut.
    if (tail !== undefined && (this.isLastWord(tail.data ?? "") || isObject(parseJson(tail.data ?? "")))) {
      this.#take({ ...tail, bytes: Buffer.concat([tail.bytes, blankLine]) });
    }
    if (this.#failure === undefined) this.#failure = this.judgeEnd();
    const isHeldBack = this.#failure !== undefined && this.holdsBack;
    const events = isHeldBack ? [] : this.#drain();
    return this.#failure === undefined ? [...events, ...this.lastEvents()] : events;
  }

  /** Whether nothing is given out yet: what has failed so far can be replaced by another provider. */
  protected get holdsBack(): boolean {
    return false;
  }

  /** Whether the answer has ended by its own word. */
  protected get sawEnd(): boolean {
    return this.#sawEnd;
  }

  /** Whether what is not JSON says that the answer is over. */
  protected isLastWord(_data: string): boolean {
    return false;
  }

  /** Takes a frame that need not be parsed. @returns false: it is not known to be such. */
  protected takeUnparsed(_frame: SseFrame): boolean {
    return false;
  }

  /** Reads what a frame holds. */
  protected abstract read(value: JsonObject, frame: SseFrame): void;

  /** The body is over. @returns why the answer is not whole. */
  protected abstract judgeEnd(): GatewayError | undefined;

  /** What ends a whole answer. */
  protected abstract lastEvents(): readonly CompletionEvent[];

  /** The answer has ended by its own word: nothing more is read. */
  protected finish(): void {
    this.#sawEnd = true;
  }

  /** The answer is broken: nothing more is read of it. */
  protected fail(failure: GatewayError): void {
    this.#failure ??= failure;
  }

  /** Passes bytes on as they are. @param outputTokens roughly how many are in them. */
  protected pass(bytes: Buffer, outputTokens: number): void {
    this.#frames.push(bytes);
    this.#outputTokens += outputTokens;
  }

  #take(frame: SseFrame): void {
    const { data } = frame;
    // Comments and the like: the door has its own keep-alive.
    if (data === undefined || data === "") return;
    if (this.isLastWord(data)) {
      this.finish();
      return;
    }
    if (this.takeUnparsed(frame)) return;
    const value = parseJson(data);
    if (isObject(value)) this.read(value, frame);
    else this.fail(new GatewayError("provider_error", "The provider sent an event that is not JSON."));
  }

  /** Hands over what has gathered. */
  #drain(): readonly OutputEvent[] {
    if (this.#frames.length > 0) {
      const outputTokens = Math.ceil(this.#outputTokens);
      this.events.push({ type: "raw", bytes: joinAdjacent(this.#frames), outputTokens });
      this.#frames = [];
      this.#outputTokens = 0;
    }
    const { events } = this;
    this.events = [];
    return events;
  }
}
