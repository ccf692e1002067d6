import type { CallEvent, Caller, CompletionRequest } from "../completion.ts";

/** What the doors ask of the gateway. */
export interface CompletionGateway {
  /**
   * Makes one call. Yields `accepted`, the answer's events, then `settled`. Whoever stops reading early must `return()` the
   * iterator, so that what was reserved is settled. Throws GatewayError.
   */
  complete(request: CompletionRequest, caller: Caller): AsyncIterable<CallEvent>;
  /** The models a virtual key may name, sorted. Throws GatewayError. */
  listModels(token: string | undefined): Promise<string[]>;
}
