import type { ServerResponse } from "node:http";
import type { Random } from "../clock.ts";
import type { GatewayError } from "../errors.ts";

/** SDKs give up, or wait for ever, at longer ones. */
const retryAfterMsMax = 60_000;
/** For failures that pass by themselves, when nobody knows when. */
const retryAfterMsDefault = 1_000;

/**
 * Answers with an error. The response's head must not have been sent.
 *
 * @param body the error as the caller's wire writes it.
 */
export function sendError(
  res: ServerResponse,
  error: GatewayError,
  body: string,
  random: Random,
  headers: Readonly<Record<string, string>> = {},
): void {
  sendJson(res, error.kind.httpStatus, body, { ...retryHeaders(error, random), ...headers });
}

/** Answers with a JSON text. */
export function sendJson(
  res: ServerResponse,
  status: number,
  body: string | Buffer,
  headers: Readonly<Record<string, string>> = {},
): void {
  res.writeHead(status, { ...headers, ...jsonHeaders(body) });
  res.end(body);
}

/** What a JSON body's length and type are. */
export function jsonHeaders(body: string | Buffer): Record<string, string> {
  return { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) };
}

/**
 * Tells SDKs whether to try again, and when. Without `x-should-retry` they would repeat every 429 and 5xx, a used-up budget
 * included. A tenth is added at random, so that callers refused together do not come back together.
 */
export function retryHeaders(error: GatewayError, random: Random): Record<string, string> {
  if (!error.shouldRetry) return { "x-should-retry": "false" };
  const waitMs = (error.facts.retryAfterMs ?? retryAfterMsDefault) * (1 + random() / 10);
  const retryAfterMs = Math.min(retryAfterMsMax, Math.ceil(waitMs));
  return {
    "x-should-retry": "true",
    "retry-after": String(Math.ceil(retryAfterMs / 1000)),
    "retry-after-ms": String(retryAfterMs),
  };
}
