import type { Claim, Counters, Hold } from "../counters/counters.ts";
import type { Payer } from "../keys/authority.ts";
import type { Reservation } from "../keys/lease.ts";
import type { Option } from "./option.ts";
import { deploymentsFull } from "./refusals.ts";

const limitWindowMs = 60_000;
/** How long a slot outlives a pod that died with it. */
const slotTtlMs = 30_000;

/** Money for one attempt. */
interface Paid {
  /** With the budgets of where it is made. */
  readonly payer: Payer;
  readonly reservation: Reservation;
}

/** A deployment with room for one attempt, which is taken. */
export interface FreePlace extends Option {
  /** The attempt is over. Acts once. @param tokens what it really used. */
  end(tokens: number): void;
  /** No attempt is made there: as if it had never been taken. Acts once. */
  giveBack(): void;
}

/** The same, and what pays for the attempt. */
export interface Place extends FreePlace {
  readonly paid: Paid;
}

/** As many of the options as may be needed: up to the first that takes nothing and has no budget, which always fits. */
export function neededOf(ranked: Iterable<Option>): Option[] {
  const options: Option[] = [];
  for (const option of ranked) {
    options.push(option);
    if (!isLimited(option) && option.deployment.budgets === undefined) break;
  }
  return options;
}

function isLimited({ deployment, isProbe }: Option): boolean {
  const { rpm, tpm, parallelMax } = deployment;
  return isProbe || rpm !== undefined || tpm !== undefined || parallelMax !== undefined;
}

/**
 * What an attempt takes of a deployment's own limits, one list an option: the first that fits is enough. Undefined: the first takes
 * nothing.
 *
 * @param tokens what it may use.
 */
export function alternativesOf(options: readonly Option[], tokens: number): readonly (readonly Claim[])[] | undefined {
  const [first] = options;
  if (first === undefined || !isLimited(first)) return undefined;
  return options.map((option) => claimsAt(option, tokens));
}

/** What an attempt takes of one deployment's limits. */
export function claimsAt({ deployment, isProbe }: Option, tokens: number): Claim[] {
  const { id, rpm, tpm, parallelMax } = deployment;
  const claims: Claim[] = [];
  const group = `deployment:${id}`;
  if (isProbe) claims.push({ kind: "slot", group, name: "probe", ceiling: 1, ttlMs: slotTtlMs });
  if (rpm !== undefined)
    claims.push({ kind: "window", group, name: "requests", ceiling: rpm, amount: 1, windowMs: limitWindowMs });
  if (tpm !== undefined) {
    // A call that alone may exceed the limit waits for an empty window instead of being refused for ever.
    const amount = Math.min(tokens, Math.max(1, tpm));
    claims.push({ kind: "window", group, name: "tokens", ceiling: tpm, amount, windowMs: limitWindowMs });
  }
  if (parallelMax !== undefined)
    claims.push({ kind: "slot", group, name: "parallel", ceiling: parallelMax, ttlMs: slotTtlMs });
  return claims;
}

/** @param hold of what was taken there; undefined: nothing was. */
export function placeAt(option: Option, hold: Hold | undefined): FreePlace {
  const { deployment, isProbe } = option;
  if (hold === undefined) return { deployment, isProbe, end: () => {}, giveBack: () => {} };
  const used = (tokens: number) => claimsAt(option, 0).map(({ name }) => (name === "tokens" ? tokens : undefined));
  return {
    ...{ deployment, isProbe },
    end: (tokens) => void hold.release(used(tokens)),
    giveBack: () => void hold.release(claimsAt(option, 0).map(() => 0)),
  };
}

/** A place, and money for an attempt there. */
export function paidPlace(place: FreePlace, paid: Paid): Place {
  const { deployment, isProbe } = place;
  const giveBack = () => {
    paid.reservation.release();
    place.giveBack();
  };
  return { deployment, isProbe, end: (tokens) => place.end(tokens), giveBack, paid };
}

/**
 * Takes a place at the first option that has room.
 *
 * @throws GatewayError deployments_full; CountersUnavailable.
 */
export async function takePlace(counters: Counters, options: readonly Option[], tokens: number): Promise<FreePlace> {
  const alternatives = alternativesOf(options, tokens);
  if (alternatives === undefined) return placeAt(firstOf(options), undefined);
  const verdict = await counters.take([], alternatives);
  if (!verdict.ok) {
    if (verdict.refused !== undefined) throw new RangeError("a claim nobody made was refused");
    throw deploymentsFull(options, verdict);
  }
  return placeAt(options[verdict.chosen ?? 0] ?? firstOf(options), verdict.chosenHold);
}

function firstOf(options: readonly Option[]): Option {
  const [first] = options;
  if (first === undefined) throw new RangeError("a place is taken of at least one option");
  return first;
}
