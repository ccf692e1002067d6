/** Virtual time, chance from a seed, and the order in which things happen. */

import type { Clock, Random } from "../../src/clock.ts";

/** Wall-clock time at the start of every run: a Wednesday, 23:59:40 UTC, so that a day ends soon. */
export const epochMs = Date.UTC(2027, 5, 16, 23, 59, 40);

/** Chance from a seed (sfc32). */
export class Dice {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    this.#a = 0x9e3779b9;
    this.#b = 0x243f6a88;
    this.#c = seed >>> 0;
    for (let round = 0; round < 12; round++) this.#next();
  }

  #next(): number {
    const sum = (this.#a + this.#b + this.#counter++) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** In [0, 1). */
  readonly random: Random = () => this.#next() / 2 ** 32;

  /** Whether something of this probability happens. */
  happens(probability: number): boolean {
    return this.random() < probability;
  }

  /** A whole number from `min` to `max`, both included. */
  whole(min: number, max: number): number {
    return min + Math.floor(this.random() * (max - min + 1));
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[Math.floor(this.random() * items.length)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  }

  readonly newId = (): string => {
    const words = [this.#next(), this.#next(), this.#next(), this.#next()];
    const hex = words.map((word) => word.toString(16).padStart(8, "0")).join("");
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
  };
}

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly what: string;
  /** Undefined once cancelled. */
  run: (() => void) | undefined;
}

/** What happens, and when. One event at a time; all that it sets off at once is over before the next. */
export class World {
  readonly dice: Dice;
  /** True time since the start, in milliseconds. */
  nowMs = 0;
  eventCount = 0;
  /** Told of each thing worth telling, if anybody wants to know. */
  onTell: ((line: string) => void) | undefined;
  #hash = 0x811c9dc5;
  #order = 0;
  readonly #heap: Event[] = [];

  constructor(seed: number) {
    this.dice = new Dice(seed);
  }

  /** The same for two runs in which the same things happened at the same times. */
  get traceHash(): number {
    return this.#hash >>> 0;
  }

  /** Puts something on record. Costs nothing to speak of unless somebody listens. */
  tell(what: string, facts?: () => string): void {
    this.#mix(what);
    this.onTell?.(`${this.nowMs.toFixed(1).padStart(9)} ${what}${facts === undefined ? "" : ` ${facts()}`}`);
  }

  #mix(text: string): void {
    let hash = this.#hash ^ (this.nowMs * 1024);
    for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
    this.#hash = hash;
  }

  /** Lets `run` happen. @returns what cancels it. */
  after(delayMs: number, what: string, run: () => void): () => void {
    const event: Event = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, what, run };
    this.#push(event);
    return () => {
      event.run = undefined;
    };
  }

  /**
   * Lets things happen until `endMs`, or until there is nothing more.
   *
   * @param afterEach called when all that an event set off at once is over; returns whether to stop.
   */
  async runUntil(endMs: number, afterEach: () => boolean): Promise<void> {
    await quiet();
    for (let event = this.#heap[0]; event !== undefined && event.atMs <= endMs; event = this.#heap[0]) {
      this.#pop();
      const { run } = event;
      if (run === undefined) continue;
      this.nowMs = event.atMs;
      this.eventCount++;
      this.#mix(event.what);
      run();
      await quiet();
      if (afterEach()) return;
    }
    this.nowMs = Math.max(this.nowMs, endMs);
  }

  #before(a: Event, b: Event): boolean {
    return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let place = heap.push(event) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = heap[parent] as Event;
      if (!this.#before(event, above)) break;
      heap[place] = above;
      place = parent;
    }
    heap[place] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#before(heap[child + 1] as Event, heap[child] as Event)) child++;
      if (!this.#before(heap[child] as Event, last)) break;
      heap[place] = heap[child] as Event;
      place = child;
    }
    heap[place] = last;
  }
}

/** Until no promise is left that can go on: a tick asked for from a microtask comes when all microtasks are done. */
function quiet(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

/** One process's idea of time. Its timers die with it. */
export class ProcessClock implements Clock {
  readonly #world: World;
  readonly #what: string;
  readonly #rate: number;
  readonly #bornMs: number;
  /** By how much its wall clock is wrong. */
  offsetMs: number;
  alive = true;

  /** @param parts `rate`: how fast its quartz is, about 1. */
  constructor(world: World, parts: { what: string; offsetMs: number; rate: number }) {
    this.#world = world;
    this.#what = parts.what;
    this.#rate = parts.rate;
    this.#bornMs = world.nowMs;
    this.offsetMs = parts.offsetMs;
  }

  nowMs(): number {
    return Math.floor(epochMs + this.#world.nowMs + this.offsetMs);
  }

  monotonicMs(): number {
    return 1_000 + (this.#world.nowMs - this.#bornMs) * this.#rate;
  }

  after(delayMs: number, task: () => void): () => void {
    // No timer of Node's is shorter than a millisecond.
    return this.#world.after(Math.max(1, delayMs) / this.#rate, this.#what, () => {
      if (this.alive) task();
    });
  }
}
