import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { Authority, BudgetRefusal, LeaseReturn, Payer, SpendRecord } from "./authority.ts";
import { Lease, Reservation } from "./lease.ts";
import { LeaseAccount } from "./lease-account.ts";
import { type LeaseBook, LeaseBorrowing } from "./lease-borrowing.ts";
import { LeasePool } from "./lease-pool.ts";
import { LeaseRenewals } from "./lease-renewals.ts";
import { LeaseReturns } from "./lease-returns.ts";

/** Between two looks at all leases, in milliseconds. */
const sweepMs = 250;
/** Unanswered asks repeated in one sweep. */
const repeatsMax = 50;

/** What Leases are made of. */
export interface LeasesParts {
  readonly authority: Authority;
  readonly book: LeaseBook;
  readonly clock: Clock;
  readonly telemetry: Pick<Telemetry, "log">;
  /** Makes UUIDs. */
  readonly newId: () => string;
}

/** How much is lent to this pod, in nano-dollars. */
export interface LeaseStats {
  readonly leases: number;
  readonly room: Nanos;
  readonly reserved: Nanos;
  /** Calls that wait for the KeyService. */
  readonly waiting: number;
}

/**
 * Money for calls, borrowed from the KeyService ahead of need: a call on a warm key reserves without asking anybody. What is
 * not needed goes back within seconds; near a budget's limit only exactly what calls need is borrowed.
 */
export class Leases {
  readonly #clock: Clock;
  readonly #telemetry: Pick<Telemetry, "log">;
  readonly #newId: () => string;
  readonly #book: LeaseBook;
  readonly #pool = new LeasePool();
  readonly #returns: LeaseReturns;
  readonly #renewals: LeaseRenewals;
  readonly #borrowing: LeaseBorrowing;
  readonly #accounts = new Map<string, LeaseAccount>();
  #cancelSweep: (() => void) | undefined;
  #closed = false;

  constructor(parts: LeasesParts) {
    this.#clock = parts.clock;
    this.#telemetry = parts.telemetry;
    this.#newId = parts.newId;
    this.#book = parts.book;
    this.#renewals = new LeaseRenewals(parts);
    this.#borrowing = new LeaseBorrowing({
      ...parts,
      pool: this.#pool,
      renewals: this.#renewals,
      bringBack: (account, budgetId) => this.#bringBack(account, budgetId),
    });
    this.#returns = new LeaseReturns({ ...parts, onReturned: (returned) => this.#returned(returned) });
  }

  /**
   * Sets `amount` aside; at once if this pod holds enough.
   *
   * @returns a Reservation, or the budget without room. Nothing to pay, or no budget with a limit: a reservation without lease.
   * @throws AuthorityUnavailable (as a rejection) if the KeyService has to be asked and cannot be; GatewayError if the lease
   * cannot be written down, or after `close`.
   */
  reserve(payer: Payer, amount: Nanos): Reservation | BudgetRefusal | Promise<Reservation | BudgetRefusal> {
    const budgetMax = smallestBudget(payer);
    if (budgetMax === undefined || amount <= 0n) return new Reservation(undefined, amount);
    if (this.#closed) return Promise.reject(new GatewayError("shutting_down", "The gateway is shutting down."));
    const nowMs = this.#clock.monotonicMs();
    const account = this.#account(payer, nowMs);
    account.noteCall(payer, budgetMax);
    if (account.waiters.length === 0) {
      const reservation = account.take(amount, nowMs);
      if (reservation !== undefined) {
        this.#borrowing.borrowAhead(account, nowMs);
        return reservation;
      }
    }
    return new Promise((resolve, reject) => {
      account.wait({ amount, resolve, reject });
      if (!account.asking) this.#borrowing.borrow(account);
    });
  }

  /** Sets `amount` aside if this pod holds enough and nobody waits for it; never asks the KeyService for this call. */
  reserveHere(payer: Payer, amount: Nanos): Reservation | undefined {
    const account = this.#accounts.get(payer.id);
    if (account === undefined || account.waiters.length > 0) return undefined;
    return account.take(amount, this.#clock.monotonicMs());
  }

  /** What this pod holds for a payer and no call needs. */
  roomFor(payer: Payer): Nanos {
    return this.#accounts.get(payer.id)?.lease?.room ?? 0n;
  }

  /** Another pod's calls need what a budget has left: what is held of it here ahead of need goes back at once. */
  recall(budgetId: string): void {
    this.#yieldTo(undefined, budgetId);
    if (this.#returns.holdsMoney) this.#deliverSoon();
  }

  /** The KeyService has these in its books. */
  booked(records: readonly SpendRecord[]): void {
    for (const record of records) {
      const lease = this.#pool.get(record.leaseId);
      if (lease !== undefined) lease.unbooked -= record.cost;
    }
  }

  /**
   * Takes over leases of a dead predecessor, to return what is left of them.
   *
   * @param former what is still to be booked on each, by lease id.
   */
  adopt(former: ReadonlyMap<string, Nanos>): void {
    for (const [leaseId, unbooked] of former) {
      const lease = new Lease(leaseId, "");
      lease.state = "ending";
      lease.over = true;
      lease.unbooked = unbooked;
      this.#pool.add(lease);
    }
    if (former.size > 0) this.#armSweep();
  }

  stats(): LeaseStats {
    let [room, reserved, waiting] = [0n, 0n, 0];
    for (const lease of this.#pool.all()) {
      room += lease.room;
      reserved += lease.reserved;
    }
    for (const account of this.#accounts.values()) waiting += account.waiters.length;
    return { leases: this.#pool.size, room, reserved, waiting };
  }

  /**
   * Returns everything no call holds, and closes the leases whose records are all booked: ship the journal first. Never
   * rejects; what cannot be returned now is returned by the next start, from the book.
   */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelSweep?.();
    await this.#borrowing.stop();
    for (const account of this.#accounts.values()) this.#pool.end(account);
    this.#returnEnding();
    try {
      await this.#returns.deliver();
      // A delivery that was under way may have missed what was just added.
      await this.#returns.deliver();
    } catch (error) {
      this.#telemetry.log("warn", "Leases could not be returned.", { error, returns: this.#returns.size });
    }
  }

  #account(payer: Payer, nowMs: number): LeaseAccount {
    const known = this.#accounts.get(payer.id);
    if (known !== undefined) return known;
    const account = new LeaseAccount(payer, nowMs);
    this.#accounts.set(payer.id, account);
    this.#armSweep();
    return account;
  }

  #armSweep(): void {
    if (this.#closed || this.#cancelSweep !== undefined) return;
    this.#cancelSweep = this.#clock.after(sweepMs, () => {
      this.#cancelSweep = undefined;
      this.#sweep();
      if (this.#accounts.size > 0 || this.#pool.size > 0 || this.#returns.size > 0) this.#armSweep();
    });
  }

  #sweep(): void {
    const nowMs = this.#clock.monotonicMs();
    // While money is stuck on its way back the KeyService is away: what is held now must last.
    const shed = this.#returns.size === 0;
    let repeats = 0;
    for (const account of this.#accounts.values()) {
      this.#pool.endIfOver(account, nowMs);
      account.tick(nowMs);
      if (repeats < repeatsMax && this.#borrowing.repeat(account, nowMs)) repeats++;
      if (shed) this.#shed(account, nowMs);
      if (account.idle && account.lease === undefined) this.#accounts.delete(account.payer.id);
    }
    this.#returnEnding();
    if (this.#returns.size > 0) this.#deliverSoon();
    if (this.#renewals.isDue(nowMs)) void this.#renew();
  }

  #deliverSoon(): void {
    this.#returns.deliver().catch((error) => {
      this.#telemetry.log("debug", "Money could not be returned yet.", { error, returns: this.#returns.size });
    });
  }

  /** Returns what is held above need. */
  #shed(account: LeaseAccount, nowMs: number): void {
    const { lease } = account;
    if (lease === undefined || lease.unanswered !== undefined || account.asking) return;
    if (account.idle) {
      this.#pool.end(account);
      return;
    }
    const surplus = account.surplus(nowMs);
    if (surplus > 0n) this.#giveBack(lease, surplus, false);
  }

  /**
   * What is on its way back, or should be, arrives now; so does what this pod holds ahead of a budget that has not enough. What the account
   * that asks has left does as well: it is too little for the call that waits, and may be what another pod's call lacks.
   *
   * @returns false if there is nothing, or it cannot.
   */
  async #bringBack(asking: LeaseAccount, budgetId: string): Promise<boolean> {
    this.#yieldTo(asking, budgetId);
    if (!this.#returns.holdsMoney) return false;
    try {
      await this.#returns.deliver();
      return true;
    } catch {
      return false;
    }
  }

  /** @param asking the account that needs it; undefined: another pod. */
  #yieldTo(asking: LeaseAccount | undefined, budgetId: string): void {
    this.#returnEnding();
    const nowMs = this.#clock.monotonicMs();
    for (const account of this.#accounts.values()) {
      if (!account.payer.budgets.some((budget) => budget.budgetId === budgetId)) continue;
      const free = account === asking ? account.room : account.yieldTo(nowMs);
      if (free > 0n && account.lease !== undefined) this.#giveBack(account.lease, free, false);
    }
  }

  #returnEnding(): void {
    for (const lease of this.#pool.ending) {
      const free = lease.room > 0n ? lease.room : 0n;
      if (!lease.done) {
        if (free > 0n) this.#giveBack(lease, free, false);
        continue;
      }
      this.#pool.ending.delete(lease);
      lease.state = "closing";
      // Also one that was always refused: an ask of it that was sent twice may still be on its way.
      this.#giveBack(lease, free, true);
    }
  }

  #giveBack(lease: Lease, amount: Nanos, close: boolean): void {
    lease.room -= amount;
    this.#returns.add({ requestId: this.#newId(), leaseId: lease.id, amount, close });
  }

  #returned(returned: LeaseReturn): void {
    const lease = this.#pool.get(returned.leaseId);
    if (lease === undefined) return;
    this.#accounts.get(lease.payerId)?.forgetRefusal();
    if (returned.close) this.#forget(lease);
  }

  #forget(lease: Lease): void {
    this.#pool.delete(lease);
    this.#book.leaseClosed(lease.id);
  }

  #renew(): Promise<void> {
    const leases = [...this.#pool.all()];
    return this.#renewals.renew(
      leases.filter((lease) => lease.granted && !lease.over && lease.state !== "closing"),
      (lease) => {
        lease.over = true;
        const account = this.#accounts.get(lease.payerId);
        if (account?.lease === lease) this.#pool.end(account);
      },
    );
  }
}

/** The limit of the smallest limited budget; undefined if none is limited. */
function smallestBudget({ budgets }: Payer): Nanos | undefined {
  let smallest: Nanos | undefined;
  for (const { max } of budgets) {
    if (max !== undefined && (smallest === undefined || max < smallest)) smallest = max;
  }
  return smallest;
}
