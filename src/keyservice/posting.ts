/** Movements of money between budgets and leases, gathered before they are written: no database. */

import type { Nanos } from "../money.ts";
import type { LentMoney, Step } from "./ledger.ts";
import { expire, giveBack, settle } from "./ledger.ts";
import { type Period, periodAt } from "./periods.ts";

/** One budget in one period, the row that money is counted in. */
export interface PeriodKey {
  readonly budgetId: string;
  readonly start: Date;
}

/** Which period of a budget is now. `end` undefined: it never ends. */
export interface CurrentPeriod extends PeriodKey {
  readonly end: Date | undefined;
}

/** A lease under lock, and the periods it is bound to. */
export interface LockedLease extends LentMoney {
  readonly leaseId: string;
  /** "" if it was closed before it was ever opened. */
  readonly keyId: string;
  readonly podId: string;
  readonly expiresAt: Date;
  readonly periodEndsAt: Date | undefined;
  /** How many corrections have been booked. */
  readonly corrections: number;
  readonly periods: readonly LeasePeriod[];
}

/** A period a lease is bound to. */
export interface LeasePeriod extends PeriodKey {
  /** Whether what the lease was charged when it expired was forgiven there. */
  readonly forgiven: boolean;
}

/** Money a pod gives back. */
export interface LeaseReturn {
  /** A UUID; a repeated return is carried out once. */
  readonly requestId: string;
  readonly leaseId: string;
  readonly amount: Nanos;
  /** Whether nothing of the lease is in use any more. */
  readonly close: boolean;
}

/** What new records of one key and lease cost together, and the budgets they are charged to. */
export interface SpendTotal {
  readonly keyId: string;
  readonly leaseId: string | undefined;
  readonly cost: Nanos;
  readonly budgets: readonly ChargedBudget[];
}

/** A budget that records are charged to: one of their key's, or one they name themselves. */
export interface ChargedBudget {
  readonly budget_id: string;
  readonly duration: string | null;
  readonly removed_at: Date | null;
  /** What those of the records cost that are charged to it. */
  readonly cost: Nanos;
}

/** Where a budget without duration keeps its only period. */
export const always: Pick<CurrentPeriod, "start" | "end"> = { start: new Date(0), end: undefined };

/** @throws Error if the duration in the books is none; nothing that is none gets there. */
export function currentPeriod(
  budget: { readonly budget_id: string; readonly duration: string | null },
  nowMs: number,
  timeZone: string,
): CurrentPeriod {
  const { budget_id: budgetId, duration } = budget;
  if (duration === null) return { budgetId, ...always };
  const period: Period | undefined = periodAt(duration, nowMs, timeZone);
  if (period === undefined) throw new Error(`Budget ${budgetId} has an unknown duration.`);
  return { budgetId, start: new Date(period.startMs), end: new Date(period.endMs) };
}

/** Two periods have the same name exactly if they are the same. */
export function nameOf({ budgetId, start }: PeriodKey): string {
  return `${start.getTime()} ${budgetId}`;
}

/** What is to be added to one budget's period. */
export interface Move {
  readonly period: PeriodKey;
  readonly spent: Nanos;
  readonly reserved: Nanos;
  /** What of that does not count as used. */
  readonly forgiven: Nanos;
}

/** Movements of money that belong together. */
export class Posting {
  readonly #moves = new Map<string, { period: PeriodKey; spent: Nanos; reserved: Nanos; forgiven: Nanos }>();
  readonly #steps: { readonly lease: LockedLease; readonly step: Step }[] = [];
  readonly #unlent = new Map<string, PeriodKey>();

  /** Each period once. */
  get moves(): readonly Move[] {
    return [...this.#moves.values()];
  }

  /** Each lease once. */
  get steps(): readonly { readonly lease: LockedLease; readonly step: Step }[] {
    return this.#steps;
  }

  /** Periods that are charged without a lease that is bound to them: they may not be there yet. */
  get unlent(): readonly PeriodKey[] {
    return [...this.#unlent.values()];
  }

  /** Charges a budget's period without a lease. */
  charge(period: PeriodKey, spent: Nanos): void {
    this.#unlent.set(nameOf(period), period);
    this.#move(period, spent, 0n, 0n);
  }

  /** Takes one step with a lease, and the same on all its periods. One step a lease. */
  step(lease: LockedLease, step: Step): void {
    this.#steps.push({ lease, step });
    for (const period of lease.periods) {
      // What was forgiven cannot be given back once more.
      const forgiven = period.forgiven && step.spent < 0n ? step.spent : 0n;
      this.#move(period, step.spent, step.reserved, forgiven);
    }
  }

  /** Adds to a budget's period. */
  #move(period: PeriodKey, spent: Nanos, reserved: Nanos, forgiven: Nanos): void {
    const name = nameOf(period);
    const sum = this.#moves.get(name);
    if (sum === undefined) {
      this.#moves.set(name, { period, spent, reserved, forgiven });
    } else {
      sum.spent += spent;
      sum.reserved += reserved;
      sum.forgiven += forgiven;
    }
  }
}

/**
 * The row of the spend log that a step asks for besides those of the calls: attempt 0 is what the lease was charged when it
 * expired, those below correct that.
 *
 * @returns undefined if it asks for none.
 */
export function bookedRow(
  lease: LockedLease,
  step: Step,
): { readonly attempt: number; readonly cost: Nanos } | undefined {
  if (step.booked === 0n) return undefined;
  return { attempt: step.booked < 0n ? -1 - lease.corrections : 0, cost: step.booked };
}

/** Leases that were not renewed in time are charged. */
export function postExpiry(leases: readonly LockedLease[]): Posting {
  const posting = new Posting();
  for (const lease of leases) posting.step(lease, expire(lease));
  return posting;
}

/** @param returns those that were not carried out before; of leases that are not among `leases`, or closed, they do nothing. */
export function postReturns(leases: readonly LockedLease[], returns: readonly LeaseReturn[]): Posting {
  const wishes = mergeReturns(returns);
  const posting = new Posting();
  for (const lease of leases) {
    const wish = wishes.get(lease.leaseId);
    if (wish === undefined || lease.state === "closed") continue;
    posting.step(lease, giveBack(lease, wish.amount, wish.close));
  }
  return posting;
}

/** What is wished of each lease altogether. */
function mergeReturns(returns: readonly LeaseReturn[]): Map<string, { amount: Nanos; close: boolean }> {
  const merged = new Map<string, { amount: Nanos; close: boolean }>();
  for (const { leaseId, amount, close } of returns) {
    const id = leaseId.toLowerCase();
    const before = merged.get(id) ?? { amount: 0n, close: false };
    merged.set(id, { amount: before.amount + amount, close: before.close || close });
  }
  return merged;
}

/**
 * What was lent by a lease is charged to the lease's periods; what was not, or by a lease that is not among `leases`, to the
 * periods of now. A budget that was removed counts for as long as its period of then lasts.
 */
export function postSpend(
  totals: readonly SpendTotal[],
  leases: ReadonlyMap<string, LockedLease>,
  nowMs: number,
  timeZone: string,
): Posting {
  const posting = new Posting();
  for (const { keyId, leaseId, cost, budgets } of totals) {
    const lease = leaseId === undefined ? undefined : leases.get(leaseId);
    const own = lease?.keyId === keyId ? lease : undefined;
    if (own !== undefined) posting.step(own, settle(own, cost));
    const charged = new Set(own?.periods.map(({ budgetId }) => budgetId));
    for (const budget of budgets) {
      if (charged.has(budget.budget_id)) continue;
      const period = currentPeriod(budget, nowMs, timeZone);
      if (budget.removed_at === null || budget.removed_at >= period.start) posting.charge(period, budget.cost);
    }
  }
  return posting;
}
