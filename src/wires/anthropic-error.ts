/** Anthropic's error body: `{"type":"error","error":{"type","message"},"request_id"}`. */

import type { GatewayError } from "../errors.ts";

/** Anthropic's word for a failure, by its HTTP status. */
const types: ReadonlyMap<number, string> = new Map([
  [400, "invalid_request_error"],
  [401, "authentication_error"],
  [403, "permission_error"],
  [404, "not_found_error"],
  [413, "request_too_large"],
  [429, "rate_limit_error"],
  [503, "overloaded_error"],
  [504, "timeout_error"],
]);

/** Writes a failure as Anthropic's clients read it. `details.error_code` is a key of the error table. */
export function encodeAnthropicError(error: GatewayError, requestId: string): string {
  const { httpStatus } = error.kind;
  const type = error.code === "budget_exceeded" ? "billing_error" : (types.get(httpStatus) ?? unnamed(httpStatus));
  const details = { error_code: error.code, ...(error.facts.param !== undefined && { param: error.facts.param }) };
  return JSON.stringify({ type: "error", error: { type, message: error.message, details }, request_id: requestId });
}

/** The frame that says in a stream that it has failed. */
export function anthropicErrorFrame(error: GatewayError, requestId: string): string {
  return `event: error\ndata: ${encodeAnthropicError(error, requestId)}\n\n`;
}

function unnamed(httpStatus: number): string {
  return httpStatus < 500 ? "invalid_request_error" : "api_error";
}
