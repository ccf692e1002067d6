import type { Clock } from "../clock.ts";
import type { CooldownRules, Deployment } from "../config/config.ts";
import type { Board } from "../counters/board.ts";
import { type ErrorCode, type GatewayError, isErrorCode } from "../errors.ts";
import type { DeploymentFacts, HealthState, Load } from "./candidate.ts";
import { failureClassOf } from "./failure-class.ts";

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

/** What came of a deployment's attempts since a moment. */
interface Standing {
  sinceMs: number;
  attempts: number;
  failures: number;
  readonly failuresByClass: Map<string, number>;
}

/** How often a deployment was left alone for a failure of one kind. */
export interface Cooldowns {
  readonly deployment: Deployment;
  readonly code: ErrorCode;
  count: number;
}

/**
 * Which deployments are well. One that fails is left alone for a while (its cooldown); after that one attempt at a time may
 * find out whether it is well again, and only a success puts it back.
 *
 * How soon that happens depends on the failure: credentials and missing models at once, since the next call would meet the same;
 * rate limits at once if there is somewhere else or the provider says how long; anything else by `allowed_fails` and its policy or,
 * where they are not given, when most of the last minute's attempts failed. What is down is on the board, so that all pods know.
 */
export class Health implements DeploymentFacts {
  readonly #clock: Clock;
  readonly #board: Board;
  /** Of deployments that have failed lately. */
  readonly #standings = new Map<string, Standing>();
  readonly #cooldowns = new Map<string, Cooldowns>();

  /** @param parts.board what this pod and the others know. */
  constructor(parts: { clock: Clock; board: Board }) {
    this.#clock = parts.clock;
    this.#board = parts.board;
  }

  loadOf(deployment: Deployment): Load {
    return this.#board.of(boardNameOf(deployment));
  }

  stateOf(deployment: Deployment): HealthState {
    const cooling = this.#board.coolingOf(boardNameOf(deployment));
    if (cooling === undefined) return "up";
    const { remainingMs, code } = cooling;
    return remainingMs > 0
      ? { coolingForMs: remainingMs, cause: isErrorCode(code) ? code : "provider_error" }
      : "probing";
  }

  /**
   * An attempt was answered.
   *
   * @param isProbe it was made to find out: then the deployment is well again. What began before it was down says nothing.
   */
  succeeded(deployment: Deployment, isProbe: boolean): void {
    const name = boardNameOf(deployment);
    if (isProbe) {
      this.#board.clear(name);
      this.#standings.delete(name);
    }
    // Mostly there is none: what is well costs nothing to remember.
    const standing = this.#standings.get(name);
    if (standing !== undefined) this.#current(standing).attempts += 1;
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
    const name = boardNameOf(deployment);
    const standing = this.#standingOf(name);
    standing.attempts += 1;
    // The caller's own mistakes say nothing about who told him.
    const isCallers = failureClass === "BadRequest" || failureClass === "ContentPolicyViolation";
    if (!isCallers) standing.failures += 1;
    const ofClass = (standing.failuresByClass.get(failureClass) ?? 0) + 1;
    standing.failuresByClass.set(failureClass, ofClass);
    const own = deployment.cooldown;
    const allowed = own?.allowedFailsByClass?.[failureClass] ?? rules.allowedFailsByClass[failureClass];
    const allowedFails = own?.allowedFails ?? rules.allowedFails;
    const isUnwell = () =>
      allowedFails === undefined ? failsByItself(failure, standing, hasSiblings) : standing.failures > allowedFails;
    const wasDown = this.#board.coolingOf(name) !== undefined;
    const isDown = allowed !== undefined ? ofClass > allowed : !isCallers && (wasDown || isUnwell());
    if (!isDown) return undefined;
    const forMs = own?.cooldownMs ?? failure.facts.retryAfterMs ?? rules.cooldownMs ?? defaultCooldownMs;
    if (forMs <= 0) return undefined;
    this.#standings.delete(name);
    const status = Number(failure.facts.metadata?.providerStatus) || undefined;
    this.#board.cool(name, forMs, { code: failure.code, status });
    this.#countCooldown(deployment, failure.code);
    return forMs;
  }

  /** How often this pod has left deployments alone since the start, those behind a wildcard together. */
  cooldowns(): Iterable<Cooldowns> {
    return this.#cooldowns.values();
  }

  #countCooldown(deployment: Deployment, code: ErrorCode): void {
    const key = `${deployment.id} ${code}`;
    const known = this.#cooldowns.get(key);
    if (known !== undefined) known.count += 1;
    else if (this.#cooldowns.size < keptMax) this.#cooldowns.set(key, { deployment, code, count: 1 });
  }

  #standingOf(name: string): Standing {
    const known = this.#standings.get(name);
    if (known !== undefined) return this.#current(known);
    const [oldest] = this.#standings.keys();
    if (oldest !== undefined && this.#standings.size >= keptMax) this.#standings.delete(oldest);
    const standing = { sinceMs: this.#clock.monotonicMs(), attempts: 0, failures: 0, failuresByClass: new Map() };
    this.#standings.set(name, standing);
    return standing;
  }

  /** Forgets what is too old to be judged by. */
  #current(standing: Standing): Standing {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - standing.sinceMs < judgedMs) return standing;
    standing.sinceMs = nowMs;
    standing.attempts = 0;
    standing.failures = 0;
    standing.failuresByClass.clear();
    return standing;
  }
}

/** What one deployment is called on the board: behind a wildcard each model is one of its own. */
export function boardNameOf({ id, model, modelGroup }: Deployment): string {
  return modelGroup.includes("*") ? `${id} ${model}` : id;
}

function failsByItself(failure: GatewayError, standing: Standing, hasSiblings: boolean): boolean {
  switch (failure.code) {
    case "provider_auth_failed":
    case "provider_model_not_found":
      return true;
    case "provider_rate_limited":
      return hasSiblings || failure.facts.retryAfterMs !== undefined;
    default: {
      if (standing.attempts < attemptsMin) return false;
      const rate = standing.failures / standing.attempts;
      // With nowhere else to go, only what always fails is given up.
      return hasSiblings ? rate > failureRateMax : rate === 1;
    }
  }
}
