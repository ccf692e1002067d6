import type { FallbackTarget, Json, JsonObject, PretendedFailure, RepeatWishes } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { isObject } from "./json.ts";

/** As many as anybody needs; each may cost an attempt. */
const fallbacksMax = 16;
const retriesMax = 20;
/** The longest time a timer can be set to. */
const timeoutMsMax = 2 ** 31 - 1;

const pretended: readonly (readonly [string, PretendedFailure])[] = [
  ["mock_testing_fallbacks", "provider_error"],
  ["mock_testing_context_fallbacks", "context_length_exceeded"],
  ["mock_testing_content_policy_fallbacks", "content_policy_violation"],
  ["mock_testing_rate_limit_error", "provider_rate_limited"],
];

const fields: ReadonlySet<string> = new Set([
  "num_retries",
  "timeout",
  "request_timeout",
  "fallbacks",
  "disable_fallbacks",
  "priority",
  ...pretended.map(([name]) => name),
]);

/**
 * What a body says about the repetition of its call, in LiteLLM's fields.
 *
 * @returns undefined if it says nothing; `invalid_request` (with `param`) if it says what cannot be.
 */
export function readRepeatWishes(body: JsonObject): RepeatWishes | GatewayError | undefined {
  if (!hasWishes(body)) return undefined;
  const retries = readRetries(body.num_retries ?? undefined);
  if (retries === null) return fault("num_retries", `a whole number from 0 to ${retriesMax}`);
  const given = body.timeout ?? body.request_timeout ?? undefined;
  const timeoutMs = readTimeoutMs(given);
  if (timeoutMs === null) return fault("timeout", "a number of seconds over 0");
  const fallbacks = readFallbacks(body.fallbacks ?? undefined);
  if (fallbacks === null) {
    return fault("fallbacks", `a list of at most ${fallbacksMax} models, each its name or an object with \`model\``);
  }
  const { priority } = body;
  const isPriority = typeof priority === "number" && Number.isSafeInteger(priority) && priority >= 0;
  if (priority !== undefined && priority !== null && !isPriority) return fault("priority", "a whole number from 0");
  return {
    ...{ retries, timeoutMs, fallbacks, ...(isPriority && { priority }) },
    disablesFallbacks: body.disable_fallbacks === true,
    pretends: pretended.find(([name]) => body[name] === true)?.[1],
  };
}

/** Most bodies have few members, and none of these. */
function hasWishes(body: JsonObject): boolean {
  for (const name in body) if (fields.has(name) && body[name] !== undefined && body[name] !== null) return true;
  return false;
}

/** @returns null if it is none. */
export function readRetries(given: Json | undefined): number | undefined | null {
  if (given === undefined) return undefined;
  const retries = typeof given === "string" && /^\d{1,3}$/.test(given) ? Number(given) : given;
  const isNumber = typeof retries === "number" && Number.isInteger(retries) && retries >= 0 && retries <= retriesMax;
  return isNumber ? retries : null;
}

/** Milliseconds of a number of seconds, which LiteLLM's clients also send as text. @returns null if it is none. */
export function readTimeoutMs(given: Json | undefined): number | undefined | null {
  if (given === undefined) return undefined;
  const seconds = typeof given === "string" && /^\d+(\.\d+)?$/.test(given) ? Number(given) : given;
  if (typeof seconds !== "number" || !(seconds > 0)) return null;
  return Math.min(timeoutMsMax, Math.max(1, Math.round(seconds * 1000)));
}

function readFallbacks(given: Json | undefined): readonly FallbackTarget[] | undefined | null {
  if (given === undefined) return undefined;
  if (!Array.isArray(given) || given.length > fallbacksMax) return null;
  const targets: FallbackTarget[] = [];
  for (const item of given) {
    const { model, ...overrides } = isObject(item) ? item : { model: item };
    if (typeof model !== "string" || model === "") return null;
    targets.push(Object.keys(overrides).length === 0 ? { model } : { model, overrides });
  }
  return targets;
}

function fault(param: string, wanted: string): GatewayError {
  return new GatewayError("invalid_request", `\`${param}\` must be ${wanted}.`, { param });
}
