/** OpenAI's chat completions: reading an answer as it comes. */

import type { CompletionEvent, Json, JsonObject, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { AlikeChunks } from "./alike-chunks.ts";
import { arrayOf, countOf, objectOf, textOf } from "./json.ts";
import { hasError, pushDelta, startEvent } from "./openai-chat-answer.ts";
import { inBandError } from "./openai-error.ts";
import { readUsage } from "./openai-usage.ts";
import type { SseFrame } from "./sse.ts";
import { SseAnswerReader } from "./sse-answer.ts";

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

/** Reads the body of a streamed answer. */
export class ChatStreamReader extends SseAnswerReader {
  readonly #options: ChatStreamOptions;
  /** Why each choice has ended. */
  readonly #finished = new Map<number, string>();
  readonly #alike = new AlikeChunks();
  #started = false;
  #chunkCount = 0;
  #serviceTier: Json | undefined;
  #usage: Usage | undefined;
  #responseId: string | undefined;
  #model: string | undefined;

  constructor(options: ChatStreamOptions) {
    super(options.frameBytesMax);
    this.#options = options;
  }

  protected override isLastWord(data: string): boolean {
    return data === "[DONE]";
  }

  protected override judgeEnd(): GatewayError | undefined {
    if (this.#chunkCount === 0) {
      return new GatewayError("provider_error", "The provider answered something that is no stream of a completion.");
    }
    // Not every server says [DONE].
    if (this.sawEnd || this.#finished.size >= this.#options.choiceCount) return undefined;
    return new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
  }

  protected override lastEvents(): readonly CompletionEvent[] {
    const end = { type: "end", usage: this.#usage, responseId: this.#responseId } as const;
    if (this.#options.lane === "neutral") return [{ ...end, raw: undefined }];
    return [{ ...end, raw: doneFrame, model: this.#model, finishReasons: [...this.#finished.values()] }];
  }

  protected override takeUnparsed({ bytes, data = "", event }: SseFrame): boolean {
    if (this.#options.lane === "neutral" || event !== "") return false;
    const text = this.#alike.textOf(data);
    if (text === undefined) return false;
    this.#chunkCount += 1;
    this.pass(bytes, tokensOf(Buffer.byteLength(text)));
    return true;
  }

  protected override read(chunk: JsonObject, frame: SseFrame): void {
    const error = hasError(chunk) ? chunk : frame.event === "error" ? { error: chunk } : undefined;
    if (error !== undefined) {
      this.fail(inBandError(error));
      return;
    }
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
    const tokens = estimateTokens(chunk);
    if (frame.event === "") {
      this.pass(frame.bytes, tokens);
      const text = this.#alike.isOpen ? onlyText(chunk) : undefined;
      if (text !== undefined) this.#alike.learn(frame.data ?? "", text);
    }
    // A name OpenAI does not use: the client must not see it, but a chunk under it is still part of the answer.
    else if (chunk.choices !== undefined) this.pass(Buffer.from(`data: ${JSON.stringify(chunk)}\n\n`), tokens);
  }

  #pushNeutral(chunk: JsonObject): void {
    const choices = arrayOf(chunk.choices);
    if (!this.#started && choices.length > 0) {
      this.#started = true;
      this.events.push(startEvent(chunk));
    }
    for (const value of choices) {
      const choice = objectOf(value) ?? {};
      const index = countOf(choice.index) ?? 0;
      pushDelta(this.events, index, objectOf(choice.delta) ?? {}, choice.logprobs);
      const reason = textOf(choice.finish_reason);
      if (reason !== undefined) this.events.push({ type: "finish", choice: index, reason });
    }
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
  return tokensOf(bytes);
}

function tokensOf(bytes: number): number {
  return Math.ceil(bytes / 4);
}

/** What a chunk says that says a piece of text, and nothing besides. */
function onlyText({ choices, usage }: JsonObject): string | undefined {
  const [choice, ...others] = arrayOf(choices).map(objectOf);
  if (choice === undefined || others.length > 0 || !isNothing(usage) || !isNothing(choice.finish_reason))
    return undefined;
  const { content, role: _, ...more } = objectOf(choice.delta) ?? {};
  return isNothing(choice.text) && Object.values(more).every(isNothing) ? textOf(content) : undefined;
}

function isNothing(value: Json | undefined): boolean {
  return value === undefined || value === null;
}

function sizeOf(value: unknown): number {
  return typeof value === "string" ? Buffer.byteLength(value) : 0;
}
