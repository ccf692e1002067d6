import type { WindowStore } from "../../src/counters/advances.ts";
import { counterKey } from "../../src/counters/claims.ts";
import { type Claim, CountersUnavailable, type Verdict, type WindowClaim } from "../../src/counters/counters.ts";
import type { Correction } from "../../src/counters/giving-back.ts";
import { SlidingWindow } from "../../src/counters/sliding-window.ts";
import type { HandClock } from "../keys/hand-clock.ts";

/** A store of windows on paper. It remembers what it was asked, and does what a test wants of it. */
export class PaperWindows implements WindowStore {
  readonly takes: (readonly Claim[])[] = [];
  isAway = false;
  /** What others take of the first claim before the next take. */
  others = 0;
  /** How long a take is under way before it is decided, and afterwards, in milliseconds. */
  way: readonly [number, number] = [0, 0];
  readonly #clock: HandClock;
  readonly #aheadMs: number;
  readonly #pace: number;
  readonly #windows = new Map<string, SlidingWindow>();

  /**
   * @param parts.aheadMs how much the store's clock is ahead of the pod's.
   * @param parts.pace how much faster it goes.
   */
  constructor(parts: { clock: HandClock; aheadMs?: number; pace?: number }) {
    this.#clock = parts.clock;
    this.#aheadMs = parts.aheadMs ?? 0;
    this.#pace = parts.pace ?? 1;
  }

  nowMs(): number {
    return 1_800_000_000_000 + this.#aheadMs + this.#pace * this.#clock.monotonicMs();
  }

  used(claim: WindowClaim): number {
    return this.#windowOf(claim).used(this.nowMs());
  }

  async take(claims: readonly Claim[]): Promise<Verdict> {
    if (this.isAway) throw new CountersUnavailable(undefined);
    this.takes.push(claims);
    if (this.way[0] > 0) await this.#clock.advance(this.way[0]);
    const windows = claims.filter((claim) => claim.kind === "window");
    const [first] = windows;
    if (first !== undefined) this.#windowOf(first).add(this.nowMs(), this.others);
    this.others = 0;
    const refused = windows.find((claim) => this.used(claim) + claim.amount > claim.ceiling);
    if (refused === undefined) for (const claim of windows) this.#windowOf(claim).add(this.nowMs(), claim.amount);
    const takenAtMs = Math.floor(this.nowMs());
    const remaining = windows.map((claim) => Math.max(0, claim.ceiling - this.used(claim)));
    if (this.way[1] > 0) await this.#clock.advance(this.way[1]);
    if (refused !== undefined) return { ok: false, refused, retryAfterMs: 1, remaining };
    return {
      ...{ ok: true, chosen: undefined, chosenHold: undefined, remaining, takenAtMs },
      hold: { release: async (used) => this.#release(windows, takenAtMs, used) },
    };
  }

  correct(corrections: readonly Correction[]): void {
    for (const { key, bucket, change } of corrections) this.#windows.get(key)?.correct(bucket, change);
  }

  async ping(): Promise<boolean> {
    return !this.isAway;
  }

  async close(): Promise<void> {
    this.isAway = true;
  }

  #release(claims: readonly WindowClaim[], takenAtMs: number, used: readonly (number | undefined)[]): void {
    for (const [index, claim] of claims.entries()) {
      const bucket = Math.floor(takenAtMs / (claim.windowMs / 60));
      this.#windowOf(claim).correct(bucket, (used[index] ?? claim.amount) - claim.amount);
    }
  }

  #windowOf(claim: WindowClaim): SlidingWindow {
    const key = counterKey(claim);
    const window = this.#windows.get(key) ?? new SlidingWindow(claim.windowMs);
    this.#windows.set(key, window);
    return window;
  }
}
