import type { CompletionRequest, DeltaEvent, FinishEvent, StartEvent, Usage } from "../completion.ts";
import type { GatewayError } from "../errors.ts";
import { MessageAnswerEncoder, MessageStreamEncoder } from "../wires/anthropic-encoder.ts";
import { encodeAnthropicError } from "../wires/anthropic-error.ts";
import { ChatAnswerEncoder, ChatStreamEncoder } from "../wires/openai-chat-encoder.ts";
import { encodeErrorBody } from "../wires/openai-error.ts";
import { ResponseAnswerEncoder, ResponseStreamEncoder } from "../wires/responses-encoder.ts";
import type { LimitNames } from "./limit-headers.ts";

type AnswerEvent = StartEvent | DeltaEvent | FinishEvent;

/** Writes a stream. */
export interface StreamEncoder {
  /** @returns undefined for an event that is not told by itself. */
  encode(event: AnswerEvent): Buffer | undefined;
  end(usage: Usage): Buffer;
  /** An error after the stream's first byte, in place of its end. */
  fail(error: GatewayError, requestId: string): string;
}

/** How a door writes what the gateway answers: one for each wire that callers speak. */
export interface AnswerFormat {
  /** Writes a whole answer from its events. */
  answer(request: CompletionRequest): { add(event: AnswerEvent): void; end(usage: Usage): Buffer };
  stream(request: CompletionRequest): StreamEncoder;
  error(error: GatewayError, requestId: string): string;
  /** Says in a silent stream that it goes on. */
  readonly ping: Buffer;
  /** Headers that name the request, besides `x-request-id`. */
  readonly requestIdHeader: string | undefined;
  /** What headers call a caller's tightest limit of each kind. */
  readonly limitNames: Readonly<Record<"requests" | "tokens", LimitNames>>;
}

export const openAiFormat: AnswerFormat = {
  answer: () => new ChatAnswerEncoder(),
  stream: ({ includeUsage }) => new ChatStreamEncoder(includeUsage),
  error: encodeErrorBody,
  ping: Buffer.from(": ping\n\n"),
  requestIdHeader: undefined,
  limitNames: {
    requests: { limit: "x-ratelimit-limit-requests", remaining: "x-ratelimit-remaining-requests" },
    tokens: { limit: "x-ratelimit-limit-tokens", remaining: "x-ratelimit-remaining-tokens" },
  },
};

export const responsesFormat: AnswerFormat = {
  ...openAiFormat,
  answer: ({ raw }) => new ResponseAnswerEncoder(raw?.value ?? {}),
  stream: ({ raw }) => new ResponseStreamEncoder(raw?.value ?? {}),
};

export const anthropicFormat: AnswerFormat = {
  answer: () => new MessageAnswerEncoder(),
  stream: () => new MessageStreamEncoder(),
  error: encodeAnthropicError,
  ping: Buffer.from('event: ping\ndata: {"type":"ping"}\n\n'),
  requestIdHeader: "request-id",
  limitNames: {
    requests: { limit: "anthropic-ratelimit-requests-limit", remaining: "anthropic-ratelimit-requests-remaining" },
    tokens: { limit: "anthropic-ratelimit-tokens-limit", remaining: "anthropic-ratelimit-tokens-remaining" },
  },
};
