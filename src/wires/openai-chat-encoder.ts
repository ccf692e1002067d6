/** OpenAI's chat completions: writing an answer from neutral events. */

import type { DeltaEvent, FinishEvent, JsonObject, StartEvent, ToolCallDelta, Usage } from "../completion.ts";

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
  readonly #choices = new Map<number, Choice>();
  #start: StartEvent | undefined;

  add(event: AnswerEvent): void {
    if (event.type === "start") {
      this.#start = event;
      return;
    }
    let choice = this.#choices.get(event.choice);
    if (choice === undefined) {
      choice = new Choice();
      this.#choices.set(event.choice, choice);
    }
    if (event.type === "finish") choice.reason = event.reason;
    else choice.add(event);
  }

  end(usage: Usage): Buffer {
    const choices = [...this.#choices].sort(([a], [b]) => a - b).map(([index, choice]) => choice.encode(index));
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

/** One choice, gathered. */
class Choice {
  reason = "stop";
  #text: string | undefined;
  #reasoning: string | undefined;
  #refusal: string | undefined;
  readonly #toolCalls = new Map<number, { id: string; name: string; arguments: string }>();
  readonly #logprobs = new Map<string, unknown[]>();

  add(delta: DeltaEvent): void {
    if (delta.text !== undefined) this.#text = (this.#text ?? "") + delta.text;
    if (delta.reasoning !== undefined) this.#reasoning = (this.#reasoning ?? "") + delta.reasoning;
    if (delta.refusal !== undefined) this.#refusal = (this.#refusal ?? "") + delta.refusal;
    for (const call of delta.toolCalls ?? []) this.#addToolCall(call);
    for (const [kind, tokens] of Object.entries(delta.logprobs ?? {})) {
      if (Array.isArray(tokens)) this.#logprobs.set(kind, [...(this.#logprobs.get(kind) ?? []), ...tokens]);
    }
  }

  encode(index: number): object {
    const toolCalls = [...this.#toolCalls.values()].map(({ id, ...called }) => ({
      id,
      type: "function",
      function: called,
    }));
    return {
      index,
      message: {
        role: "assistant",
        content: this.#text ?? null,
        refusal: this.#refusal ?? null,
        ...(this.#reasoning !== undefined && { reasoning_content: this.#reasoning }),
        ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
      },
      logprobs: this.#logprobs.size === 0 ? null : Object.fromEntries(this.#logprobs),
      finish_reason: this.reason,
    };
  }

  #addToolCall(piece: ToolCallDelta): void {
    const call = this.#toolCalls.get(piece.index) ?? { id: "", name: "", arguments: "" };
    this.#toolCalls.set(piece.index, {
      id: piece.id ?? call.id,
      name: piece.name ?? call.name,
      arguments: call.arguments + (piece.arguments ?? ""),
    });
  }
}

function deltaFields(event: DeltaEvent): JsonObject {
  return {
    ...(event.text !== undefined && { content: event.text }),
    ...(event.reasoning !== undefined && { reasoning_content: event.reasoning }),
    ...(event.refusal !== undefined && { refusal: event.refusal }),
    ...(event.toolCalls !== undefined && { tool_calls: event.toolCalls.map(toolCallFields) }),
  };
}

function toolCallFields(call: ToolCallDelta): JsonObject {
  return {
    index: call.index,
    ...(call.id !== undefined && { id: call.id, type: "function" }),
    function: {
      ...(call.name !== undefined && { name: call.name }),
      arguments: call.arguments ?? "",
    },
  };
}

function usageFields(usage: Usage): JsonObject {
  return {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    prompt_tokens_details: {
      cached_tokens: usage.cacheReadInputTokens,
      cache_write_tokens: usage.cacheWriteInputTokens,
    },
    completion_tokens_details: { reasoning_tokens: usage.reasoningOutputTokens },
  };
}
