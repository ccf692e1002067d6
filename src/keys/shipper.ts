import type { Clock, Random } from "../clock.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { type Authority, AuthorityRejected, type SpendRecord } from "./authority.ts";
import { Backoff, pause } from "./backoff.ts";
import { BatchSize } from "./batch-size.ts";
import type { Journal } from "./journal.ts";

/** Records sent at once. */
const batchMax = 500;
/** How long a record waits for company, in milliseconds. */
const lingerMs = 100;

/** What a Shipper is made of. */
export interface ShipperParts {
  readonly journal: Journal;
  readonly authority: Authority;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Pick<Telemetry, "log">;
  /** Told of records that need not be waited for any more: booked, or rejected for good. */
  readonly onBooked: (records: readonly SpendRecord[]) => void;
}

/** Shipping in figures, since the start. */
export interface ShipperStats {
  readonly booked: number;
  readonly rejected: number;
  /** Batches that found no KeyService. */
  readonly failures: number;
}

/** Brings the journal's records to the KeyService, in order, each at least once. */
export class Shipper {
  readonly #parts: ShipperParts;
  readonly #backoff: Backoff;
  readonly #batch = new BatchSize(batchMax);
  readonly #closing = new AbortController();
  /** Wakes the loop from whatever it waits for. */
  #nudge = new AbortController();
  #loop: Promise<void> | undefined;
  #hurry = false;
  /** The loop waits for company, not for the KeyService to come back. */
  #lingering = false;
  #booked = 0;
  #rejected = 0;
  #failures = 0;

  constructor(parts: ShipperParts) {
    this.#parts = parts;
    this.#backoff = new Backoff({ firstMs: 100, maxMs: 4_000, random: parts.random });
  }

  /** Begins to ship; once. */
  start(): void {
    const { journal } = this.#parts;
    journal.onSettled = () => {
      if (this.#loop === undefined) this.#begin();
      else if (this.#lingering && journal.pendingCount >= batchMax) this.#nudge.abort();
    };
    if (journal.pendingCount > 0) this.#begin();
  }

  /**
   * Ships what there is without delay.
   *
   * @returns whether everything is booked, at the latest after `deadlineMs` milliseconds.
   */
  async flush(deadlineMs: number): Promise<boolean> {
    this.#hurry = true;
    const { clock, journal } = this.#parts;
    if (this.#loop === undefined && journal.pendingCount > 0) this.#begin();
    this.#nudge.abort();
    const done = new AbortController();
    void this.#loop?.then(() => done.abort());
    if (this.#loop !== undefined) await pause(clock, deadlineMs, done.signal);
    this.#hurry = false;
    return journal.pendingCount === 0;
  }

  /** Stops; what is left stays in the journal. Waits for a batch under way: to cut it short, close the authority first. */
  async close(): Promise<void> {
    this.#parts.journal.onSettled = undefined;
    this.#closing.abort();
    this.#nudge.abort();
    await this.#loop;
  }

  stats(): ShipperStats {
    return { booked: this.#booked, rejected: this.#rejected, failures: this.#failures };
  }

  #begin(): void {
    if (this.#closing.signal.aborted) return;
    this.#loop = this.#run();
  }

  /** Runs until nothing is left. */
  async #run(): Promise<void> {
    const { journal, telemetry } = this.#parts;
    await this.#linger();
    while (journal.pendingCount > 0 && !this.#closing.signal.aborted) {
      try {
        await this.#ship();
        this.#backoff.reset();
      } catch (error) {
        this.#failures++;
        const waitMs = this.#backoff.nextMs();
        telemetry.log("warn", "Spend records wait for the KeyService.", { pending: journal.pendingCount, error });
        await this.#wait(this.#hurry ? Math.min(waitMs, lingerMs) : waitMs);
        continue;
      }
      if (journal.pendingCount > 0) await this.#linger();
    }
    this.#loop = undefined;
  }

  async #linger(): Promise<void> {
    if (this.#hurry || this.#parts.journal.pendingCount >= batchMax) return;
    this.#lingering = true;
    await this.#wait(lingerMs);
    this.#lingering = false;
  }

  async #wait(delayMs: number): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#nudge = new AbortController();
    await pause(this.#parts.clock, delayMs, this.#nudge.signal);
  }

  async #ship(): Promise<void> {
    const { journal, authority, onBooked } = this.#parts;
    const records = journal.peek(this.#batch.current);
    const [first] = records;
    if (first === undefined) return;
    try {
      await authority.settle(records);
      this.#batch.accepted();
      this.#booked += records.length;
    } catch (error) {
      if (!(error instanceof AuthorityRejected)) throw error;
      if (!this.#batch.rejected(records.length)) return;
      journal.park(first, error);
      this.#rejected++;
    }
    journal.ack(records.length);
    onBooked(records);
  }
}
