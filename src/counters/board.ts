import type { Clock } from "../clock.ts";
import {
  type BoardStore,
  type Cooling,
  type CoolingCause,
  combine,
  type Decaying,
  type Figures,
  faded,
  nothing,
  probationMs,
  type Reading,
} from "./board-store.ts";
import { type AttemptTimes, figuresBucketMs, OwnFigures } from "./own-figures.ts";

/** What the pods know of a deployment. */
export interface DeploymentFacts {
  /** Attempts under way. */
  readonly inFlight: number;
  /** Attempts begun in the last minute. */
  readonly requests: number;
  /** Tokens used in the last minute. */
  readonly tokens: number;
  /** Of late; undefined: nobody has an answer to go by. */
  readonly msPerOutputToken: number | undefined;
  /** Of late; undefined: nobody has a stream to go by. */
  readonly firstTokenMs: number | undefined;
  /** Undefined: it is well, as far as anybody knows. */
  readonly cooling: Cooling | undefined;
}

/** Between two exchanges with the other pods, in milliseconds; longer where all together would give the store more work than this. */
const everyMsMin = 250;
const exchangesPerSecondMax = 400;
/** Exchanges go on for so long after anybody wanted to know something, in milliseconds, and for two of them. */
const activeMsMin = 2_000;
/**
 * What others did is good to know for so long, in milliseconds, and for two exchanges; later only their times count, which fade by
 * themselves.
 */
const freshMsMin = 5_000;
/** After an exchange that failed, in milliseconds. */
const repeatMs = 1_000;
/** A deployment nobody has asked about for so long is forgotten, in milliseconds. */
const forgottenMs = 600_000;

interface Entry {
  readonly own: OwnFigures;
  /** What other pods knew. */
  others: Figures;
  heardAtMs: number;
  askedAtMs: number;
}

interface KnownCooling extends CoolingCause {
  /** Monotonic. */
  readonly untilMs: number;
}

/**
 * What all pods know of the deployments, for whoever chooses among them. Answers come from this process, without waiting: what the
 * others did is exchanged in the background, at most four times a second, less often by hundreds of pods, and only while there are
 * calls; that a deployment cools or has recovered is told at once. While the store is away a pod goes by what it knows itself.
 */
export class Board {
  readonly #store: BoardStore;
  readonly #clock: Clock;
  readonly #halfLifeMs: number;
  readonly #entries = new Map<string, Entry>();
  #cooling = new Map<string, KnownCooling>();
  /** What the others have not been told yet; undefined: the deployment has recovered. */
  readonly #untold = new Map<string, KnownCooling | undefined>();
  /** When the next exchange is due. */
  #dueMs = Number.POSITIVE_INFINITY;
  #cancel = () => {};
  #exchangedAtMs = Number.NEGATIVE_INFINITY;
  #wantedAtMs = Number.NEGATIVE_INFINITY;
  /** The last exchange failed. */
  #isAlone = false;
  #isClosed = false;

  constructor(parts: { store: BoardStore; clock: Clock; halfLifeMs: number }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#halfLifeMs = parts.halfLifeMs;
    // What a process of the same name, that was killed, had under way is under way no more.
    this.#exchangeIn(0);
  }

  /** The facts about a deployment, as of now. */
  of(id: string): DeploymentFacts {
    const nowMs = this.#want();
    const entry = this.#entryOf(id, nowMs);
    entry.askedAtMs = nowMs;
    const own = entry.own.at(nowMs);
    const ageMs = nowMs - entry.heardAtMs;
    const others = faded(entry.others, ageMs, this.#halfLifeMs);
    const isFresh = !this.#isAlone && ageMs <= Math.max(freshMsMin, 2 * this.#everyMs);
    return {
      inFlight: own.inFlight + (isFresh ? others.inFlight : 0),
      requests: own.requests + (isFresh ? others.requests : 0),
      tokens: own.tokens + (isFresh ? others.tokens : 0),
      msPerOutputToken: mean(own.pace, others.pace),
      firstTokenMs: mean(own.firstToken, others.firstToken),
      cooling: this.#coolingOf(id, nowMs),
    };
  }

  /** Whether a deployment is left alone, and how it has been since: all that most calls want to know. */
  coolingOf(id: string): Cooling | undefined {
    return this.#cooling.size === 0 ? undefined : this.#coolingOf(id, this.#want());
  }

  /** An attempt has begun. */
  began(id: string): void {
    const nowMs = this.#want();
    this.#entryOf(id, nowMs).own.began(nowMs);
  }

  /** An attempt that had begun has ended, well or not. */
  ended(id: string, times: AttemptTimes): void {
    const nowMs = this.#want();
    this.#entryOf(id, nowMs).own.ended(nowMs, times);
  }

  /** Leaves a deployment alone for so long; one that is left alone for longer already stays so. Other pods are told at once. */
  cool(id: string, forMs: number, cause: CoolingCause): void {
    const untilMs = this.#clock.monotonicMs() + forMs;
    if (untilMs <= (this.#cooling.get(id)?.untilMs ?? Number.NEGATIVE_INFINITY)) return;
    this.#tell(id, { untilMs, code: cause.code, status: cause.status });
  }

  /** A deployment has been seen to answer. Costs nothing if it was not cooling; else other pods are told at once. */
  clear(id: string): void {
    if (this.#cooling.has(id)) this.#tell(id, undefined);
  }

  /** Leaves: nothing of this pod is under way any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    this.#entries.clear();
    await this.#exchange().catch(() => {});
  }

  get #everyMs(): number {
    return Math.max(everyMsMin, (this.#store.livePods() * 1_000) / exchangesPerSecondMax);
  }

  get #activeMs(): number {
    return Math.max(activeMsMin, 2 * this.#everyMs);
  }

  #tell(id: string, change: KnownCooling | undefined): void {
    if (change === undefined) this.#cooling.delete(id);
    else this.#cooling.set(id, change);
    this.#untold.set(id, change);
    this.#exchangeIn(0);
  }

  #entryOf(id: string, nowMs: number): Entry {
    const known = this.#entries.get(id);
    if (known !== undefined) return known;
    const entry = { own: new OwnFigures(this.#halfLifeMs), others: nothing, heardAtMs: nowMs, askedAtMs: nowMs };
    this.#entries.set(id, entry);
    return entry;
  }

  #coolingOf(id: string, nowMs: number): Cooling | undefined {
    const known = this.#cooling.get(id);
    if (known === undefined || known.untilMs + probationMs < nowMs) return undefined;
    return { code: known.code, status: known.status, remainingMs: Math.max(0, known.untilMs - nowMs) };
  }

  /** Somebody wants to know something, or knows something new. @returns the time. */
  #want(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#wantedAtMs = nowMs;
    const everyMs = this.#everyMs;
    if (this.#dueMs > nowMs + everyMs) this.#exchangeIn(Math.max(0, this.#exchangedAtMs + everyMs - nowMs));
    return nowMs;
  }

  #exchangeIn(delayMs: number): void {
    if (this.#isClosed) return;
    this.#cancel();
    this.#dueMs = this.#clock.monotonicMs() + delayMs;
    this.#cancel = this.#clock.after(delayMs, () => void this.#tick());
  }

  async #tick(): Promise<void> {
    this.#dueMs = Number.POSITIVE_INFINITY;
    this.#exchangedAtMs = this.#clock.monotonicMs();
    // Before the answer is there: a slow one must not hold up the next exchange.
    const nextMs = this.#nextMs();
    if (nextMs !== undefined) this.#exchangeIn(nextMs);
    try {
      await this.#exchange();
    } catch {
      // Nobody waits for it, and the connection has told of it.
      this.#isAlone = true;
      if (this.#dueMs > this.#clock.monotonicMs() + repeatMs) this.#exchangeIn(repeatMs);
    }
  }

  /** When there is something to exchange again; undefined: not before somebody wants it. */
  #nextMs(): number | undefined {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#wantedAtMs < this.#activeMs) return this.#everyMs;
    return [...this.#entries.values()].some(({ own }) => own.isAging(nowMs)) ? figuresBucketMs : undefined;
  }

  async #exchange(): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const figures = this.#ownFigures(nowMs);
    const untold = [...this.#untold];
    const cool = new Map<string, Cooling>();
    for (const [id, change] of untold) {
      if (change !== undefined)
        cool.set(id, { ...change, remainingMs: Math.max(1, Math.ceil(change.untilMs - nowMs)) });
    }
    const clear = untold.flatMap(([id, change]) => (change === undefined ? [id] : []));
    const ids = [...this.#entries].flatMap(([id, entry]) => (nowMs - entry.askedAtMs < this.#activeMs ? [id] : []));
    const reading = await this.#store.exchange({ figures, cool, clear, ids });
    this.#isAlone = false;
    for (const [id, change] of untold) if (this.#untold.get(id) === change) this.#untold.delete(id);
    this.#hear(reading, ids, figures, nowMs);
  }

  /** Of all deployments of which there is something to tell; others are forgotten in time. */
  #ownFigures(nowMs: number): Map<string, Figures> {
    const figures = new Map<string, Figures>();
    for (const [id, entry] of this.#entries) {
      const own = entry.own.at(nowMs);
      if (own.inFlight + own.requests + own.tokens + own.pace.count + own.firstToken.count > 0) figures.set(id, own);
      else if (nowMs - entry.askedAtMs > forgottenMs) this.#entries.delete(id);
    }
    return figures;
  }

  /** @param sentMs when it was asked. */
  #hear(
    { totals, cooling }: Reading,
    ids: readonly string[],
    told: ReadonlyMap<string, Figures>,
    sentMs: number,
  ): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [index, id] of ids.entries()) {
      const entry = this.#entries.get(id);
      if (entry === undefined) continue;
      entry.others = combine(totals[index] ?? nothing, told.get(id) ?? nothing, -1);
      entry.heardAtMs = nowMs;
    }
    const before = this.#cooling;
    this.#cooling = new Map();
    for (const [id, { code, status, remainingMs }] of cooling) {
      const known = before.get(id);
      // The answer was on its way for some time: what is known here to the millisecond stands, if it can be the same.
      const isSame =
        known !== undefined && known.untilMs >= sentMs + remainingMs - 1 && known.untilMs <= nowMs + remainingMs;
      this.#cooling.set(id, isSame ? known : { code, status, untilMs: nowMs + remainingMs });
    }
    // What was said here while the answer was on its way, the answer does not know.
    for (const [id, change] of this.#untold) {
      if (change === undefined) this.#cooling.delete(id);
      else this.#cooling.set(id, change);
    }
  }
}

function mean(one: Decaying, other: Decaying): number | undefined {
  const count = one.count + other.count;
  // What has faded to a trace says nothing any more.
  return count < 0.01 ? undefined : (one.sum + other.sum) / count;
}
