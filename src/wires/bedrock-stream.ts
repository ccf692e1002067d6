/** Amazon Bedrock's ConverseStream: reading an answer as it comes. */

import type { CompletionEvent, DeltaEvent, JsonObject, OutputEvent, ToolCallDelta, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { jsonToolName } from "./anthropic-format.ts";
import { type BedrockFacts, readBedrockUsage, readCitation, startEvent, stopReason } from "./bedrock-answer.ts";
import { inBandException } from "./bedrock-error.ts";
import { type EventMessage, EventStreamSplitter } from "./event-stream.ts";
import { countOf, isObject, objectOf, parseJson, textOf } from "./json.ts";

/** A tool call under way. */
interface Call {
  /** Undefined: its input is the answer. */
  readonly index: number | undefined;
  hasInput: boolean;
}

/** Reads the body of a streamed answer, however the network cut it. An AnswerReader. */
export class BedrockStreamReader {
  readonly #splitter = new EventStreamSplitter();
  readonly #facts: BedrockFacts;
  /** By the number of the block they stand in. */
  readonly #calls = new Map<number, Call>();
  #callCount = 0;
  #events: OutputEvent[] = [];
  #failure: GatewayError | undefined;
  #started = false;
  #reason: string | undefined;
  #sawMetadata = false;
  #usage: Usage | undefined;

  constructor(facts: BedrockFacts) {
    this.#facts = facts;
  }

  /** Whether nothing more is wanted of the body: its last event has come, or it is broken. */
  get over(): boolean {
    return this.#failure !== undefined || (this.#reason !== undefined && this.#sawMetadata);
  }

  /** Why the answer is not whole. What came before it has been given out. */
  get failure(): GatewayError | undefined {
    return this.#failure;
  }

  push(chunk: Buffer): readonly OutputEvent[] {
    if (this.over) return [];
    for (const message of this.#splitter.push(chunk)) {
      this.#take(message);
      if (this.over) break;
    }
    if (this.#splitter.fault !== undefined && !this.over) {
      this.#failure = new GatewayError(
        "provider_error",
        `The provider's stream cannot be read: ${this.#splitter.fault}.`,
      );
    }
    return this.#drain();
  }

  /** The body is over. @returns the last events, ending with `end` unless there is a `failure`. */
  end(): readonly CompletionEvent[] {
    if (this.#failure !== undefined) return [];
    if (!this.#started && !this.#splitter.isInside) {
      this.#failure = new GatewayError(
        "provider_error",
        "The provider answered something that is no stream of events.",
      );
    } else if (this.#reason === undefined) {
      this.#failure = new GatewayError("stream_interrupted", "The provider broke off in the middle of its answer.");
    } else {
      this.#events.push({ type: "finish", choice: 0, reason: this.#reason });
      return [...this.#drain(), { type: "end", usage: this.#usage, responseId: this.#facts.id, raw: undefined }];
    }
    return this.#drain();
  }

  #take({ headers, payload }: EventMessage): void {
    const kind = headers.get(":message-type") ?? "event";
    const body = payload.length === 0 ? {} : parseJson(payload.toString());
    if (kind !== "event") {
      const name = headers.get(":exception-type") ?? headers.get(":error-code") ?? "";
      this.#failure = inBandException(name, textOf(objectOf(body)?.message) ?? headers.get(":error-message") ?? "");
    } else if (!isObject(body)) {
      this.#failure = new GatewayError("provider_error", "The provider sent an event that is not JSON.");
    } else {
      this.#read(headers.get(":event-type") ?? "", body);
    }
  }

  #read(type: string, body: JsonObject): void {
    const block = countOf(body.contentBlockIndex) ?? 0;
    switch (type) {
      case "messageStart":
        this.#start();
        break;
      case "contentBlockStart":
        this.#startBlock(block, objectOf(body.start) ?? {});
        break;
      case "contentBlockDelta":
        this.#continueBlock(block, objectOf(body.delta) ?? {});
        break;
      case "contentBlockStop":
        this.#stopBlock(block);
        break;
      case "messageStop":
        this.#reason = stopReason(body.stopReason, this.#callCount);
        break;
      case "metadata":
        this.#sawMetadata = true;
        this.#usage = readBedrockUsage(body.usage, body.serviceTier) ?? this.#usage;
    }
  }

  #start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#events.push(startEvent(this.#facts));
  }

  #startBlock(block: number, start: JsonObject): void {
    const used = objectOf(start.toolUse);
    if (this.#facts.readsJsonTool && used?.name === jsonToolName) {
      this.#calls.set(block, { index: undefined, hasInput: false });
    } else if (used !== undefined) {
      const index = this.#callCount;
      this.#callCount += 1;
      this.#calls.set(block, { index, hasInput: false });
      this.#call({ index, id: textOf(used.toolUseId) ?? "", name: textOf(used.name) ?? "" });
    } else if (Object.keys(start).length > 0) {
      this.#delta({ providerFields: { blocks: [start] } });
    }
  }

  #continueBlock(block: number, delta: JsonObject): void {
    const call = this.#calls.get(block);
    const input = textOf(objectOf(delta.toolUse)?.input);
    if (input !== undefined && call !== undefined) {
      call.hasInput = true;
      this.#input(call, input);
      return;
    }
    const text = textOf(delta.text);
    const thought = objectOf(delta.reasoningContent);
    const citation = objectOf(delta.citation);
    const isEmpty = delta.text !== undefined || delta.toolUse !== undefined || Object.keys(delta).length === 0;
    if (text !== undefined) this.#delta({ text });
    else if (thought !== undefined) this.#think(thought);
    else if (citation !== undefined) this.#delta(readCitation(citation));
    else if (!isEmpty) this.#delta({ providerFields: { blocks: [delta] } });
  }

  #think(thought: JsonObject): void {
    const reasoning = textOf(thought.text);
    const signature = textOf(thought.signature);
    const redactedReasoning = textOf(thought.redactedContent);
    this.#delta({
      ...(reasoning !== undefined && { reasoning }),
      ...(signature !== undefined && { signature }),
      ...(redactedReasoning !== undefined && { redactedReasoning }),
    });
  }

  /** A call without arguments has no piece that says so. */
  #stopBlock(block: number): void {
    const call = this.#calls.get(block);
    if (call !== undefined && !call.hasInput) this.#input(call, "{}");
  }

  #input({ index }: Call, text: string): void {
    if (index === undefined) this.#delta({ text });
    else this.#call({ index, arguments: text });
  }

  #call(piece: ToolCallDelta): void {
    this.#delta({ toolCalls: [piece] });
  }

  #delta(fields: Omit<DeltaEvent, "type" | "choice">): void {
    this.#start();
    this.#events.push({ type: "delta", choice: 0, ...fields });
  }

  #drain(): readonly OutputEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }
}
