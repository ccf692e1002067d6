import type { CompletionEvent, CompletionRequest, EventSink } from "../completion.ts";
import type { Deployment } from "../config/config.ts";

/** One attempt at one deployment. */
export interface ProviderCall {
  readonly request: CompletionRequest;
  readonly deployment: Deployment;
  /** The output cap to send, in place of the caller's. Undefined: send the caller's own, if any. */
  readonly outputTokensMax: number | undefined;
  /** The provider's own id of the stored answer that the request goes on with. Absent: none. */
  readonly previousResponseId?: string | undefined;
  /** Names the answer for its caller, by the provider's id of it. Absent: that is its name. */
  readonly nameOf?: (responseId: string) => string;
  /** Until the answer is whole, or a stream has begun, in milliseconds. */
  readonly timeoutMs: number;
  /** Between two pieces of the answer, in milliseconds. */
  readonly idleTimeoutMs: number;
  /** Sent on, so that the provider's side of a trace joins ours; undefined unless configured. */
  readonly traceparent: string | undefined;
  /** Aborts when nobody wants the answer any more. */
  readonly signal: AbortSignal;
  /** May be given the events between a stream's first and its last in place of the iteration. */
  readonly sink?: EventSink | undefined;
}

/** What is to become of an answer that the provider keeps. */
export interface StoredCall {
  readonly deployment: Deployment;
  readonly method: "GET" | "DELETE" | "POST";
  /** Behind the address of all responses: "/resp_1/cancel". */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly signal: AbortSignal;
}

/**
 * Speaks one wire (or none: the mock).
 *
 * `complete` yields events as `CompletionEvent` says. It fails by throwing a GatewayError: before the first event the attempt
 * may be repeated elsewhere; after it, the stream is broken. `ProviderFailure.billable` (errors.ts) tells whether the provider may have
 * charged for the attempt. Ending the iteration early aborts the upstream call and frees its socket.
 */
export interface Provider {
  complete(call: ProviderCall): AsyncIterable<CompletionEvent>;
  /**
   * Asks how many tokens a request's input has.
   *
   * @returns undefined if this provider cannot be asked.
   * @throws ProviderFailure
   */
  countTokens?(call: ProviderCall): Promise<number | undefined>;
  /**
   * Asks for something about an answer that the provider keeps. Absent: this provider keeps none.
   *
   * @returns its answer's body, JSON.
   * @throws ProviderFailure
   */
  stored?(call: StoredCall): Promise<Buffer>;
}
