import { join } from "node:path";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";
import { Roster } from "../roster.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { SpendRecord } from "./authority.ts";
import { type JournalHost, thisMachine } from "./journal-host.ts";
import {
  type JsonPieces,
  jsonOf,
  LineBuffer,
  type OpenAttempt,
  type OpenRecord,
  openJson,
  openMembers,
  settledJson,
  unconfirmed,
  writeLine,
} from "./journal-line.ts";
import { type JournalOwner, nameSegment, nobody } from "./journal-owner.ts";
import { JournalPending } from "./journal-pending.ts";
import { type Recovered, recover } from "./journal-recovery.ts";
import { JournalSegment } from "./journal-segment.ts";
import type { LeaseBook } from "./lease-borrowing.ts";

const syncIntervalMs = 200;

/** What a Journal is made of. */
export interface JournalParts {
  /** Made if missing. Processes of one PID namespace may share it. */
  readonly directory: string;
  readonly clock: Clock;
  readonly telemetry: Pick<Telemetry, "log">;
  /** Makes UUIDs. */
  readonly newId: () => string;
  /**
   * When lines survive the machine, not only this process: when the kernel likes ("none"), within 200 ms, or before the call
   * goes on ("always").
   */
  readonly fsync: "none" | "interval" | "always";
  /** A segment is followed by the next at about this size, in bytes. */
  readonly segmentBytes: number;
  /** Waiting records kept in memory; more are read again from their files. */
  readonly pendingMax: number;
  /** Whose disk it is on; this machine's unless said otherwise. */
  readonly host?: JournalHost;
}

/** Values for those who have no reason for others. */
export const journalDefaults = { fsync: "interval", segmentBytes: 8 * 1024 * 1024, pendingMax: 20_000 } as const;

/** The journal in figures. */
export interface JournalStats {
  /** Records the KeyService has not confirmed. */
  readonly pending: number;
  /** How long ago the oldest of them ended, in milliseconds. */
  readonly oldestAgeMs: number;
  readonly segments: number;
  readonly bytes: number;
  /** Since the start: stretches of bytes that could not be read. */
  readonly damaged: number;
  /** Since the start: writes that failed. */
  readonly failures: number;
  /** At the start: attempts of dead owners whose end nobody saw. */
  readonly unconfirmed: number;
}

/**
 * What calls cost, on the pod's disk before the world is told: an attempt is written down before the provider is called, and
 * what it cost before the last byte leaves. What a dead process has left here is booked by the next.
 */
export class Journal implements LeaseBook {
  readonly #parts: JournalParts;
  readonly #host: JournalHost;
  readonly #owner: JournalOwner;
  readonly #pending: JournalPending;
  /** Oldest first; the last is written to, unless it is sealed. */
  readonly #segments: JournalSegment[] = [];
  readonly #lines = new LineBuffer();
  /** Their lines must outlive their segment, and so must those of open leases. */
  readonly #openAttempts = new Roster<OpenAttempt>();
  /** By id, each as JSON. */
  readonly #openLeases = new Map<string, JsonPieces>();
  readonly #damage = new Set<string>();
  readonly #unconfirmed: number;
  #sequence: number;
  /** The size at which the last segment is followed by another. */
  #rotateAt = 0;
  #failures = 0;
  #failing = false;
  #cancelSync: (() => void) | undefined;
  /** Told when a record begins to wait for the KeyService. */
  onSettled: (() => void) | undefined = undefined;
  /** Leases of dead owners, and what is still to be booked on each. */
  readonly formerLeases: ReadonlyMap<string, Nanos>;

  /** @throws the system's error if the directory cannot be made or read. */
  constructor(parts: JournalParts) {
    this.#parts = parts;
    this.#host = parts.host ?? thisMachine;
    this.#host.makeDirectory(parts.directory);
    this.#owner = this.#host.owner(parts.newId().slice(-12));
    const onDamage = (segment: JournalSegment, start: number, bytes: Buffer) => this.#report(segment, start, bytes);
    this.#pending = new JournalPending(parts.pendingMax, onDamage);
    const recovered = recover(this.#host, parts.directory, this.#owner, onDamage);
    this.#sequence = recovered.segments.length;
    this.#unconfirmed = recovered.opens.length;
    this.formerLeases = new Map([...recovered.leases].map(([leaseId, { unbooked }]) => [leaseId, unbooked]));
    this.#adopt(recovered);
  }

  #adopt({ segments, settledCount, opens, leases }: Recovered): void {
    this.#segments.push(...segments);
    for (const [leaseId, { json }] of leases) this.#openLeases.set(leaseId, json);
    const nowMs = this.#parts.clock.nowMs();
    for (const { record, segment } of opens) this.#pending.keep(unconfirmed(record, nowMs), segment);
    const [first] = segments;
    if (first === undefined) return;
    if (settledCount > 0) this.#pending.addFiles(first, settledCount);
    this.#log("info", "Took over the journal of a process that is gone.", {
      segments: segments.length,
      settled: settledCount,
      unconfirmed: opens.length,
      leases: leases.size,
    });
    try {
      // The dead may have written the last of it just before.
      if (this.#parts.fsync !== "none") for (const { path } of segments) this.#host.sync(path);
      // Carries open leases on, so that segments with nothing to wait for can go.
      this.#rotate();
    } catch (error) {
      this.#failed(error);
    }
  }

  /**
   * Writes down that an attempt begins. After it, the provider may be called.
   *
   * @returns what its end is to be written down with.
   * @throws GatewayError journal_unavailable if it cannot be written; then nothing may be spent.
   */
  appendOpen(record: OpenRecord): OpenAttempt {
    const members = openMembers(record);
    this.#append(this.#lines.lineOf(openJson(members)));
    const attempt: OpenAttempt = { members, rosterIndex: undefined };
    this.#openAttempts.add(attempt);
    return attempt;
  }

  /**
   * Writes down what an attempt has cost, and has it shipped.
   *
   * @param open how it began; undefined: nothing was written down then.
   * @returns false if it could not be written. It is shipped from memory all the same; should the process die before, the
   * attempt is booked at what it had reserved.
   */
  appendSettled(record: SpendRecord, open: OpenAttempt | undefined): boolean {
    let written = true;
    const members = open?.members ?? openMembers(record);
    try {
      const { segment, start } = this.#append(this.#lines.lineOf(settledJson(members, record)));
      if (open !== undefined) this.#openAttempts.delete(open);
      this.#pending.push(record, segment, start);
    } catch {
      written = false;
      this.#pending.keep(record, undefined, open);
    }
    this.onSettled?.();
    return written;
  }

  leaseOpened(leaseId: string, keyId: string): void {
    const json = jsonOf({ type: "lease-opened", leaseId, keyId });
    this.#append(this.#lines.lineOf(json));
    this.#openLeases.set(leaseId, json);
  }

  leaseClosed(leaseId: string): void {
    this.#openLeases.delete(leaseId);
    try {
      this.#append(this.#lines.lineOf(jsonOf({ type: "lease-closed", leaseId })));
    } catch {
      // Counted and logged; the next start closes the lease once more, which does no harm.
    }
  }

  /** How many records wait for the KeyService. */
  get pendingCount(): number {
    return this.#pending.count;
  }

  /** The oldest records that wait. @throws the system's error if they cannot be read. */
  peek(max: number): readonly SpendRecord[] {
    return this.#pending.peek(max, this.#segments).map(({ record }) => record);
  }

  /** The KeyService has the `count` oldest. */
  ack(count: number): void {
    for (const { open } of this.#pending.drop(count)) {
      if (open !== undefined) this.#openAttempts.delete(open);
    }
    const last = this.#segments.at(-1);
    // A segment full of confirmed records is of no use to the next start.
    if (
      this.#pending.count === 0 &&
      last !== undefined &&
      last.size >= this.#rotateAt - (this.#parts.segmentBytes * 3) / 4
    ) {
      try {
        this.#rotate();
      } catch (error) {
        this.#failed(error);
      }
    }
    this.#purge();
  }

  /** Puts a record the KeyService will never take into `rejected.log`, for a human. */
  park(record: SpendRecord, error: unknown): void {
    const { callId, attempt, keyId, cost } = record;
    this.#log("error", "The KeyService rejected a spend record for good; it is kept in rejected.log.", {
      callId,
      attempt,
      keyId,
      costNanos: cost.toString(),
      error,
    });
    this.#keepFor("rejected.log", writeLine({ type: "settled", record }));
  }

  stats(): JournalStats {
    const { oldest } = this.#pending;
    return {
      pending: this.#pending.count,
      oldestAgeMs: oldest === undefined ? 0 : Math.max(0, this.#parts.clock.nowMs() - oldest.endedAtMs),
      segments: this.#segments.length,
      bytes: this.#segments.reduce((sum, segment) => sum + segment.size, 0),
      damaged: this.#damage.size,
      failures: this.#failures,
      unconfirmed: this.#unconfirmed,
    };
  }

  /** Hands over to whoever opens the directory next; with nothing left to do, the files go. */
  async close(): Promise<void> {
    this.#cancelSync?.();
    const last = this.#segments.at(-1);
    if (last !== undefined && this.#parts.fsync !== "none")
      await new Promise<void>((done) => last.syncSoon(() => done()));
    const finished = this.#pending.count + this.#openAttempts.size + this.#openLeases.size === 0;
    const next = nobody(this.#owner.nonce);
    for (const [index, segment] of this.#segments.entries()) {
      segment.seal();
      if (finished) segment.remove();
      else this.#host.rename(segment.path, join(this.#parts.directory, nameSegment(next, index + 1)));
    }
    this.#segments.length = 0;
  }

  #append(line: Buffer): { segment: JournalSegment; start: number } {
    try {
      const last = this.#segments.at(-1);
      const segment = last === undefined || last.isSealed || last.size >= this.#rotateAt ? this.#rotate() : last;
      const start = segment.append(line, this.#parts.fsync === "always");
      if (this.#parts.fsync === "interval") this.#syncLater();
      if (this.#failing) this.#log("info", "The journal can be written again.");
      this.#failing = false;
      return { segment, start };
    } catch (error) {
      this.#failed(error);
      throw new GatewayError("journal_unavailable", "Spend cannot be recorded at the moment, so nothing is spent.", {
        cause: error,
      });
    }
  }

  /** Begins a new segment with the lines that must live on. */
  #rotate(): JournalSegment {
    const { directory, fsync, segmentBytes } = this.#parts;
    const segment = JournalSegment.create(this.#host, join(directory, nameSegment(this.#owner, this.#sequence + 1)));
    try {
      const lines = this.#openLines();
      if (lines.length > 0) segment.append(lines, fsync !== "none");
      if (fsync !== "none") this.#host.sync(directory);
    } catch (error) {
      segment.remove();
      throw error;
    }
    this.#sequence++;
    const last = this.#segments.at(-1);
    if (fsync !== "none") last?.syncSoon((error) => error && this.#failed(error));
    last?.seal();
    this.#segments.push(segment);
    this.#rotateAt = segment.size + segmentBytes;
    this.#purge();
    return segment;
  }

  #openLines(): Buffer {
    const entries = [...this.#openLeases.values(), ...this.#openAttempts.all().map(({ members }) => openJson(members))];
    const lines = new LineBuffer();
    return Buffer.concat(entries.map((json) => Buffer.from(lines.lineOf(json))));
  }

  /** Removes the oldest segments while nothing in them is waited for. */
  #purge(): void {
    for (
      let [first, second] = this.#segments;
      first?.unacked === 0 && second !== undefined;
      [first, second] = this.#segments
    ) {
      this.#segments.shift();
      try {
        first.remove();
      } catch (error) {
        this.#log("warn", "A finished segment of the journal could not be removed.", { error });
      }
    }
  }

  #syncLater(): void {
    this.#cancelSync ??= this.#parts.clock.after(syncIntervalMs, () => {
      this.#cancelSync = undefined;
      const last = this.#segments.at(-1);
      last?.syncSoon((error) => {
        if (error === null) return;
        // What the kernel has lost it will not report twice: no more lines into this file.
        last.seal();
        this.#failed(error);
      });
    });
  }

  #failed(error: unknown): void {
    this.#failures++;
    if (!this.#failing)
      this.#log("error", "The journal cannot be written; calls that cost money are refused.", { error });
    this.#failing = true;
  }

  #report(segment: JournalSegment, start: number, bytes: Buffer): void {
    const place = `${segment.path}:${start}`;
    if (this.#damage.has(place)) return;
    this.#damage.add(place);
    this.#log("error", "A line of the journal is damaged; its bytes are kept in damaged.log.", {
      segment: segment.path,
      start,
      bytes: bytes.length,
    });
    const line = { segment: segment.path, start, base64: bytes.toString("base64") };
    this.#keepFor("damaged.log", Buffer.from(`${JSON.stringify(line)}\n`));
  }

  #keepFor(file: string, line: Buffer): void {
    try {
      this.#host.append(join(this.#parts.directory, file), line);
    } catch (error) {
      this.#log("error", `Could not write ${file}.`, { error });
    }
  }

  #log(level: "info" | "warn" | "error", message: string, facts?: Readonly<Record<string, unknown>>): void {
    this.#parts.telemetry.log(level, message, facts);
  }
}
