import type { Clock } from "../clock.ts";

/** So many unknown keys may be asked about at once. */
const burst = 1_000;
/** And so many a second in the long run. */
const perSecond = 50;

/**
 * How many unknown keys the KeyService may be asked about: a flood of guesses must not become a flood there. Whoever turns out to be
 * somebody costs nothing, so keys that exist are looked up as quickly as they come; only guesses use the allowance up, and while it
 * is used up keys that are known already are served as ever.
 */
export class LookupAllowance {
  readonly #clock: Clock;
  #left = burst;
  #countedAtMs: number;

  constructor({ clock }: { clock: Clock }) {
    this.#clock = clock;
    this.#countedAtMs = clock.monotonicMs();
  }

  /** @returns whether one more may be asked about; then it has to be told what came of it. */
  take(): boolean {
    const nowMs = this.#clock.monotonicMs();
    this.#left = Math.min(burst, this.#left + ((nowMs - this.#countedAtMs) * perSecond) / 1000);
    this.#countedAtMs = nowMs;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }

  /** The question is answered, and it was no guess. */
  giveBack(): void {
    this.#left = Math.min(burst, this.#left + 1);
  }
}
