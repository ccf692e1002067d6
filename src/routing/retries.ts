import type { Random } from "../clock.ts";
import type { ByFailureClass, Deployment, RepeatRules } from "../config/config.ts";
import { type ErrorCode, GatewayError, type Trail } from "../errors.ts";
import { failureClassOf } from "./failure-class.ts";

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

/**
 * Whether another attempt makes sense.
 *
 * @param again whether it would be at a deployment that has failed before.
 */
export function isWorthRepeating(failure: GatewayError, again: boolean): boolean {
  if (!again) return passing.has(failure.code) || local.has(failure.code);
  return passing.has(failure.code);
}

/** How often a call may be repeated in a group after a failure. */
export interface RetryBound {
  readonly retriesMax: number;
  /** A policy names failures of this class: then they are repeated whatever they are. */
  readonly isByPolicy: boolean;
}

/**
 * @param wished by the call itself.
 * @param deployment where it has failed; undefined: nowhere in particular.
 */
export function retryBound(
  failure: GatewayError,
  rules: RepeatRules,
  group: string,
  deployment: Deployment | undefined,
  wished: number | undefined,
): RetryBound {
  const ofGroup = figureOf(rules.retriesByGroup.get(group), failure);
  const byPolicy = ofGroup ?? figureOf(rules.retriesByClass, failure);
  const retriesMax = wished ?? byPolicy ?? rules.ownRetries ?? deployment?.retries ?? rules.retries;
  return { retriesMax, isByPolicy: byPolicy !== undefined };
}

function figureOf(figures: ByFailureClass | undefined, failure: GatewayError): number | undefined {
  const failureClass = failureClassOf(failure);
  return failureClass === undefined ? undefined : figures?.[failureClass];
}

/**
 * How long to wait before trying a deployment again that has failed already: what the provider asked for, else doubling from
 * half a second to eight; and up to a quarter more, so that pods do not return in step.
 *
 * @param retries the number of the repetition, from 1.
 * @param askedMs by the provider.
 * @param leastMs as configured.
 */
export function pauseMs(retries: number, askedMs: number | undefined, random: Random, leastMs = 0): number {
  const ownMs = askedMs ?? Math.min(longestPauseMs, firstPauseMs * 2 ** (retries - 1));
  return Math.max(leastMs, ownMs) * (1 + random() / 4);
}

/**
 * The failure a caller sees. Once the gateway has repeated the call itself, an SDK that repeats it again makes a storm, so
 * server errors are then marked as not worth it.
 *
 * @param fallbacks other models that were tried too.
 */
export function afterAttempts(failure: GatewayError, fallbacks: readonly string[], trail: Trail): GatewayError {
  const { attempts } = trail;
  const isRepeated = attempts > 1 || fallbacks.length > 0;
  const others = fallbacks.length === 0 ? "" : `; fallbacks that failed too: ${fallbacks.join(", ")}`;
  const tells = isRepeated && (failure.shouldRetry || fallbacks.length > 0);
  const message = tells ? `${failure.message} (after ${attempts} attempts${others})` : failure.message;
  const isFinal = isRepeated && failure.kind.httpStatus >= 500 && failure.shouldRetry;
  return new GatewayError(failure.code, message, { ...failure.facts, ...(isFinal && { retry: false }), trail });
}
