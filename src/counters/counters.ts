/** Shared counters: how often and how much lately, and how many at once. They may be lost; money is never kept here. */

/** A share of a limit, asked for. */
export type Claim = WindowClaim | SlotClaim;

/** So much in a sliding window. */
export interface WindowClaim {
  readonly kind: "window";
  /** Whose limit it is, "key:<id>" for instance. Claims of one group are decided in one step, wherever they are counted. */
  readonly group: string;
  /** Which of the group's limits. The same name with another `windowMs` is another limit. */
  readonly name: string;
  readonly amount: number;
  /** The most there may be in any span of `windowMs`. 0 allows nothing. */
  readonly ceiling: number;
  readonly windowMs: number;
}

/** One of so many at once, until released or until `ttlMs` have passed without renewal. */
export interface SlotClaim {
  readonly kind: "slot";
  readonly group: string;
  readonly name: string;
  readonly ceiling: number;
  readonly ttlMs: number;
}

/** How much of one claim's limit is left after the decision; never negative. */
export type Remaining = readonly number[];

/** The answer to a claim, about all of them at once. */
export type Verdict =
  | { readonly ok: true; readonly hold: Hold; readonly remaining: Remaining }
  | {
      readonly ok: false;
      /** The first claim without room. */
      readonly refused: Claim;
      /**
       * When all claims will have room if nobody else asks, in milliseconds from now, at least 1. A guess for a slot; the whole
       * window for an amount over the ceiling, which never has room.
       */
      readonly retryAfterMs: number;
      readonly remaining: Remaining;
    };

/** What a granted claim holds. */
export interface Hold {
  /**
   * Ends it, once: slots are free again, and windows are corrected to what was really used.
   *
   * @param used real amounts, in the order of the claims; undefined keeps what was claimed. Slots ignore theirs.
   * Never rejects: a counter that cannot be corrected ages out of its window.
   */
  release(used: readonly (number | undefined)[]): Promise<void>;
}

/**
 * The promises every implementation keeps (`test/counters/contract.ts` holds them to it):
 *
 * - `take` is all or nothing over all claims, atomic against every other pod. Refused work costs nothing.
 * - In no span of `windowMs` does more than `ceiling` fit. Windows age by the counter's own clock, not the pod's.
 * - A slot whose pod died is free again within its `ttlMs`; a held slot is renewed by itself.
 * - `take` rejects with CountersUnavailable when the store cannot be asked within its time.
 */
export interface Counters {
  /**
   * @throws CountersUnavailable when the store cannot be asked.
   * @throws RangeError when an amount or a ceiling is no whole number from 0, or a time no whole number of milliseconds.
   */
  take(claims: readonly Claim[]): Promise<Verdict>;
  /** Whether the store answers now. */
  ping(): Promise<boolean>;
  close(): Promise<void>;
}

/** The store cannot be asked. */
export class CountersUnavailable extends Error {
  constructor(cause: unknown) {
    super("The counters' store does not answer.", { cause });
    this.name = "CountersUnavailable";
  }
}
