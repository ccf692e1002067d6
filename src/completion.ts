/** The words every room speaks: a request for a completion, the events of its answer, and what it used. */

import type { Nanos } from "./money.ts";

/** A format on the network: how a request and its answer are written. Each has one codec, in `wires/`. */
export type Wire = ProviderWire | "openai-responses";

/** A wire by which providers are spoken to. That of OpenAI's responses is one more at servers that speak its chat. */
export type ProviderWire = "openai-chat" | "anthropic-messages" | "gemini" | "bedrock-converse";

/** What is asked of a model, by its name in OpenTelemetry where it has one there. */
export type Operation = "chat" | PlainOperation;

/** OpenAI's operations that only servers of its own wire are asked for: their bodies pass as bytes. */
export type PlainOperation =
  | "embeddings"
  | "text_completion"
  | "moderation"
  | "rerank"
  | "image_generation"
  | "speech"
  | FormOperation;

/** Those of them that are asked for with a form, in which a file is. */
export type FormOperation = "transcription" | "translation";

/**
 * What is counted besides tokens: an image in the input, one that was made, a second of audio that was heard or spoken, a character
 * to be spoken, a search of the web, Cohere's unit of ranking.
 */
export type Piece =
  | "image"
  | "generatedImage"
  | "inputSecond"
  | "outputSecond"
  | "character"
  | "webSearch"
  | "searchUnit";

/** How many of each; absent: none, or nobody knows. */
export type Pieces = Readonly<Partial<Record<Piece, number>>>;

/** A value as JSON has it. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** Where a top-level value stands in a JSON body: bytes [start, end). */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * A body as it came, and where its top-level values stand, so that a field can be replaced without rebuilding the rest.
 * Unknown fields survive because nothing is rebuilt.
 */
export interface RawBody {
  readonly bytes: Buffer;
  /** What they say. */
  readonly value: JsonObject;
  /** The value spans of top-level keys; of a repeated key the last, as JSON.parse has it. Of a form there are none. */
  readonly spans: ReadonlyMap<string, Span>;
  /** What separates the parts of a form; absent: it is JSON. Of a form, `value` has the texts, and names of files. */
  readonly boundary?: string;
}

/** Another model to try a call at. */
export interface FallbackTarget {
  readonly model: string;
  /** Fields of the body that differ there. */
  readonly overrides?: JsonObject;
  /** It is passed over if the key's whitelist does not have it; absent: that is as configured. */
  readonly mustBeAllowed?: boolean;
}

/** What a call says about its own repetition; what it does not say is as configured. */
export interface RepeatWishes {
  /** Further attempts in the same group after the first. */
  readonly retries?: number | undefined;
  /** How long the caller waits for the answer, or for its beginning if it is a stream, in milliseconds. */
  readonly timeoutMs?: number | undefined;
  /** Go before the configured ones. */
  readonly fallbacks?: readonly FallbackTarget[] | undefined;
  readonly disablesFallbacks?: boolean | undefined;
  /** Where calls wait for room, lower goes first. */
  readonly priority?: number | undefined;
  /** The first attempt is to fail so without being made: applications try their fallbacks with it. */
  readonly pretends?: PretendedFailure | undefined;
}

/** Failures an application may ask for. */
export type PretendedFailure =
  | "provider_error"
  | "provider_rate_limited"
  | "context_length_exceeded"
  | "content_policy_violation";

/** A request for a completion, as a door has decoded it. */
export interface CompletionRequest {
  readonly operation: Operation;
  /** The wire `raw` is in, and the only one this caller's door can pass on without rebuilding. */
  readonly wire: Wire | undefined;
  /** The body as it came; absent when the door's messages are typed (gRPC). All that a plain operation has. */
  readonly raw: RawBody | undefined;
  /** The model as the caller spelled it. */
  readonly model: string;
  /** Whether the caller wants the answer as it is produced. */
  readonly stream: boolean;
  /** Whether the caller wants usage at the end of a stream (`stream_options.include_usage`). */
  readonly includeUsage: boolean;
  /** The caller's own output cap per choice, whichever of its names it used. */
  readonly outputTokensMax: number | undefined;
  /** How many choices the caller wants; each may be as long as the cap. */
  readonly choiceCount: number;
  /** A number of tokens the input cannot exceed. Byte-level tokenizers never make more tokens than there are bytes. */
  readonly inputTokensMax: number;
  /** What it holds or asks for that is counted in pieces, as far as it can be told before it is answered. */
  readonly pieces?: Pieces;
  /** More of each than this cannot come of it; absent: `pieces`. */
  readonly piecesMax?: Pieces;
  /** The service tier the caller asks for ("flex", "priority"); absent: the provider decides. */
  readonly serviceTier?: string;
  /** The application's own end user, if it named one. */
  readonly endUser: string | undefined;
  /** Tags the caller wants the spend booked under. */
  readonly tags: readonly string[];
  /** Absent: everything as configured. */
  readonly repeat?: RepeatWishes;
  /** The stored answer it goes on with (`previous_response_id`), as its caller names it. */
  readonly previousResponse?: string;
  /** Whether the provider is to keep the answer, so that its caller can come back to it. */
  readonly isStored?: boolean;
  /** Of the caller's headers those that belong to a wire and may reach a provider that speaks it; names in lower case. */
  readonly wireHeaders?: Readonly<Record<string, string>>;
  /**
   * The body in OpenAI's chat shape, which is the neutral form, or as it came where the operation is another; made when a codec first asks. What OpenAI has no word for has
   * LiteLLM's: a message's `thinking_blocks` and `reasoning_content`, `cache_control` at messages, parts and tools, `thinking`
   * beside `reasoning_effort`. Nobody changes it: several attempts read it.
   */
  chat(): JsonObject;
  /** What of the body the neutral form has no word for; absent: nothing. */
  unsayable?(): readonly Unsayable[];
}

/** A part of a body that only its own wire has a word for. */
export interface Unsayable {
  /** A member's name, or the place of an item in one: "tools[1]". */
  readonly param: string;
  /** Whether it is part of what was said: then it cannot be left out. */
  readonly isContent: boolean;
}

/** What a call consumed. Details are parts of the two totals, never on top of them. */
export interface Usage {
  /** Tokens read, cached ones included. */
  readonly inputTokens: number;
  /** Tokens written, reasoning included. */
  readonly outputTokens: number;
  readonly cacheReadInputTokens: number;
  readonly cacheWriteInputTokens: number;
  readonly reasoningOutputTokens: number;
  /** The part of the cache writes that lasts an hour. */
  readonly cacheWrite1hInputTokens?: number;
  readonly audioInputTokens?: number;
  readonly audioOutputTokens?: number;
  readonly imageInputTokens?: number;
  readonly imageOutputTokens?: number;
  /** What was counted besides tokens. */
  readonly pieces?: Pieces;
  /** The service tier the provider says it used: "default", "flex", "priority", "batch", or its own word. */
  readonly serviceTier?: string;
  /** Whether we counted because the provider did not say. */
  readonly estimated: boolean;
}

/** A piece of a tool call. `id` and `name` come with its first piece. */
export interface ToolCallDelta {
  readonly index: number;
  readonly id?: string;
  readonly name?: string;
  readonly arguments?: string;
  /** What only this provider says of a call (`provider_specific_fields`); it comes with the first piece. */
  readonly providerFields?: JsonObject;
}

/** The first event of a neutral answer. */
export interface StartEvent {
  readonly type: "start";
  /** The provider's id of the completion. */
  readonly id: string;
  /** The model in the provider's words. */
  readonly model: string;
  /** Unix time, seconds. */
  readonly createdS: number;
}

/** The next piece of one choice. */
export interface DeltaEvent {
  readonly type: "delta";
  readonly choice: number;
  readonly text?: string;
  readonly reasoning?: string;
  /** Ends the block of reasoning it follows, and proves to the provider, when the block comes back, that it is its own. */
  readonly signature?: string;
  /** A whole block of reasoning that only the provider can read. */
  readonly redactedReasoning?: string;
  readonly refusal?: string;
  readonly toolCalls?: readonly ToolCallDelta[];
  /** Sources of the text, as OpenAI has them: `{"type":"url_citation","url_citation":{..}}`. */
  readonly annotations?: readonly JsonObject[];
  readonly logprobs?: JsonObject;
  /** What only this provider says, in LiteLLM's words (`provider_specific_fields`). Over one answer, lists are joined. */
  readonly providerFields?: JsonObject;
}

/** The end of one choice. */
export interface FinishEvent {
  readonly type: "finish";
  readonly choice: number;
  /** The provider's reason in OpenAI's words: "stop", "length", "tool_calls", "content_filter", or its own. */
  readonly reason: string;
}

/** Bytes in the caller's own wire, fit to be sent as they are: one or more whole SSE frames, or a piece of what is no SSE. */
export interface RawEvent {
  readonly type: "raw";
  readonly bytes: Buffer;
  /** What they are a part of, where that is no SSE. */
  readonly mediaType?: string;
  /** Roughly how many output tokens the bytes hold, in case the provider never reports usage. */
  readonly outputTokens: number;
}

/**
 * The last event: the answer is whole. An answer that stops without it was cut off. In the pass-through lane `raw` is what
 * remains to be sent: a unary answer's whole body, or a stream's closing frames.
 */
export interface EndEvent {
  readonly type: "end";
  /** What the provider reported; absent if it reported nothing. */
  readonly usage: Usage | undefined;
  /** The provider's id of the completion, where known. */
  readonly responseId: string | undefined;
  /** The model in the provider's words, and why each choice ended, where no events of the answer have said so. */
  readonly model?: string | undefined;
  readonly finishReasons?: readonly string[];
  readonly raw: Buffer | undefined;
  /** What it is, where that is neither JSON nor SSE. */
  readonly mediaType?: string;
  /** Roughly how many output tokens `raw` holds, where it is the whole answer and the provider reported no usage. */
  readonly outputTokens?: number;
}

/**
 * What a provider yields: either `start`, `delta`s, `finish`es and `end` (neutral), or `raw`s and `end` (pass-through, when
 * the caller's wire is the deployment's). Nothing follows `end`. A failure is thrown, as a GatewayError.
 */
export type CompletionEvent = OutputEvent | EndEvent;

/** An event before the last. */
export type OutputEvent = StartEvent | DeltaEvent | FinishEvent | RawEvent;

/**
 * Takes a stream's events as they come, without an iteration: that makes three promises an event in each of its floors, an eighth of a chunk's CPU.
 * @returns a promise where nothing more should come before it is resolved.
 */
export type EventSink = (event: OutputEvent) => Promise<unknown> | undefined;

/** What the gateway tells a door before anything else: the call is under way, and these facts belong in the head. */
export interface AcceptedEvent {
  readonly type: "accepted";
  readonly callId: string;
  readonly deploymentId: string;
  readonly modelGroup: string;
  /** Where that deployment answers; absent: nobody knows. */
  readonly region?: string;
  /** Provider attempts so far. */
  readonly attempts: number;
  /** Of them, changes of the group, or of its deployments after the retries. */
  readonly fallbacks: number;
  /** How long the attempt may take, or a stream to begin, in milliseconds. */
  readonly timeoutMs: number;
  /** The caller's limits after this call, for `x-ratelimit-*`. */
  readonly limits: readonly LimitState[];
  /** Where the answer is kept to be given again, and whether it is one that was; absent: neither. */
  readonly cache?: { readonly key: string; readonly isHit: boolean };
}

/** How full one of the caller's limits is. */
export interface LimitState {
  /** What the limit belongs to, "key" or "model_per_team" for instance. */
  readonly scope: string;
  readonly kind: "requests" | "tokens" | "parallel";
  readonly ceiling: number;
  readonly remaining: number;
}

/** What the gateway tells a door at the end of an answer, in place of the provider's `end`: it is booked. */
export interface SettledEvent {
  readonly type: "settled";
  readonly usage: Usage;
  readonly cost: Nanos;
  readonly raw: Buffer | undefined;
  readonly mediaType?: string;
}

/** What a door receives: `accepted`, then the provider's events, then `settled`. */
export type CallEvent = AcceptedEvent | OutputEvent | SettledEvent;

/** Who asks, and on what terms. */
export interface Caller {
  /** The virtual key as sent; undefined if none was. */
  readonly token: string | undefined;
  /** Our id of the request; on every response, log line and span. */
  readonly requestId: string;
  /** The door, "openai" or "connect" for instance. */
  readonly door: string;
  /** The route as the door names it, for spans and metrics: "/v1/chat/completions". */
  readonly route: string;
  /** W3C trace context, as it came. */
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  /** Tags from headers. */
  readonly tags: readonly string[];
  /** From headers; goes before what the body says. */
  readonly repeat: Pick<RepeatWishes, "retries" | "timeoutMs">;
  /** What the call belongs to, from a header (`x-litellm-session-id`). */
  readonly sessionId?: string | undefined;
  /** Of calls with the same one, one is made; undefined: each call is its own. */
  readonly idempotencyKey: string | undefined;
  /** HTTP's `cache-control`, as it came. */
  readonly cacheControl: string | undefined;
  /** Aborts when the caller goes away or its deadline passes; `reason` is then a GatewayError. */
  readonly signal: AbortSignal;
  /** May be given the events between a stream's first and its last, which are not iterated then. It does not throw. Absent: all are iterated. */
  readonly sink?: EventSink | undefined;
}
