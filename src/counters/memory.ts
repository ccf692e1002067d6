import type { Clock } from "../clock.ts";
import { amountOf, checkClaims, correctionOf, counterKey } from "./claims.ts";
import type { Claim, Counters, Hold, Verdict } from "./counters.ts";
import { SlidingWindow } from "./sliding-window.ts";

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

  async take(claims: readonly Claim[]): Promise<Verdict> {
    checkClaims(claims);
    const nowMs = this.#clock.monotonicMs();
    this.#forgetSome(2 * claims.length, nowMs);
    const keys = claims.map(counterKey);
    const asked = new Map<string, number>();
    let refused: Claim | undefined;
    let retryAfterMs = 1;
    claims.forEach((claim, index) => {
      const key = keys[index] ?? "";
      const wanted = (asked.get(key) ?? 0) + amountOf(claim);
      asked.set(key, wanted);
      const excess = this.#used(claim, key, nowMs) + wanted - claim.ceiling;
      if (claim.ceiling > 0 && excess <= 0) return;
      refused ??= claim;
      retryAfterMs = Math.max(retryAfterMs, this.#waitMs(claim, key, nowMs, excess));
    });
    if (refused !== undefined)
      return { ok: false, refused, retryAfterMs, remaining: this.#remaining(claims, keys, nowMs) };
    const buckets = claims.map((claim, index) => this.#add(claim, keys[index] ?? "", nowMs));
    return { ok: true, hold: this.#hold(claims, keys, buckets), remaining: this.#remaining(claims, keys, nowMs) };
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

  #remaining(claims: readonly Claim[], keys: readonly string[], nowMs: number): number[] {
    return claims.map((claim, index) => Math.max(0, claim.ceiling - this.#used(claim, keys[index] ?? "", nowMs)));
  }

  #waitMs(claim: Claim, key: string, nowMs: number, excess: number): number {
    const neverFits = amountOf(claim) > claim.ceiling || claim.ceiling === 0;
    if (claim.kind === "slot") return neverFits ? claim.ttlMs : Math.min(claim.ttlMs, slotWaitMs);
    return neverFits ? claim.windowMs : (this.#windows.get(key)?.waitMs(nowMs, excess) ?? claim.windowMs);
  }

  /** Returns the bucket a window's share went to. */
  #add(claim: Claim, key: string, nowMs: number): number {
    if (claim.kind === "slot") {
      this.#slots.set(key, (this.#slots.get(key) ?? 0) + 1);
      return 0;
    }
    if (claim.amount === 0) return 0;
    const window = this.#windows.get(key) ?? new SlidingWindow(claim.windowMs);
    this.#windows.set(key, window);
    return window.add(nowMs, claim.amount);
  }

  #hold(claims: readonly Claim[], keys: readonly string[], buckets: readonly number[]): Hold {
    let isHeld = true;
    return {
      release: async (used) => {
        if (!isHeld) return;
        isHeld = false;
        claims.forEach((claim, index) => {
          const key = keys[index] ?? "";
          if (claim.kind === "slot") this.#freeSlot(key);
          else this.#windows.get(key)?.correct(buckets[index] ?? 0, correctionOf(claim, used[index]));
        });
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

/** Makes counters that live in this process; see MemoryCounters. */
export function createMemoryCounters(parts: { clock: Clock }): MemoryCounters {
  return new MemoryCounters(parts);
}
