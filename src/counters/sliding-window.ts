import { bucketWidthMs } from "./claims.ts";

interface Bucket {
  readonly number: number;
  amount: number;
}

/**
 * What was taken lately, in buckets. A bucket counts in full until its youngest entry is older than the window, so that no
 * span of the window's length holds more than was allowed.
 */
export class SlidingWindow {
  readonly #windowMs: number;
  readonly #widthMs: number;
  /** Oldest first. */
  readonly #buckets: Bucket[] = [];
  #used = 0;

  constructor(windowMs: number, widthMs: number = bucketWidthMs(windowMs)) {
    this.#windowMs = windowMs;
    this.#widthMs = widthMs;
  }

  /** What is in the window at `nowMs`, which must never go back. */
  used(nowMs: number): number {
    for (let oldest = this.#buckets[0]; oldest !== undefined; oldest = this.#buckets[0]) {
      if (this.#endOf(oldest) > nowMs) break;
      this.#used -= oldest.amount;
      this.#buckets.shift();
    }
    return this.#used;
  }

  /** Whether everything has aged out. */
  isEmpty(nowMs: number): boolean {
    this.used(nowMs);
    return this.#buckets.length === 0;
  }

  /** Counts `amount` and returns the number of the bucket it went to. */
  add(nowMs: number, amount: number): number {
    const number = Math.floor(nowMs / this.#widthMs);
    const newest = this.#buckets.at(-1);
    if (newest?.number === number) newest.amount += amount;
    else this.#buckets.push({ number, amount });
    this.#used += amount;
    return number;
  }

  /** Changes what a bucket holds, never below nothing. One that has aged out stays as it is: gone. */
  correct(number: number, change: number): void {
    const bucket = this.#buckets.find((candidate) => candidate.number === number);
    if (bucket === undefined) return;
    const corrected = Math.max(0, bucket.amount + change);
    this.#used += corrected - bucket.amount;
    bucket.amount = corrected;
  }

  /** How long until `excess` has aged out, in milliseconds; the whole window when there is not so much in it. */
  waitMs(nowMs: number, excess: number): number {
    let left = excess;
    for (const bucket of this.#buckets) {
      left -= bucket.amount;
      if (left <= 0) return Math.ceil(this.#endOf(bucket) - nowMs);
    }
    return this.#windowMs;
  }

  #endOf(bucket: Bucket): number {
    return (bucket.number + 1) * this.#widthMs + this.#windowMs;
  }
}
