import type { Telemetry } from "../telemetry/telemetry.ts";
import { type Authority, AuthorityRejected, type LeaseReturn } from "./authority.ts";
import { BatchSize } from "./batch-size.ts";

/** Money on its way back. Each return keeps its id until the KeyService confirms it, so it is carried out once. */
export class LeaseReturns {
  readonly #authority: Authority;
  readonly #telemetry: Pick<Telemetry, "log">;
  readonly #onReturned: (returned: LeaseReturn) => void;
  readonly #queue: LeaseReturn[] = [];
  readonly #batch = new BatchSize(1_000);
  #delivering: Promise<void> | undefined;

  /** @param parts `onReturned` is told of each return once it is carried out. */
  constructor(parts: {
    authority: Authority;
    telemetry: Pick<Telemetry, "log">;
    onReturned: (returned: LeaseReturn) => void;
  }) {
    this.#authority = parts.authority;
    this.#telemetry = parts.telemetry;
    this.#onReturned = parts.onReturned;
  }

  get size(): number {
    return this.#queue.length;
  }

  /** Whether any of it is money, not only a lease to close. */
  get holdsMoney(): boolean {
    return this.#queue.some(({ amount }) => amount > 0n);
  }

  add(leaseReturn: LeaseReturn): void {
    this.#queue.push(leaseReturn);
  }

  /**
   * Sends what there is, in order; one delivery at a time.
   *
   * @throws AuthorityUnavailable (as a rejection); what is left is kept.
   */
  deliver(): Promise<void> {
    this.#delivering ??= this.#deliver().finally(() => {
      this.#delivering = undefined;
    });
    return this.#delivering;
  }

  async #deliver(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.slice(0, this.#batch.current);
      try {
        await this.#authority.giveBack(batch);
        this.#batch.accepted();
      } catch (error) {
        if (!(error instanceof AuthorityRejected)) throw error;
        if (!this.#batch.rejected(batch.length)) continue;
        this.#telemetry.log("error", "The KeyService will not take money back; it stays charged as unconfirmed.", {
          leaseId: batch[0]?.leaseId,
          nanos: batch[0]?.amount.toString(),
          error,
        });
      }
      this.#queue.splice(0, batch.length);
      for (const returned of batch) this.#onReturned(returned);
    }
  }
}
