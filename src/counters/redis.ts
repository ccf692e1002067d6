import type { Clock, Random } from "../clock.ts";
import type { RedisAddress } from "../config/config.ts";
import { checkClaims } from "./claims.ts";
import { Connection, type ConnectionParts, loadScript } from "./connection.ts";
import type { Claim, Counters, Hold, Verdict } from "./counters.ts";
import { HeldSlots, type Slot } from "./held-slots.ts";
import { LivePods } from "./live-pods.ts";
import { ScriptBatch } from "./script-batch.ts";
import { type Decision, GivingBack, remainingWithout, Share } from "./share.ts";

const takeScript = loadScript("./take.lua");
const releaseScript = loadScript("./release.lua", true);
const renewScript = loadScript("./renew.lua");

/** How long Redis may take to answer, milliseconds. */
const defaultTimeoutMs = 50;

/**
 * Counters in Redis, shared by every pod.
 *
 * All claims of a take are decided in one script by the server's clock, and all takes of one turn of the event loop travel in
 * one call. In a Redis Cluster there is one script per group of claims, since groups live on different nodes: if one group
 * refuses, what the others granted is given back before the answer. In that moment somebody else may be refused too early;
 * nobody is ever granted too much.
 *
 * When an answer is lost, the take may have happened all the same. If the answer still comes, it is given back; if not, windows
 * age out and slots expire.
 */
export class RedisCounters implements Counters {
  readonly #connection: Connection;
  readonly #takes: ScriptBatch;
  readonly #releases: ScriptBatch;
  readonly #heldSlots: HeldSlots;
  readonly #livePods: LivePods;
  readonly #isCluster: boolean;
  readonly #processId: string;
  #takeCount = 0;

  constructor(parts: ConnectionParts & { readonly podId: string }) {
    const connection = new Connection(parts);
    this.#connection = connection;
    this.#takes = new ScriptBatch({ connection, script: takeScript });
    this.#releases = new ScriptBatch({ connection, script: releaseScript });
    const renewals = new ScriptBatch({ connection, script: renewScript });
    this.#heldSlots = new HeldSlots({ clock: parts.clock, renewals });
    this.#livePods = new LivePods({ ...parts, connection });
    this.#isCluster = parts.isCluster;
    this.#processId = Array.from({ length: 3 }, () => Math.floor(parts.random() * 2 ** 32).toString(36)).join("");
  }

  /** Whether Redis answers, as far as is known without asking. */
  get isUp(): boolean {
    return this.#connection.isUp;
  }

  /** How many pods share these counters, this one included, as last heard; undefined before Redis has ever answered. */
  get livePods(): number | undefined {
    return this.#livePods.known;
  }

  /** The same, but right after the start it waits a moment for the first answer. */
  countLivePods(): Promise<number | undefined> {
    return this.#livePods.count();
  }

  async take(claims: readonly Claim[]): Promise<Verdict> {
    checkClaims(claims);
    const shares = this.#sharesOf(claims);
    for (const share of shares) this.#takes.add(share.shard, share);
    const decisions = await this.#decisionsOf(shares);
    const remaining = new Array<number>(claims.length).fill(0);
    for (const { share, remaining: left } of decisions) {
      share.places.forEach(({ index }, at) => {
        remaining[index] = left[at] ?? 0;
      });
    }
    const refusals = decisions.flatMap(({ refusedIndex }) => (refusedIndex === undefined ? [] : [refusedIndex]));
    const refused = claims[Math.min(...refusals)];
    if (refused === undefined) return { ok: true, hold: this.#hold(decisions), remaining };
    await this.#undo(decisions);
    for (const { share } of decisions.filter(isGranted)) {
      for (const { claim, index } of share.places) remaining[index] = remainingWithout(claim, remaining[index] ?? 0);
    }
    const retryAfterMs = Math.max(...decisions.map((decision) => decision.retryAfterMs));
    return { ok: false, refused, retryAfterMs, remaining };
  }

  ping(): Promise<boolean> {
    return this.#connection.ping();
  }

  async close(): Promise<void> {
    this.#heldSlots.stop();
    await this.#livePods.close();
    // What was asked for in this turn of the event loop is sent at its end.
    await new Promise((resolve) => setImmediate(resolve));
    await this.#connection.close();
  }

  #sharesOf(claims: readonly Claim[]): Share[] {
    const id = `${this.#processId}:${(this.#takeCount++).toString(36)}`;
    const onLate = (decision: Decision) => void this.#undo([decision]);
    const shares = new Map<string, Share>();
    claims.forEach((claim, index) => {
      const shard = this.#isCluster ? claim.group : "";
      const share = shares.get(shard) ?? new Share({ shard, id, onLate });
      shares.set(shard, share);
      share.add(claim, index);
    });
    return [...shares.values()];
  }

  /** @throws CountersUnavailable if any share could not be decided; what others were granted is given back. */
  async #decisionsOf(shares: readonly Share[]): Promise<Decision[]> {
    const [share] = shares;
    if (share !== undefined && shares.length === 1) return [await share.decision];
    const outcomes = await Promise.allSettled(shares.map(({ decision }) => decision));
    const decisions = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
    const failure = outcomes.find((outcome) => outcome.status === "rejected");
    if (failure === undefined) return decisions;
    await this.#undo(decisions);
    throw failure.reason;
  }

  #hold(decisions: readonly Decision[]): Hold {
    const slots = decisions.map(({ share }) => share.slots());
    for (const slot of slots.flat()) this.#heldSlots.add(slot);
    let isHeld = true;
    return {
      release: async (used) => {
        if (!isHeld) return;
        isHeld = false;
        for (const slot of slots.flat()) this.#heldSlots.delete(slot);
        await Promise.all(
          decisions.map((decision, index) => this.#giveBack(decision, (at) => used[at], slots[index] ?? [])),
        );
      },
    };
  }

  /** As if the granted shares had never been asked for. */
  async #undo(decisions: readonly Decision[]): Promise<void> {
    const granted = decisions.filter(isGranted);
    await Promise.all(granted.map((decision) => this.#giveBack(decision, () => 0, decision.share.slots())));
  }

  async #giveBack(
    { share, takenAtMs }: Decision,
    usedOf: (index: number) => number | undefined,
    slots: readonly Slot[],
  ): Promise<void> {
    const corrections = share.corrections(takenAtMs, usedOf);
    if (corrections.length + slots.length === 0) return;
    const givingBack = new GivingBack({ slots, corrections });
    // A slot must be free before the caller has the answer's last byte, or its next call may be refused by another pod.
    this.#releases.add(share.shard, givingBack, slots.length > 0);
    await givingBack.done;
  }
}

function isGranted(decision: Decision): boolean {
  return decision.refusedIndex === undefined;
}

/**
 * Makes counters in the Redis at `address`. It connects at once and reconnects by itself; whether it is there, `ping` tells.
 *
 * @param parts.podId this pod, as it is counted among the live ones.
 * @param parts.isCluster the address is a node of a Redis Cluster; a single server if absent.
 * @param parts.timeoutMs how long an answer may take; 50 if absent.
 */
export function createRedisCounters(parts: {
  address: RedisAddress;
  clock: Clock;
  random: Random;
  telemetry: ConnectionParts["telemetry"];
  podId: string;
  isCluster?: boolean;
  timeoutMs?: number;
}): RedisCounters {
  return new RedisCounters({
    ...parts,
    isCluster: parts.isCluster ?? false,
    timeoutMs: parts.timeoutMs ?? defaultTimeoutMs,
  });
}
