/** Anthropic's Messages: writing an answer from neutral events. */

import type { DeltaEvent, FinishEvent, Json, JsonObject, StartEvent, ToolCallDelta, Usage } from "../completion.ts";
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

/** Writes a stream of Anthropic's events. A message has one choice; of an answer with more the first is written. */
export class MessageStreamEncoder {
  /** The block under way: its kind, or a tool call's index. */
  #open: "text" | "thinking" | number | undefined;
  #blocks = 0;
  /** Blocks of tool calls, by the call's index. */
  readonly #calls = new Map<number, number>();
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
    return Buffer.from(this.#close() + last + frame({ type: "message_stop" }));
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

  #callFrames(call: ToolCallDelta): string {
    let frames = "";
    let block = this.#calls.get(call.index);
    if (block === undefined) {
      const id = textOf(call.id) ?? `toolu_${call.index}`;
      frames += this.#begin(call.index, { type: "tool_use", id, name: call.name ?? "", input: {} });
      block = this.#blocks - 1;
      this.#calls.set(call.index, block);
    }
    const json = textOf(call.arguments);
    // Providers write one call after the other. A late piece of an earlier one still finds its block by the index.
    if (json !== undefined) frames += this.#piece({ type: "input_json_delta", partial_json: json }, block);
    return frames;
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
