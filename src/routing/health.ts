import type { Clock } from "../clock.ts";
import type { CooldownRules, Deployment } from "../config/config.ts";
import type { ErrorCode, GatewayError } from "../errors.ts";
import { failureClassOf } from "./failure-class.ts";

/** Whether a deployment may be called: always, by one attempt at a time that finds out, or not for now. */
export type HealthState = "up" | "probing" | { readonly coolingForMs: number; readonly cause: ErrorCode };

/** Attempts are judged by what came of them in the last so many milliseconds. */
const judgedMs = 60_000;
/** So many attempts make a failure rate. */
const attemptsMin = 5;
/** A deployment with others beside it is left alone when more than this part of its attempts fail. */
const failureRateMax = 0.5;
/** A rate limit with no word of when it ends. */
const defaultCooldownMs = 5_000;
/** So many deployments are remembered; behind wildcards callers choose their names. */
const keptMax = 10_000;

/** What came of a deployment's attempts since a moment, and whether it is down. */
interface Standing {
  sinceMs: number;
  attempts: number;
  failures: number;
  readonly failuresByClass: Map<string, number>;
  /** Monotonic, milliseconds; undefined: it is not down. */
  downUntilMs: number | undefined;
  cause: ErrorCode;
}

/** Where pods tell each other which deployments are down. */
export interface SharedHealth {
  cool(deploymentId: string, forMs: number, cause: ErrorCode): void;
  clear(deploymentId: string): void;
}

/**
 * Which deployments are well. One that fails is left alone for a while (its cooldown); after that one attempt at a time may
 * find out whether it is well again, and only a success puts it back.
 *
 * How soon that happens depends on the failure: credentials and missing models at once, since the next call would meet the same;
 * rate limits at once if there is somewhere else or the provider says how long; anything else by `allowed_fails` and its policy or,
 * where they are not given, when most of the last minute's attempts failed.
 */
export class Health {
  readonly #clock: Clock;
  readonly #shared: SharedHealth | undefined;
  readonly #records = new Map<string, Standing>();

  constructor(parts: { clock: Clock; shared?: SharedHealth | undefined }) {
    this.#clock = parts.clock;
    this.#shared = parts.shared;
  }

  /** Without waiting. */
  stateOf(deployment: Deployment): HealthState {
    const record = this.#records.get(nameOf(deployment));
    if (record?.downUntilMs === undefined) return "up";
    const coolingForMs = record.downUntilMs - this.#clock.monotonicMs();
    return coolingForMs > 0 ? { coolingForMs, cause: record.cause } : "probing";
  }

  /**
   * An attempt was answered.
   *
   * @param isProbe it was made to find out: then the deployment is well again. What began before it was down says nothing.
   */
  succeeded(deployment: Deployment, isProbe: boolean): void {
    const name = nameOf(deployment);
    const record = this.#records.get(name);
    // Mostly: what is well costs nothing to remember.
    if (record === undefined) return;
    if (record.downUntilMs === undefined) {
      this.#current(record).attempts += 1;
    } else if (isProbe) {
      this.#records.delete(name);
      this.#shared?.clear(name);
    }
  }

  /**
   * An attempt failed.
   *
   * @param hasSiblings whether the call could have gone elsewhere in its group.
   * @returns for how long the deployment is left alone now, in milliseconds; undefined: it is not.
   */
  failed(
    deployment: Deployment,
    failure: GatewayError,
    rules: CooldownRules,
    hasSiblings: boolean,
  ): number | undefined {
    const failureClass = failureClassOf(failure);
    if (failureClass === undefined || rules.disabled) return undefined;
    const record = this.#recordOf(deployment);
    record.attempts += 1;
    // The caller's own mistakes say nothing about who told him.
    const isCallers = failureClass === "BadRequest" || failureClass === "ContentPolicyViolation";
    if (!isCallers) record.failures += 1;
    const ofClass = (record.failuresByClass.get(failureClass) ?? 0) + 1;
    record.failuresByClass.set(failureClass, ofClass);
    const wasDown = record.downUntilMs !== undefined;
    const own = deployment.cooldown;
    const allowed = own?.allowedFailsByClass?.[failureClass] ?? rules.allowedFailsByClass[failureClass];
    const allowedFails = own?.allowedFails ?? rules.allowedFails;
    const isDown =
      allowed !== undefined
        ? ofClass > allowed
        : !isCallers &&
          (wasDown ||
            (allowedFails === undefined
              ? failsByItself(failure, record, hasSiblings)
              : record.failures > allowedFails));
    if (!isDown) return undefined;
    const forMs = own?.cooldownMs ?? failure.facts.retryAfterMs ?? rules.cooldownMs ?? defaultCooldownMs;
    if (forMs <= 0) return undefined;
    this.cool(deployment, forMs, failure.code);
    this.#shared?.cool(nameOf(deployment), forMs, failure.code);
    return forMs;
  }

  /** Leaves a deployment alone, as another pod or a health check says. */
  cool(deployment: Deployment, forMs: number, cause: ErrorCode): void {
    const record = this.#recordOf(deployment);
    record.downUntilMs = this.#clock.monotonicMs() + forMs;
    record.cause = cause;
    record.attempts = 0;
    record.failures = 0;
    record.failuresByClass.clear();
  }

  #recordOf(deployment: Deployment): Standing {
    const name = nameOf(deployment);
    const known = this.#records.get(name);
    if (known !== undefined) return this.#current(known);
    const [oldest] = this.#records.keys();
    if (oldest !== undefined && this.#records.size >= keptMax) this.#records.delete(oldest);
    const sinceMs = this.#clock.monotonicMs();
    const record: Standing = {
      ...{ sinceMs, attempts: 0, failures: 0, failuresByClass: new Map() },
      downUntilMs: undefined,
      cause: "provider_error",
    };
    this.#records.set(name, record);
    return record;
  }

  /** Forgets what is too old to be judged by. */
  #current(record: Standing): Standing {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - record.sinceMs < judgedMs) return record;
    record.sinceMs = nowMs;
    record.attempts = 0;
    record.failures = 0;
    record.failuresByClass.clear();
    return record;
  }
}

/** What one deployment is called here: behind a wildcard each model has a health of its own. */
function nameOf({ id, model, modelGroup }: Deployment): string {
  return modelGroup.includes("*") ? `${id} ${model}` : id;
}

function failsByItself(failure: GatewayError, record: Standing, hasSiblings: boolean): boolean {
  switch (failure.code) {
    case "provider_auth_failed":
    case "provider_model_not_found":
      return true;
    case "provider_rate_limited":
      return hasSiblings || failure.facts.retryAfterMs !== undefined;
    default: {
      if (record.attempts < attemptsMin) return false;
      const rate = record.failures / record.attempts;
      // With nowhere else to go, only what always fails is given up.
      return hasSiblings ? rate > failureRateMax : rate === 1;
    }
  }
}
