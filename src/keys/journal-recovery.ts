import { join } from "node:path";
import type { Nanos } from "../money.ts";
import type { SpendRecord } from "./authority.ts";
import type { JournalHost } from "./journal-host.ts";
import { type JournalEntry, type JsonPieces, jsonOf, type OpenRecord, readLines } from "./journal-line.ts";
import { type JournalOwner, nameSegment, parseSegmentName } from "./journal-owner.ts";
import type { OnDamage } from "./journal-pending.ts";
import { JournalSegment } from "./journal-segment.ts";

/** What dead owners have left behind. */
export interface Recovered {
  /** Their segments, now ours, oldest first. `unacked` counts the settled records in each. */
  readonly segments: readonly JournalSegment[];
  readonly settledCount: number;
  /** Attempts nobody saw the end of, and the segment each is in. */
  readonly opens: readonly { readonly record: OpenRecord; readonly segment: JournalSegment }[];
  /** Leases that were not closed: their entries, to be carried on, and what is still to be booked on each. */
  readonly leases: ReadonlyMap<string, { readonly json: JsonPieces; readonly unbooked: Nanos }>;
}

/** Names one attempt. */
function attemptKey(record: Pick<SpendRecord, "callId" | "attempt">): string {
  return `${record.callId}/${record.attempt}`;
}

/**
 * Takes over the segments of dead owners: each is claimed by renaming it, which one of several processes can do.
 *
 * @throws the system's error if the directory cannot be read.
 */
export function recover(host: JournalHost, directory: string, owner: JournalOwner, onDamage: OnDamage): Recovered {
  const reading = new Reading(onDamage);
  let sequence = 0;
  for (const name of deadSegments(host, directory)) {
    const path = join(directory, nameSegment(owner, sequence + 1));
    try {
      host.rename(join(directory, name), path);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") continue;
      throw error;
    }
    sequence++;
    reading.read(JournalSegment.sealed(host, path, host.stat(path)?.size ?? 0));
  }
  return reading.result();
}

/** Names of segments whose owners are dead, oldest first. */
function deadSegments(host: JournalHost, directory: string): readonly string[] {
  const dead: { name: string; sequence: number; writtenMs: number }[] = [];
  for (const name of host.list(directory)) {
    const parsed = parseSegmentName(name);
    if (parsed === undefined || host.isAlive(parsed.owner)) continue;
    const writtenMs = host.stat(join(directory, name))?.mtimeMs;
    if (writtenMs !== undefined) dead.push({ name, sequence: parsed.sequence, writtenMs });
  }
  dead.sort((a, b) => a.writtenMs - b.writtenMs || a.sequence - b.sequence);
  return dead.map(({ name }) => name);
}

class Reading {
  readonly #onDamage: OnDamage;
  readonly #segments: JournalSegment[] = [];
  readonly #opens = new Map<string, { record: OpenRecord; segment: JournalSegment }>();
  /** Ends whose beginnings have not been seen (yet). */
  readonly #settledAlone = new Set<string>();
  readonly #leases = new Map<string, JsonPieces>();
  readonly #closedAlone = new Set<string>();
  readonly #unbooked = new Map<string, Nanos>();
  #settledCount = 0;

  constructor(onDamage: OnDamage) {
    this.#onDamage = onDamage;
  }

  read(segment: JournalSegment): void {
    this.#segments.push(segment);
    for (const line of readLines(segment.read(0, segment.size), true)) {
      if ("damage" in line) this.#onDamage(segment, line.start, line.damage);
      else this.#note(line.entry, segment);
    }
  }

  #note(entry: JournalEntry, segment: JournalSegment): void {
    switch (entry.type) {
      case "open": {
        const key = attemptKey(entry.record);
        if (!this.#settledAlone.has(key)) this.#opens.set(key, { record: entry.record, segment });
        return;
      }
      case "settled": {
        const key = attemptKey(entry.record);
        if (!this.#opens.delete(key)) this.#settledAlone.add(key);
        segment.unacked++;
        this.#settledCount++;
        this.#owe(entry.record.leaseId, entry.record.cost);
        return;
      }
      case "lease-opened":
        if (!this.#closedAlone.has(entry.leaseId)) this.#leases.set(entry.leaseId, jsonOf(entry));
        return;
      case "lease-closed":
        if (!this.#leases.delete(entry.leaseId)) this.#closedAlone.add(entry.leaseId);
    }
  }

  #owe(leaseId: string, cost: Nanos): void {
    this.#unbooked.set(leaseId, (this.#unbooked.get(leaseId) ?? 0n) + cost);
  }

  result(): Recovered {
    for (const { record } of this.#opens.values()) this.#owe(record.leaseId, record.reserved);
    const leases = new Map<string, { json: JsonPieces; unbooked: Nanos }>();
    for (const [leaseId, json] of this.#leases)
      leases.set(leaseId, { json, unbooked: this.#unbooked.get(leaseId) ?? 0n });
    return { segments: this.#segments, settledCount: this.#settledCount, opens: [...this.#opens.values()], leases };
  }
}
