import type { Clock, Random } from "../clock.ts";

/** Growing pauses between attempts, with jitter so that pods do not come back in step. */
export class Backoff {
  readonly #firstMs: number;
  readonly #maxMs: number;
  readonly #random: Random;
  #failures = 0;

  constructor(parts: { firstMs: number; maxMs: number; random: Random }) {
    this.#firstMs = parts.firstMs;
    this.#maxMs = parts.maxMs;
    this.#random = parts.random;
  }

  /** How long to wait before the next attempt, in milliseconds. */
  nextMs(): number {
    const ceiling = Math.min(this.#maxMs, this.#firstMs * 2 ** Math.min(this.#failures, 30));
    this.#failures++;
    return ceiling * (0.5 + this.#random() / 2);
  }

  /** An attempt succeeded: start over. */
  reset(): void {
    this.#failures = 0;
  }
}

/** Waits; returns early when `signal` aborts, without an error. */
export function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      cancel();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.after(delayMs, done);
    signal.addEventListener("abort", done, { once: true });
  });
}
