/** OpenAI's error body, both ways: `{"error":{"message","type","param","code"}}`. */

import type { Json, JsonObject } from "../completion.ts";
import { type ErrorCode, type GatewayError, ProviderFailure } from "../errors.ts";
import { scrubCredentials } from "../secret.ts";
import { objectOf, textOf } from "./json.ts";

/** Long enough for any honest message; a page of HTML is cut. */
const messageCharsMax = 500;

/** Writes a failure as OpenAI's clients read it. `code` is a key of the error table. */
export function encodeErrorBody(error: GatewayError): string {
  return JSON.stringify({
    error: { message: error.message, type: error.kind.type, param: error.facts.param ?? null, code: error.code },
  });
}

/** What a provider said about a failure, fit to be shown: no credentials, of a bounded length. */
export interface ProviderComplaint {
  /** "" if it said nothing readable. */
  readonly message: string;
  readonly type: string | undefined;
  readonly code: string | undefined;
  readonly param: string | undefined;
}

/**
 * Reads what a provider said in an error body, already parsed: OpenAI's shape, or one of its imitations (`{"error":"text"}`,
 * `{"message":..}`, `{"detail":..}`).
 */
export function readComplaint(body: Json | undefined): ProviderComplaint {
  const outer = objectOf(body) ?? {};
  const error = objectOf(outer.error) ?? outer;
  const message = textOf(error.message) ?? textOf(outer.error) ?? textOf(outer.detail) ?? textOf(outer.message) ?? "";
  return {
    message: scrubCredentials(message.slice(0, messageCharsMax)),
    type: textOf(error.type),
    code: codeOf(error),
    param: textOf(error.param),
  };
}

/**
 * An error inside an answer that began with status 200. Not billable by itself: what came before it is.
 *
 * @param body the whole frame or body, parsed; it has an `error`.
 */
export function inBandError(body: JsonObject): ProviderFailure {
  const complaint = readComplaint(body);
  const said = complaint.message === "" ? "" : ` It said: ${complaint.message}`;
  return new ProviderFailure(complaintCode(complaint), `The provider failed while it answered.${said}`, {
    billable: false,
    quotesProvider: true,
  });
}

const complaintCodes: readonly (readonly [RegExp, ErrorCode])[] = [
  [/context_length|context window|maximum context/i, "context_length_exceeded"],
  [/content_policy|content_filter|content policy/i, "content_policy_violation"],
  [/rate_?limit|too_many|^429$|quota/i, "provider_rate_limited"],
  [/overloaded|unavailable|^503$|^529$/i, "provider_unavailable"],
  [/timeout|^408$|^504$/i, "provider_timeout"],
  [/authentication|permission|billing/i, "provider_auth_failed"],
];

function complaintCode(complaint: ProviderComplaint): ErrorCode {
  for (const word of [complaint.code, complaint.type]) {
    const match = word === undefined ? undefined : complaintCodes.find(([pattern]) => pattern.test(word));
    if (match !== undefined) return match[1];
  }
  return "provider_error";
}

function codeOf(error: JsonObject): string | undefined {
  const code = error.code ?? error.status;
  return typeof code === "number" ? String(code) : textOf(code);
}
