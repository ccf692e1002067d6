import type { Clock } from "../clock.ts";
import { type Advance, Demand } from "./advance.ts";
import { checkTake } from "./claims.ts";
import type { Alternatives, Claim, Counters, Granted, Hold, Verdict, WindowClaim } from "./counters.ts";
import type { Correction } from "./giving-back.ts";

/** How long what is to be given back may wait for more of it, in milliseconds. */
const waitMs = 50;

/** A store that tells when it granted what, and lets that be corrected later. */
export interface WindowStore extends Counters {
  /** Changes what is in buckets of windows, soon: with the next take at the latest, which sees it. */
  correct(corrections: readonly Correction[]): void;
}

/**
 * Counters that do not ask their store for each call: where there is plenty of room, more is taken than one call wants, and the next
 * ones draw from that at once.
 *
 * Limits hold as exactly as the store's. What is taken is counted there before anything is drawn from it, and drawn only as long as
 * it would be counted in the same bucket if it were taken then (see Advance). This supposes that within a second the store's clock
 * and the pod's do not drift apart by milliseconds.
 *
 * Only windows of up to a minute are taken in advance, only by pods that draw from them again and again, at most a 64th of what
 * remains, and only while half of the ceiling remains after it: small limits, and all that are half used up, are asked call by call.
 * What is not drawn goes back at the end of the bucket, a second in a minute's window, and at once when the store refuses something
 * that it could be for. So it is at most others who are refused for it, in a second in which they ask for half the limit at once. What
 * a pod that dies had in advance is counted until its bucket has aged out.
 */
export class Advances implements Counters {
  readonly #store: WindowStore;
  readonly #clock: Clock;
  /** By group. */
  readonly #demands = new Map<string, Demand[]>();
  #sweep = this.#demands.entries();
  /** Those that something has yet to be given back of. */
  readonly #open = new Set<Advance>();
  #cancel: (() => void) | undefined;

  constructor(parts: { store: WindowStore; clock: Clock }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
  }

  /** How many windows are remembered: at most about twice as many as are in use. */
  get size(): number {
    let size = 0;
    for (const demands of this.#demands.values()) size += demands.length;
    return size;
  }

  take(claims: readonly Claim[], alternatives?: Alternatives): Promise<Verdict> {
    // Whatever the first alternative wants, the store is asked; one without claims always fits.
    const isFree = alternatives === undefined || alternatives[0]?.length === 0;
    if (!isFree || claims.length === 0 || !areWindows(claims)) return this.#ask(claims, alternatives);
    const granted = this.#draw(claims, alternatives);
    return granted === undefined ? this.#askFor(claims, alternatives) : Promise.resolve(granted);
  }

  ping(): Promise<boolean> {
    return this.#store.ping();
  }

  async close(): Promise<void> {
    for (const demands of this.#demands.values()) for (const { advance } of demands) advance?.end();
    this.#demands.clear();
    this.#giveBack();
    await this.#store.close();
  }

  /** A call that was served from advances is over. */
  used(advances: readonly Advance[], claims: readonly WindowClaim[], used: readonly (number | undefined)[]): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [index, advance] of advances.entries()) {
      const claim = claims[index];
      if (claim === undefined || used[index] === undefined) continue;
      advance.used(claim, used[index], nowMs);
      this.#open.add(advance);
    }
    this.#giveBackLater();
  }

  /** @returns undefined unless all claims are covered. */
  #draw(claims: readonly WindowClaim[], alternatives: Alternatives | undefined): Granted | undefined {
    const nowMs = this.#clock.monotonicMs();
    const advances: Advance[] = [];
    for (const claim of claims) {
      const advance = this.#demandOf(claim)?.advance;
      if (advance === undefined || !advance.covers(claim, nowMs)) {
        advances.forEach((drawn, index) => {
          drawn.undraw(claims[index]?.amount ?? 0);
        });
        return undefined;
      }
      // At once: a second claim on the same window must see it.
      advance.draw(claim.amount);
      advances.push(advance);
    }
    return this.#granted(advances, claims, alternatives);
  }

  #granted(
    advances: readonly Advance[],
    claims: readonly WindowClaim[],
    alternatives: Alternatives | undefined,
  ): Granted {
    const isChosen = alternatives !== undefined;
    return {
      ok: true,
      chosen: isChosen ? 0 : undefined,
      hold: new Drawn(this, advances, claims),
      chosenHold: isChosen ? nothingHeld : undefined,
      remaining: advances.map(remainingOf),
    };
  }

  async #askFor(claims: readonly WindowClaim[], alternatives: Alternatives | undefined): Promise<Verdict> {
    checkTake(claims, alternatives);
    const askedMs = this.#clock.monotonicMs();
    this.#forgetSome(2 * claims.length, askedMs);
    const demands = claims.map((claim) => this.#demandOf(claim) ?? this.#newDemand(claim, askedMs));
    const extras = extrasFor(claims, demands, askedMs);
    if (extras !== undefined) {
      const verdict = await this.#askForMore(claims, alternatives, { demands, extras });
      if (verdict.ok) {
        const advances = advancesOf(claims, verdict, { demands, extras, askedMs });
        for (const advance of advances) this.#open.add(advance);
        this.#giveBackLater();
        return this.#granted(advances, claims, alternatives);
      }
    }
    const verdict = await this.#ask(claims, alternatives);
    if (!verdict.ok || verdict.takenAtMs === undefined) return verdict;
    const advances = advancesOf(claims, verdict, { demands, extras: [], askedMs });
    return { ...verdict, remaining: advances.map(remainingOf) };
  }

  async #askForMore(
    claims: readonly WindowClaim[],
    alternatives: Alternatives | undefined,
    { demands, extras }: { readonly demands: readonly Demand[]; readonly extras: readonly number[] },
  ): Promise<Verdict> {
    for (const demand of demands) demand.isAsking = true;
    try {
      const more = claims.map((claim, index) => ({ ...claim, amount: claim.amount + (extras[index] ?? 0) }));
      return await this.#store.take(more, alternatives);
    } finally {
      for (const demand of demands) demand.isAsking = false;
    }
  }

  /** Asks the store as it is. Nobody is refused for what this pod has in advance: that goes back first. */
  async #ask(claims: readonly Claim[], alternatives: Alternatives | undefined): Promise<Verdict> {
    const verdict = await this.#store.take(claims, alternatives);
    if (verdict.ok || !this.#surrender(claims, alternatives)) return verdict;
    return this.#store.take(claims, alternatives);
  }

  /** Gives back what is there in advance of any of the claims. @returns whether there was something. */
  #surrender(claims: readonly Claim[], alternatives: Alternatives = []): boolean {
    const nowMs = this.#clock.monotonicMs();
    const corrections: Correction[] = [];
    for (const claim of [claims, ...alternatives].flat()) {
      const advance = claim.kind === "window" ? this.#demandOf(claim)?.advance : undefined;
      advance?.end();
      const correction = advance?.due(nowMs);
      if (correction !== undefined) corrections.push(correction);
    }
    if (corrections.length > 0) this.#store.correct(corrections);
    return corrections.some(({ change }) => change < 0);
  }

  #demandOf({ group, name, windowMs }: WindowClaim): Demand | undefined {
    const demands = this.#demands.get(group);
    if (demands === undefined) return undefined;
    for (const demand of demands) if (demand.name === name && demand.windowMs === windowMs) return demand;
    return undefined;
  }

  #newDemand(claim: WindowClaim, nowMs: number): Demand {
    const demand = new Demand(claim, nowMs);
    const others = this.#demands.get(claim.group);
    if (others === undefined) this.#demands.set(claim.group, [demand]);
    else others.push(demand);
    return demand;
  }

  #giveBackLater(): void {
    if (this.#open.size === 0) return;
    this.#cancel ??= this.#clock.after(waitMs, () => {
      this.#giveBack();
      this.#giveBackLater();
    });
  }

  /** Tells the store what is due. Advances that last stay open. */
  #giveBack(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    const nowMs = this.#clock.monotonicMs();
    const corrections: Correction[] = [];
    for (const advance of this.#open) {
      const correction = advance.due(nowMs);
      if (correction !== undefined) corrections.push(correction);
      if (nowMs >= advance.endMs) this.#open.delete(advance);
    }
    if (corrections.length > 0) this.#store.correct(corrections);
  }

  /** Looks at some groups in turn and drops what is idle. Faster than it is made, so memory is bounded without a timer. */
  #forgetSome(count: number, nowMs: number): void {
    for (let looked = 0; looked < count; looked += 1) {
      const next = this.#sweep.next();
      if (next.done) {
        this.#sweep = this.#demands.entries();
        return;
      }
      const [group, demands] = next.value;
      const busy = demands.filter((demand) => !demand.isIdle(nowMs));
      if (busy.length === 0) this.#demands.delete(group);
      else if (busy.length < demands.length) this.#demands.set(group, busy);
    }
  }
}

/** Of advances. */
class Drawn implements Hold {
  readonly #advances: readonly Advance[];
  readonly #claims: readonly WindowClaim[];
  #of: Advances | undefined;

  constructor(of: Advances, advances: readonly Advance[], claims: readonly WindowClaim[]) {
    this.#of = of;
    this.#advances = advances;
    this.#claims = claims;
  }

  release(used: readonly (number | undefined)[]): Promise<void> {
    this.#of?.used(this.#advances, this.#claims, used);
    this.#of = undefined;
    return over;
  }
}

const over = Promise.resolve();
const nothingHeld: Hold = { release: () => over };

function areWindows(claims: readonly Claim[]): claims is readonly WindowClaim[] {
  for (const { kind } of claims) if (kind !== "window") return false;
  return true;
}

function remainingOf({ remaining }: Advance): number {
  return remaining;
}

/** How much more of each claim to ask for; undefined: of none, for the next call would have to ask anyway. */
function extrasFor(claims: readonly WindowClaim[], demands: readonly Demand[], nowMs: number): number[] | undefined {
  const extras: number[] = [];
  for (const [index, claim] of claims.entries()) {
    const demand = demands[index];
    if (demand === undefined || demands.indexOf(demand) !== index) return undefined;
    const extra = demand.extraFor(claim, nowMs);
    if (extra === undefined) return undefined;
    extras.push(extra);
  }
  return extras;
}

/** Where claims that were granted, and what was taken with them, are drawn from. */
function advancesOf(
  claims: readonly WindowClaim[],
  verdict: Granted,
  { demands, extras, askedMs }: { demands: readonly Demand[]; extras: readonly number[]; askedMs: number },
): Advance[] {
  const { takenAtMs: storeMs } = verdict;
  if (storeMs === undefined) throw new RangeError("a store of windows tells when it granted something");
  return demands.map((demand, index) => {
    const claim = claims[index];
    if (claim === undefined) throw new RangeError("as many demands as claims");
    const [extra = 0, remaining = 0] = [extras[index], verdict.remaining[index]];
    return demand.granted(claim, { extra, remaining, storeMs, askedMs });
  });
}
