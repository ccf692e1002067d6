import type { Clock } from "../clock.ts";
import type { RedisUnavailable } from "../config/config.ts";
import { checkTake } from "./claims.ts";
import {
  type Alternatives,
  type Claim,
  type Counters,
  CountersUnavailable,
  type Granted,
  type Hold,
  type Verdict,
} from "./counters.ts";
import { createMemoryCounters, type MemoryCounters } from "./memory.ts";

/** What StandbyCounters are made of. */
export interface StandbyParts {
  /** The shared counters. */
  readonly store: Counters;
  /** How many pods share them, as last known; undefined: nobody has ever said. */
  readonly livePods: () => number | undefined | Promise<number | undefined>;
  /** What to do while the store is away. */
  readonly mode: RedisUnavailable;
  readonly clock: Clock;
}

/**
 * Shared counters that have an answer also while their store is away:
 *
 * - local_share: this pod enforces each limit divided by the live pods, but at least 1. What the store granted this pod lately
 *   counts, so evenly loaded pods keep the limit across the whole outage; unevenly loaded ones may together let through up to
 *   twice the limit in the one window at each of its ends. A pod that has not heard yet how many there are refuses as if closed.
 * - closed: `take` rejects with CountersUnavailable.
 * - open: everything is granted and nothing is counted.
 */
export class StandbyCounters implements Counters {
  readonly #parts: StandbyParts;
  /** What this pod was granted, by the store or without it. */
  readonly #own: MemoryCounters;
  #decidedAlone = 0;

  constructor(parts: StandbyParts) {
    this.#parts = parts;
    this.#own = createMemoryCounters(parts);
  }

  /** How many takes this pod has decided without the store since the start. */
  get decidedAlone(): number {
    return this.#decidedAlone;
  }

  async take(claims: readonly Claim[], alternatives?: Alternatives): Promise<Verdict> {
    const { store, mode } = this.#parts;
    let verdict: Verdict;
    try {
      verdict = await store.take(claims, alternatives);
    } catch (thrown) {
      if (!(thrown instanceof CountersUnavailable) || mode === "closed") throw thrown;
      return this.#takeAlone(claims, alternatives, thrown);
    }
    if (!verdict.ok || mode !== "local_share") return verdict;
    return this.#noted(claims, chosenOf(verdict, alternatives), verdict);
  }

  ping(): Promise<boolean> {
    return this.#parts.store.ping();
  }

  async close(): Promise<void> {
    await this.#parts.store.close();
    await this.#own.close();
  }

  async #takeAlone(
    claims: readonly Claim[],
    alternatives: Alternatives | undefined,
    cause: CountersUnavailable,
  ): Promise<Verdict> {
    const { mode, livePods } = this.#parts;
    checkTake(claims, alternatives);
    if (mode === "open") {
      this.#decidedAlone += 1;
      const chosen = alternatives && 0;
      const remaining = [...claims, ...chosenOf({ chosen }, alternatives)].map(({ ceiling }) => ceiling);
      return { ok: true, chosen, hold: nothingHeld, chosenHold: alternatives && nothingHeld, remaining };
    }
    const pods = await livePods();
    // A limit divided by nobody knows how much is no promise.
    if (pods === undefined) throw cause;
    this.#decidedAlone += 1;
    const shares = claims.map((claim) => shareOf(claim, pods));
    const shareLists = alternatives?.map((alternative) => alternative.map((claim) => shareOf(claim, pods)));
    const verdict = await this.#own.take(shares, shareLists);
    if (verdict.ok) return verdict;
    // The caller knows his claims, not the shares of them.
    if (verdict.refused !== undefined) return { ...verdict, refused: inPlaceOf(verdict.refused, shares, claims) };
    const full = verdict.full.map((shortage, index) => ({
      ...shortage,
      refused: inPlaceOf(shortage.refused, shareLists?.[index] ?? [], alternatives?.[index] ?? []),
    }));
    return { ...verdict, full };
  }

  /** Also counts here what the store has granted, whatever this pod's share would be. */
  #noted(claims: readonly Claim[], chosen: readonly Claim[], verdict: Granted): Granted {
    const { hold, chosenHold } = verdict;
    return {
      ...verdict,
      hold: claims.length === 0 ? hold : new BothHolds(hold, this.#own.note(claims, notedMaxMs)),
      chosenHold:
        chosen.length === 0 ? chosenHold : chosenHold && new BothHolds(chosenHold, this.#own.note(chosen, notedMaxMs)),
    };
  }
}

class BothHolds implements Hold {
  readonly #shared: Hold;
  readonly #own: Hold;

  constructor(shared: Hold, own: Hold) {
    this.#shared = shared;
    this.#own = own;
  }

  release(used: readonly (number | undefined)[]): Promise<void> {
    void this.#own.release(used);
    return this.#shared.release(used);
  }
}

/** Longer windows are not noted here, in milliseconds: they would fill the memory of every pod. */
const notedMaxMs = 600_000;

/** The claims of the alternative that was chosen. */
function chosenOf({ chosen }: Pick<Granted, "chosen">, alternatives: Alternatives | undefined): readonly Claim[] {
  return chosen === undefined ? [] : (alternatives?.[chosen] ?? []);
}

/** @returns that of `claims` which has the place of `share` among `shares`. */
function inPlaceOf(share: Claim, shares: readonly Claim[], claims: readonly Claim[]): Claim {
  return claims[shares.indexOf(share)] ?? share;
}

const nothingHeld: Hold = { release: async () => {} };

/**
 * One pod's share of a claim. What fits the limit but not the share is cut to the share, so that it waits for an empty window
 * instead of being refused for the whole outage.
 */
function shareOf(claim: Claim, pods: number): Claim {
  const ceiling = claim.ceiling === 0 ? 0 : Math.max(1, Math.floor(claim.ceiling / pods));
  if (claim.kind === "slot" || claim.amount > claim.ceiling) return { ...claim, ceiling };
  return { ...claim, ceiling, amount: Math.min(claim.amount, ceiling) };
}
