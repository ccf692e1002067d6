import type { Nanos } from "../money.ts";
import type { Payer, SpendRecord } from "./authority.ts";
import { Lease, Reservation } from "./lease.ts";

/**
 * Money nobody has lent, for calls while the KeyService is away and the operator would rather overspend by a known amount than
 * refuse: of each key this pod has at any time at most `max` in flight or not yet in the books beyond what it has borrowed.
 */
export class Overdraft {
  readonly #max: Nanos;
  readonly #byKey = new Map<string, Lease>();

  /** @param max a key's, on this pod. */
  constructor(max: Nanos) {
    this.#max = max;
  }

  /** What calls hold or have cost, and is not in the books yet. */
  get used(): Nanos {
    let used = 0n;
    for (const lease of this.#byKey.values()) used += this.#max - lease.room;
    return used;
  }

  /** @returns undefined if the key has not so much left. */
  take({ keyId }: Payer, amount: Nanos): Reservation | undefined {
    let lease = this.#byKey.get(keyId);
    if (lease === undefined) {
      // A lease the KeyService knows nothing of: its records name none, and are charged to the periods they are booked in.
      lease = new Lease("", keyId);
      lease.room = this.#max;
      this.#byKey.set(keyId, lease);
    }
    if (lease.room < amount) return undefined;
    lease.room -= amount;
    lease.reserved += amount;
    return new Reservation(lease, amount);
  }

  /** The KeyService has these in its books. */
  booked(records: readonly SpendRecord[]): void {
    for (const { keyId, leaseId, cost } of records) {
      const lease = leaseId === "" ? this.#byKey.get(keyId) : undefined;
      if (lease === undefined) continue;
      lease.unbooked -= cost;
      lease.room += cost;
      if (lease.room >= this.#max && lease.reserved === 0n) this.#byKey.delete(keyId);
    }
  }
}
