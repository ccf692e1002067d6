/** Who is calling, by the headers both doors look at. */

import type { Caller } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { readRetries, readTimeoutMs } from "../wires/repeat-wishes.ts";

const tagsMax = 64;
const tagCharsMax = 256;

/** Looks a header up by its lower-case name; undefined if it is absent, empty, or was sent twice. */
export type HeaderLookup = (name: string) => string | undefined;

/** The virtual key of a request, wherever clients of LiteLLM, OpenAI, Azure and Anthropic put it, in LiteLLM's order. */
export function tokenOf(header: HeaderLookup): string | undefined {
  const own = header("x-litellm-api-key");
  // LiteLLM takes its own header with and without "Bearer".
  return bearer(own) ?? own ?? bearer(header("authorization")) ?? header("api-key") ?? header("x-api-key");
}

/** Tags from `x-litellm-tags`, separated by commas. */
function tagsOf(header: HeaderLookup): readonly string[] {
  const given = header("x-litellm-tags");
  if (given === undefined) return [];
  const tags = given.split(",").map((tag) => tag.trim());
  return tags.filter((tag) => tag !== "" && tag.length <= tagCharsMax).slice(0, tagsMax);
}

/**
 * The headers that belong to a wire and may go with the request to a provider that speaks it.
 *
 * @returns undefined if there are none.
 */
export function wireHeadersOf(
  header: HeaderLookup,
  names: readonly string[],
): Readonly<Record<string, string>> | undefined {
  let found: Record<string, string> | undefined;
  for (const name of names) {
    const kept = header(name)
      ?.split(",")
      .map((item) => item.trim())
      .filter(isWireWord)
      .join(",");
    if (kept !== undefined && kept !== "") found = { ...found, [name]: kept };
  }
  return found;
}

/** Names of versions and betas; those about credentials are not the caller's to say. */
function isWireWord(word: string): boolean {
  return /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$/.test(word) && !word.startsWith("oauth-");
}

/**
 * What LiteLLM's headers say about the repetition of a call.
 *
 * @throws GatewayError invalid_request if it cannot be.
 */
function repeatOf(header: HeaderLookup): Caller["repeat"] {
  const [retriesText, timeoutText] = [header("x-litellm-num-retries"), header("x-litellm-timeout")];
  if (retriesText === undefined && timeoutText === undefined) return {};
  const [retries, timeoutMs] = [readRetries(retriesText), readTimeoutMs(timeoutText)];
  if (retries === null) throw wrong("x-litellm-num-retries", "a whole number, such as 2");
  if (timeoutMs === null) throw wrong("x-litellm-timeout", "a number of seconds over 0, such as 30");
  return { ...(retries !== undefined && { retries }), ...(timeoutMs !== undefined && { timeoutMs }) };
}

function wrong(header: string, wanted: string): GatewayError {
  return new GatewayError("invalid_request", `The header ${header} must be ${wanted}.`, { param: header });
}

function bearer(header: string | undefined): string | undefined {
  return header === undefined ? undefined : /^bearer +(\S+) *$/i.exec(header)?.[1];
}

/** Who calls, and how, by the headers of the call. */
export function callerOf(
  header: HeaderLookup,
  call: Pick<Caller, "requestId" | "door" | "route">,
): Omit<Caller, "signal"> {
  return {
    token: tokenOf(header),
    requestId: call.requestId,
    door: call.door,
    route: call.route,
    traceparent: header("traceparent"),
    tracestate: header("tracestate"),
    tags: tagsOf(header),
    repeat: repeatOf(header),
    sessionId: header("x-litellm-session-id"),
    idempotencyKey: header("idempotency-key"),
    cacheControl: header("cache-control"),
  };
}
