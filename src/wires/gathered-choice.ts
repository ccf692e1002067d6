import type { DeltaEvent, Json, JsonObject, ToolCallDelta } from "../completion.ts";

/** A block of reasoning: readable, with its signature if it has one, or redacted. */
export type Thinking = Pick<DeltaEvent, "reasoning" | "signature" | "redactedReasoning">;

/** A tool call, gathered. */
export interface GatheredCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
  readonly providerFields?: JsonObject;
}

/** One choice of an answer, gathered from its deltas. What never came is undefined or empty. */
export class GatheredChoice {
  text: string | undefined;
  reasoning: string | undefined;
  refusal: string | undefined;
  reason: string | undefined;
  logprobs: JsonObject | undefined;
  providerFields: JsonObject | undefined;
  readonly annotations: JsonObject[] = [];
  /** The reasoning, block by block. */
  readonly thinking: Thinking[] = [];
  /** By the provider's index, which may have gaps. */
  readonly toolCalls = new Map<number, GatheredCall>();
  /** Whether the last block of reasoning goes on. */
  #isThinking = false;

  add(delta: DeltaEvent): void {
    if (delta.text !== undefined) this.text = (this.text ?? "") + delta.text;
    if (delta.refusal !== undefined) this.refusal = (this.refusal ?? "") + delta.refusal;
    this.#think(delta);
    for (const call of delta.toolCalls ?? []) this.#addToolCall(call);
    if (delta.annotations !== undefined) this.annotations.push(...delta.annotations);
    if (delta.logprobs !== undefined) this.logprobs = joined(this.logprobs, delta.logprobs);
    if (delta.providerFields !== undefined) this.providerFields = joined(this.providerFields, delta.providerFields);
  }

  #think({ reasoning, signature, redactedReasoning }: DeltaEvent): void {
    if (reasoning !== undefined) this.reasoning = (this.reasoning ?? "") + reasoning;
    if (reasoning !== undefined || signature !== undefined) {
      const block = this.#isThinking ? this.thinking.pop() : undefined;
      const text = (block?.reasoning ?? "") + (reasoning ?? "");
      this.thinking.push({ reasoning: text, ...(signature !== undefined && { signature }) });
      this.#isThinking = signature === undefined;
    }
    if (redactedReasoning !== undefined) {
      this.thinking.push({ redactedReasoning });
      this.#isThinking = false;
    }
  }

  #addToolCall(piece: ToolCallDelta): void {
    const call = this.toolCalls.get(piece.index);
    const providerFields = piece.providerFields ?? call?.providerFields;
    this.toolCalls.set(piece.index, {
      id: piece.id ?? call?.id ?? "",
      name: piece.name ?? call?.name ?? "",
      arguments: (call?.arguments ?? "") + (piece.arguments ?? ""),
      ...(providerFields !== undefined && { providerFields }),
    });
  }
}

/** What came before and what comes now: lists are joined, of anything else the last counts. */
function joined(before: JsonObject | undefined, now: JsonObject): JsonObject {
  const both: { [key: string]: Json } = { ...before };
  for (const [key, value] of Object.entries(now)) {
    const old = both[key];
    both[key] = Array.isArray(old) && Array.isArray(value) ? [...old, ...value] : value;
  }
  return both;
}
