import type { CallEvent, Caller, CompletionRequest } from "../completion.ts";

/** What the gRPC door asks of the gateway. */
export interface TypedGateway {
  /**
   * Makes one call. Yields `accepted`, the answer's events, then `settled`. Whoever stops reading early must `return()` the
   * iterator, so that what was reserved is settled. Throws GatewayError.
   */
  complete(request: CompletionRequest, caller: Caller): AsyncIterable<CallEvent>;
  /** The models a virtual key may name, sorted. Throws GatewayError. */
  listModels(token: string | undefined): Promise<string[]>;
}

/** What the HTTP doors ask of the gateway. */
export interface CompletionGateway extends TypedGateway {
  /** How many tokens a request's input has, exactly or about. Nothing is charged. Throws GatewayError. */
  countTokens(request: CompletionRequest, caller: Caller): Promise<number>;
}
