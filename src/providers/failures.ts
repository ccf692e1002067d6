import { type ErrorCode, ProviderFailure } from "../errors.ts";
import { phraseCode } from "../wires/complaints.ts";
import { parseJson } from "../wires/json.ts";
import { readComplaint } from "../wires/openai-error.ts";
import type { AnswerHeaders } from "./provider-answer.ts";

/** Some say with a plain 400 that the operator's account is empty. */
const accountPhrases = /credit balance is too low|insufficient_quota/i;

/**
 * What class a provider's error is of, by its status and what it says.
 *
 * @param text the body, or the message in it.
 */
export function failureCodeOf(status: number, text: string): ErrorCode {
  if (status === 400 || status === 413 || status === 422) {
    if (accountPhrases.test(text)) return "provider_auth_failed";
    return phraseCode(text) ?? "provider_rejected";
  }
  // 402: the operator's account is empty.
  if (status === 401 || status === 402 || status === 403) return "provider_auth_failed";
  if (status === 404) return "provider_model_not_found";
  if (status === 408 || status === 504) return "provider_timeout";
  if (status === 429) return "provider_rate_limited";
  if (status === 503 || status === 529) return "provider_unavailable";
  if (status > 400 && status < 500) return "provider_rejected";
  return "provider_error";
}

/** What of a provider's own words a caller may see: a bad request is the caller's to mend, the rest is between us and the provider. */
const shown: ReadonlySet<ErrorCode> = new Set([
  "provider_rejected",
  "context_length_exceeded",
  "content_policy_violation",
]);

const ownWords: Partial<Record<ErrorCode, string>> = {
  provider_auth_failed: "The provider refused the gateway's credentials. Tell your operator.",
  provider_model_not_found: "The provider does not know the configured model. Tell your operator.",
  provider_timeout: "The provider did not answer in time.",
  provider_rate_limited: "The provider's rate limit is reached.",
  provider_unavailable: "The provider is overloaded or away.",
};

/** What a wire's own words say of an error answer, beyond its status and headers. */
export interface FailureHints {
  readonly code?: ErrorCode | undefined;
  /** The wait it asks for, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
}

/**
 * A provider's error answer as a failure. Credentials it quotes are taken out.
 *
 * @param nowMs Unix time, milliseconds.
 */
export function failureOfAnswer(
  status: number,
  headers: AnswerHeaders,
  body: string,
  nowMs: number,
  hints: FailureHints = {},
): ProviderFailure {
  const parsed = parseJson(body);
  // Google's are a list with one in it, where a stream was wanted.
  const { message: said } = readComplaint(Array.isArray(parsed) ? parsed[0] : parsed);
  const code = hints.code ?? failureCodeOf(status, body);
  const own = ownWords[code] ?? `The provider answered with status ${status}.`;
  const message = said !== "" && shown.has(code) ? said : own;
  const retryAfterMs = hints.retryAfterMs ?? retryAfterOf(headers, nowMs);
  return new ProviderFailure(code, message, {
    billable: false,
    quotesProvider: true,
    metadata: { providerStatus: String(status) },
    cause: new Error(`provider status ${status}: ${said}`),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** The wait a provider asks for, in milliseconds: `retry-after-ms`, or `retry-after` in seconds or as a date. */
function retryAfterOf(headers: AnswerHeaders, nowMs: number): number | undefined {
  const milliseconds = amountOf(headers["retry-after-ms"]);
  if (milliseconds !== undefined) return milliseconds;
  const seconds = amountOf(headers["retry-after"]);
  if (seconds !== undefined) return seconds * 1000;
  const date = String(headers["retry-after"]);
  // Date.parse alone takes nearly anything for a date.
  const atMs = date.endsWith("GMT") ? Date.parse(date) : Number.NaN;
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - nowMs);
}

function amountOf(header: string | string[] | undefined): number | undefined {
  return typeof header === "string" && /^\d+(\.\d+)?$/.test(header) ? Number(header) : undefined;
}
