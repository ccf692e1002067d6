import type { Clock } from "../clock.ts";

/** After a failure nobody asks again for so long, in milliseconds. */
const pauseMs = 1_000;

/** Something that runs out. */
export interface Perishable<T> {
  readonly value: T;
  /** Unix time, milliseconds; undefined: never. */
  readonly expiresAtMs: number | undefined;
}

/**
 * A credential that runs out: fetched when it is first wanted, and anew before it ends, while calls go on with the one there is.
 * However many want it, one fetch is under way at a time.
 */
export class Renewed<T> {
  readonly #fetch: () => Promise<Perishable<T>>;
  readonly #clock: Clock;
  readonly #aheadMs: number;
  #current: Perishable<T> | undefined;
  #pending: Promise<T> | undefined;
  #failure: { readonly thrown: unknown; readonly untilMs: number } | undefined;

  /** @param parts `aheadMs`: so long before it runs out it is fetched anew. */
  constructor(parts: { fetch: () => Promise<Perishable<T>>; clock: Clock; aheadMs: number }) {
    this.#fetch = parts.fetch;
    this.#clock = parts.clock;
    this.#aheadMs = parts.aheadMs;
  }

  /**
   * The credential. Waits only if there is none that holds.
   *
   * @throws what the fetch threw, or the reason of `signal`; giving up does not end a fetch that others wait for.
   */
  async get(signal: AbortSignal): Promise<T> {
    const leftMs = this.#leftMs();
    if (this.#current !== undefined && leftMs > this.#aheadMs) return this.#current.value;
    const nowMs = this.#clock.monotonicMs();
    const isResting = this.#failure !== undefined && nowMs < this.#failure.untilMs;
    if (this.#current !== undefined && leftMs > 0) {
      if (!isResting) this.#renew().catch(() => {});
      return this.#current.value;
    }
    if (isResting) throw this.#failure?.thrown;
    return untilAborted(this.#renew(), signal);
  }

  #leftMs(): number {
    const endMs = this.#current?.expiresAtMs;
    return endMs === undefined ? Number.POSITIVE_INFINITY : endMs - this.#clock.nowMs();
  }

  #renew(): Promise<T> {
    this.#pending ??= this.#fetchOnce().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  async #fetchOnce(): Promise<T> {
    try {
      this.#current = await this.#fetch();
      this.#failure = undefined;
      return this.#current.value;
    } catch (thrown) {
      this.#failure = { thrown, untilMs: this.#clock.monotonicMs() + pauseMs };
      throw thrown;
    }
  }
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
