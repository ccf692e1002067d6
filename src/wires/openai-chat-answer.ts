/** OpenAI's chat completions: reading a whole answer, and the parts a stream's chunks share with it. */

import type {
  CompletionEvent,
  DeltaEvent,
  Json,
  JsonObject,
  OutputEvent,
  ToolCallDelta,
  Usage,
} from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, countOf, isObject, objectOf, parseJson, textOf } from "./json.ts";
import { inBandError } from "./openai-error.ts";
import { readUsage } from "./openai-usage.ts";

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

/** What the end of an answer that passes as bytes says of it. */
export function endFacts({ body }: ChatAnswer): { model: string | undefined; finishReasons: readonly string[] } {
  const reasons = arrayOf(body.choices).map((choice) => textOf(objectOf(choice)?.finish_reason));
  return { model: textOf(body.model), finishReasons: reasons.filter((reason) => reason !== undefined) };
}

/** A whole answer as neutral events, `start` to `end`. */
export function answerEvents(answer: ChatAnswer): readonly CompletionEvent[] {
  const events: OutputEvent[] = [startEvent(answer.body)];
  arrayOf(answer.body.choices).forEach((value, position) => {
    const choice = objectOf(value) ?? {};
    const index = countOf(choice.index) ?? position;
    pushDelta(events, index, objectOf(choice.message) ?? {}, choice.logprobs);
    events.push({ type: "finish", choice: index, reason: textOf(choice.finish_reason) ?? "stop" });
  });
  return [...events, { type: "end", usage: answer.usage, responseId: answer.responseId, raw: undefined }];
}

/** Whether a body or chunk is an error though its status was 200. */
export function hasError(body: JsonObject): boolean {
  const error = body.error;
  return error !== undefined && error !== null && error !== false;
}

/** The `start` event of an answer or of a stream's first chunk. */
export function startEvent(body: JsonObject): OutputEvent {
  return {
    type: "start",
    id: textOf(body.id) ?? "",
    model: textOf(body.model) ?? "",
    createdS: countOf(body.created) ?? 0,
  };
}

/** Adds the `delta` event for a choice's `message` or `delta`, unless there is nothing in it. */
export function pushDelta(
  events: OutputEvent[],
  choice: number,
  content: JsonObject,
  logprobsValue: Json | undefined,
): void {
  const text = textOf(content.content);
  const reasoning = textOf(content.reasoning_content) ?? textOf(content.reasoning);
  const refusal = textOf(content.refusal);
  const toolCalls = arrayOf(content.tool_calls).map(toolCall);
  const logprobs = objectOf(logprobsValue);
  const extras = content.thinking_blocks === undefined && content.annotations === undefined ? {} : readExtras(content);
  if (!text && !reasoning && !refusal && !logprobs && toolCalls.length === 0 && isEmpty(extras)) return;
  events.push({
    type: "delta",
    choice,
    ...(text !== undefined && { text }),
    ...(reasoning !== undefined && { reasoning }),
    ...extras,
    ...(refusal !== undefined && { refusal }),
    ...(toolCalls.length > 0 && { toolCalls }),
    ...(logprobs !== undefined && { logprobs }),
  });
}

/** What other gateways and a few servers say beside OpenAI's words. */
function readExtras(content: JsonObject): Pick<DeltaEvent, "signature" | "redactedReasoning" | "annotations"> {
  const blocks = arrayOf(content.thinking_blocks).filter(isObject);
  const signature = textOf(blocks.findLast((block) => block.signature !== undefined)?.signature);
  const redactedReasoning = textOf(blocks.find((block) => block.type === "redacted_thinking")?.data);
  const annotations = arrayOf(content.annotations).filter(isObject);
  return {
    ...(signature !== undefined && { signature }),
    ...(redactedReasoning !== undefined && { redactedReasoning }),
    ...(annotations.length > 0 && { annotations }),
  };
}

function isEmpty(value: object): boolean {
  return Object.keys(value).length === 0;
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
