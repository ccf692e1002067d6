import type { Random } from "../clock.ts";
import { type ErrorCode, GatewayError } from "../errors.ts";

/** Failures that pass: the same deployment may answer the next time. What the caller got wrong is wrong everywhere. */
const passing: ReadonlySet<ErrorCode> = new Set([
  "provider_rate_limited",
  "provider_error",
  "provider_unavailable",
  "provider_timeout",
  "stream_interrupted",
]);
/** Failures of one deployment's own settings, which others may not share. */
const local: ReadonlySet<ErrorCode> = new Set(["provider_auth_failed", "provider_model_not_found"]);

const firstPauseMs = 500;
const longestPauseMs = 8_000;
/** A provider that asks for longer than this is left alone and the caller told. */
const longestRetryAfterMs = 30_000;

/**
 * Whether another attempt makes sense.
 *
 * @param again whether it would be at a deployment that has failed before.
 */
export function isWorthRepeating(failure: GatewayError, again: boolean): boolean {
  if (!again) return passing.has(failure.code) || local.has(failure.code);
  return passing.has(failure.code) && (failure.facts.retryAfterMs ?? 0) <= longestRetryAfterMs;
}

/**
 * How long to wait before trying a deployment again that has failed already: what the provider asked for, else doubling from
 * half a second to eight; and up to a quarter more, so that pods do not return in step.
 *
 * @param attempts made so far, at least 1.
 */
export function pauseMs(attempts: number, failure: GatewayError, random: Random): number {
  const asked = failure.facts.retryAfterMs ?? Math.min(longestPauseMs, firstPauseMs * 2 ** (attempts - 1));
  return asked * (1 + random() / 4);
}

/**
 * The failure a caller sees. Once the gateway has repeated the call itself, an SDK that repeats it again makes a storm, so
 * server errors are then marked as not worth it.
 */
export function afterAttempts(failure: GatewayError, attempts: number): GatewayError {
  if (attempts === 1 || !failure.shouldRetry || failure.kind.httpStatus < 500) return failure;
  return new GatewayError(failure.code, `${failure.message} (after ${attempts} attempts)`, {
    ...failure.facts,
    retry: false,
  });
}
