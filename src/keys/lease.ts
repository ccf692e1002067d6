import type { Nanos } from "../money.ts";
import type { LeaseAsk, LeaseGrant } from "./authority.ts";

/**
 * Money lent to this pod for one payer. Always: what the KeyService counts as outstanding = room + reserved + unbooked.
 *
 * - live: calls are paid from it.
 * - ending: no further calls; it waits for its calls to end and for their records to be booked.
 * - closing: it is being given back.
 */
export class Lease {
  readonly id: string;
  readonly payerId: string;
  state: "live" | "ending" | "closing" = "live";
  /** Free for calls. Negative when calls cost more than they had reserved. */
  room: Nanos = 0n;
  /** Held by calls in flight. */
  reserved: Nanos = 0n;
  /** Cost of ended calls whose records the KeyService has not confirmed. */
  unbooked: Nanos = 0n;
  /** When it ends unless renewed (monotonic, milliseconds). */
  expiresAtMs = Number.POSITIVE_INFINITY;
  /** When it ends whatever is done (monotonic, milliseconds). */
  periodEndsAtMs = Number.POSITIVE_INFINITY;
  /** The KeyService ends it or has ended it by itself: renewing is of no use. */
  over = false;
  /**
   * An ask whose answer has not come, and when it was first sent (monotonic, milliseconds). It is repeated until it is
   * answered, for it may have been granted.
   */
  unanswered: { readonly ask: LeaseAsk; readonly sentAtMs: number } | undefined = undefined;
  /** Called when a call has ended, with its cost. */
  onSettled: ((cost: Nanos) => void) | undefined = undefined;

  constructor(id: string, payerId: string) {
    this.id = id;
    this.payerId = payerId;
  }

  /** Whether calls may be paid from it at `nowMs` (monotonic). */
  isLive(nowMs: number): boolean {
    return this.state === "live" && nowMs < this.expiresAtMs && nowMs < this.periodEndsAtMs;
  }

  /** Whether the KeyService has ever put money on it. */
  get granted(): boolean {
    return this.expiresAtMs !== Number.POSITIVE_INFINITY;
  }

  /** The KeyService has put money on it, when asked at `sentAtMs` (monotonic). */
  add(grant: LeaseGrant, sentAtMs: number): void {
    this.room += grant.granted;
    // Counted from when the ask was sent, so that these ends are never later than the KeyService's.
    const expiresAtMs = sentAtMs + grant.ttlMs;
    this.expiresAtMs = this.granted ? Math.max(this.expiresAtMs, expiresAtMs) : expiresAtMs;
    if (grant.periodEndsMs !== undefined) {
      this.periodEndsAtMs = Math.min(this.periodEndsAtMs, sentAtMs + grant.periodEndsMs);
    }
  }

  /** Whether nobody here will ever need it again. */
  get done(): boolean {
    return this.state === "ending" && this.reserved === 0n && this.unbooked === 0n;
  }
}

/** Money set aside for one call. Ends once, by `settle` or `release`; what follows is ignored. */
export class Reservation {
  readonly #lease: Lease | undefined;
  readonly amount: Nanos;
  #open = true;

  /** @param lease where the money is from; undefined when no budget limits the call. */
  constructor(lease: Lease | undefined, amount: Nanos) {
    this.#lease = lease;
    this.amount = amount;
  }

  /** "" when no budget limits the call, or nobody has lent the money. */
  get leaseId(): string {
    return this.#lease?.id ?? "";
  }

  /** Whether a budget limits the call. */
  get isLimited(): boolean {
    return this.#lease !== undefined;
  }

  /** The call has cost so much; the rest goes back to the lease. More than was reserved is taken from the lease's room. */
  settle(cost: Nanos): void {
    const lease = this.#lease;
    if (!this.#open || lease === undefined) return;
    this.#open = false;
    lease.reserved -= this.amount;
    lease.room += this.amount - cost;
    lease.unbooked += cost;
    lease.onSettled?.(cost);
  }

  /** The call cost nothing. */
  release(): void {
    this.settle(0n);
  }
}
