import type { Clock } from "../clock.ts";
import type { Nanos } from "../money.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { type Authority, AuthorityRejected, AuthorityUnavailable, type LeaseAnswer } from "./authority.ts";
import { Lease } from "./lease.ts";
import type { LeaseAccount } from "./lease-account.ts";
import type { LeasePool } from "./lease-pool.ts";
import type { LeaseRenewals } from "./lease-renewals.ts";

/** After a failure nothing is borrowed ahead for so long, in milliseconds. */
const failureRestMs = 1_000;
/** So many leases in a row that end before their money can be used, and the KeyService is taken for broken. */
const uselessMax = 3;

/** Where leases are written down, so that a pod that dies and comes back can return what it held. */
export interface LeaseBook {
  /** Before the KeyService is first asked. May throw a GatewayError: then no lease is opened. */
  leaseOpened(leaseId: string, keyId: string): void;
  /** The KeyService has closed it. Never throws. */
  leaseClosed(leaseId: string): void;
}

/** Asks the KeyService for money: one question at a time for each payer, for all its calls that wait. */
export class LeaseBorrowing {
  readonly #authority: Authority;
  readonly #book: LeaseBook;
  readonly #clock: Clock;
  readonly #telemetry: Pick<Telemetry, "log">;
  readonly #newId: () => string;
  readonly #pool: LeasePool;
  readonly #renewals: LeaseRenewals;
  readonly #bringBack: (account: LeaseAccount, budgetId: string) => Promise<boolean>;
  readonly #flights = new Set<Promise<void>>();
  #stopped = false;

  /** @param parts `bringBack`: returns what this pod holds of a budget and no other account needs, if anything; says whether it did. */
  constructor(parts: {
    authority: Authority;
    book: LeaseBook;
    clock: Clock;
    telemetry: Pick<Telemetry, "log">;
    newId: () => string;
    pool: LeasePool;
    renewals: LeaseRenewals;
    bringBack: (account: LeaseAccount, budgetId: string) => Promise<boolean>;
  }) {
    this.#authority = parts.authority;
    this.#book = parts.book;
    this.#clock = parts.clock;
    this.#telemetry = parts.telemetry;
    this.#newId = parts.newId;
    this.#pool = parts.pool;
    this.#renewals = parts.renewals;
    this.#bringBack = parts.bringBack;
  }

  /** Asks until nobody waits and, for once, for what should be held ahead of need. Repeats an unanswered ask first. */
  borrow(account: LeaseAccount): void {
    account.asking = true;
    const flight: Promise<void> = this.#askForAll(account).finally(() => this.#flights.delete(flight));
    this.#flights.add(flight);
  }

  /** Borrows in the background when less is held than should be. */
  borrowAhead(account: LeaseAccount, nowMs: number): void {
    if (!account.asking && this.#lack(account, nowMs) > 0n) this.borrow(account);
  }

  /** Repeats an ask whose answer was lost, now and then. @returns whether it did. */
  repeat(account: LeaseAccount, nowMs: number): boolean {
    if (account.lease?.unanswered === undefined || account.asking || nowMs < account.restUntilMs) return false;
    this.borrow(account);
    return true;
  }

  /** Borrows nothing ahead any more, and waits for what is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.allSettled(this.#flights);
  }

  #lack(account: LeaseAccount, nowMs: number): Nanos {
    return this.#stopped || nowMs < account.restUntilMs ? 0n : account.lack(nowMs);
  }

  async #askForAll(account: LeaseAccount): Promise<void> {
    let failure: unknown;
    try {
      for (let useless = 0, mayAskAhead = true, isBehind = false; useless < uselessMax; ) {
        const nowMs = this.#clock.monotonicMs();
        this.#pool.endIfOver(account, nowMs);
        account.serve(nowMs);
        const head = account.waiters[0];
        let useful: boolean;
        if (head !== undefined) {
          // Where calls came while others were asked for, all that come would wait, as long as they come quicker than answers do.
          const ahead = isBehind ? account.spare(nowMs) : 0n;
          useful = await this.#ask(account, account.shortOf(head.amount), account.shortOfAll() + ahead, ahead);
          isBehind = true;
        } else {
          const lack = this.#lack(account, nowMs);
          if (!mayAskAhead || (lack <= 0n && account.lease?.unanswered === undefined)) return;
          mayAskAhead = false;
          // Less than a quarter is not worth the way.
          useful = await this.#ask(account, lack / 4n + 1n, lack + 1n, lack + 1n);
        }
        useless = useful ? 0 : useless + 1;
      }
      failure = new AuthorityUnavailable(new Error("Every new lease is ended at once."));
    } catch (error) {
      failure = error;
    } finally {
      account.asking = false;
    }
    this.#fail(account, failure);
  }

  #fail(account: LeaseAccount, failure: unknown): void {
    const nowMs = this.#clock.monotonicMs();
    account.restUntilMs = nowMs + failureRestMs;
    account.serve(nowMs);
    if (!account.rejectWaiters(failure)) {
      this.#telemetry.log("debug", "Could not borrow ahead of need.", { error: failure });
    }
  }

  /** @returns false if the lease has ended, or ends before its money can be used. */
  async #ask(account: LeaseAccount, min: Nanos, want: Nanos, ahead: Nanos, isFirst = true): Promise<boolean> {
    const lease = account.lease ?? this.#open(account);
    const { keyId, extraBudgetIds: budgetIds } = account.payer;
    lease.unanswered ??= {
      ask: { requestId: this.#newId(), leaseId: lease.id, keyId, budgetIds, min, want, ahead },
      sentAtMs: this.#clock.monotonicMs(),
    };
    const { ask, sentAtMs } = lease.unanswered;
    let answer: LeaseAnswer;
    try {
      answer = await this.#authority.acquire(ask);
    } catch (error) {
      if (!(error instanceof AuthorityRejected)) throw error;
      lease.unanswered = undefined;
      throw new AuthorityUnavailable(error);
    }
    lease.unanswered = undefined;
    const nowMs = this.#clock.monotonicMs();
    if (answer.outcome === "refused") {
      const { budgetId } = answer.refusal.budget;
      if (isFirst && ahead < want && (await this.#bringBack(account, budgetId))) return this.#askOnceMore(account);
      account.refused(ask, answer.refusal, nowMs);
      return true;
    }
    if (answer.outcome === "ended") {
      lease.over = true;
      if (account.lease === lease) this.#pool.end(account);
      return false;
    }
    const { granted, ttlMs } = answer.lease;
    lease.add(answer.lease, sentAtMs);
    this.#renewals.expect(sentAtMs, ttlMs);
    account.granted(granted, ask, nowMs);
    if (granted < ask.min)
      throw new AuthorityUnavailable(new Error("The KeyService lent less than the least asked for."));
    return lease.isLive(nowMs);
  }

  /** For those who wait still, where money of this pod has gone back: their own, too. */
  #askOnceMore(account: LeaseAccount): Promise<boolean> | true {
    account.serve(this.#clock.monotonicMs());
    const head = account.waiters[0];
    return head === undefined || this.#ask(account, account.shortOf(head.amount), account.shortOfAll(), 0n, false);
  }

  #open(account: LeaseAccount): Lease {
    const lease = new Lease(this.#newId(), account.payer.id);
    this.#book.leaseOpened(lease.id, account.payer.keyId);
    lease.onSettled = (cost) => {
      const nowMs = this.#clock.monotonicMs();
      account.noteCost(cost);
      account.serve(nowMs);
      this.borrowAhead(account, nowMs);
    };
    account.lease = lease;
    this.#pool.add(lease);
    return lease;
  }
}
