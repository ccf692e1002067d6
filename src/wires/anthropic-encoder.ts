/** Anthropic's Messages: writing an answer from neutral events. */

import type { DeltaEvent, FinishEvent, Json, JsonObject, StartEvent, ToolCallDelta, Usage } from "../completion.ts";
import type { GatewayError } from "../errors.ts";
import { anthropicErrorFrame } from "./anthropic-error.ts";
import { usageFields } from "./anthropic-usage.ts";
import { GatheredChoice, type Thinking } from "./gathered-choice.ts";
import { objectOf, parseJson, textOf } from "./json.ts";

type AnswerEvent = StartEvent | DeltaEvent | FinishEvent;

const stopReasons: ReadonlyMap<string, string> = new Map([
  ["stop", "end_turn"],
  ["length", "max_tokens"],
  ["tool_calls", "tool_use"],
  ["function_call", "tool_use"],
  ["content_filter", "refusal"],
]);

/** A tool call as it is streamed. */
interface StreamedCall {
  readonly id: string;
  readonly name: string;
  /** The arguments so far. */
  json: string;
  /** The block it is written in; undefined while it waits. */
  block: number | undefined;
}

/** Writes a stream of Anthropic's events. A message has one choice; of an answer with more the first is written. */
export class MessageStreamEncoder {
  /** The block under way: its kind, or a tool call's index. */
  #open: "text" | "thinking" | number | undefined;
  #blocks = 0;
  /** By the provider's index, in the order they began. */
  readonly #calls = new Map<number, StreamedCall>();
  #reason = "stop";

  /** @returns the frames for an event; undefined if there are none. */
  encode(event: AnswerEvent): Buffer | undefined {
    if (event.type === "start") return framed(messageStart(event) + frame({ type: "ping" }));
    if (event.choice !== 0) return undefined;
    if (event.type === "finish") {
      this.#reason = event.reason;
      return undefined;
    }
    return framed(this.#deltaFrames(event));
  }

  /** @returns what ends the stream. */
  end(usage: Usage): Buffer {
    const delta = { stop_reason: stopReasonOf(this.#reason, this.#calls.size > 0), stop_sequence: null };
    const last = frame({ type: "message_delta", delta, usage: usageFields(usage) });
    let waiting = "";
    for (const [index, call] of this.#calls) if (call.block === undefined) waiting += this.#beginCall(index, call);
    return Buffer.from(waiting + this.#close() + last + frame({ type: "message_stop" }));
  }

  fail(error: GatewayError, requestId: string): string {
    return anthropicErrorFrame(error, requestId);
  }

  #deltaFrames(event: DeltaEvent): string {
    let frames = this.#thinkingFrames(event);
    const text = (event.text ?? "") + (event.refusal ?? "");
    if (text !== "") frames += this.#text({ type: "text_delta", text });
    for (const annotation of event.annotations ?? []) {
      const citation = citationOf(annotation);
      if (citation !== undefined) frames += this.#text({ type: "citations_delta", citation });
    }
    for (const call of event.toolCalls ?? []) frames += this.#callFrames(call);
    return frames;
  }

  #thinkingFrames({ reasoning, signature, redactedReasoning }: DeltaEvent): string {
    let frames = "";
    if (reasoning !== undefined || signature !== undefined) {
      if (this.#open !== "thinking")
        frames += this.#begin("thinking", { type: "thinking", thinking: "", signature: "" });
      if (reasoning !== undefined) frames += this.#piece({ type: "thinking_delta", thinking: reasoning });
      if (signature !== undefined) frames += this.#piece({ type: "signature_delta", signature }) + this.#close();
    }
    if (redactedReasoning !== undefined) {
      frames += this.#begin("thinking", { type: "redacted_thinking", data: redactedReasoning }) + this.#close();
    }
    return frames;
  }

  #text(delta: JsonObject): string {
    const begin = this.#open === "text" ? "" : this.#begin("text", { type: "text", text: "" });
    return begin + this.#piece(delta);
  }

  /**
   * Anthropic's clients take a block for whole when the next one begins, but other providers may write several calls by
   * turns: a call waits until the one before it has all its arguments.
   */
  #callFrames({ index, id, name = "", arguments: json = "" }: ToolCallDelta): string {
    let call = this.#calls.get(index);
    if (call === undefined) {
      call = { id: textOf(id) ?? `toolu_${index}`, name, json: "", block: undefined };
      this.#calls.set(index, call);
    }
    call.json += json;
    let frames = "";
    if (call.block !== undefined && json !== "") frames += this.#json(json, call.block);
    for (const [next, waiting] of this.#calls) {
      if (waiting.block !== undefined) continue;
      if (this.#isCalling()) break;
      frames += this.#beginCall(next, waiting);
    }
    return frames;
  }

  /** Whether the block under way is a call whose arguments are to be gone on with. */
  #isCalling(): boolean {
    if (typeof this.#open !== "number") return false;
    const json = this.#calls.get(this.#open)?.json ?? "";
    return !json.trimEnd().endsWith("}") || parseJson(json) === undefined;
  }

  #beginCall(index: number, call: StreamedCall): string {
    const { id, name, json } = call;
    const begin = this.#begin(index, { type: "tool_use", id, name, input: {} });
    call.block = this.#blocks - 1;
    return json === "" ? begin : begin + this.#json(json, call.block);
  }

  #json(partial_json: string, block: number): string {
    return this.#piece({ type: "input_json_delta", partial_json }, block);
  }

  #begin(kind: "text" | "thinking" | number, block: JsonObject): string {
    const before = this.#close();
    this.#open = kind;
    this.#blocks += 1;
    return before + frame({ type: "content_block_start", index: this.#blocks - 1, content_block: block });
  }

  #piece(delta: JsonObject, index = this.#blocks - 1): string {
    return frame({ type: "content_block_delta", index, delta });
  }

  #close(): string {
    if (this.#open === undefined) return "";
    this.#open = undefined;
    return frame({ type: "content_block_stop", index: this.#blocks - 1 });
  }
}

/** Writes one message from the events of its making. */
export class MessageAnswerEncoder {
  readonly #choice = new GatheredChoice();
  #start: StartEvent | undefined;

  add(event: AnswerEvent): void {
    if (event.type === "start") this.#start = event;
    else if (event.choice !== 0) return;
    else if (event.type === "finish") this.#choice.reason = event.reason;
    else this.#choice.add(event);
  }

  end(usage: Usage): Buffer {
    const choice = this.#choice;
    const text = (choice.text ?? "") + (choice.refusal ?? "");
    const citations = choice.annotations.map(citationOf).filter((citation) => citation !== undefined);
    const calls = [...choice.toolCalls].sort(([a], [b]) => a - b);
    const content: Json[] = [
      ...choice.thinking.map(thinkingBlock),
      ...(text === "" ? [] : [{ type: "text", text, ...(citations.length > 0 && { citations }) }]),
      ...calls.map(([index, { id, name, arguments: json }]) => {
        const input = objectOf(parseJson(json)) ?? {};
        return { type: "tool_use", id: textOf(id) ?? `toolu_${index}`, name, input };
      }),
    ];
    const head = messageHead(this.#start, content);
    return Buffer.from(
      JSON.stringify({
        ...head,
        stop_reason: stopReasonOf(choice.reason ?? "stop", calls.length > 0),
        usage: usageFields(usage),
      }),
    );
  }
}

function messageStart(event: StartEvent): string {
  const usage = { input_tokens: 0, output_tokens: 0 };
  return frame({ type: "message_start", message: { ...messageHead(event, []), usage } });
}

function messageHead(start: StartEvent | undefined, content: Json[]): JsonObject {
  const { id = "", model = "" } = start ?? {};
  const named = id.startsWith("msg_") ? id : `msg_${id}`;
  return { id: named, type: "message", role: "assistant", model, content, stop_reason: null, stop_sequence: null };
}

function thinkingBlock({ reasoning = "", signature = "", redactedReasoning }: Thinking): JsonObject {
  if (redactedReasoning !== undefined) return { type: "redacted_thinking", data: redactedReasoning };
  return { type: "thinking", thinking: reasoning, signature };
}

/** A source as Anthropic names what was found on the web. */
function citationOf(annotation: JsonObject): JsonObject | undefined {
  const cited = objectOf(annotation.url_citation);
  const url = textOf(cited?.url);
  if (url === undefined) return undefined;
  const title = textOf(cited?.title) ?? null;
  return { type: "web_search_result_location", url, title, cited_text: "", encrypted_index: "" };
}

/** Some servers say "stop" after calls of tools. */
function stopReasonOf(reason: string, hasCalls: boolean): string {
  if (reason === "stop" && hasCalls) return "tool_use";
  return stopReasons.get(reason) ?? "end_turn";
}

function frame(event: JsonObject): string {
  return `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}

function framed(frames: string): Buffer | undefined {
  return frames === "" ? undefined : Buffer.from(frames);
}
