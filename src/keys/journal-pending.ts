import type { SpendRecord } from "./authority.ts";
import { type OpenAttempt, readLines } from "./journal-line.ts";
import type { JournalSegment } from "./journal-segment.ts";

/** Read from a segment at once, in bytes: a few milliseconds' work. */
const chunkBytes = 256 * 1024;

/** Told of bytes that are no line, and where they stand. */
export type OnDamage = (segment: JournalSegment, start: number, bytes: Buffer) => void;

/** A record that waits for the KeyService, and the segment that must stay until it is confirmed. */
export interface PendingRecord {
  readonly record: SpendRecord;
  /** Undefined: it could not be written and is only in memory. */
  readonly segment: JournalSegment | undefined;
  /** Its beginning, if that is all that is written of it. */
  readonly open?: OpenAttempt | undefined;
}

/**
 * Records that wait for the KeyService, oldest first. The first so many are in memory; when there are more, the rest are read
 * again from their files when their turn comes.
 */
export class JournalPending {
  readonly #memoryMax: number;
  readonly #onDamage: OnDamage;
  readonly #memory: PendingRecord[] = [];
  /** Where the first record that is not in memory is to be looked for. */
  #cursor: { readonly segment: JournalSegment; readonly start: number } | undefined;
  #onDisk = 0;

  /** @param onDamage told of every stretch of a segment that cannot be read any more. */
  constructor(memoryMax: number, onDamage: OnDamage) {
    this.#memoryMax = memoryMax;
    this.#onDamage = onDamage;
  }

  get count(): number {
    return this.#memory.length + this.#onDisk;
  }

  /** A record that was written to `segment` at `start`. */
  push(record: SpendRecord, segment: JournalSegment, start: number): void {
    segment.unacked++;
    if (this.#cursor === undefined && this.#memory.length < this.#memoryMax) {
      this.#memory.push({ record, segment });
      return;
    }
    this.#cursor ??= { segment, start };
    this.#onDisk++;
  }

  /** A record that is in no file. @param segment must stay until it is confirmed, if any. @param open its beginning, if that is in one of ours. */
  keep(record: SpendRecord, segment: JournalSegment | undefined, open?: OpenAttempt): void {
    if (segment !== undefined) segment.unacked++;
    this.#memory.push({ record, segment, open });
  }

  /** There are `count` more records in segments, from the start of `first` on. Only while nothing else is on disk alone. */
  addFiles(first: JournalSegment, count: number): void {
    this.#cursor = { segment: first, start: 0 };
    this.#onDisk = count;
  }

  /**
   * The oldest records.
   *
   * @param segments all segments, oldest first.
   */
  peek(max: number, segments: readonly JournalSegment[]): readonly PendingRecord[] {
    while (this.#memory.length < max && this.#cursor !== undefined) this.#load(segments);
    return this.#memory.slice(0, max);
  }

  /** The oldest record, if it is in memory. */
  get oldest(): SpendRecord | undefined {
    return this.#memory[0]?.record;
  }

  /** The first `count` are confirmed. */
  drop(count: number): readonly PendingRecord[] {
    const dropped = this.#memory.splice(0, count);
    for (const { segment } of dropped) {
      if (segment !== undefined) segment.unacked--;
    }
    return dropped;
  }

  #load(segments: readonly JournalSegment[]): void {
    if (this.#cursor === undefined) return;
    const { segment, start } = this.#cursor;
    // A segment that is gone had nothing to wait for, and so had those before it.
    let position = segments.includes(segment) ? start : segment.size;
    for (let length = chunkBytes; position === start && position < segment.size; length *= 2) {
      const whole = start + length >= segment.size;
      for (const line of readLines(segment.read(start, length), whole)) {
        position = start + line.end;
        if ("damage" in line) this.#onDamage(segment, start + line.start, line.damage);
        else if (line.entry.type === "settled") {
          this.#memory.push({ record: line.entry.record, segment });
          this.#onDisk--;
        }
      }
      if (whole) position = segment.size;
    }
    const next = segments[segments.indexOf(segment) + 1];
    if (position < segment.size) this.#cursor = { segment, start: position };
    else this.#cursor = next && { segment: next, start: 0 };
    if (this.#cursor === undefined) this.#onDisk = 0;
  }
}
