import type { Clock, Random } from "../../src/clock.ts";
import type { Authority } from "../../src/keys/authority.ts";
import { Decisions, decisionDefaults } from "../../src/keys/decisions.ts";
import { Journal } from "../../src/keys/journal.ts";
import type { JournalHost } from "../../src/keys/journal-host.ts";
import { Leases } from "../../src/keys/leases.ts";
import { Shipper } from "../../src/keys/shipper.ts";
import { sampleOpen, sampleSettled } from "../keys/samples.ts";

/** What a call sets aside, and what it then costs: a quarter, as with caps that are rarely used up. */
const reservedNanos = 4_000_000n;
const costNanos = 1_000_000n;
/** How long a call takes, in milliseconds. */
const callMs = 1_000;

/** What a PacedSidecar is made of. */
export interface PacedSidecarParts {
  readonly authority: Authority;
  readonly clock: Clock;
  readonly random: Random;
  /** Makes UUIDs. */
  readonly newId: () => string;
  readonly journalDirectory: string;
  readonly host?: JournalHost;
  /** Secrets of the keys its calls have. */
  readonly tokens: readonly string[];
}

/**
 * A sidecar without doors and providers: the product's own keys, leases, journal and shipper, and calls that come by chance at a steady
 * rate.
 */
export class PacedSidecar {
  readonly #parts: PacedSidecarParts;
  readonly #journal: Journal;
  readonly #leases: Leases;
  readonly #shipper: Shipper;
  readonly #decisions: Decisions;
  readonly #calls = new Set<Promise<void>>();
  #cancelNext = () => {};
  #settled = 0n;
  #refused = 0;
  #failed = 0;

  constructor(parts: PacedSidecarParts) {
    this.#parts = parts;
    const { authority, host } = parts;
    const shared = { ...parts, telemetry: { log: () => {} } };
    this.#journal = new Journal({
      ...{ clock: parts.clock, newId: parts.newId, telemetry: shared.telemetry, ...(host && { host }) },
      ...{ directory: parts.journalDirectory, fsync: "none", segmentBytes: 256 * 1_024, pendingMax: 20_000 },
    });
    this.#leases = new Leases({ ...shared, authority, book: this.#journal });
    const onBooked: Leases["booked"] = (records) => this.#leases.booked(records);
    this.#shipper = new Shipper({ ...shared, journal: this.#journal, onBooked });
    this.#decisions = new Decisions({
      ...{ ...decisionDefaults, ...shared, masterKey: undefined, onModels: () => {} },
      onRecall: (budgetId) => this.#leases.recall(budgetId),
    });
    this.#shipper.start();
    this.#decisions.start();
  }

  /** Whether it has heard the KeyService. */
  get ready(): boolean {
    return this.#decisions.ready;
  }

  /** Calls that were settled, what they cost, and those that had no answer or no money. */
  get figures(): {
    readonly settled: number;
    readonly cost: bigint;
    readonly refused: number;
    readonly failed: number;
  } {
    const settled = Number(this.#settled);
    return { settled, cost: this.#settled * costNanos, refused: this.#refused, failed: this.#failed };
  }

  /** Makes calls from now on, so many a second on average. */
  pace(callsPerSecond: number): void {
    this.#cancelNext();
    const gapMs = (-Math.log(1 - this.#parts.random()) * 1_000) / callsPerSecond;
    this.#cancelNext = this.#parts.clock.after(gapMs, () => {
      const call: Promise<void> = this.#call()
        .catch(() => {
          this.#failed++;
        })
        .finally(() => this.#calls.delete(call));
      this.#calls.add(call);
      this.pace(callsPerSecond);
    });
  }

  /** Makes no more calls, waits for those under way, and brings to the KeyService what it has not got. */
  async stop(): Promise<void> {
    this.#cancelNext();
    await Promise.all(this.#calls);
    await this.#shipper.flush(30_000);
    await this.#leases.close();
    await this.#shipper.close();
    await this.#decisions.close();
    await this.#journal.close();
    await this.#parts.authority.close();
  }

  async #call(): Promise<void> {
    const { clock, random, newId, tokens } = this.#parts;
    const grant = await this.#decisions.resolve(tokens[Math.floor(random() * tokens.length)] ?? "");
    if (grant === undefined) throw new Error("The key is unknown.");
    const reservation = await this.#leases.reserve(grant.payer, reservedNanos);
    if ("budget" in reservation) {
      this.#refused++;
      return;
    }
    const { leaseId } = reservation;
    const facts = { callId: newId(), keyId: grant.keyId, leaseId, reserved: reservedNanos, startedAtMs: clock.nowMs() };
    const open = sampleOpen({ ...facts, tags: [] });
    const begun = this.#journal.appendOpen(open);
    await new Promise<void>((resolve) => clock.after(callMs, resolve));
    this.#journal.appendSettled(sampleSettled(open, { cost: costNanos, endedAtMs: clock.nowMs() }), begun);
    reservation.settle(costNanos);
    this.#settled++;
  }
}
