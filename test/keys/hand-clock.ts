import { setImmediate } from "node:timers/promises";
import type { Clock } from "../../src/clock.ts";

/** A clock that moves when told to. */
export class HandClock implements Clock {
  #elapsedMs = 0;
  readonly #timers = new Set<{ readonly atMs: number; readonly task: () => void }>();

  nowMs(): number {
    return 1_800_000_000_000 + this.#elapsedMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  after(delayMs: number, task: () => void): () => void {
    const timer = { atMs: this.#elapsedMs + delayMs, task };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Lets time pass: runs what falls due, in order, and what that sets off. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#elapsedMs + ms;
    await setImmediate();
    for (let next = this.#next(endMs); next !== undefined; next = this.#next(endMs)) {
      this.#elapsedMs = Math.max(this.#elapsedMs, next.atMs);
      this.#timers.delete(next);
      next.task();
      await setImmediate();
    }
    this.#elapsedMs = endMs;
  }

  #next(endMs: number): { readonly atMs: number; readonly task: () => void } | undefined {
    let next: { readonly atMs: number; readonly task: () => void } | undefined;
    for (const timer of this.#timers) {
      if (timer.atMs <= endMs && (next === undefined || timer.atMs < next.atMs)) next = timer;
    }
    return next;
  }
}
