/** OpenAI's responses: reading an answer as it comes. */

import type { CompletionEvent, JsonObject, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { isObject, objectOf, textOf } from "./json.ts";
import { rewriteMembers, scanObject } from "./json-spans.ts";
import { inBandError } from "./openai-error.ts";
import { type ResponseNames, renamed } from "./responses-answer.ts";
import { endFacts, ResponseEvents } from "./responses-events.ts";
import { usageOfResponse } from "./responses-usage.ts";
import type { SseFrame } from "./sse.ts";
import { SseAnswerReader } from "./sse-answer.ts";

/** The last frame holds the whole response, images it has drawn included. */
const frameBytesMax = 64 * 1_048_576;

/**
 * Reads the body of a streamed response. For a caller of this wire, frames pass as they are but for the ids in those that hold the
 * response; for others they become neutral events.
 */
export class ResponseStreamReader extends SseAnswerReader {
  /** Undefined: the caller speaks another wire. */
  readonly #names: ResponseNames | undefined;
  readonly #neutral = new ResponseEvents();
  #eventCount = 0;
  #usage: Usage | undefined;
  #responseId: string | undefined;
  #endFacts: ReturnType<typeof endFacts> | undefined;
  #isWhole = false;
  /** The frame with which the response says that it has ended. */
  #last: Buffer | undefined;

  /** @param names undefined: the caller speaks another wire. */
  constructor(names: ResponseNames | undefined) {
    super(frameBytesMax);
    this.#names = names;
  }

  /** Some servers end with chat's last word. */
  protected override isLastWord(data: string): boolean {
    return data === "[DONE]";
  }

  protected override judgeEnd(): GatewayError | undefined {
    if (this.#isWhole) return undefined;
    return this.#eventCount === 0
      ? new GatewayError("provider_error", "The provider answered something that is no stream of a response.")
      : new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
  }

  protected override lastEvents(): readonly CompletionEvent[] {
    return [{ type: "end", usage: this.#usage, responseId: this.#responseId, raw: this.#last, ...this.#endFacts }];
  }

  protected override read(event: JsonObject, frame: SseFrame): void {
    const type = textOf(event.type);
    const response = objectOf(event.response);
    if (type === "error" || (type === undefined && isObject(event.error))) {
      this.fail(inBandError({ error: event.error ?? event }));
    } else if (type === "response.failed") {
      this.fail(inBandError({ error: response?.error ?? {} }));
    } else if (type !== undefined) {
      this.#eventCount += 1;
      if (type === "response.completed" || type === "response.incomplete") this.#finish(response ?? {});
      if (this.#names === undefined) this.events.push(...this.#neutral.read(event));
      else this.#pass(response === undefined ? frame.bytes : renamedFrame(frame, type, response, this.#names), event);
    }
  }

  #finish(response: JsonObject): void {
    this.finish();
    this.#isWhole = true;
    this.#usage = usageOfResponse(response);
    this.#responseId = textOf(response.id);
    if (this.#names !== undefined) this.#endFacts = endFacts(response);
  }

  #pass(bytes: Buffer, event: JsonObject): void {
    if (this.#isWhole) this.#last = bytes;
    else this.pass(bytes, Math.ceil(Buffer.byteLength(textOf(event.delta) ?? "") / 4));
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
