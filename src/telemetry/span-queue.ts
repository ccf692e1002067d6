import type { SpanExporter } from "@opentelemetry/sdk-trace";
import type { Clock } from "../clock.ts";
import type { Span } from "./span.ts";

/** What a SpanQueue is made of. */
export interface SpanQueueParts {
  readonly exporter: SpanExporter;
  readonly clock: Clock;
  /** So many spans wait; further ones are dropped. */
  readonly capacity: number;
  /** So many are encoded in one go. */
  readonly batchMax: number;
  /** The longest a span waits for company, in milliseconds. */
  readonly delayMs: number;
  /** Told when exports begin to fail, and why. */
  readonly onFailure: (reason: string) => void;
}

/** Batches under way at once: a slow collector is waited for, not piled upon. */
const exportsMax = 4;
/** What was said in spans that wait takes at most so much memory. */
const contentBytesMax = 32 * 1_048_576;
/** How long the end of a program waits for a collector, in milliseconds. */
export const closeMs = 1_000;

/**
 * Spans on their way out. Nobody ever waits for it: it takes them in no time, and what the collector does not take in time is dropped and
 * counted. They are encoded a few at a time between other work, so that no call waits long for that either.
 */
export class SpanQueue {
  readonly #parts: SpanQueueParts;
  #waiting: Span[] = [];
  #contentBytes = 0;
  #exports = 0;
  #isDue = false;
  #cancelTimer: (() => void) | undefined;
  #isFailing = false;
  #onIdle: (() => void) | undefined;
  #dropped = 0;

  constructor(parts: SpanQueueParts) {
    this.#parts = parts;
  }

  /** Spans that were given up: there was no room, or the collector did not take them. */
  get dropped(): number {
    return this.#dropped;
  }

  get length(): number {
    return this.#waiting.length;
  }

  push(span: Span): void {
    const { capacity, batchMax, clock, delayMs } = this.#parts;
    if (this.#waiting.length >= capacity) {
      this.#dropped += 1;
      return;
    }
    if (this.#contentBytes + span.contentBytes > contentBytesMax) span.shed();
    this.#contentBytes += span.contentBytes;
    this.#waiting.push(span);
    if (this.#waiting.length >= batchMax) this.#flushSoon();
    else this.#cancelTimer ??= clock.after(delayMs, () => this.#flushSoon());
  }

  /** Sends what waits, as long as the collector is not too slow, and ends the exporter. */
  async close(): Promise<void> {
    const { clock, exporter } = this.#parts;
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      clock.after(closeMs, resolve);
    });
    this.#flushSoon();
    await idle;
    if (this.#waiting.length > 0 || this.#exports > 0)
      this.#failed("the program ends, and they were not taken in time");
    this.#dropped += this.#waiting.length;
    this.#waiting = [];
    // Its own end waits for batches under way, for as long as they may take.
    const ended = exporter.shutdown().catch(() => {});
    if (this.#exports === 0) await ended;
  }

  #flushSoon(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#waiting.length === 0 || this.#exports >= exportsMax) {
      if (this.#exports === 0) this.#onIdle?.();
      return;
    }
    const batch = this.#waiting.splice(0, this.#parts.batchMax);
    for (const { contentBytes } of batch) this.#contentBytes -= contentBytes;
    this.#exports += 1;
    this.#parts.exporter.export(batch, ({ code, error }) => this.#exported(batch.length, code === 0, error));
    if (this.#waiting.length >= this.#parts.batchMax || this.#onIdle !== undefined) this.#flushSoon();
  }

  #exported(count: number, isTaken: boolean, error: Error | undefined): void {
    this.#exports -= 1;
    if (!isTaken) {
      this.#dropped += count;
      this.#failed(error?.message ?? "the collector took no spans");
    } else this.#isFailing = false;
    if (this.#waiting.length > 0) this.#flushSoon();
    else if (this.#exports === 0) this.#onIdle?.();
  }

  #failed(reason: string): void {
    if (!this.#isFailing) this.#parts.onFailure(reason);
    this.#isFailing = true;
  }
}
