import type { Lease } from "./lease.ts";
import type { LeaseAccount } from "./lease-account.ts";

/** All leases this pod has to care for, until they are closed. */
export class LeasePool {
  readonly #leases = new Map<string, Lease>();
  /** Those that pay for no further calls. */
  readonly ending = new Set<Lease>();

  get size(): number {
    return this.#leases.size;
  }

  get(leaseId: string): Lease | undefined {
    return this.#leases.get(leaseId);
  }

  all(): Iterable<Lease> {
    return this.#leases.values();
  }

  add(lease: Lease): void {
    this.#leases.set(lease.id, lease);
    if (lease.state === "ending") this.ending.add(lease);
  }

  delete(lease: Lease): void {
    this.#leases.delete(lease.id);
    this.ending.delete(lease);
  }

  /** No call is paid from the account's lease any more; the next one opens another. */
  end(account: LeaseAccount): void {
    const { lease } = account;
    if (lease === undefined) return;
    account.lease = undefined;
    lease.onSettled = undefined;
    lease.state = "ending";
    this.ending.add(lease);
  }

  /** Ends the account's lease if its time is over. */
  endIfOver(account: LeaseAccount, nowMs: number): void {
    const { lease } = account;
    if (lease === undefined || lease.isLive(nowMs)) return;
    lease.over = true;
    this.end(account);
  }
}
