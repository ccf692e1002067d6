/** Where the pods' boards meet. What is kept there may be lost: it is good for choosing, not for limiting. */

/** What one pod, or all of them, know of a deployment. */
export interface Figures {
  /** Attempts that have begun and not ended. */
  readonly inFlight: number;
  /** Begun in the last minute. */
  readonly requests: number;
  /** Of attempts that ended in the last minute. */
  readonly tokens: number;
  /** Milliseconds per output token. */
  readonly pace: Decaying;
  /** Milliseconds to the first token. */
  readonly firstToken: Decaying;
}

/** A sum whose parts count half as much after each half-life, and how many parts it is of, likewise. */
export interface Decaying {
  readonly sum: number;
  readonly count: number;
}

/** Why a deployment is left alone. */
export interface CoolingCause {
  /** The code of the error that was the last straw, "rate_limit_exceeded" for instance. */
  readonly code: string;
  /** The provider's HTTP status; undefined: it did not answer. */
  readonly status: number | undefined;
}

/** A deployment that is left alone. */
export interface Cooling extends CoolingCause {
  /** For how long yet, in milliseconds; 0: its time is over, but nobody has seen the deployment answer since. */
  readonly remainingMs: number;
}

/** What a pod tells the others, and what it wants to know. */
export interface Post {
  /** All figures of this pod that are not empty, by deployment; they replace what it told before. */
  readonly figures: ReadonlyMap<string, Figures>;
  /** Deployments that cool now; a cooling that lasts longer stands. */
  readonly cool: ReadonlyMap<string, Cooling>;
  /** Deployments that have been seen to answer. */
  readonly clear: readonly string[];
  /** The deployments this pod asks about. */
  readonly ids: readonly string[];
}

/** The state of things after a post. */
export interface Reading {
  /** Of all pods together, in the order of the post's `ids`. */
  readonly totals: readonly Figures[];
  /** All that cool, or have and were not seen to answer since. */
  readonly cooling: ReadonlyMap<string, Cooling>;
}

/**
 * The promises of every implementation (`test/counters/board-contract.ts` holds them to it):
 *
 * - Totals are the sums of what the pods that live told last. What a dead pod told disappears.
 * - A post that arrives twice changes nothing.
 */
export interface BoardStore {
  /** @throws CountersUnavailable when the store cannot be asked, in a short time. */
  exchange(post: Post): Promise<Reading>;
  /** How many pods meet there, this one included, as last heard. */
  livePods(): number;
}

/**
 * After so many milliseconds a time that was measured counts half, if nobody says otherwise: long enough to even out single calls,
 * short enough that a provider's bad quarter of an hour is seen within a minute or two.
 */
export const boardHalfLifeMs = 60_000;

/** How long a deployment that nobody has tried since is known to have cooled, in milliseconds. */
export const probationMs = 3_600_000;

export const nothing: Figures = {
  inFlight: 0,
  requests: 0,
  tokens: 0,
  pace: { sum: 0, count: 0 },
  firstToken: { sum: 0, count: 0 },
};

/** @param sign -1: `other` is taken away; never below nothing. */
export function combine(one: Figures, other: Figures, sign: 1 | -1): Figures {
  const add = (a: number, b: number) => Math.max(0, a + sign * b);
  const merge = (a: Decaying, b: Decaying) => ({ sum: add(a.sum, b.sum), count: add(a.count, b.count) });
  return {
    inFlight: add(one.inFlight, other.inFlight),
    requests: add(one.requests, other.requests),
    tokens: add(one.tokens, other.tokens),
    pace: merge(one.pace, other.pace),
    firstToken: merge(one.firstToken, other.firstToken),
  };
}

/** How much is left of what was measured so long ago. */
export function decayOver(ageMs: number, halfLifeMs: number): number {
  return 2 ** (-Math.max(0, ageMs) / halfLifeMs);
}

/** Figures so many milliseconds later. Only times fade; the rest is told anew when it changes. */
export function faded(figures: Figures, ageMs: number, halfLifeMs: number): Figures {
  const factor = decayOver(ageMs, halfLifeMs);
  const fade = ({ sum, count }: Decaying) => ({ sum: sum * factor, count: count * factor });
  return { ...figures, pace: fade(figures.pace), firstToken: fade(figures.firstToken) };
}
