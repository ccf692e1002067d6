/** Anthropic's Messages: reading a whole answer. */

import type { CompletionEvent, Json, JsonObject, OutputEvent, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { BlockReader } from "./anthropic-blocks.ts";
import { readUsage } from "./anthropic-usage.ts";
import { arrayOf, isObject, objectOf, parseJson, textOf } from "./json.ts";
import { inBandError } from "./openai-error.ts";

/** A whole answer, read. */
export interface MessageAnswer {
  /** What the provider reported; undefined if it reported nothing. */
  readonly usage: Usage | undefined;
  readonly responseId: string | undefined;
  /** The body, parsed. */
  readonly body: JsonObject;
}

/**
 * Reads a unary answer (status 200). In the pass-through lane the bytes themselves are what the caller gets.
 *
 * @returns a GatewayError if it is no message: an HTML page, cut JSON (`provider_error`), or an error.
 */
export function readMessage(bytes: Buffer): MessageAnswer | GatewayError {
  const body = parseJson(bytes.toString());
  if (!isObject(body)) {
    return new GatewayError("provider_error", "The provider answered something that is not a JSON object.");
  }
  if (body.type === "error" || isObject(body.error)) return inBandError(body);
  if (!Array.isArray(body.content)) {
    return new GatewayError("provider_error", "The provider answered something that is no message.");
  }
  return { usage: readUsage(body.usage), responseId: textOf(body.id), body };
}

/** What the end of an answer that passes as bytes says of it. */
export function endFacts(message: JsonObject): { model: string | undefined; finishReasons: readonly string[] } {
  const reason = textOf(message.stop_reason);
  return { model: textOf(message.model), finishReasons: reason === undefined ? [] : [reason] };
}

/**
 * A whole answer as neutral events, `start` to `end`.
 *
 * @param options `nowMs`: Unix time, milliseconds; Anthropic does not say when an answer was made.
 */
export function messageEvents(
  answer: MessageAnswer,
  options: { readonly readsJsonTool: boolean; readonly nowMs: number },
): readonly CompletionEvent[] {
  const { body } = answer;
  const blocks = new BlockReader({ lane: "whole", readsJsonTool: options.readsJsonTool });
  const events: OutputEvent[] = [startEvent(body, options.nowMs)];
  for (const [index, block] of arrayOf(body.content).entries()) {
    if (!isObject(block)) continue;
    blocks.start(events, index, block);
    blocks.stop(events, index);
  }
  pushFinish(events, blocks, body);
  return [...events, { type: "end", usage: answer.usage, responseId: answer.responseId, raw: undefined }];
}

/** The `start` event of a message. */
export function startEvent(message: JsonObject, nowMs: number): OutputEvent {
  const createdS = Math.floor(nowMs / 1000);
  return { type: "start", id: textOf(message.id) ?? "", model: textOf(message.model) ?? "", createdS };
}

/** Adds why a message stopped; what a refusal says of itself goes before. */
export function pushFinish(events: OutputEvent[], blocks: BlockReader, message: JsonObject): void {
  const refusal = textOf(objectOf(message.stop_details)?.explanation as Json | undefined);
  if (refusal !== undefined) events.push({ type: "delta", choice: 0, refusal });
  events.push({ type: "finish", choice: 0, reason: blocks.reasonOf(textOf(message.stop_reason) ?? "end_turn") });
}
