/**
 * How many to send at once to a service that rejects a whole batch for one bad item: halved until the bad one stands alone,
 * doubled again as batches go through.
 */
export class BatchSize {
  readonly #max: number;
  #current: number;

  constructor(max: number) {
    this.#max = max;
    this.#current = max;
  }

  get current(): number {
    return this.#current;
  }

  accepted(): void {
    this.#current = Math.min(this.#max, this.#current * 2);
  }

  /** @returns whether the batch, of `size` items, was the culprit alone; if not, a smaller one is next. */
  rejected(size: number): boolean {
    if (size <= 1) return true;
    this.#current = Math.ceil(size / 2);
    return false;
  }
}
