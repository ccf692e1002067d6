import { type ActiveSpan, activeSpan, withinSpans } from "../active-span.ts";

/** What one piece of work is done for together, and how much. */
export interface TogetherParts<Item, Result> {
  /** Does it for all or for none, and gives a result for each. */
  readonly work: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** How heavy an item is. */
  readonly weigh: (item: Item) => number;
  /** The most that is done together, unless a single item is heavier. */
  readonly weightMax: number;
  /** How often the work may be under way at the same time. */
  readonly atOnce: number;
  /** Whether what failed was the fault of none of the items, so that they would fail one by one as well. */
  readonly failsAll: (error: unknown) => boolean;
}

interface Waiting<Item, Result> {
  readonly item: Item;
  /** What it is part of, if that is traced. */
  readonly span: ActiveSpan | undefined;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Does work for many at once when there is much of it, and at once when there is little: what arrives while work is under way waits, and
 * is done together.
 */
export class Together<Item, Result> {
  readonly #parts: TogetherParts<Item, Result>;
  readonly #waiting: Waiting<Item, Result>[] = [];
  #running = 0;

  constructor(parts: TogetherParts<Item, Result>) {
    this.#parts = parts;
  }

  /** @throws what the work throws for this item. */
  run(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, span: activeSpan(), resolve, reject });
      void this.#start();
    });
  }

  async #start(): Promise<void> {
    if (this.#running === this.#parts.atOnce) return;
    this.#running++;
    for (let group = this.#next(); group.length > 0; group = this.#next()) await this.#carryOut(group);
    this.#running--;
  }

  /** Those that have waited longest. */
  #next(): Waiting<Item, Result>[] {
    const { weigh, weightMax } = this.#parts;
    let weight = 0;
    let count = 0;
    for (const { item } of this.#waiting) {
      weight += weigh(item);
      if (count > 0 && weight > weightMax) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  /** One that cannot be done does not keep the others from it. */
  async #carryOut(group: readonly Waiting<Item, Result>[]): Promise<void> {
    try {
      const spans = group.flatMap(({ span }) => span ?? []);
      const results = await withinSpans(spans, () => this.#parts.work(group.map(({ item }) => item)));
      for (const [index, { resolve }] of group.entries()) resolve(results[index] as Result);
    } catch (error) {
      if (group.length === 1 || this.#parts.failsAll(error)) for (const { reject } of group) reject(error);
      else for (const one of group) await this.#carryOut([one]);
    }
  }
}
