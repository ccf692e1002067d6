import type { Clock, Random } from "../clock.ts";
import type { CompletionRequest, FallbackTarget, JsonObject, RepeatWishes } from "../completion.ts";
import type { Deployment, FallbackMap, RepeatRules, RouterConfig } from "../config/config.ts";
import type { ErrorCode, GatewayError } from "../errors.ts";
import type { Ask, Candidate, Selection } from "./candidate.ts";
import { failureClassOf } from "./failure-class.ts";
import { isWorthRepeating, pauseMs, retryBound } from "./retries.ts";
import type { Route, Router } from "./router.ts";

/** Refusals of a fallback that say nothing about the next one. */
const refusals: ReadonlySet<ErrorCode> = new Set([
  "budget_exceeded",
  "rate_limit_exceeded",
  "model_not_allowed",
  "unpriced_model",
]);

/** The deployments of the group cannot take the call; others may. */
const misplaced: ReadonlySet<ErrorCode> = new Set(["deployments_full", "invalid_request", "region_not_allowed"]);

/** Connections keep their time limits to a second or so: shorter ones than this are kept apart from them, in milliseconds. */
const coarseMs = 10_000;

/** No attempt fits into less, and a timer may go off this much before the deadline it was set to; in milliseconds. */
const shortestAttemptMs = 2;

/** Nobody waits longer for a deployment that is down, or whose provider asks for it; in milliseconds. */
const longestWaitMs = 30_000;

/** Another group a call may go to. */
export interface Destination {
  readonly route: Route;
  /** Names of the model, as it is called there and as it is configured. */
  readonly names: readonly string[];
  /** Fields of the body that differ there. */
  readonly overrides: JsonObject | undefined;
}

/** What to do after a failure. */
export type Step =
  /** Another attempt in the same group, after a pause. */
  | { readonly kind: "again"; readonly pauseMs: number }
  /** On to another group. */
  | { readonly kind: "fallback"; readonly destination: Destination }
  | { readonly kind: "stop" };

/** How long an attempt may take, in milliseconds. */
export interface Timeouts {
  /** Until the answer is whole, or a stream has begun. */
  readonly timeoutMs: number;
  /** Between two pieces of it. */
  readonly idleTimeoutMs: number;
  /** Until the first event, to the millisecond, whatever came on its connection before; undefined: the other two are enough. */
  readonly firstEventMs: number | undefined;
}

const stop: Step = { kind: "stop" };

/** What an itinerary is made of. */
export interface ItineraryParts {
  /** Of the configuration, or of the key. */
  readonly rules: RepeatRules;
  readonly config: Pick<RouterConfig, "fallbacksMax" | "retryPauseMs" | "weightedFailover">;
  readonly wishes: RepeatWishes;
  readonly router: Pick<Router, "select">;
  /** Where a fallback leads; undefined: nowhere, or the caller may not go there. */
  readonly resolve: (target: FallbackTarget) => Destination | undefined;
  /** Monotonic, milliseconds; undefined: the caller waits for as long as it takes. */
  readonly deadlineMs: number | undefined;
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Where a call has been and where it goes next: one loop, one count, one deadline. First other deployments of its group, then the same
 * ones after a pause, for as long as retries last; then, if so configured, the group's others; then the fallbacks of its group, and
 * theirs.
 */
export class Itinerary {
  readonly #parts: ItineraryParts;
  #route: Route;
  #names: readonly string[];
  #ask: Ask;
  /** Of this group, in the order they were tried. */
  readonly #tried: Deployment[] = [];
  #retries = 0;
  #failovers = 0;
  /** Fallbacks still to be tried, the next first. */
  readonly #ahead: Destination[] = [];
  readonly #visited: string[] = [];
  #hasLookedAhead = false;
  readonly #fallbackModels: string[] = [];

  constructor(parts: ItineraryParts, start: Destination, ask: Ask) {
    this.#parts = parts;
    this.#route = start.route;
    this.#names = start.names;
    this.#ask = ask;
    this.#visited.push(start.route.modelGroup);
  }

  /** What the call asks for in the group it is at. */
  get ask(): Ask {
    return this.#ask;
  }

  /** Of the model, as it was called for and as it is configured. */
  get names(): readonly string[] {
    return this.#names;
  }

  get route(): Route {
    return this.#route;
  }

  /** Changes of the group, or of its deployments once retries were used up. */
  get failovers(): number {
    return this.#failovers;
  }

  /** Models that were tried in place of the one asked for. */
  get fallbackModels(): readonly string[] {
    return this.#fallbackModels;
  }

  /** Where the next attempt can go: to deployments that were not tried yet, or else to any. */
  candidates(): Selection {
    const fresh = this.#select(true);
    return fresh.candidates.length > 0 || this.#tried.length === 0 ? fresh : this.#select(false);
  }

  /** Where the call has not been in this group. */
  others(): readonly Candidate[] {
    return this.#select(true).candidates;
  }

  /** From here on the call is another one: what there is of its answer belongs to it. */
  goOnWith(request: CompletionRequest): void {
    this.#ask = { ...this.#ask, request };
  }

  /** An attempt begins at a deployment. */
  begin(deployment: Deployment): void {
    this.#tried.push(deployment);
  }

  /** The call goes on at another group. */
  enter({ route, names }: Destination, ask: Ask): void {
    this.#route = route;
    this.#names = names;
    this.#ask = ask;
    this.#tried.length = 0;
    this.#retries = 0;
    this.#hasLookedAhead = false;
    this.#visited.push(route.modelGroup);
    this.#fallbackModels.push(names[0] ?? route.modelGroup);
  }

  /** What to do after a failure that came before the answer began. */
  after(failure: GatewayError): Step {
    const isElsewhereBetter = failureClassOf(failure) !== undefined || misplaced.has(failure.code);
    if (!isElsewhereBetter && !(this.#fallbackModels.length > 0 && refusals.has(failure.code))) return stop;
    return this.#retry(failure) ?? this.#failover(failure) ?? this.#fallback(failure) ?? stop;
  }

  /** How long the caller waits yet, in milliseconds. */
  get leftMs(): number {
    const { deadlineMs, clock } = this.#parts;
    return deadlineMs === undefined ? Number.POSITIVE_INFINITY : Math.max(1, deadlineMs - clock.monotonicMs());
  }

  /** How long an attempt may take: as configured, but never past the call's deadline. */
  timeoutsAt(deployment: Deployment, isStream: boolean): Timeouts {
    const { leftMs } = this;
    const ownMs = isStream ? deployment.streamTimeoutMs : deployment.timeoutMs;
    const idleMs = isStream ? (deployment.streamIdleTimeoutMs ?? deployment.streamTimeoutMs) : deployment.timeoutMs;
    const timeoutMs = Math.min(ownMs, leftMs);
    const firstTokenMs = (isStream ? deployment.firstTokenTimeoutMs : undefined) ?? Number.POSITIVE_INFINITY;
    const firstEventMs = Math.min(
      timeoutMs < coarseMs || leftMs < coarseMs ? timeoutMs : Number.POSITIVE_INFINITY,
      firstTokenMs,
    );
    return { timeoutMs, idleTimeoutMs: idleMs, firstEventMs: Number.isFinite(firstEventMs) ? firstEventMs : undefined };
  }

  #select(isFresh: boolean): Selection {
    const isOpen = (deployment: Deployment) => !isFresh || !this.#tried.includes(deployment);
    return this.#parts.router.select(this.#route, this.#ask, isOpen);
  }

  #retry(failure: GatewayError): Step | undefined {
    const { rules, wishes } = this.#parts;
    const last = this.#tried.at(-1);
    const bound = retryBound(failure, rules, this.#route.modelGroup, last, wishes.retries);
    if (last === undefined || this.#retries >= bound.retriesMax) return undefined;
    if ((bound.isByPolicy || isWorthRepeating(failure, false)) && this.#select(true).candidates.length > 0) {
      this.#retries++;
      return { kind: "again", pauseMs: 0 };
    }
    if (!bound.isByPolicy && !isWorthRepeating(failure, true)) return undefined;
    const pause = this.#pauseFor(failure, last);
    if (pause === undefined || !this.#isInTime(pause)) return undefined;
    this.#retries++;
    return { kind: "again", pauseMs: pause };
  }

  /** How long to wait before a deployment is tried again; undefined: it is not worth it. */
  #pauseFor(failure: GatewayError, last: Deployment): number | undefined {
    const { config, random } = this.#parts;
    const { candidates, excluded } = this.#select(false);
    const pauseFor = (askedMs?: number) => pauseMs(this.#retries + 1, askedMs, random, config.retryPauseMs);
    if (candidates.some(({ deployment }) => deployment !== last)) return pauseFor();
    const { retryAfterMs } = failure.facts;
    if (candidates.length > 0) return (retryAfterMs ?? 0) > longestWaitMs ? undefined : pauseFor(retryAfterMs);
    // All are down. Where there is another model it is tried at once; else the first to be back is worth a wait.
    const soonestMs = Math.min(...excluded.map((exclusion) => exclusion.retryAfterMs ?? Number.POSITIVE_INFINITY));
    if (soonestMs > longestWaitMs || this.#hasFallback(failure)) return undefined;
    return Math.max(pauseFor(), soonestMs + 1);
  }

  /** Once retries are used up: deployments of the next order, or any of the group's others if so configured. */
  #failover(failure: GatewayError): Step | undefined {
    const { config } = this.#parts;
    const last = this.#tried.at(-1);
    if (last === undefined || this.#failovers >= config.fallbacksMax) return undefined;
    if (!isWorthRepeating(failure, false) || !this.#isInTime(0)) return undefined;
    const { candidates } = this.#select(true);
    if (!candidates.some(({ deployment }) => config.weightedFailover || deployment.order > last.order))
      return undefined;
    this.#failovers++;
    return { kind: "again", pauseMs: 0 };
  }

  #fallback(failure: GatewayError): Step | undefined {
    if (!this.#isInTime(0) || !this.#hasFallback(failure)) return undefined;
    const destination = this.#ahead.shift();
    if (destination === undefined) return undefined;
    this.#failovers++;
    return { kind: "fallback", destination };
  }

  #hasFallback(failure: GatewayError): boolean {
    if (this.#parts.wishes.disablesFallbacks === true || this.#failovers >= this.#parts.config.fallbacksMax)
      return false;
    if (!this.#hasLookedAhead) {
      this.#hasLookedAhead = true;
      this.#ahead.unshift(...this.#fallbacksOf(failure).flatMap((target) => this.#parts.resolve(target) ?? []));
    }
    while (this.#visited.includes(this.#ahead[0]?.route.modelGroup ?? "")) this.#ahead.shift();
    return this.#ahead.length > 0;
  }

  #fallbacksOf(failure: GatewayError): readonly FallbackTarget[] {
    const { rules, wishes } = this.#parts;
    if (wishes.fallbacks !== undefined && this.#fallbackModels.length === 0) return wishes.fallbacks;
    const map =
      failure.code === "context_length_exceeded"
        ? (rules.contextWindowFallbacks ?? rules.fallbacks)
        : failure.code === "content_policy_violation"
          ? (rules.contentPolicyFallbacks ?? rules.fallbacks)
          : rules.fallbacks;
    return findFallbacks(map, this.#names);
  }

  #isInTime(pause: number): boolean {
    const { deadlineMs, clock } = this.#parts;
    return deadlineMs === undefined || clock.monotonicMs() + pause + shortestAttemptMs <= deadlineMs;
  }
}

/** Fallbacks by the model's names, then by its name without the provider, then those for any model. */
function findFallbacks(map: FallbackMap, names: readonly string[]): readonly FallbackTarget[] {
  for (const name of names) {
    const found = map.get(name);
    if (found !== undefined) return found;
  }
  for (const name of names) {
    const found = map.get(name.slice(name.indexOf("/") + 1));
    if (found !== undefined) return found;
  }
  return map.get("*") ?? [];
}
