import type { Clock } from "../clock.ts";
import { allFull, amountOf, checkTake, correctionOf, counterKey } from "./claims.ts";
import type { Alternatives, Claim, Counters, Granted, Hold, Shortage, Verdict } from "./counters.ts";
import { SlidingWindow } from "./sliding-window.ts";

/** A claim and where it is counted. */
interface Place {
  readonly claim: Claim;
  readonly key: string;
}

/** Nobody knows when a slot is given back. */
const slotWaitMs = 1000;

/**
 * Counters in this process, shared with nobody. For one sidecar alone, and for tests.
 *
 * Slots here do not expire: whoever could die with them is this process, and they with it.
 */
export class MemoryCounters implements Counters {
  readonly #clock: Clock;
  readonly #windows = new Map<string, SlidingWindow>();
  readonly #slots = new Map<string, number>();
  #sweep = this.#windows.entries();

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock;
  }

  /** How many counters are remembered: at most about twice as many as are in use. */
  get size(): number {
    return this.#windows.size + this.#slots.size;
  }

  async take(claims: readonly Claim[], alternatives?: Alternatives): Promise<Verdict> {
    checkTake(claims, alternatives);
    const nowMs = this.#clock.monotonicMs();
    this.#forgetSome(2 * (claims.length + (alternatives?.flat().length ?? 0)), nowMs);
    const places = claims.map(placeOf);
    const asked = new Map<string, number>();
    const shortage = this.#shortageOf(places, asked, nowMs);
    if (shortage !== undefined) return { ok: false, ...shortage, remaining: this.#remaining(places, nowMs) };
    if (alternatives === undefined) return this.#grant(places, undefined, [], nowMs);
    const full: Shortage[] = [];
    for (const [index, alternative] of alternatives.entries()) {
      const further = alternative.map(placeOf);
      const lack = this.#shortageOf(further, new Map(asked), nowMs);
      if (lack === undefined) return this.#grant(places, index, further, nowMs);
      full.push(lack);
    }
    return allFull(full, this.#remaining(places, nowMs));
  }

  /**
   * Counts what another store has granted, whatever the limits say.
   *
   * @param windowMsMax longer windows are not counted, in milliseconds.
   */
  note(claims: readonly Claim[], windowMsMax: number): Hold {
    const nowMs = this.#clock.monotonicMs();
    this.#forgetSome(2 * claims.length, nowMs);
    const isNoted = (claim: Claim) => claim.kind === "slot" || claim.windowMs <= windowMsMax;
    return this.#take(
      claims.map((claim) => (isNoted(claim) ? placeOf(claim) : undefined)),
      nowMs,
    );
  }

  async ping(): Promise<boolean> {
    return true;
  }

  async close(): Promise<void> {
    this.#windows.clear();
    this.#slots.clear();
  }

  #used(claim: Claim, key: string, nowMs: number): number {
    if (claim.kind === "slot") return this.#slots.get(key) ?? 0;
    return this.#windows.get(key)?.used(nowMs) ?? 0;
  }

  #remaining(places: readonly Place[], nowMs: number): number[] {
    return places.map(({ claim, key }) => Math.max(0, claim.ceiling - this.#used(claim, key, nowMs)));
  }

  /** @param asked of each counter by the same take before; what is asked now is added. */
  #shortageOf(places: readonly Place[], asked: Map<string, number>, nowMs: number): Shortage | undefined {
    let refused: Claim | undefined;
    let retryAfterMs = 1;
    for (const { claim, key } of places) {
      const wanted = (asked.get(key) ?? 0) + amountOf(claim);
      asked.set(key, wanted);
      const excess = this.#used(claim, key, nowMs) + wanted - claim.ceiling;
      if (claim.ceiling > 0 && excess <= 0) continue;
      refused ??= claim;
      retryAfterMs = Math.max(retryAfterMs, this.#waitMs(claim, key, nowMs, excess));
    }
    return refused && { refused, retryAfterMs };
  }

  #grant(places: readonly Place[], chosen: number | undefined, further: readonly Place[], nowMs: number): Granted {
    const hold = this.#take(places, nowMs);
    const chosenHold = chosen === undefined ? undefined : this.#take(further, nowMs);
    return { ok: true, chosen, hold, chosenHold, remaining: this.#remaining([...places, ...further], nowMs) };
  }

  #waitMs(claim: Claim, key: string, nowMs: number, excess: number): number {
    const neverFits = amountOf(claim) > claim.ceiling || claim.ceiling === 0;
    if (claim.kind === "slot") return neverFits ? claim.ttlMs : Math.min(claim.ttlMs, slotWaitMs);
    return neverFits ? claim.windowMs : (this.#windows.get(key)?.waitMs(nowMs, excess) ?? claim.windowMs);
  }

  /** Returns the bucket a window's share went to. */
  #add({ claim, key }: Place, nowMs: number): number {
    if (claim.kind === "slot") {
      this.#slots.set(key, (this.#slots.get(key) ?? 0) + 1);
      return 0;
    }
    const window = this.#windows.get(key) ?? new SlidingWindow(claim.windowMs);
    this.#windows.set(key, window);
    return window.add(nowMs, claim.amount);
  }

  /** @param places undefined: nothing is counted of the claim there. */
  #take(places: readonly (Place | undefined)[], nowMs: number): Hold {
    const buckets = places.map((place) => (place === undefined ? 0 : this.#add(place, nowMs)));
    let isHeld = true;
    return {
      release: async (used) => {
        if (!isHeld) return;
        isHeld = false;
        for (const [index, place] of places.entries()) {
          if (place?.claim.kind === "slot") this.#freeSlot(place.key);
          else if (place !== undefined)
            this.#windows.get(place.key)?.correct(buckets[index] ?? 0, correctionOf(place.claim, used[index]));
        }
      },
    };
  }

  #freeSlot(key: string): void {
    const left = (this.#slots.get(key) ?? 0) - 1;
    if (left > 0) this.#slots.set(key, left);
    else this.#slots.delete(key);
  }

  /** Looks at some windows in turn and drops the aged ones. Faster than they are made, so memory is bounded without a timer. */
  #forgetSome(count: number, nowMs: number): void {
    for (let looked = 0; looked < count; looked += 1) {
      const next = this.#sweep.next();
      if (next.done) {
        this.#sweep = this.#windows.entries();
        return;
      }
      const [key, window] = next.value;
      if (window.isEmpty(nowMs)) this.#windows.delete(key);
    }
  }
}

function placeOf(claim: Claim): Place {
  return { claim, key: counterKey(claim) };
}

/** Makes counters that live in this process; see MemoryCounters. */
export function createMemoryCounters(parts: { clock: Clock }): MemoryCounters {
  return new MemoryCounters(parts);
}
