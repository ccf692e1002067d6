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
  /** Where it is counted, by `counterKey`, if whoever claims it knows. */
  readonly key?: string;
}

/** One of so many at once, until released or until `ttlMs` have passed without renewal. */
export interface SlotClaim {
  readonly kind: "slot";
  readonly group: string;
  readonly name: string;
  readonly ceiling: number;
  readonly ttlMs: number;
  /** As a window's. */
  readonly key?: string;
}

/** Lists of claims, one of which is enough: the best first. */
export type Alternatives = readonly (readonly Claim[])[];

/** The answer to a take. */
export type Verdict = Granted | Refused | Full;

/** All claims had room, and so had one of the alternatives, if there were any. */
export interface Granted {
  readonly ok: true;
  /** Of the claims. */
  readonly hold: Hold;
  /** Of the chosen alternative; undefined when none were given. */
  readonly chosenHold: Hold | undefined;
  /** Which alternative was taken with the claims; undefined when none were given. */
  readonly chosen: number | undefined;
  /** How much of each limit is left after the decision, never negative: of the claims, then of the chosen alternative's. */
  readonly remaining: readonly number[];
  /** When it was decided, in milliseconds by the store's clock; undefined: it has none, or each group of claims had its own. */
  readonly takenAtMs?: number;
}

/** Who had no room, and until when. */
export interface Shortage {
  /** The first claim without room. */
  readonly refused: Claim;
  /**
   * When all claims will have room if nobody else asks, in milliseconds from now, at least 1. A guess for a slot; the whole
   * window for an amount over the ceiling, which never has room.
   */
  readonly retryAfterMs: number;
}

/** One of the claims had no room; the alternatives were not looked at. */
export interface Refused extends Shortage {
  readonly ok: false;
  readonly remaining: readonly number[];
}

/** All claims had room, and none of the alternatives. */
export interface Full {
  readonly ok: false;
  readonly refused: undefined;
  /** What each alternative lacked, in their order. */
  readonly full: readonly Shortage[];
  /** When the first of the alternatives will have room. */
  readonly retryAfterMs: number;
  /** Of the claims. */
  readonly remaining: readonly number[];
}

/** What a granted claim holds. */
export interface Hold {
  /**
   * Ends it, once: slots are free again, and windows are corrected to what was really used (those that others of this pod draw from
   * meanwhile, within a sixtieth of the window).
   *
   * @param used real amounts, in the order of the claims; undefined keeps what was claimed. Slots ignore theirs.
   * Never rejects: a counter that cannot be corrected ages out of its window.
   */
  release(used: readonly (number | undefined)[]): Promise<void>;
}

/**
 * The promises every implementation keeps (`test/counters/contract.ts` holds them to it):
 *
 * - `take` is all or nothing over all claims and one alternative, atomic against every other pod. Refused work costs nothing.
 * - In no span of `windowMs` does more than `ceiling` fit. Windows age by the counter's own clock, not the pod's.
 * - A slot whose pod died is free again within its `ttlMs`; a held slot is renewed by itself.
 * - `take` rejects with CountersUnavailable when the store cannot be asked within its time.
 */
export interface Counters {
  /**
   * Takes all of `claims`, and with them the first of `alternatives` that fits wholly: a caller's limits, and those of one of the
   * deployments that could serve him. As a rule one round trip or none, also when it is the last alternative that fits.
   *
   * @param alternatives at least one, and one without claims always fits; if absent, `claims` are all there is to take.
   * @throws CountersUnavailable when the store cannot be asked.
   * @throws RangeError when an amount or a ceiling is no whole number from 0, or a time no whole number of milliseconds; or when
   * there are no alternatives to choose from.
   */
  take(claims: readonly Claim[], alternatives?: Alternatives): Promise<Verdict>;
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
