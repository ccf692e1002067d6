/** OpenAI's responses: the items of an answer, as they come about from neutral events. */

import type { DeltaEvent, JsonObject, ToolCallDelta } from "../completion.ts";
import { arrayOf, isObject, objectOf } from "./json.ts";
import { encryptedContent } from "./responses-thinking.ts";

/** Something a stream tells: an event without its number. */
export type Told = JsonObject & { readonly type: string };

interface OpenItem {
  readonly index: number;
  readonly id: string;
}

/** A message under way: parts that are whole, and the one that goes on. */
interface OpenMessage extends OpenItem {
  readonly parts: JsonObject[];
  part:
    | { readonly kind: "text" | "refusal"; text: string; annotations: JsonObject[]; logprobs: JsonObject[] }
    | undefined;
}

interface OpenReasoning extends OpenItem {
  text: string;
}

interface OpenCall extends OpenItem {
  callId: string;
  name: string;
  arguments: string;
  readonly providerFields: JsonObject | undefined;
}

/**
 * Builds the output of one response. Messages and reasoning end when something else begins; calls, which providers may write by
 * turns, end with the answer.
 */
export class ResponseOutput {
  readonly #answerId: string;
  /** In the order they began; a place is empty until its item is whole. */
  readonly #items: (JsonObject | undefined)[] = [];
  #message: OpenMessage | undefined;
  #reasoning: OpenReasoning | undefined;
  /** By the provider's index. */
  readonly #calls = new Map<number, OpenCall>();
  #told: Told[] = [];

  /** @param answerId makes the ids of items unlike those of other answers. */
  constructor(answerId: string) {
    this.#answerId = answerId;
  }

  /** The items that are whole. */
  get items(): JsonObject[] {
    return this.#items.filter((item) => item !== undefined);
  }

  /** Takes a piece of the answer. @returns what a stream tells of it. */
  add(delta: DeltaEvent): readonly Told[] {
    this.#think(delta);
    if (delta.text) this.#say("text", delta.text, delta.logprobs);
    for (const annotation of delta.annotations ?? []) this.#annotate(annotation);
    if (delta.refusal) this.#say("refusal", delta.refusal, undefined);
    for (const call of delta.toolCalls ?? []) this.#call(call);
    return this.#drain();
  }

  /** The answer is whole. @param status of what was under way. @returns what a stream tells of it. */
  end(status: "completed" | "incomplete"): readonly Told[] {
    this.#endReasoning({});
    this.#endMessage(status);
    for (const call of this.#calls.values()) this.#endCall(call, status);
    this.#calls.clear();
    return this.#drain();
  }

  #drain(): readonly Told[] {
    const told = this.#told;
    this.#told = [];
    return told;
  }

  #tell(type: string, fields: JsonObject): void {
    this.#told.push({ type: `response.${type}`, ...fields });
  }

  #begin(prefix: string): OpenItem {
    const index = this.#items.push(undefined) - 1;
    return { index, id: `${prefix}_${this.#answerId}_${index}` };
  }

  #done({ index }: OpenItem, item: JsonObject): void {
    this.#items[index] = item;
    this.#tell("output_item.done", { output_index: index, item });
  }

  #think({ reasoning, signature, redactedReasoning }: DeltaEvent): void {
    if (reasoning !== undefined || signature !== undefined) {
      const open = this.#reasoning ?? this.#beginReasoning();
      if (reasoning) {
        open.text += reasoning;
        this.#tell("reasoning_summary_text.delta", { ...placeOf(open), summary_index: 0, delta: reasoning });
      }
      if (signature !== undefined) this.#endReasoning({ signature });
    }
    if (redactedReasoning === undefined) return;
    this.#endReasoning({});
    this.#endMessage("completed");
    const item = this.#begin("rs");
    const whole = { id: item.id, type: "reasoning", summary: [], ...proof({ redactedReasoning }) };
    this.#tell("output_item.added", { output_index: item.index, item: whole });
    this.#done(item, whole);
  }

  #beginReasoning(): OpenReasoning {
    this.#endMessage("completed");
    const open = { ...this.#begin("rs"), text: "" };
    this.#reasoning = open;
    const item = { id: open.id, type: "reasoning", summary: [] };
    this.#tell("output_item.added", { output_index: open.index, item });
    const part = { type: "summary_text", text: "" };
    this.#tell("reasoning_summary_part.added", { ...placeOf(open), summary_index: 0, part });
    return open;
  }

  #endReasoning(proven: { readonly signature?: string }): void {
    const open = this.#reasoning;
    if (open === undefined) return;
    this.#reasoning = undefined;
    const { id, text } = open;
    const part = { type: "summary_text", text };
    const place = { ...placeOf(open), summary_index: 0 };
    this.#tell("reasoning_summary_text.done", { ...place, text });
    this.#tell("reasoning_summary_part.done", { ...place, part });
    this.#done(open, { id, type: "reasoning", summary: [part], ...proof(proven) });
  }

  #say(kind: "text" | "refusal", text: string, logprobs: JsonObject | undefined): void {
    const { message, part } = this.#part(kind);
    part.text += text;
    const place = { ...placeOf(message), content_index: message.parts.length, delta: text };
    if (kind === "refusal") {
      this.#tell("refusal.delta", place);
      return;
    }
    const probabilities = arrayOf(logprobs?.content).filter(isObject);
    part.logprobs.push(...probabilities);
    this.#tell("output_text.delta", { ...place, logprobs: probabilities });
  }

  #annotate(given: JsonObject): void {
    const { message, part } = this.#part("text");
    // Chat nests what here is flat.
    const annotation = { ...objectOf(given[String(given.type)]), type: given.type ?? "url_citation" };
    const annotation_index = part.annotations.push(annotation) - 1;
    const place = { ...placeOf(message), content_index: message.parts.length };
    this.#tell("output_text.annotation.added", { ...place, annotation_index, annotation });
  }

  /** The part of a message that is written now. */
  #part(kind: "text" | "refusal") {
    this.#endReasoning({});
    const message = this.#message ?? this.#beginMessage();
    if (message.part?.kind !== kind) {
      this.#endPart(message);
      message.part = { kind, text: "", annotations: [], logprobs: [] };
      const part = partOf(message.part);
      this.#tell("content_part.added", { ...placeOf(message), content_index: message.parts.length, part });
    }
    return { message, part: message.part };
  }

  #beginMessage(): OpenMessage {
    const open: OpenMessage = { ...this.#begin("msg"), parts: [], part: undefined };
    this.#message = open;
    const item = { id: open.id, type: "message", status: "in_progress", role: "assistant", content: [] };
    this.#tell("output_item.added", { output_index: open.index, item });
    return open;
  }

  #endPart(message: OpenMessage): void {
    const { part: open, parts } = message;
    if (open === undefined) return;
    const part = partOf(open);
    const place = { ...placeOf(message), content_index: parts.length };
    if (open.kind === "refusal") this.#tell("refusal.done", { ...place, refusal: open.text });
    else this.#tell("output_text.done", { ...place, text: open.text, logprobs: open.logprobs });
    this.#tell("content_part.done", { ...place, part });
    parts.push(part);
    message.part = undefined;
  }

  #endMessage(status: "completed" | "incomplete"): void {
    const message = this.#message;
    if (message === undefined) return;
    this.#endPart(message);
    this.#message = undefined;
    const { id, parts } = message;
    this.#done(message, { id, type: "message", status, role: "assistant", content: parts });
  }

  #call(piece: ToolCallDelta): void {
    let call = this.#calls.get(piece.index);
    if (call === undefined) {
      this.#endReasoning({});
      this.#endMessage("completed");
      const place = this.#begin("fc");
      call = {
        ...place,
        callId: piece.id ?? `call_${place.id}`,
        name: piece.name ?? "",
        arguments: "",
        providerFields: piece.providerFields,
      };
      this.#calls.set(piece.index, call);
      this.#tell("output_item.added", { output_index: call.index, item: callItem(call, "in_progress") });
    }
    if (!piece.arguments) return;
    call.arguments += piece.arguments;
    this.#tell("function_call_arguments.delta", { ...placeOf(call), delta: piece.arguments });
  }

  #endCall(call: OpenCall, status: "completed" | "incomplete"): void {
    // A call without arguments has none to be parsed.
    if (call.arguments === "" && status === "completed") call.arguments = "{}";
    this.#tell("function_call_arguments.done", { ...placeOf(call), name: call.name, arguments: call.arguments });
    this.#done(call, callItem(call, status));
  }
}

function placeOf({ id, index }: OpenItem): JsonObject {
  return { item_id: id, output_index: index };
}

function partOf({ kind, text, annotations, logprobs }: NonNullable<OpenMessage["part"]>): JsonObject {
  if (kind === "refusal") return { type: "refusal", refusal: text };
  return { type: "output_text", annotations: [...annotations], logprobs: [...logprobs], text };
}

function callItem(call: OpenCall, status: string): JsonObject {
  const { id, callId, name, providerFields } = call;
  const own = providerFields !== undefined && { provider_specific_fields: providerFields };
  return { id, type: "function_call", status, arguments: call.arguments, call_id: callId, name, ...own };
}

function proof(thinking: { readonly signature?: string; readonly redactedReasoning?: string }): JsonObject {
  const content = encryptedContent(thinking);
  return content === undefined ? {} : { encrypted_content: content };
}
