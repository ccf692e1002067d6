/** The arithmetic of budgets and leases: no clock, no database, plain values in and out. */

import type { Nanos } from "../money.ts";

/** One budget in one period. `max` undefined: no limit, only counted. */
export interface Account {
  readonly max: Nanos | undefined;
  readonly spent: Nanos;
  /** Lent out and not settled. */
  readonly reserved: Nanos;
}

/** Money lent to a pod; it is reserved on one or more accounts at once. */
export interface LentMoney {
  readonly state: "open" | "expired" | "closed";
  /** Open: granted, not settled, not returned. Expired: what was charged for that, as far as it is not corrected. */
  readonly outstanding: Nanos;
}

/** What an event does to a lease, to each of the accounts it is reserved on, and to the spend log. */
export interface Step {
  readonly lease: LentMoney;
  /** To be added to each account's `spent`. */
  readonly spent: Nanos;
  /** To be added to each account's `reserved`. */
  readonly reserved: Nanos;
  /** A row for the spend log besides those of the calls: positive an unconfirmed charge, negative a correction, zero none. */
  readonly booked: Nanos;
}

export type Grant =
  | { readonly granted: Nanos }
  /** The place in the list of the account with the least room. */
  | { readonly refusedBy: number };

/** How much money a pod would like. */
export interface Wish {
  /** The least that is of use; more than zero. */
  readonly min: Nanos;
  readonly want: Nanos;
  /** So much of `want` is for calls to come. */
  readonly ahead: Nanos;
}

/**
 * Decides how much can be lent on all accounts at once: as much as is wanted if it is there, less if at least `min` is. Ahead of need
 * only while half of what is not spent stays free of what others hold: pods that hold some in store, however many, leave the others
 * enough to begin with.
 *
 * @param own what the lease that asks has outstanding.
 */
export function grant(accounts: readonly Account[], { min, want, ahead }: Wish, own: Nanos): Grant {
  let granted = want > min ? want : min;
  const needed = granted - ahead;
  let tightest = -1;
  for (const [index, { max, spent, reserved }] of accounts.entries()) {
    if (max === undefined) continue;
    const unspent = max - spent;
    const room = least(unspent - reserved, most(needed, unspent / 2n - (reserved - own)));
    if (room >= granted) continue;
    granted = room;
    tightest = index;
  }
  return granted >= min ? { granted } : { refusedBy: tightest };
}

/** More money for an open lease. */
export function lend(lease: LentMoney, amount: Nanos): Step {
  return step({ state: "open", outstanding: lease.outstanding + amount }, 0n, amount, 0n);
}

/**
 * Calls have cost something. From an open lease it comes out of what was reserved. Of an expired one that much of the
 * unconfirmed charge is taken back; the rest stays until the pod says, by closing it, that no more calls will come.
 */
export function settle(lease: LentMoney, cost: Nanos): Step {
  if (lease.state === "closed") return step(lease, cost, 0n, 0n);
  const covered = least(cost, lease.outstanding);
  const rest = { ...lease, outstanding: lease.outstanding - covered };
  return lease.state === "open" ? step(rest, cost, -covered, 0n) : step(rest, cost - covered, 0n, -covered);
}

/** The pod gives back what no call holds, or everything. */
export function giveBack(lease: LentMoney, amount: Nanos, close: boolean): Step {
  if (lease.state === "closed") return step(lease, 0n, 0n, 0n);
  const back = close ? lease.outstanding : least(amount, lease.outstanding);
  const rest = { state: close ? "closed" : lease.state, outstanding: lease.outstanding - back } as const;
  return lease.state === "open" ? step(rest, 0n, -back, 0n) : step(rest, -back, 0n, -back);
}

/** The pod has not been heard of in time: what it may have spent is charged. Only for open leases. */
export function expire(lease: LentMoney): Step {
  const { outstanding } = lease;
  return step({ state: "expired", outstanding }, outstanding, -outstanding, outstanding);
}

function step(lease: LentMoney, spent: Nanos, reserved: Nanos, booked: Nanos): Step {
  return { lease, spent, reserved, booked };
}

function least(a: Nanos, b: Nanos): Nanos {
  return a < b ? a : b;
}

function most(a: Nanos, b: Nanos): Nanos {
  return a > b ? a : b;
}
