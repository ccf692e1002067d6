/** OpenAI's chat completions: writing an answer from neutral events. */

import type { DeltaEvent, FinishEvent, JsonObject, StartEvent, ToolCallDelta, Usage } from "../completion.ts";
import type { GatewayError } from "../errors.ts";
import { GatheredChoice, type Thinking } from "./gathered-choice.ts";
import { encodeErrorBody } from "./openai-error.ts";
import { usageFields } from "./openai-usage.ts";

type AnswerEvent = StartEvent | DeltaEvent | FinishEvent;

/** Writes a stream of `chat.completion.chunk` frames. */
export class ChatStreamEncoder {
  readonly #includeUsage: boolean;
  readonly #spoken = new Set<number>();
  #head = "";

  /** @param includeUsage whether the caller asked for usage: it then stands in a last chunk, and is null in all others. */
  constructor(includeUsage: boolean) {
    this.#includeUsage = includeUsage;
  }

  /** @returns the frame for an event; undefined for `start`, whose facts stand in every frame. */
  encode(event: AnswerEvent): Buffer | undefined {
    switch (event.type) {
      case "start": {
        const facts = { id: event.id, object: "chat.completion.chunk", created: event.createdS, model: event.model };
        this.#head = `data: ${JSON.stringify(facts).slice(0, -1)},"choices":`;
        return undefined;
      }
      case "delta":
        return this.#frame({
          index: event.choice,
          delta: { ...this.#role(event.choice), ...deltaFields(event) },
          ...(event.logprobs !== undefined && { logprobs: event.logprobs }),
          finish_reason: null,
        });
      case "finish":
        return this.#frame({ index: event.choice, delta: this.#role(event.choice), finish_reason: event.reason });
    }
  }

  /** @returns what ends the stream: the usage chunk, if asked for, and `[DONE]`. */
  end(usage: Usage): Buffer {
    const last = this.#includeUsage ? `${this.#head}[],"usage":${JSON.stringify(usageFields(usage))}}\n\n` : "";
    return Buffer.from(`${last}data: [DONE]\n\n`);
  }

  /** An end without [DONE] alone would pass for a whole answer. */
  fail(error: GatewayError): string {
    return `data: ${encodeErrorBody(error)}\n\n`;
  }

  #frame(choice: JsonObject): Buffer {
    return Buffer.from(`${this.#head}[${JSON.stringify(choice)}]${this.#includeUsage ? ',"usage":null' : ""}}\n\n`);
  }

  /** A choice's first chunk says who speaks. */
  #role(choice: number): JsonObject {
    if (this.#spoken.has(choice)) return {};
    this.#spoken.add(choice);
    return { role: "assistant" };
  }
}

/** Writes one `chat.completion` from the events of its making. */
export class ChatAnswerEncoder {
  readonly #choices = new Map<number, GatheredChoice>();
  #start: StartEvent | undefined;

  add(event: AnswerEvent): void {
    if (event.type === "start") {
      this.#start = event;
      return;
    }
    let choice = this.#choices.get(event.choice);
    if (choice === undefined) {
      choice = new GatheredChoice();
      this.#choices.set(event.choice, choice);
    }
    if (event.type === "finish") choice.reason = event.reason;
    else choice.add(event);
  }

  end(usage: Usage): Buffer {
    const choices = [...this.#choices].sort(([a], [b]) => a - b).map(([index, choice]) => choiceFields(index, choice));
    return Buffer.from(
      JSON.stringify({
        id: this.#start?.id ?? "",
        object: "chat.completion",
        created: this.#start?.createdS ?? 0,
        model: this.#start?.model ?? "",
        choices,
        usage: usageFields(usage),
      }),
    );
  }
}

function choiceFields(index: number, choice: GatheredChoice): object {
  const toolCalls = [...choice.toolCalls.values()].map(({ id, name, arguments: args, providerFields }) => ({
    id,
    type: "function",
    function: { name, arguments: args },
    ...(providerFields !== undefined && { provider_specific_fields: providerFields }),
  }));
  return {
    index,
    message: {
      role: "assistant",
      content: choice.text ?? null,
      refusal: choice.refusal ?? null,
      ...(choice.reasoning !== undefined && { reasoning_content: choice.reasoning }),
      ...(choice.thinking.length > 0 && { thinking_blocks: choice.thinking.flatMap(thinkingBlocks) }),
      ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
      ...(choice.annotations.length > 0 && { annotations: choice.annotations }),
      ...(choice.providerFields !== undefined && { provider_specific_fields: choice.providerFields }),
    },
    logprobs: choice.logprobs ?? null,
    finish_reason: choice.reason ?? "stop",
  };
}

function deltaFields(event: DeltaEvent): JsonObject {
  const blocks = thinkingBlocks(event);
  return {
    ...(event.text !== undefined && { content: event.text }),
    ...(event.reasoning !== undefined && { reasoning_content: event.reasoning }),
    ...(blocks.length > 0 && { thinking_blocks: blocks }),
    ...(event.refusal !== undefined && { refusal: event.refusal }),
    ...(event.toolCalls !== undefined && { tool_calls: event.toolCalls.map(toolCallFields) }),
    ...(event.annotations !== undefined && { annotations: [...event.annotations] }),
    ...(event.providerFields !== undefined && { provider_specific_fields: event.providerFields }),
  };
}

/** LiteLLM's form of reasoning that its provider wants back: a signature comes with the block's last piece. */
function thinkingBlocks({ reasoning, signature, redactedReasoning }: Thinking): JsonObject[] {
  const blocks: JsonObject[] = [];
  if (reasoning !== undefined || signature !== undefined) {
    blocks.push({ type: "thinking", thinking: reasoning ?? "", ...(signature !== undefined && { signature }) });
  }
  if (redactedReasoning !== undefined) blocks.push({ type: "redacted_thinking", data: redactedReasoning });
  return blocks;
}

function toolCallFields(call: ToolCallDelta): JsonObject {
  return {
    index: call.index,
    ...(call.id !== undefined && { id: call.id, type: "function" }),
    function: {
      ...(call.name !== undefined && { name: call.name }),
      arguments: call.arguments ?? "",
    },
    ...(call.providerFields !== undefined && { provider_specific_fields: call.providerFields }),
  };
}
