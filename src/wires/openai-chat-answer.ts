/** OpenAI's chat completions: reading a whole answer, and the parts a stream's chunks share with it. */

import type { CompletionEvent, Json, JsonObject, ToolCallDelta, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, countOf, isObject, objectOf, parseJson, textOf } from "./json.ts";
import { inBandError } from "./openai-error.ts";

/** A whole answer, read. */
export interface ChatAnswer {
  /** What the provider reported; undefined if it reported nothing. */
  readonly usage: Usage | undefined;
  readonly responseId: string | undefined;
  /** The body, parsed. */
  readonly body: JsonObject;
}

/**
 * Reads a unary answer (status 200). In the pass-through lane the bytes themselves are what the caller gets.
 *
 * @returns a GatewayError if it is no completion: an HTML page, cut JSON (`provider_error`), or an `error` in it.
 */
export function readChatAnswer(bytes: Buffer): ChatAnswer | GatewayError {
  const body = parseJson(bytes.toString());
  if (!isObject(body)) {
    return new GatewayError("provider_error", "The provider answered something that is not a JSON object.");
  }
  if (hasError(body)) return inBandError(body);
  if (!Array.isArray(body.choices)) {
    return new GatewayError("provider_error", "The provider answered something that is no chat completion.");
  }
  return { usage: readUsage(body.usage, body.service_tier), responseId: textOf(body.id), body };
}

/** A whole answer as neutral events, `start` to `end`. */
export function answerEvents(answer: ChatAnswer): readonly CompletionEvent[] {
  const events: CompletionEvent[] = [startEvent(answer.body)];
  arrayOf(answer.body.choices).forEach((value, position) => {
    const choice = objectOf(value) ?? {};
    const index = countOf(choice.index) ?? position;
    pushDelta(events, index, objectOf(choice.message) ?? {}, choice.logprobs);
    events.push({ type: "finish", choice: index, reason: textOf(choice.finish_reason) ?? "stop" });
  });
  events.push({ type: "end", usage: answer.usage, responseId: answer.responseId, raw: undefined });
  return events;
}

/** Whether a body or chunk is an error though its status was 200. */
export function hasError(body: JsonObject): boolean {
  const error = body.error;
  return error !== undefined && error !== null && error !== false;
}

/** The `start` event of an answer or of a stream's first chunk. */
export function startEvent(body: JsonObject): CompletionEvent {
  return {
    type: "start",
    id: textOf(body.id) ?? "",
    model: textOf(body.model) ?? "",
    createdS: countOf(body.created) ?? 0,
  };
}

/** Adds the `delta` event for a choice's `message` or `delta`, unless there is nothing in it. */
export function pushDelta(
  events: CompletionEvent[],
  choice: number,
  content: JsonObject,
  logprobsValue: Json | undefined,
): void {
  const text = textOf(content.content);
  const reasoning = textOf(content.reasoning_content) ?? textOf(content.reasoning);
  const refusal = textOf(content.refusal);
  const toolCalls = arrayOf(content.tool_calls).map(toolCall);
  const logprobs = objectOf(logprobsValue);
  if (!text && !reasoning && !refusal && !logprobs && toolCalls.length === 0) return;
  events.push({
    type: "delta",
    choice,
    ...(text !== undefined && { text }),
    ...(reasoning !== undefined && { reasoning }),
    ...(refusal !== undefined && { refusal }),
    ...(toolCalls.length > 0 && { toolCalls }),
    ...(logprobs !== undefined && { logprobs }),
  });
}

/**
 * Reads `usage`. Providers differ in where they put cached and reasoning tokens; each known place is looked at.
 *
 * @param tier `service_tier` as the answer has it beside the usage.
 * @returns undefined unless it is an object with a number of input tokens.
 */
export function readUsage(value: Json | undefined, tier?: Json): Usage | undefined {
  const usage = objectOf(value);
  const inputTokens = countOf(usage?.prompt_tokens);
  if (usage === undefined || inputTokens === undefined) return undefined;
  const total = countOf(usage.total_tokens) ?? 0;
  const outputTokens = countOf(usage.completion_tokens) ?? Math.max(0, total - inputTokens);
  const input = objectOf(usage.prompt_tokens_details);
  const output = objectOf(usage.completion_tokens_details);
  const cacheRead =
    countOf(input?.cached_tokens) ??
    countOf(usage.cache_read_input_tokens) ??
    countOf(usage.prompt_cache_hit_tokens) ??
    0;
  const cacheWrite =
    countOf(input?.cache_write_tokens) ??
    countOf(input?.cache_creation_tokens) ??
    countOf(usage.cache_creation_input_tokens) ??
    0;
  const cacheReadInputTokens = Math.min(cacheRead, inputTokens);
  const serviceTier = textOf(usage.service_tier ?? tier);
  return {
    inputTokens,
    outputTokens,
    cacheReadInputTokens,
    cacheWriteInputTokens: Math.min(cacheWrite, inputTokens - cacheReadInputTokens),
    reasoningOutputTokens: Math.min(countOf(output?.reasoning_tokens) ?? 0, outputTokens),
    ...readRareTokens(usage, input, output),
    ...(serviceTier !== undefined && { serviceTier }),
    estimated: false,
  };
}

/** Counts that most answers lack or have as 0. */
function readRareTokens(usage: JsonObject, input: JsonObject | undefined, output: JsonObject | undefined) {
  const written = objectOf(usage.cache_creation) ?? objectOf(input?.cache_creation_token_details);
  const cacheWrite1hInputTokens = countOf(written?.ephemeral_1h_input_tokens) ?? 0;
  const audioInputTokens = countOf(input?.audio_tokens) ?? 0;
  const imageInputTokens = countOf(input?.image_tokens) ?? 0;
  const inputImages = countOf(input?.image_count) ?? 0;
  const audioOutputTokens = countOf(output?.audio_tokens) ?? 0;
  const imageOutputTokens = countOf(output?.image_tokens) ?? 0;
  return {
    ...(cacheWrite1hInputTokens > 0 && { cacheWrite1hInputTokens }),
    ...(audioInputTokens > 0 && { audioInputTokens }),
    ...(imageInputTokens > 0 && { imageInputTokens }),
    ...(inputImages > 0 && { inputImages }),
    ...(audioOutputTokens > 0 && { audioOutputTokens }),
    ...(imageOutputTokens > 0 && { imageOutputTokens }),
  };
}

function toolCall(value: Json, position: number): ToolCallDelta {
  const call = objectOf(value) ?? {};
  const called = objectOf(call.function);
  const id = textOf(call.id);
  const name = textOf(called?.name);
  const args = textOf(called?.arguments);
  return {
    index: countOf(call.index) ?? position,
    ...(id !== undefined && { id }),
    ...(name !== undefined && { name }),
    ...(args !== undefined && { arguments: args }),
  };
}
