/** What becomes of a pod's ask for money: the rules, without database. */

import { GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";
import { type Account, grant, type LentMoney, lend, type Step } from "./ledger.ts";
import { type CurrentPeriod, type LockedLease, nameOf } from "./posting.ts";

/** A pod's wish for money. */
export interface LeaseAsk {
  /** A UUID; a repeated ask is answered and not granted twice. */
  readonly requestId: string;
  readonly podId: string;
  /** A UUID chosen by the pod. */
  readonly leaseId: string;
  readonly keyId: string;
  /** Budgets that are asked besides those of every call of the key. */
  readonly budgetIds: readonly string[];
  /** More than zero. */
  readonly min: Nanos;
  readonly want: Nanos;
  /** So much of `want` is for calls to come; 0n: calls wait for all of it. */
  readonly ahead: Nanos;
}

/** What becomes of an ask. Times are durations from now, in milliseconds. */
export type LeaseAnswer =
  | {
      readonly outcome: "granted";
      readonly granted: Nanos;
      readonly ttlMs: number;
      /** Undefined: never. */
      readonly periodEndsMs: number | undefined;
    }
  | {
      readonly outcome: "refused";
      readonly budget: BudgetRow;
      /** Where its period begins. */
      readonly periodStart: Date;
      readonly spent: Nanos;
      readonly reserved: Nanos;
      /** Undefined: never. */
      readonly resetsAt: Date | undefined;
    }
  | { readonly outcome: "ended" };

/** A budget as the books have it. */
export interface BudgetRow {
  readonly budget_id: string;
  readonly scope: string;
  readonly scope_id: string;
  readonly max_nanos: Nanos | null;
  readonly duration: string | null;
  /** Only calls to this model are charged to it; null: all. */
  readonly model: string | null;
  /** Until when `max_nanos` holds; null: for ever. */
  readonly temp_until: Date | null;
}

/** A budget of the key that asks, in its current period. */
export interface AskedBudget {
  readonly row: BudgetRow;
  readonly period: CurrentPeriod;
}

/** What is to be written when money is lent. */
export interface Loan {
  readonly amount: Nanos;
  readonly step: Step;
  readonly expiresAt: Date;
  /** The first end of the lease's periods; undefined: never. */
  readonly periodEndsAt: Date | undefined;
}

/** @throws GatewayError key_not_found, blocked_key or expired_key. */
export function checkKey(
  key: { readonly blocked: boolean; readonly expired: boolean } | undefined,
): asserts key is { readonly blocked: boolean; readonly expired: boolean } {
  if (key === undefined) throw new GatewayError("key_not_found", "There is no such key.");
  if (key.blocked) throw new GatewayError("blocked_key", "The key is blocked.");
  if (key.expired) throw new GatewayError("expired_key", "The key has expired.");
}

/**
 * The answer to an ask on a lease that is in the books, where that does not depend on what its budgets have.
 *
 * @param facts `before`: what this very ask was granted earlier.
 * @returns undefined if it depends on them.
 * @throws GatewayError invalid_request if the lease is another key's.
 */
export function answerByLease(
  ask: LeaseAsk,
  known: LockedLease,
  facts: { readonly before: Nanos | undefined; readonly budgets: readonly AskedBudget[]; readonly now: Date },
): LeaseAnswer | undefined {
  const { before, budgets, now } = facts;
  if (known.state === "closed") return { outcome: "ended" };
  if (known.keyId !== ask.keyId) {
    throw new GatewayError("invalid_request", "The lease is another key's.", { param: "lease_id" });
  }
  if (known.state !== "open" || known.expiresAt <= now) return { outcome: "ended" };
  if (before !== undefined) return granted(before, known.expiresAt, known.periodEndsAt, now);
  // Another period has begun, or the key has other budgets now: the money in hand counts where it was lent.
  // What a budget allows only for a time must end with that.
  const isSame = isBoundTo(known, budgets) && known.periodEndsAt?.getTime() === firstEnd(budgets)?.getTime();
  return isSame ? undefined : { outcome: "ended" };
}

const newLease: LentMoney = { state: "open", outstanding: 0n };

/**
 * The answer to an ask by what its budgets have.
 *
 * @param facts `accounts`: how the budgets stand, in their order.
 * @returns also what to write if it is granted.
 */
export function answerByBudgets(
  ask: LeaseAsk,
  facts: {
    readonly known: LockedLease | undefined;
    readonly budgets: readonly AskedBudget[];
    readonly accounts: readonly Pick<Account, "spent" | "reserved">[];
    readonly now: Date;
    readonly leaseTtlMs: number;
  },
): { readonly answer: LeaseAnswer; readonly loan: Loan | undefined } {
  const { known, budgets, accounts, now, leaseTtlMs } = facts;
  const limited = accounts.map((account, place) => ({ ...account, max: budgets[place]?.row.max_nanos ?? undefined }));
  const verdict = grant(limited, ask, known?.outstanding ?? 0n);
  if ("refusedBy" in verdict) {
    return { answer: refused(budgets[verdict.refusedBy], accounts[verdict.refusedBy]), loan: undefined };
  }
  const amount = verdict.granted;
  const expiresAt = new Date(now.getTime() + leaseTtlMs);
  const periodEndsAt = firstEnd(budgets);
  return {
    answer: granted(amount, expiresAt, periodEndsAt, now),
    loan: { amount, step: lend(known ?? newLease, amount), expiresAt, periodEndsAt },
  };
}

function granted(amount: Nanos, expiresAt: Date, periodEndsAt: Date | undefined, now: Date): LeaseAnswer {
  const periodEndsMs = periodEndsAt && Math.max(0, periodEndsAt.getTime() - now.getTime());
  return { outcome: "granted", granted: amount, ttlMs: expiresAt.getTime() - now.getTime(), periodEndsMs };
}

function refused(
  budget: AskedBudget | undefined,
  account: { readonly spent: Nanos; readonly reserved: Nanos } | undefined,
): LeaseAnswer {
  if (budget === undefined || account === undefined) throw new Error("The ledger refused in the name of no budget.");
  const { spent, reserved } = account;
  const { start, end } = budget.period;
  return { outcome: "refused", budget: budget.row, periodStart: start, spent, reserved, resetsAt: end };
}

function isBoundTo(lease: LockedLease, budgets: readonly AskedBudget[]): boolean {
  const bound = new Set(lease.periods.map(nameOf));
  return bound.size === budgets.length && budgets.every(({ period }) => bound.has(nameOf(period)));
}

function firstEnd(budgets: readonly AskedBudget[]): Date | undefined {
  const ends = budgets.flatMap(({ row, period }) =>
    [period.end, row.temp_until].flatMap((end) => end?.getTime() ?? []),
  );
  return ends.length === 0 ? undefined : new Date(Math.min(...ends));
}
