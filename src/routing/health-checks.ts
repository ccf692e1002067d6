import type { Clock, Random } from "../clock.ts";
import type { CooldownRules, Deployment } from "../config/config.ts";
import type { HealthCheckRules } from "../config/health-check-rules.ts";
import type { Counters } from "../counters/counters.ts";
import { GatewayError } from "../errors.ts";
import type { Provider } from "../providers/provider.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { HealthState } from "./candidate.ts";
import { checkRequestFor } from "./check-requests.ts";
import { boardNameOf, type Health } from "./health.ts";
import type { Snapshots } from "./snapshots.ts";

/** So many deployments are asked at once. */
const atOnceMax = 8;
/** The longest a deployment has to answer that does not say. */
const defaultTimeoutMs = 60_000;
/** The first checks come within so long after the start: pods that start together do not all ask at once. */
const firstWithinMs = 1_000;
/** The part of an interval that has one check. Less than all of it: the turn that made the last one must find room again. */
const claimedPart = 0.9;
/** What was found out so many intervals ago says nothing any more. */
const freshIntervals = 2;

/** What came of a check. */
export interface CheckResult {
  /** Wall clock. */
  readonly atMs: number;
  /** Undefined: it answered. */
  readonly failure: GatewayError | undefined;
}

interface KnownResult extends CheckResult {
  readonly untilMonotonicMs: number;
}

/**
 * Asks each deployment at intervals whether it answers, with a real call for one token: by one pod of all, which claims it in the
 * counters. Nobody pays for these calls: they belong to no key, are not booked, and take nothing of a deployment's limits. Where
 * `enable_health_check_routing` says so they steer: a failed one leaves the deployment alone, one that is answered ends that.
 */
export class HealthChecks {
  readonly #rules: HealthCheckRules;
  readonly #snapshots: Pick<Snapshots, "current">;
  readonly #providerOf: (deployment: Deployment) => Provider;
  readonly #health: Health;
  readonly #counters: Pick<Counters, "take">;
  readonly #log: Telemetry["log"];
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #results = new Map<string, KnownResult>();
  readonly #abort = new AbortController();
  #cancel = () => {};
  #round: Promise<void> = Promise.resolve();

  constructor(parts: {
    rules: HealthCheckRules;
    snapshots: Pick<Snapshots, "current">;
    providerOf: (deployment: Deployment) => Provider;
    health: Health;
    counters: Pick<Counters, "take">;
    telemetry: Pick<Telemetry, "log">;
    clock: Clock;
    random: Random;
  }) {
    this.#rules = parts.rules;
    this.#snapshots = parts.snapshots;
    this.#providerOf = parts.providerOf;
    this.#health = parts.health;
    this.#counters = parts.counters;
    this.#log = (level, message, facts) => parts.telemetry.log(level, message, facts);
    this.#clock = parts.clock;
    this.#random = parts.random;
  }

  start(): void {
    this.#nextIn(this.#random() * Math.min(firstWithinMs, this.#rules.intervalMs));
  }

  /** What this pod found out last; undefined: nothing of late, perhaps because another pod asked. */
  resultOf(deployment: Deployment): CheckResult | undefined {
    const result = this.#results.get(deployment.id);
    return result !== undefined && this.#clock.monotonicMs() < result.untilMonotonicMs ? result : undefined;
  }

  /** Breaks off what is under way; that says nothing of anybody. */
  async close(): Promise<void> {
    this.#cancel();
    this.#abort.abort(new GatewayError("client_closed_request", "This pod is shutting down."));
    await this.#round;
  }

  #nextIn(delayMs: number): void {
    if (this.#abort.signal.aborted) return;
    this.#cancel = this.#clock.after(delayMs, () => {
      const startedMs = this.#clock.monotonicMs();
      this.#round = this.#checkAll().finally(() => {
        const tookMs = this.#clock.monotonicMs() - startedMs;
        this.#nextIn(Math.max(0, this.#rules.intervalMs - tookMs));
      });
    });
  }

  async #checkAll(): Promise<void> {
    const { router } = this.#snapshots.current;
    const groups = [...router.groups()];
    const ids = new Set(groups.flat().map(({ id }) => id));
    for (const id of this.#results.keys()) if (!ids.has(id)) this.#results.delete(id);
    const cooldown = router.config.checksSteer === true ? router.config.cooldown : undefined;
    const waiting = groups.flatMap((group) =>
      group.map((deployment) => ({ deployment, cooldown, hasSiblings: group.length > 1 })),
    );
    // The workers share one iterator.
    const queue = waiting.values();
    const work = async () => {
      for (const check of queue) await this.#check(check);
    };
    await Promise.all(Array.from({ length: atOnceMax }, work));
  }

  async #check({ deployment, cooldown, hasSiblings }: PlannedCheck): Promise<void> {
    const asked = askedAt(deployment);
    if (asked === undefined || !(await this.#claim(asked))) return;
    const before = this.#health.stateOf(asked);
    const failure = await this.#ask(asked);
    if (this.#abort.signal.aborted) return;
    this.#note(deployment, failure);
    if (cooldown === undefined) return;
    if (failure === undefined) this.#health.succeeded(asked, endsCooldown(before));
    // One check is all there is to judge by until the next; who has said how many failures are allowed is obeyed.
    else {
      const allowedFails = cooldown.allowedFails ?? (hasSiblings ? 0 : undefined);
      this.#health.failed(asked, failure, { ...cooldown, allowedFails }, hasSiblings);
    }
  }

  /** Whether it is this pod's to ask now. While the counters are away nobody asks who is not sure of that. */
  async #claim(asked: Deployment): Promise<boolean> {
    const windowMs = Math.max(1, Math.floor(this.#rules.intervalMs * claimedPart));
    const group = `health-check:${boardNameOf(asked)}`;
    const claim = { kind: "window", group, name: "checks", amount: 1, ceiling: 1, windowMs } as const;
    try {
      return !this.#abort.signal.aborted && (await this.#counters.take([claim])).ok;
    } catch {
      return false;
    }
  }

  /** @returns why it did not answer; undefined: it did. */
  async #ask(asked: Deployment): Promise<GatewayError | undefined> {
    const request = checkRequestFor(asked);
    if (request === undefined) return undefined;
    const ownMs = asked.check?.timeoutMs ?? Math.min(asked.timeoutMs, defaultTimeoutMs);
    const timeoutMs = Math.min(ownMs, this.#rules.intervalMs);
    const times = { timeoutMs, idleTimeoutMs: timeoutMs, outputTokensMax: undefined, traceparent: undefined };
    const call = { request, deployment: asked, ...times, signal: this.#abort.signal };
    try {
      let last: string | undefined;
      for await (const event of this.#providerOf(asked).complete(call)) last = event.type;
      return last === "end" ? undefined : new GatewayError("stream_interrupted", "The answer to the check broke off.");
    } catch (thrown) {
      return GatewayError.from(thrown);
    }
  }

  #note(deployment: Deployment, failure: GatewayError | undefined): void {
    const { id, modelGroup } = deployment;
    const before = this.#results.get(id);
    const untilMonotonicMs = this.#clock.monotonicMs() + freshIntervals * this.#rules.intervalMs;
    this.#results.set(id, { atMs: this.#clock.nowMs(), failure, untilMonotonicMs });
    const facts = { deployment: id, modelGroup };
    if (failure === undefined) {
      if (before?.failure !== undefined) this.#log("info", "A health check is answered again.", facts);
    } else if (before?.failure?.code !== failure.code) {
      this.#log("warn", "A health check failed.", { ...facts, code: failure.code, ...failure.facts.metadata });
    }
  }
}

/** A check that is to be made. */
interface PlannedCheck {
  readonly deployment: Deployment;
  /** Undefined: whatever comes of it, calls go where they went. */
  readonly cooldown: CooldownRules | undefined;
  readonly hasSiblings: boolean;
}

/**
 * Whether an answer shows that a deployment is well again which was so when it was asked. What it was not then, it may have become
 * since; and who has no room for more is not shown to have it by one token.
 */
function endsCooldown(before: HealthState): boolean {
  return before === "probing" || (before !== "up" && before.cause !== "provider_rate_limited");
}

/** The deployment as it is asked; undefined: it is not to be asked, or nobody knows for what. */
function askedAt(deployment: Deployment): Deployment | undefined {
  const { check, model: own, provider } = deployment;
  if (check?.disabled === true || checkRequestFor(deployment) === undefined) return undefined;
  const prefix = `${provider}/`;
  const model = check?.model?.startsWith(prefix) === true ? check.model.slice(prefix.length) : (check?.model ?? own);
  return model.includes("*") ? undefined : { ...deployment, model };
}
