import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import type { Clock } from "../clock.ts";
import type { Span } from "./span.ts";
import { type SpanBatch, SpanEncoder } from "./span-encoder.ts";

/** Whom spans are sent to. OpenTelemetry's exporters are such. */
export interface SpanExporter {
  /** @param done told how it went; 0: they were taken. */
  export(batch: SpanBatch, done: (result: { readonly code: number; readonly error?: Error }) => void): void;
  shutdown(): Promise<void>;
}

/** What a SpanQueue is made of. */
export interface SpanQueueParts {
  readonly exporter: SpanExporter;
  /** A span as the exporter's destination is to see it. */
  readonly shown: (span: Span) => ReadableSpan;
  readonly clock: Clock;
  /** So many spans wait; further ones are dropped. */
  readonly capacity: number;
  /** So many are encoded, and sent, in one go. */
  readonly batchMax: number;
  /** The longest a span waits for company, in milliseconds. */
  readonly delayMs: number;
  /** Told when exports begin to fail, and why. */
  readonly onFailure: (reason: string) => void;
}

/** Batches under way at once: a slow collector is waited for, not piled upon. */
const exportsMax = 4;
/** A batch is sent when it has grown to this: many collectors take no more than four mebibytes by gRPC. */
const batchBytesMax = 2 * 1_048_576;
/** Spans that wait, and what was said in them, take at most about so much memory. */
const bytesMax = 32 * 1_048_576;
/** How long the end of a program waits for a collector, in milliseconds. */
export const closeMs = 1_000;

/**
 * Spans on their way out. Nobody ever waits for it: it takes them in no time, and what the collector does not take in time is dropped and
 * counted. They are encoded a few at a time between other work, so that no call waits long for that, and soon: as objects that outlive
 * their call they would cost more, by the garbage collector's work, than all the rest of tracing.
 */
export class SpanQueue {
  readonly #parts: SpanQueueParts;
  readonly #encoder = new SpanEncoder();
  /** Not encoded yet. */
  #fresh: Span[] = [];
  #contentBytes = 0;
  /** Not sent yet. */
  #batches: SpanBatch[] = [];
  #batchedCount = 0;
  #batchedBytes = 0;
  #exports = 0;
  #isDue = false;
  #cancelTimer: (() => void) | undefined;
  #isFailing = false;
  #onIdle: (() => void) | undefined;
  #dropped = 0;
  readonly #encodeDue = () => {
    this.#isDue = false;
    this.#encode();
  };

  constructor(parts: SpanQueueParts) {
    this.#parts = parts;
  }

  /** Spans that were given up: there was no room, or the collector did not take them. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Spans that wait. */
  get length(): number {
    return this.#fresh.length + this.#encoder.count + this.#batchedCount;
  }

  push(span: Span): void {
    if (this.length >= this.#parts.capacity) {
      this.#dropped += 1;
      return;
    }
    const waitingBytes = this.#contentBytes + this.#encoder.bytes + this.#batchedBytes;
    if (span.contentBytes > 0 && waitingBytes + span.contentBytes > bytesMax) span.shed();
    this.#contentBytes += span.contentBytes;
    this.#fresh.push(span);
    this.#encodeSoon();
  }

  /** Sends what waits, as long as the collector is not too slow, and ends the exporter. */
  async close(): Promise<void> {
    const { clock, exporter } = this.#parts;
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      clock.after(closeMs, resolve);
    });
    this.#encodeSoon();
    await idle;
    if (this.length > 0 || this.#exports > 0) this.#failed("the program ends, and they were not taken in time");
    this.#dropped += this.length;
    this.#batches = [];
    this.#batchedCount = 0;
    // Its own end waits for batches under way, for as long as they may take.
    const ended = exporter.shutdown().catch(() => {});
    if (this.#exports === 0) await ended;
  }

  #encodeSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(this.#encodeDue);
  }

  #encode(): void {
    const { batchMax, shown, clock, delayMs } = this.#parts;
    const encoder = this.#encoder;
    let spans = this.#fresh;
    if (spans.length <= batchMax) this.#fresh = [];
    else spans = spans.splice(0, batchMax);
    for (const span of spans) {
      this.#contentBytes -= span.contentBytes;
      encoder.add(shown(span));
      if (encoder.count >= batchMax || encoder.bytes >= batchBytesMax) this.#pack();
    }
    if (this.#fresh.length > 0) this.#encodeSoon();
    else if (this.#onIdle !== undefined) this.#pack();
    else if (encoder.count > 0) this.#cancelTimer ??= clock.after(delayMs, () => this.#pack());
  }

  /** Makes a batch of what there is, and sends it when its turn comes. */
  #pack(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#encoder.count > 0) {
      const batch = this.#encoder.take();
      this.#batches.push(batch);
      this.#batchedCount += batch.count;
      this.#batchedBytes += batch.bytes.length;
    }
    this.#send();
  }

  #send(): void {
    while (this.#exports < exportsMax) {
      const batch = this.#batches.shift();
      if (batch === undefined) break;
      this.#batchedCount -= batch.count;
      this.#batchedBytes -= batch.bytes.length;
      this.#exports += 1;
      this.#parts.exporter.export(batch, ({ code, error }) => this.#exported(batch.count, code === 0, error));
    }
    if (this.#exports === 0 && this.length === 0) this.#onIdle?.();
  }

  #exported(count: number, isTaken: boolean, error: Error | undefined): void {
    this.#exports -= 1;
    if (!isTaken) {
      this.#dropped += count;
      this.#failed(error?.message ?? "the collector took no spans");
    } else this.#isFailing = false;
    this.#send();
  }

  #failed(reason: string): void {
    if (!this.#isFailing) this.#parts.onFailure(reason);
    this.#isFailing = true;
  }
}
