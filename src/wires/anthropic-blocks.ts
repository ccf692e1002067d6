/** Anthropic's Messages: reading the content blocks of an answer, whole or as they come. */

import type { DeltaEvent, Json, JsonObject, OutputEvent } from "../completion.ts";
import { jsonToolName } from "./anthropic-format.ts";
import { arrayOf, isObject, objectOf, textOf } from "./json.ts";

/** A block that has begun. */
interface OpenBlock {
  readonly type: string;
  readonly block: JsonObject;
  /** Of a tool's call: its place among the calls; undefined if its input is the answer's text. */
  readonly call: number | undefined;
  /** Where its text begins in the text of the answer. */
  readonly textStart: number;
  readonly citations: JsonObject[];
  /** Whether any of a tool's input has come. */
  hasInput: boolean;
}

/** Turns content blocks into neutral deltas. */
export class BlockReader {
  readonly #lane: "whole" | "stream";
  readonly #readsJsonTool: boolean;
  readonly #open = new Map<number, OpenBlock>();
  #calls = 0;
  #textLength = 0;
  #usedJsonTool = false;

  /** @param readsJsonTool whether calls of the tool that stands for a JSON format are the answer's text. */
  constructor(parts: { lane: "whole" | "stream"; readsJsonTool: boolean }) {
    this.#lane = parts.lane;
    this.#readsJsonTool = parts.readsJsonTool;
  }

  /** A block begins; of a whole answer it is all there. */
  start(events: OutputEvent[], index: number, block: JsonObject): void {
    const type = textOf(block.type) ?? "";
    const isTool = type === "tool_use";
    const isJson = isTool && this.#readsJsonTool && block.name === jsonToolName;
    const call = isTool && !isJson ? this.#calls++ : undefined;
    if (isJson) this.#usedJsonTool = true;
    const open = { type, block, call, textStart: this.#textLength, citations: [], hasInput: false };
    this.#open.set(index, open);
    if (call !== undefined) {
      push(events, { toolCalls: [{ index: call, id: textOf(block.id) ?? "", name: textOf(block.name) ?? "" }] });
    } else if (type === "text") {
      this.#text(events, textOf(block.text));
      for (const citation of arrayOf(block.citations)) if (isObject(citation)) this.#cite(events, open, citation);
    } else if (type === "thinking") {
      this.#think(events, textOf(block.thinking), textOf(block.signature));
    } else if (type === "redacted_thinking") {
      const redactedReasoning = textOf(block.data);
      if (redactedReasoning !== undefined) push(events, { redactedReasoning });
    } else if (this.#lane === "whole" && !isTool) {
      pushForeign(events, type, block);
    }
  }

  /** A piece of a block. */
  delta(events: OutputEvent[], index: number, delta: JsonObject): void {
    const open = this.#open.get(index);
    if (open === undefined) return;
    if (delta.type === "text_delta") this.#text(events, textOf(delta.text));
    else if (delta.type === "thinking_delta") this.#think(events, textOf(delta.thinking), undefined);
    else if (delta.type === "signature_delta") this.#think(events, undefined, textOf(delta.signature));
    else if (delta.type === "input_json_delta") this.#input(events, open, textOf(delta.partial_json));
    else if (delta.type === "citations_delta") {
      const citation = objectOf(delta.citation);
      if (citation !== undefined) this.#cite(events, open, citation);
    }
  }

  /** A block is whole. */
  stop(events: OutputEvent[], index: number): void {
    const open = this.#open.get(index);
    if (open === undefined) return;
    this.#open.delete(index);
    // A tool without parameters streams no input at all; callers parse what they get.
    if (open.type === "tool_use" && !open.hasInput) this.#input(events, open, JSON.stringify(open.block.input ?? {}));
    if (open.type === "text" && open.citations.length > 0) this.#endCitations(events, open);
    if (this.#lane === "stream" && isForeign(open.type)) pushForeign(events, open.type, open.block);
  }

  /** Why the answer stopped, in OpenAI's words. */
  reasonOf(stopReason: string): string {
    if (stopReason === "tool_use" && this.#usedJsonTool && this.#calls === 0) return "stop";
    return reasons.get(stopReason) ?? stopReason;
  }

  #text(events: OutputEvent[], text: string | undefined): void {
    if (text === undefined) return;
    this.#textLength += text.length;
    push(events, { text });
  }

  #think(events: OutputEvent[], reasoning: string | undefined, signature: string | undefined): void {
    if (reasoning === undefined && signature === undefined) return;
    push(events, { ...(reasoning !== undefined && { reasoning }), ...(signature !== undefined && { signature }) });
  }

  #input(events: OutputEvent[], open: OpenBlock, json: string | undefined): void {
    if (json === undefined || open.type !== "tool_use") return;
    open.hasInput = true;
    if (open.call === undefined) this.#text(events, json);
    else push(events, { toolCalls: [{ index: open.call, arguments: json }] });
  }

  #cite(events: OutputEvent[], open: OpenBlock, citation: JsonObject): void {
    open.citations.push(citation);
    // LiteLLM's streams name each citation as it comes; its whole answers have a list for each block of text.
    if (this.#lane === "stream") push(events, { providerFields: { citation } });
  }

  #endCitations(events: OutputEvent[], { citations, textStart }: OpenBlock): void {
    const annotations = citations.flatMap((citation) => annotation(citation, textStart, this.#textLength));
    push(events, {
      ...(annotations.length > 0 && { annotations }),
      ...(this.#lane === "whole" && { providerFields: { citations: [citations] } }),
    });
  }
}

const reasons: ReadonlyMap<string, string> = new Map([
  ["end_turn", "stop"],
  ["stop_sequence", "stop"],
  ["pause_turn", "stop"],
  ["max_tokens", "length"],
  ["model_context_window_exceeded", "length"],
  ["tool_use", "tool_calls"],
  ["refusal", "content_filter"],
]);

/** What cites a page of the web has a form of OpenAI's. */
function annotation(citation: JsonObject, start: number, end: number): JsonObject[] {
  const url = textOf(citation.url);
  if (url === undefined) return [];
  const title = textOf(citation.title) ?? "";
  return [{ type: "url_citation", url_citation: { url, title, start_index: start, end_index: end } }];
}

/** Blocks of tools that ran at the provider: neither text nor calls for the caller to make. */
function isForeign(type: string): boolean {
  return !["text", "thinking", "redacted_thinking", "tool_use"].includes(type);
}

function pushForeign(events: OutputEvent[], type: string, block: JsonObject): void {
  const field =
    type === "web_search_tool_result" ? "web_search_results" : type.endsWith("_result") ? "tool_results" : type;
  push(events, { providerFields: { [field]: [block] as Json[] } });
}

function push(events: OutputEvent[], delta: Omit<DeltaEvent, "type" | "choice">): void {
  if (Object.keys(delta).length > 0) events.push({ type: "delta", choice: 0, ...delta });
}
