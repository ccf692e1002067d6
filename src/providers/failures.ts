import { type ErrorCode, ProviderFailure } from "../errors.ts";
import { parseJson } from "../wires/json.ts";
import { readComplaint } from "../wires/openai-error.ts";
import type { AnswerHeaders } from "./http.ts";

/** Phrases by which providers say that a conversation is too long (LiteLLM's list, extended by `code`). */
const contextPhrases =
  /maximum context length|string too long\. expected a string with maximum length|exceed(s)? (the )?context (limit|window|length)|model's maximum context limit|longer than the model's context length|input tokens exceed the configured limit|exceeds the maximum number of tokens allowed|prompt is too long|context_length_exceeded/i;
const contentPhrases =
  /content_policy_violation|content_filter|content management policy|content filtering policy|safety system|ResponsibleAIPolicyViolation/i;

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
    if (contextPhrases.test(text)) return "context_length_exceeded";
    if (contentPhrases.test(text)) return "content_policy_violation";
    return "provider_rejected";
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

/**
 * A provider's error answer as a failure. Credentials it quotes are taken out.
 *
 * @param nowMs Unix time, milliseconds.
 */
export function failureOfAnswer(status: number, headers: AnswerHeaders, body: string, nowMs: number): ProviderFailure {
  const { message: said } = readComplaint(parseJson(body));
  const code = failureCodeOf(status, body);
  const own = ownWords[code] ?? `The provider answered with status ${status}.`;
  const message = said !== "" && shown.has(code) ? said : own;
  const retryAfterMs = retryAfterOf(headers, nowMs);
  return new ProviderFailure(code, message, {
    billable: false,
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
