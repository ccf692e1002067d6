/** What the gateway answers, in CompletionService's messages. Pure. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { AcceptedEvent, CallEvent, JsonObject, SettledEvent, StartEvent, Usage } from "../completion.ts";
import {
  type AnnotationSchema,
  type CompleteResponseSchema,
  FinishReason,
  type StreamCompleteResponseSchema,
} from "../gen/tollgate/completion/v1/completion_pb.ts";
import { formatUsd, type Nanos } from "../money.ts";
import { GatheredChoice, type Thinking } from "../wires/gathered-choice.ts";
import { countOf, objectOf } from "../wires/json.ts";

type StreamCompleteResponse = MessageInitShape<typeof StreamCompleteResponseSchema>;
type CompleteResponse = MessageInitShape<typeof CompleteResponseSchema>;

const finishReasons = new Map<string, FinishReason>([
  ["", FinishReason.UNSPECIFIED],
  ["stop", FinishReason.STOP],
  ["length", FinishReason.LENGTH],
  ["tool_calls", FinishReason.TOOL_CALLS],
  ["function_call", FinishReason.TOOL_CALLS],
  ["content_filter", FinishReason.CONTENT_FILTER],
]);

/** Turns the events of one call into messages of a stream. */
export class StreamEncoder {
  #accepted: AcceptedEvent | undefined;

  /** @returns undefined for an event that only goes into later messages. */
  encode(event: CallEvent): StreamCompleteResponse | undefined {
    switch (event.type) {
      case "accepted":
        this.#accepted = event;
        return undefined;
      case "start":
        return { event: { case: "started", value: { ...startOf(event), call: callOf(this.#accepted, undefined) } } };
      case "delta": {
        const { type: _, toolCalls = [], redactedReasoning = "", annotations = [], providerFields, ...delta } = event;
        const value = {
          ...delta,
          toolCalls: toolCalls.map(toolCallOf),
          redactedReasoning,
          annotations: annotations.map(annotationOf),
          ...extraOf(providerFields),
        };
        return { event: { case: "delta", value } };
      }
      case "finish":
        return { event: { case: "finished", value: { choice: event.choice, ...finishOf(event.reason) } } };
      case "settled":
        return {
          event: { case: "ended", value: { usage: usageOf(event.usage), call: callOf(this.#accepted, event.cost) } },
        };
      case "raw":
        // Bytes of a wire come to those only who named one.
        return undefined;
    }
  }
}

/** Gathers the events of one call into the whole answer. */
export class AnswerBuilder {
  readonly #choices = new Map<number, GatheredChoice>();
  #accepted: AcceptedEvent | undefined;
  #start: StartEvent | undefined;
  #settled: SettledEvent | undefined;

  add(event: CallEvent): void {
    switch (event.type) {
      case "accepted":
        this.#accepted = event;
        break;
      case "start":
        this.#start = event;
        break;
      case "delta":
        this.#choice(event.choice).add(event);
        break;
      case "finish":
        this.#choice(event.choice).reason = event.reason;
        break;
      case "settled":
        this.#settled = event;
        break;
      case "raw":
        break;
    }
  }

  /** The whole answer; complete once `settled` has been added. */
  build(): CompleteResponse {
    const choices = [...this.#choices].sort(byIndex).map(([index, choice]) => ({
      index,
      text: choice.text ?? "",
      reasoning: choice.reasoning ?? "",
      refusal: choice.refusal ?? "",
      reasoningBlocks: choice.thinking.map(reasoningBlockOf),
      toolCalls: [...choice.toolCalls].sort(byIndex).map(([, call]) => toolCallOf(call)),
      annotations: choice.annotations.map(annotationOf),
      ...extraOf(choice.providerFields),
      ...finishOf(choice.reason ?? ""),
      ...(choice.logprobs !== undefined && { logprobs: choice.logprobs }),
    }));
    return {
      ...(this.#start !== undefined && startOf(this.#start)),
      ...(this.#settled !== undefined && { usage: usageOf(this.#settled.usage) }),
      call: callOf(this.#accepted, this.#settled?.cost),
      choices,
    };
  }

  #choice(index: number): GatheredChoice {
    let choice = this.#choices.get(index);
    if (choice === undefined) {
      choice = new GatheredChoice();
      this.#choices.set(index, choice);
    }
    return choice;
  }
}

function toolCallOf<Call extends { readonly providerFields?: JsonObject }>({ providerFields, ...call }: Call) {
  return { ...call, ...extraOf(providerFields) };
}

function reasoningBlockOf({ reasoning = "", signature = "", redactedReasoning = "" }: Thinking) {
  return { text: reasoning, signature, redacted: redactedReasoning };
}

/** Typed where the message has a place for all of it, else as it is. */
function annotationOf(annotation: JsonObject): MessageInitShape<typeof AnnotationSchema> {
  const { type, url_citation: cited, ...others } = annotation;
  const { url, title, start_index, end_index, ...more } = objectOf(cited) ?? {};
  const [from, to] = [countOf(start_index), countOf(end_index)];
  const isWhole = type === "url_citation" && isEmpty(others) && isEmpty(more);
  if (!isWhole || typeof url !== "string" || typeof title !== "string" || from === undefined || to === undefined)
    return { annotation: { case: "other", value: annotation } };
  return { annotation: { case: "urlCitation", value: { url, title, startIndex: from, endIndex: to } } };
}

/** What only the provider says, under the name it has in OpenAI's form. */
function extraOf(providerFields: JsonObject | undefined) {
  return providerFields === undefined ? {} : { extra: { provider_specific_fields: providerFields } };
}

function isEmpty(value: object): boolean {
  return Object.keys(value).length === 0;
}

function byIndex([a]: [number, unknown], [b]: [number, unknown]): number {
  return a - b;
}

function startOf({ id, model, createdS }: StartEvent) {
  return { id, model, createTime: timestampFromMs(createdS * 1000) };
}

function finishOf(reason: string) {
  return { finishReason: finishReasons.get(reason) ?? FinishReason.OTHER, finishReasonRaw: reason };
}

/** How a call went. @param cost undefined: it goes on. */
export function callOf(accepted: AcceptedEvent | undefined, cost: Nanos | undefined) {
  const { callId = "", deploymentId = "", attempts = 0 } = accepted ?? {};
  return { callId, deploymentId, attempts, costUsd: cost === undefined ? "" : formatUsd(cost) };
}

/** What a call consumed. */
export function usageOf(usage: Usage) {
  return {
    inputTokens: BigInt(usage.inputTokens),
    outputTokens: BigInt(usage.outputTokens),
    cacheReadInputTokens: BigInt(usage.cacheReadInputTokens),
    cacheWriteInputTokens: BigInt(usage.cacheWriteInputTokens),
    reasoningOutputTokens: BigInt(usage.reasoningOutputTokens),
    cacheWrite1hInputTokens: BigInt(usage.cacheWrite1hInputTokens ?? 0),
    audioInputTokens: BigInt(usage.audioInputTokens ?? 0),
    audioOutputTokens: BigInt(usage.audioOutputTokens ?? 0),
    imageInputTokens: BigInt(usage.imageInputTokens ?? 0),
    imageOutputTokens: BigInt(usage.imageOutputTokens ?? 0),
    serviceTier: usage.serviceTier ?? "",
    estimated: usage.estimated,
  };
}
