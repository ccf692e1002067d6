/** Amazon Bedrock's Converse: reading a whole answer, and the parts a stream's events share with it. */

import type { CompletionEvent, DeltaEvent, Json, JsonObject, OutputEvent, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { jsonToolName } from "./anthropic-format.ts";
import { arrayOf, countOf, isObject, objectOf, parseJson, textOf } from "./json.ts";

/** What Bedrock does not say in an answer. */
export interface BedrockFacts {
  /** The id of the request (`x-amzn-requestid`). */
  readonly id: string;
  /** The model that was asked. */
  readonly model: string;
  /** Unix time, seconds. */
  readonly nowS: number;
  /** Whether the input of `json_tool_call` is the answer. */
  readonly readsJsonTool: boolean;
}

/** Why an answer ended, in OpenAI's words; others stay Bedrock's. */
const stopReasons: Readonly<Record<string, string>> = {
  ...{ end_turn: "stop", stop_sequence: "stop", max_tokens: "length", model_context_window_exceeded: "length" },
  ...{ tool_use: "tool_calls", content_filtered: "content_filter", guardrail_intervened: "content_filter" },
};

/**
 * Reads a whole answer (status 200).
 *
 * @returns its events, `start` to `end`; a GatewayError if it is no answer.
 */
export function readBedrockAnswer(bytes: Buffer, facts: BedrockFacts): readonly CompletionEvent[] | GatewayError {
  const body = parseJson(bytes.toString());
  if (!isObject(body)) {
    return new GatewayError("provider_error", "The provider answered something that is not a JSON object.");
  }
  const message = objectOf(objectOf(body.output)?.message);
  if (message === undefined) {
    return new GatewayError("provider_error", "The provider answered something that is no conversation.");
  }
  const events: CompletionEvent[] = [startEvent(facts)];
  let calls = 0;
  for (const value of arrayOf(message.content)) {
    const block = objectOf(value) ?? {};
    const used = objectOf(block.toolUse);
    if (used === undefined) {
      events.push(...readBlock(block));
      continue;
    }
    if (facts.readsJsonTool && used.name === jsonToolName) {
      events.push({ type: "delta", choice: 0, text: JSON.stringify(used.input ?? {}) });
      continue;
    }
    const [id, name] = [textOf(used.toolUseId) ?? "", textOf(used.name) ?? ""];
    const call = { index: calls, id, name, arguments: JSON.stringify(used.input ?? {}) };
    events.push({ type: "delta", choice: 0, toolCalls: [call] });
    calls += 1;
  }
  const usage = readBedrockUsage(body.usage, body.serviceTier);
  events.push({ type: "finish", choice: 0, reason: stopReason(body.stopReason, calls) });
  events.push({ type: "end", usage, responseId: facts.id, raw: undefined });
  return events;
}

export function startEvent({ id, model, nowS }: BedrockFacts): OutputEvent {
  return { type: "start", id, model, createdS: nowS };
}

/** @param calls how many tools the caller is to run: an answer that came by a tool wants none. */
export function stopReason(value: Json | undefined, calls: number): string {
  const reason = textOf(value) ?? "end_turn";
  return reason === "tool_use" && calls === 0 ? "stop" : (stopReasons[reason] ?? reason);
}

/**
 * Reads `usage`. What was read from a cache and written to it is no part of the input tokens there; in our words it is.
 *
 * @param tier `serviceTier` as the answer has it beside the usage.
 * @returns undefined unless it is an object with a number of input tokens.
 */
export function readBedrockUsage(value: Json | undefined, tier: Json | undefined): Usage | undefined {
  const usage = objectOf(value);
  const plain = countOf(usage?.inputTokens);
  if (usage === undefined || plain === undefined) return undefined;
  const cacheReadInputTokens = countOf(usage.cacheReadInputTokens) ?? 0;
  const cacheWriteInputTokens = countOf(usage.cacheWriteInputTokens) ?? 0;
  let hour = 0;
  for (const detail of arrayOf(usage.cacheDetails)) {
    const fields = objectOf(detail);
    if (fields?.ttl === "1h") hour += countOf(fields.inputTokens) ?? 0;
  }
  const serviceTier = textOf(objectOf(tier)?.type);
  return {
    inputTokens: plain + cacheReadInputTokens + cacheWriteInputTokens,
    outputTokens: countOf(usage.outputTokens) ?? 0,
    cacheReadInputTokens,
    cacheWriteInputTokens,
    // Bedrock does not say how much of the output was thought.
    reasoningOutputTokens: 0,
    ...(hour > 0 && { cacheWrite1hInputTokens: hour }),
    ...(serviceTier !== undefined && { serviceTier }),
    estimated: false,
  };
}

/** Sources of a text: those on the web as OpenAI has them, the others in Bedrock's words. */
export function readCitation(citation: JsonObject): Pick<DeltaEvent, "annotations" | "providerFields"> {
  const url = textOf(objectOf(objectOf(citation.location)?.web)?.url);
  if (url === undefined) return { providerFields: { citations: [citation] } };
  const title = textOf(citation.title) ?? "";
  return { annotations: [{ type: "url_citation", url_citation: { url, title, start_index: 0, end_index: 0 } }] };
}

/** A block of a whole answer that calls no tool. */
function readBlock(block: JsonObject): OutputEvent[] {
  const delta = (fields: Omit<DeltaEvent, "type" | "choice">): DeltaEvent => ({ type: "delta", choice: 0, ...fields });
  const text = textOf(block.text);
  if (text !== undefined) return [delta({ text })];
  const thought = objectOf(block.reasoningContent);
  if (thought !== undefined) {
    const redactedReasoning = textOf(thought.redactedContent);
    if (redactedReasoning !== undefined) return [delta({ redactedReasoning })];
    const said = objectOf(thought.reasoningText);
    const signature = textOf(said?.signature);
    return [delta({ reasoning: textOf(said?.text) ?? "", ...(signature !== undefined && { signature }) })];
  }
  const cited = objectOf(block.citationsContent);
  if (cited !== undefined) {
    const said = arrayOf(cited.content)
      .map((piece) => textOf(objectOf(piece)?.text) ?? "")
      .join("");
    const sources = arrayOf(cited.citations)
      .filter(isObject)
      .map((citation) => delta(readCitation(citation)));
    return said === "" ? sources : [delta({ text: said }), ...sources];
  }
  // A picture, a tool that Bedrock ran itself, what is yet to be invented.
  return Object.keys(block).length === 0 ? [] : [delta({ providerFields: { blocks: [block] } })];
}
