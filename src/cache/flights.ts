import type { Clock } from "../clock.ts";

/** How often followers look whether the leader is being held up, and how long it may be. */
const checkMs = 250;
const heldUpMaxMs = 1_000;

/** An answer on its way that others wait for. It ends once. */
export class Flight {
  readonly #clock: Clock;
  readonly #onEnd: (flight: Flight) => void;
  readonly #followers = new Set<(entry: Buffer | undefined) => void>();
  #isOver = false;
  #heldUpSinceMs: number | undefined;
  #isWatched = false;

  constructor(clock: Clock, onEnd: (flight: Flight) => void) {
    this.#clock = clock;
    this.#onEnd = onEnd;
  }

  /**
   * Waits for the end.
   *
   * @returns the answer; undefined if there will be none, or the leader's caller does not read on.
   * @throws the reason of `signal` when it aborts.
   */
  follow(signal: AbortSignal): Promise<Buffer | undefined> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const follower = (entry: Buffer | undefined) => {
        signal.removeEventListener("abort", leave);
        resolve(entry);
      };
      const leave = () => {
        this.#followers.delete(follower);
        reject(signal.reason);
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#followers.add(follower);
      this.#watch();
    });
  }

  /** The leader's caller has been given something, and has not asked for more. */
  holdUp(): void {
    this.#heldUpSinceMs = this.#clock.monotonicMs();
  }

  goOn(): void {
    this.#heldUpSinceMs = undefined;
  }

  /** @param entry undefined: there is no answer that could be given to others. */
  end(entry: Buffer | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onEnd(this);
    for (const follower of this.#followers) follower(entry);
    this.#followers.clear();
  }

  /** A caller that does not read holds up its own answer, and must not hold up others'. */
  #watch(): void {
    if (this.#isWatched || this.#isOver || this.#followers.size === 0) return;
    this.#isWatched = true;
    this.#clock.after(checkMs, () => {
      this.#isWatched = false;
      const sinceMs = this.#heldUpSinceMs;
      if (sinceMs !== undefined && this.#clock.monotonicMs() - sinceMs > heldUpMaxMs) this.end(undefined);
      else this.#watch();
    });
  }
}

/** Answers on their way in this process, by their keys. */
export class Flights {
  readonly #clock: Clock;
  readonly #byKey = new Map<string, Flight>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get(key: string): Flight | undefined {
    return this.#byKey.get(key);
  }

  /** @returns undefined if there is one already. */
  open(key: string): Flight | undefined {
    if (this.#byKey.has(key)) return undefined;
    const flight = new Flight(this.#clock, () => this.#byKey.delete(key));
    this.#byKey.set(key, flight);
    return flight;
  }
}
