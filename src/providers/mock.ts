import { randomUUID } from "node:crypto";
import { type Clock, pause } from "../clock.ts";
import type { CompletionEvent, Usage } from "../completion.ts";
import type { MockAnswer } from "../config/mock-answer.ts";
import { type ErrorCode, ProviderFailure } from "../errors.ts";
import { failureCodeOf } from "./failures.ts";
import type { Provider, ProviderCall } from "./provider.ts";

/** `mock_response` deployments: answers from the configuration, for first use, demos and load tests. Calls nobody. */
export class MockProvider implements Provider {
  readonly #clock: Clock;

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock;
  }

  async *complete(call: ProviderCall): AsyncGenerator<CompletionEvent, void, undefined> {
    const answer = call.deployment.mock;
    if (answer === undefined) throw new Error("a mock deployment without an answer");
    if (answer.delayMs > 0) await pause(this.#clock, answer.delayMs, call.signal);
    if (answer.error !== undefined) throw failureOf(answer.error);
    const id = `chatcmpl-mock-${randomUUID()}`;
    yield { type: "start", id, model: call.deployment.model, createdS: Math.floor(this.#clock.nowMs() / 1000) };
    const { choiceCount } = call.request;
    const chunks = withinCap(answer, call.outputTokensMax ?? call.request.outputTokensMax);
    for (const [index, text] of chunks.entries()) {
      if (index > 0 && answer.chunkDelayMs > 0) await pause(this.#clock, answer.chunkDelayMs, call.signal);
      for (let choice = 0; choice < choiceCount; choice++) yield { type: "delta", choice, text };
    }
    const reason = chunks.length < answer.chunks.length ? "length" : "stop";
    for (let choice = 0; choice < choiceCount; choice++) yield { type: "finish", choice, reason };
    yield { type: "end", usage: usageOf(call, answer, chunks), responseId: id, raw: undefined };
  }
}

/** A chunk counts as one token, so that a cap cuts a mock as it cuts a model. */
function withinCap(answer: MockAnswer, outputTokensMax: number | undefined): readonly string[] {
  return outputTokensMax === undefined ? answer.chunks : answer.chunks.slice(0, outputTokensMax);
}

function usageOf(call: ProviderCall, answer: MockAnswer, chunks: readonly string[]): Usage {
  return {
    inputTokens: answer.usage?.inputTokens ?? Math.ceil(call.request.inputTokensMax / 4),
    outputTokens: answer.usage?.outputTokens ?? chunks.length * call.request.choiceCount,
    cacheReadInputTokens: 0,
    cacheWriteInputTokens: 0,
    reasoningOutputTokens: 0,
    estimated: false,
  };
}

function failureOf(error: NonNullable<MockAnswer["error"]>): ProviderFailure {
  const code: ErrorCode = failureCodeOf(error.status, error.message);
  return new ProviderFailure(code, error.message, {
    billable: false,
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
  });
}
