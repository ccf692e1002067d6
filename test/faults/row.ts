import assert from "node:assert/strict";
import { type AuditOptions, audit, type KeyAudit, quiesce, usd } from "./audit.ts";
import { answerNanos } from "./bills.ts";
import { call, type Outcome, quantile, Traffic, type TrafficKey, tally } from "./traffic.ts";
import { pause, type World, type WorldOptions } from "./world.ts";

/** One row of the fault matrix. */
export interface Row {
  /** As in the matrix; words for what is not in it. */
  readonly name: string;
  readonly fault: string;
  readonly promise: string;
  /** Runs in every `npm test` too. All such rows share a world of the default kind. */
  readonly isQuick?: boolean;
  readonly world?: WorldOptions;
  /** Why it cannot run here; undefined if it can. */
  readonly skip?: () => string | undefined;
  /** @returns what was measured. @throws when the promise is broken. */
  readonly run: (scene: Scene) => Promise<readonly string[]>;
}

/** What a row's traffic and fault came to. */
export interface Incident {
  readonly keys: Readonly<Record<KeyName, TrafficKey>>;
  readonly outcomes: readonly Outcome[];
  readonly before: readonly Outcome[];
  readonly during: readonly Outcome[];
  readonly after: readonly Outcome[];
  readonly healedAtMs: number;
  readonly audits: readonly KeyAudit[];
  /** What every row tells. */
  readonly facts: readonly string[];
}

/** A tight budget that runs out on the way; a loose one, and limits; neither; and a low limit. */
export type KeyName = "tight" | "loose" | "unlimited" | "limited";

/** Requests a minute of the limited key. */
export const limitedRpm = 60;

interface IncidentParts {
  readonly inject: (keys: Incident["keys"]) => Promise<unknown> | unknown;
  readonly heal: (keys: Incident["keys"]) => Promise<unknown> | unknown;
  readonly audit?: AuditOptions;
  readonly persistent?: boolean;
  /** Keys that need not be served within a lease's time after healing. */
  readonly mayBeRefused?: readonly KeyName[];
}

let sceneCount = 0;

/** A world, and how long a row has in it. */
export class Scene {
  readonly world: World;
  readonly seconds: number;
  readonly isQuick: boolean;
  readonly #id = `${process.pid}-${sceneCount++}`;

  constructor(parts: { world: World; seconds: number; isQuick: boolean }) {
    this.world = parts.world;
    this.seconds = parts.seconds;
    this.isQuick = parts.isQuick;
  }

  /** Makes a key. */
  async key(name: string, fields: object = {}): Promise<TrafficKey> {
    const alias = `${name}-${this.#id}`;
    const { status, body } = await this.world.admin("/key/generate", { key_alias: alias, ...fields });
    assert.equal(status, 200, `the key ${name} could not be made: ${JSON.stringify(body)}`);
    const [row] = await this.world.query<{ key_id: string }>("SELECT key_id FROM keys WHERE alias = $1", [alias]);
    return { name: alias, secret: String(body.key), keyId: row?.key_id ?? "" };
  }

  async keys(): Promise<Incident["keys"]> {
    // Runs out when about two thirds of the traffic are over.
    const tightUsd = (Number(answerNanos) / 1e9) * 20 * this.seconds * this.world.pods.length * 0.6;
    const [tight, loose, unlimited, limited] = await Promise.all([
      this.key("tight", { max_budget: Number(tightUsd.toFixed(6)) }),
      this.key("loose", {
        max_budget: 100,
        rpm_limit: 1_000_000,
        tpm_limit: 1_000_000_000,
        max_parallel_requests: 1000,
      }),
      this.key("unlimited"),
      this.key("limited", { rpm_limit: limitedRpm }),
    ]);
    return { tight, loose, unlimited, limited };
  }

  /** Runs traffic of all keys at all pods; injects the fault after a quarter of the time, heals it after two thirds. */
  async incident(parts: IncidentParts): Promise<Incident> {
    const { world } = this;
    const podCount = world.pods.length;
    const keys = await this.keys();
    const traffic = new Traffic({
      ...{ world, keys: Object.values(keys), pauseMs: 100 },
      persistent: parts.persistent ?? false,
    });
    const durationMs = this.seconds * 1000;
    let [injectedAtMs, healedAtMs] = [0, 0];
    try {
      await pause(durationMs * 0.25);
      injectedAtMs = performance.now();
      await parts.inject(keys);
      await pause(Math.max(1000, injectedAtMs + durationMs * 0.42 - performance.now()));
      await parts.heal(keys);
      healedAtMs = performance.now();
      await pause(Math.max(2000, durationMs * 0.33));
    } finally {
      await traffic.stop();
    }
    const { outcomes } = traffic;
    const mayBeRefused = (parts.mayBeRefused ?? []).map((name) => keys[name].name);
    const servedAgainMs = this.#servedAgain(keys, outcomes, healedAtMs, { podCount, mayBeRefused });
    const quietMs = await quiesce(world, Object.values(keys));
    const audits = await Promise.all(Object.values(keys).map((key) => audit(world, key, parts.audit)));
    const at = (from: number, to: number) => outcomes.filter(({ atMs }) => atMs >= from && atMs < to);
    assert.deepEqual(
      audits.flatMap(({ faults }) => faults),
      [],
    );
    await this.#restIsServed(keys.tight);
    return {
      ...{ keys, outcomes, healedAtMs, audits },
      before: at(0, injectedAtMs),
      during: at(injectedAtMs, healedAtMs),
      after: at(healedAtMs, Number.POSITIVE_INFINITY),
      facts: [
        ...moneyFacts(audits),
        `during the fault: ${tally(at(injectedAtMs, healedAtMs))}`,
        `served again ${seconds(servedAgainMs)} after healing, all booked and returned ${seconds(quietMs)} after the traffic`,
      ],
    };
  }

  /** No phantom refusals: after healing every key with money is served within one lease's time, everywhere. */
  #servedAgain(
    keys: Incident["keys"],
    outcomes: readonly Outcome[],
    healedAtMs: number,
    { podCount, mayBeRefused }: { podCount: number; mayBeRefused: readonly string[] },
  ): number {
    let slowestMs = 0;
    for (const { name } of [keys.loose, keys.unlimited]) {
      if (mayBeRefused.includes(name)) continue;
      for (let pod = 0; pod < podCount; pod++) {
        const afterwards = outcomes.filter((o) => o.key === name && o.pod === pod && o.atMs >= healedAtMs);
        const lastRefusal = afterwards.findLast(({ status, code }) => status !== 200 || code !== "");
        const servedMs = lastRefusal === undefined ? 0 : lastRefusal.atMs - healedAtMs;
        const isServed = afterwards.some((o) => o.status === 200 && o.atMs >= healedAtMs + servedMs);
        assert.ok(isServed, `${name} is not served by pod ${pod} after healing: ${tally(afterwards)}`);
        assert.ok(servedMs <= this.world.leaseTtlMs, `${name} is refused by pod ${pod} ${servedMs} ms after healing`);
        slowestMs = Math.max(slowestMs, servedMs);
      }
    }
    return slowestMs;
  }

  /** What is left of a tight budget can be used, at every pod, until no call fits any more. */
  async #restIsServed(key: TrafficKey): Promise<void> {
    const { status, code, message } = await call(this.world.pod(0), key);
    if (status === 200) return;
    assert.equal(code, "budget_exceeded", message);
    const [, cost, max, needed] =
      /Current cost: \$(\d+\.?\d*).*Max budget: \$(\d+\.?\d*); this call may cost up to \$(\d+(?:\.\d+)?)/.exec(
        message,
      ) ?? [];
    assert.ok(Number(cost) + Number(needed) > Number(max), `refused with room: ${message}`);
  }
}

/** The median and the 99th percentile of the time to the first byte of quick answers, in words. */
export function latencyFact(what: string, outcomes: readonly Outcome[]): string {
  const figures = outcomes.filter(({ status }) => status === 200).map(({ firstByteMs }) => firstByteMs);
  return `${what}: p50 ${quantile(figures, 0.5).toFixed(1)} ms, p99 ${quantile(figures, 0.99).toFixed(1)} ms`;
}

export function medianMs(outcomes: readonly Outcome[]): number {
  return quantile(
    outcomes.filter(({ status }) => status === 200).map(({ firstByteMs }) => firstByteMs),
    0.5,
  );
}

export function moneyFacts(audits: readonly KeyAudit[]): string[] {
  const bill = audits.reduce((total, each) => total + each.bill, 0n);
  const ledger = audits.reduce((total, each) => total + each.ledger, 0n);
  const calls = audits.reduce((total, each) => total + each.calls, 0);
  const uncertain = audits.reduce((total, each) => total + each.uncertain, 0);
  const reserved = audits.reduce((total, each) => total + each.uncertainReserved, 0n);
  const difference = ledger - bill;
  return [
    `${calls} calls billed ${usd(bill)}, ledger ${usd(ledger)}` +
      (difference === 0n ? " (equal)" : ` (${difference > 0n ? "+" : ""}${(Number(difference) / 1e9).toFixed(6)})`) +
      (uncertain === 0 ? "" : `; ${uncertain} uncertain, reserved ${usd(reserved)}`),
  ];
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** Calls are counted a little after they are sent: so much shorter is a minute of sending. */
const minuteMs = 58_000;

/** The most calls of a key that were served in any minute. */
export function busiestMinute(outcomes: readonly Outcome[], key: string): number {
  const times = outcomes
    .filter((outcome) => outcome.key === key && outcome.status === 200)
    .map(({ atMs }) => atMs)
    .toSorted((a, b) => a - b);
  let [most, first] = [0, 0];
  for (const [index, atMs] of times.entries()) {
    while ((times[first] ?? atMs) <= atMs - minuteMs) first++;
    most = Math.max(most, index - first + 1);
  }
  return most;
}

/** Only these answers were given. */
export function onlyStatuses(outcomes: readonly Outcome[], ...allowed: readonly number[]): void {
  const others = outcomes.filter(({ status, code }) => !allowed.includes(status) || code === "broken");
  assert.equal(others.length, 0, `answers that are not of ${allowed}: ${tally(others)}`);
}
