import type { Clock, Random } from "../clock.ts";
import type { RedisAddress } from "../config/redis-address.ts";
import type { WindowStore } from "./advances.ts";
import { RedisBoard } from "./board-redis.ts";
import type { BoardStore } from "./board-store.ts";
import { allFull, checkTake } from "./claims.ts";
import { Connection, type ConnectionParts, loadScript } from "./connection.ts";
import type { Alternatives, Claim, Verdict } from "./counters.ts";
import { type Correction, GivingBack, GivingsBack } from "./giving-back.ts";
import { Grants } from "./grant.ts";
import { GroupTakes } from "./group-takes.ts";
import { HeldSlots } from "./held-slots.ts";
import { LivePods } from "./live-pods.ts";
import { ScriptBatch } from "./script-batch.ts";
import { type Decision, Share } from "./share.ts";

const takeScript = loadScript(["./give-back.lua", "./take.lua"]);
const releaseScript = loadScript(["./give-back.lua", "./release.lua"], true);
const renewScript = loadScript("./renew.lua");

/** How long Redis may take to answer, milliseconds. */
const defaultTimeoutMs = 50;

/**
 * Counters in Redis, shared by every pod.
 *
 * All claims of a take, and its alternatives, are decided in one script by the server's clock, and all takes of one turn of the
 * event loop travel in one call, with what is to be given back before them: in a steady flow a call costs Redis one script, or
 * less; one by itself costs two. Calls far from their limits cost less yet: see Advances. In a Redis Cluster see GroupTakes.
 *
 * When an answer is lost, the take may have happened all the same. If the answer still comes, it is given back; if not, windows
 * age out and slots expire.
 */
export class RedisCounters implements WindowStore {
  readonly #connection: Connection;
  readonly #takes: ScriptBatch;
  readonly #givingsBack: GivingsBack;
  readonly #grants: Grants;
  readonly #groupTakes: GroupTakes;
  readonly #undoLate = ({ grant }: Decision) => void this.#grants.undo(grant === undefined ? [] : [grant]);
  readonly #heldSlots: HeldSlots;
  readonly #livePods: LivePods;
  readonly #podId: string;
  readonly #isCluster: boolean;
  readonly #processId: string;
  #takeCount = 0;

  constructor(parts: ConnectionParts & { readonly podId: string }) {
    const connection = new Connection(parts);
    this.#connection = connection;
    const releases = new ScriptBatch({ connection, script: releaseScript });
    this.#givingsBack = new GivingsBack({ clock: parts.clock, releases });
    const ridersTo = (shard: string) => (connection.isUp ? this.#givingsBack.ridersTo(shard) : []);
    this.#takes = new ScriptBatch({ connection, script: takeScript, ridersTo });
    const renewals = new ScriptBatch({ connection, script: renewScript });
    this.#heldSlots = new HeldSlots({ clock: parts.clock, renewals });
    this.#grants = new Grants({ givingsBack: this.#givingsBack, heldSlots: this.#heldSlots });
    this.#groupTakes = new GroupTakes({ takes: this.#takes, grants: this.#grants });
    this.#livePods = new LivePods({ ...parts, connection });
    this.#isCluster = parts.address.kind === "cluster";
    this.#podId = parts.podId;
    this.#processId = Array.from({ length: 3 }, () => Math.floor(parts.random() * 2 ** 32).toString(36)).join("");
  }

  /** Whether Redis answers, as far as is known without asking. */
  get isUp(): boolean {
    return this.#connection.isUp;
  }

  /** Requests to Redis that failed or were given up after their time, since the start: what calls may have waited for in vain. */
  get failures(): number {
    return this.#connection.failures;
  }

  /** How many pods share these counters, this one included, as last heard; undefined before Redis has ever answered. */
  get livePods(): number | undefined {
    return this.#livePods.known;
  }

  /** The same, but right after the start it waits a moment for the first answer. */
  countLivePods(): Promise<number | undefined> {
    return this.#livePods.count();
  }

  /** Where this pod's board meets the others'. The board is to be closed before these counters. */
  boardStore(halfLifeMs: number): BoardStore {
    const [connection, podId, pods] = [this.#connection, this.#podId, this.#livePods];
    return new RedisBoard({ connection, podId, pods, halfLifeMs });
  }

  async take(claims: readonly Claim[], alternatives?: Alternatives): Promise<Verdict> {
    checkTake(claims, alternatives);
    if (claims.length === 0 && (alternatives?.[0] ?? []).length === 0) {
      return { ok: true, chosen: alternatives && 0, ...this.#grants.holds([], 0, alternatives), remaining: [] };
    }
    const id = `${this.#processId}:${(this.#takeCount++).toString(36)}`;
    if (this.#isCluster) return this.#groupTakes.take(id, claims, alternatives);
    const share = new Share({ shard: "", id, onLate: this.#undoLate });
    claims.forEach((claim, index) => {
      share.add(claim, index);
    });
    if (alternatives !== undefined) share.choose(alternatives);
    this.#takes.add(share.shard, share);
    const { grant, chosen, refusedIndex, retryAfterMs, full, remaining } = await share.decision;
    if (grant !== undefined) {
      const { takenAtMs } = grant;
      return { ok: true, chosen, ...this.#grants.holds([grant], claims.length, alternatives), remaining, takenAtMs };
    }
    if (full !== undefined) return allFull(full, remaining);
    const refused = claims[refusedIndex ?? -1];
    if (refused === undefined) throw new Error("Redis refused a take for nothing");
    return { ok: false, refused, retryAfterMs, remaining };
  }

  correct(corrections: readonly Correction[]): void {
    this.#givingsBack.add("", new GivingBack({ slots: [], corrections }), false);
  }

  /** See Connection. */
  renew(address: RedisAddress): void {
    this.#connection.renew(address);
  }

  ping(): Promise<boolean> {
    return this.#connection.ping();
  }

  async close(): Promise<void> {
    this.#heldSlots.stop();
    this.#givingsBack.flush();
    await this.#livePods.close();
    // What was asked for in this turn of the event loop is sent at its end.
    await new Promise((resolve) => setImmediate(resolve));
    await this.#connection.close();
  }
}

/**
 * Makes counters in the Redis at `address`. It connects at once and reconnects by itself; whether it is there, `ping` tells.
 *
 * @param parts.podId this pod, as it is counted among the live ones.
 * @param parts.timeoutMs how long an answer may take; 50 if absent.
 */
export function createRedisCounters(parts: {
  address: RedisAddress;
  clock: Clock;
  random: Random;
  telemetry: ConnectionParts["telemetry"];
  podId: string;
  timeoutMs?: number;
}): RedisCounters {
  return new RedisCounters({
    ...parts,
    consequence: "limits cannot be asked",
    timeoutMs: parts.timeoutMs ?? defaultTimeoutMs,
  });
}
