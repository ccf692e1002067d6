import type { CallEvent, CompletionRequest, Json, Usage } from "./completion.ts";
import type { RouterConfig } from "./config/config.ts";

/** What a model is told that goes on where another broke off. */
const note =
  "Your previous answer was cut off; what there is of it follows as your own last message. Go on exactly where it ends, in the same style and language, without repeating or introducing anything.";

/** What a model needs that may have to go on with a stream another has begun; undefined: it is not to be gone on with. */
export function continuationFor(
  request: CompletionRequest,
  config: Pick<RouterConfig, "continuesStreams">,
): Continuation | undefined {
  // A response that its provider keeps is whole there or not at all.
  const isOwn = request.operation !== "chat" || request.wire === "openai-responses";
  const isPossible = !isOwn && request.stream && request.choiceCount === 1;
  return isPossible && config.continuesStreams === true ? new Continuation() : undefined;
}

/**
 * The text of a stream that may break off, so that another model can go on. Only plain text can be gone on with: a stream that has begun
 * anything else, a tool call for instance, ends where it broke.
 */
export class Continuation {
  #text = "";
  #isPlain = true;
  /** Used before the stream broke off; undefined: it has not. */
  #used: Usage | undefined;

  /** Whether there is something to go on with. */
  get isPossible(): boolean {
    return this.#isPlain && this.#text !== "";
  }

  /** Whether the caller has had an event like it from the attempt that broke off. */
  isRepeated({ type }: CallEvent): boolean {
    return type === "accepted" || type === "start";
  }

  /** Remembers what goes to the caller. @returns it; at the end with what all attempts used. */
  pass(event: CallEvent): CallEvent {
    if (event.type === "settled") return { ...event, usage: add(this.#used, event.usage) ?? event.usage };
    this.#observe(event);
    return event;
  }

  #observe(event: CallEvent): void {
    if (event.type === "finish") this.#isPlain = false;
    if (event.type !== "delta") return;
    const { type: _type, choice, text, ...others } = event;
    if (choice !== 0 || Object.values(others).some((value) => value !== undefined)) this.#isPlain = false;
    this.#text += text ?? "";
  }

  /** The request that goes on: the conversation, and what there is of the answer. */
  request(request: CompletionRequest): CompletionRequest {
    const body = request.chat();
    const messages = [
      ...(body.messages as Json[]),
      { role: "system", content: note },
      { role: "assistant", content: this.#text },
    ];
    const chat = { ...body, messages };
    const bytes = Buffer.byteLength(this.#text) + Buffer.byteLength(note);
    return {
      ...request,
      wire: undefined,
      raw: undefined,
      inputTokensMax: request.inputTokensMax + bytes,
      chat: () => chat,
    };
  }

  /** An attempt that began has broken off. */
  broke(usage: Usage | undefined): void {
    this.#used = add(this.#used, usage);
  }
}

function add(one: Usage | undefined, other: Usage | undefined): Usage | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return {
    ...other,
    inputTokens: one.inputTokens + other.inputTokens,
    outputTokens: one.outputTokens + other.outputTokens,
    cacheReadInputTokens: one.cacheReadInputTokens + other.cacheReadInputTokens,
    cacheWriteInputTokens: one.cacheWriteInputTokens + other.cacheWriteInputTokens,
    reasoningOutputTokens: one.reasoningOutputTokens + other.reasoningOutputTokens,
    estimated: one.estimated || other.estimated,
  };
}
