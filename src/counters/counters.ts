/** Shared counters: how often and how much lately, and how many at once. They may be lost; money is never kept here. */

/** A share of a limit, asked for. */
export type Claim = WindowClaim | SlotClaim;

/** So much in a sliding window. */
export interface WindowClaim {
  readonly kind: "window";
  /** What is counted: `<group>:<what>`. Claims of one `group` are decided in one atomic step. */
  readonly group: string;
  readonly name: string;
  readonly amount: number;
  /** The most there may be in any span of `windowMs`. */
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
      /** When it may have room, in milliseconds from now; for a slot, a guess. At least 1. */
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
