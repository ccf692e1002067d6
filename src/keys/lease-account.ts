import type { Nanos } from "../money.ts";
import type { BudgetRefusal, LeaseAsk, Payer } from "./authority.ts";
import { type Lease, Reservation } from "./lease.ts";

/** Use is measured over the current span and the one before it, in milliseconds. */
const spanMs = 2_000;
/** A refusal is believed this long, in milliseconds: a shield against floods, too short to hide money that came back. */
const refusalTtlMs = 200;
/** How long after a refusal nothing is borrowed ahead of need, in milliseconds. */
const tightMs = 5_000;
/** At most this part of a budget is borrowed ahead of need by one pod. */
const spareDivisor = 100n;

/** A call that waits for money. */
export interface Waiter {
  readonly amount: Nanos;
  readonly resolve: (answer: Reservation | BudgetRefusal) => void;
  readonly reject: (error: unknown) => void;
}

/** One payer's money in this pod: its live lease, the calls that wait, and how much is likely to be needed. No I/O. */
export class LeaseAccount {
  /** As the last call had it: its budgets may change. */
  payer: Payer;
  lease: Lease | undefined = undefined;
  readonly waiters: Waiter[] = [];
  /** What all waiters need together. */
  #awaited: Nanos = 0n;
  /** The KeyService is being asked for this payer. */
  asking = false;
  /** Before this (monotonic, milliseconds) nothing is borrowed ahead, because the KeyService failed or lends nothing ahead. */
  restUntilMs = Number.NEGATIVE_INFINITY;
  /** Before this (monotonic, milliseconds) nothing is held ahead of need, because a budget is near its limit. */
  #tightUntilMs = Number.NEGATIVE_INFINITY;

  #refusal: { readonly short: Nanos; readonly untilMs: number; readonly answer: BudgetRefusal } | undefined;
  #smallestBudget: Nanos = 0n;
  /** How much of a spare the KeyService itself was willing to lend when last it gave less than was wanted. */
  #spareGranted: { readonly amount: Nanos; readonly untilMs: number } | undefined;
  #lastAmount: Nanos = 0n;
  #peak: Nanos = 0n;
  #peakBefore: Nanos = 0n;
  #cost: Nanos = 0n;
  #costBefore: Nanos = 0n;
  #calls = 0;
  #callsBefore = 0;
  #spanStartMs: number;

  constructor(payer: Payer, nowMs: number) {
    this.payer = payer;
    this.#spanStartMs = nowMs;
  }

  /** What the KeyService has lent and no ended call has cost. */
  get held(): Nanos {
    return this.lease === undefined ? 0n : this.lease.room + this.lease.reserved;
  }

  /** What is lent and no call holds. */
  get room(): Nanos {
    const room = this.lease?.room ?? 0n;
    return room > 0n ? room : 0n;
  }

  /** What has to be borrowed before `amount` fits. */
  shortOf(amount: Nanos): Nanos {
    return amount - (this.lease?.room ?? 0n);
  }

  /** A call has come; the smallest of its limited budgets bounds what is borrowed ahead. */
  noteCall(payer: Payer, smallestBudget: Nanos): void {
    this.payer = payer;
    this.#smallestBudget = smallestBudget;
    this.#calls++;
  }

  /** @returns undefined if the live lease has no room for it. */
  take(amount: Nanos, nowMs: number): Reservation | undefined {
    const { lease } = this;
    if (lease === undefined || lease.room < amount || !lease.isLive(nowMs)) return undefined;
    lease.room -= amount;
    lease.reserved += amount;
    this.#lastAmount = amount;
    if (lease.reserved > this.#peak) this.#peak = lease.reserved;
    return new Reservation(lease, amount);
  }

  /** Queues a call. */
  wait(waiter: Waiter): void {
    this.waiters.push(waiter);
    this.#awaited += waiter.amount;
  }

  /** Gives waiters, in order, what there is; and the refusal just heard to those it concerns. */
  serve(nowMs: number): void {
    for (let waiter = this.waiters[0]; waiter !== undefined; waiter = this.waiters[0]) {
      const answer = this.take(waiter.amount, nowMs) ?? this.#recentRefusal(waiter.amount, nowMs);
      if (answer === undefined) return;
      this.waiters.shift();
      this.#awaited -= waiter.amount;
      waiter.resolve(answer);
    }
  }

  /** @returns false if nobody waited. */
  rejectWaiters(failure: unknown): boolean {
    const waiters = this.waiters.splice(0);
    this.#awaited = 0n;
    for (const waiter of waiters) waiter.reject(failure);
    return waiters.length > 0;
  }

  /** The answer to those who lack what was refused a moment ago, or more. */
  #recentRefusal(amount: Nanos, nowMs: number): BudgetRefusal | undefined {
    const refusal = this.#refusal;
    if (refusal === undefined) return undefined;
    if (nowMs >= refusal.untilMs) {
      this.#refusal = undefined;
      return undefined;
    }
    return this.shortOf(amount) >= refusal.short ? refusal.answer : undefined;
  }

  /** The KeyService had not even the least that was asked for; where no call waited for it, calls may still find what they need. */
  refused({ min, want, ahead }: LeaseAsk, answer: BudgetRefusal, nowMs: number): void {
    if (ahead === want) {
      this.#spareGranted = { amount: 0n, untilMs: nowMs + tightMs };
      this.restUntilMs = nowMs + tightMs;
      return;
    }
    this.#refusal = { short: min, untilMs: nowMs + refusalTtlMs, answer };
    this.#tightUntilMs = nowMs + tightMs;
  }

  /** Others need what a budget they share with this payer has left: nothing is held ahead for a while. @returns what is free here. */
  yieldTo(nowMs: number): Nanos {
    this.#tightUntilMs = nowMs + tightMs;
    return this.waiters.length > 0 || this.asking || this.lease?.unanswered !== undefined ? 0n : this.room;
  }

  /** Money of this pod has gone back; a refusal says nothing any more. */
  forgetRefusal(): void {
    this.#refusal = undefined;
  }

  /** The KeyService gave `granted`. */
  granted(granted: Nanos, { want, ahead }: LeaseAsk, nowMs: number): void {
    if (granted >= want) return;
    const spare = granted - (want - ahead);
    this.#spareGranted = { amount: spare > 0n ? spare : 0n, untilMs: nowMs + tightMs };
  }

  /** How much to borrow ahead of need now; 0n if enough is held. */
  lack(nowMs: number): Nanos {
    const { held } = this;
    const target = this.#target(nowMs);
    const lack = target - held;
    return lack * 4n > target || (lack > 0n && held < this.#busy) ? lack : 0n;
  }

  /** How much is held above need now; 0n if it is not worth returning. */
  surplus(nowMs: number): Nanos {
    const target = this.#target(nowMs);
    let surplus = this.held - target;
    if (surplus * 4n <= target) return 0n;
    if (surplus > this.room) surplus = this.room;
    return surplus;
  }

  /** What calls held at once lately, and if calls still come, a spare for those to come. */
  #target(nowMs: number): Nanos {
    if (nowMs < this.#tightUntilMs) return 0n;
    return this.#calls + this.#callsBefore === 0 ? this.#busy : this.#busy + this.spare(nowMs);
  }

  get #busy(): Nanos {
    if (this.#peakBefore > this.#peak) return this.#peakBefore;
    return this.#peak;
  }

  /**
   * What has to be borrowed before all waiters fit. No spare on top of a first ask: when many pods are asked at once, the last calls a
   * budget pays for must not be lost in their spares.
   */
  shortOfAll(): Nanos {
    return this.shortOf(this.#awaited);
  }

  /** What to borrow for calls to come, besides what those need that are here; 0n near a budget's limit. */
  spare(nowMs: number): Nanos {
    if (nowMs < this.#tightUntilMs) return 0n;
    let spare = 4n * this.#lastAmount + this.#peak / 2n + this.#cost + this.#costBefore;
    const share = this.#smallestBudget / spareDivisor;
    if (spare > share) spare = share;
    const granted = this.#spareGranted;
    if (granted !== undefined && nowMs < granted.untilMs && spare > granted.amount) spare = granted.amount;
    return spare;
  }

  /** Notes what a call has cost, to foresee what the next ones will. */
  noteCost(cost: Nanos): void {
    this.#cost += cost;
  }

  /** Lets old use be forgotten. Called now and then. */
  tick(nowMs: number): void {
    if (nowMs - this.#spanStartMs < spanMs) return;
    this.#spanStartMs = nowMs;
    this.#peakBefore = this.#peak;
    this.#costBefore = this.#cost;
    this.#callsBefore = this.#calls;
    this.#peak = this.lease?.reserved ?? 0n;
    this.#cost = 0n;
    this.#calls = 0;
  }

  /** Whether there has been no use for more than a span. */
  get idle(): boolean {
    return (
      this.#calls + this.#callsBefore === 0 &&
      (this.lease?.reserved ?? 0n) === 0n &&
      this.waiters.length === 0 &&
      !this.asking
    );
  }
}
