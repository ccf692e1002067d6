import assert from "node:assert/strict";
import { test } from "node:test";
import { getHeapStatistics } from "node:v8";
import { collectAll, collectWhenQuiet, eventLoopShare } from "../../sidecar/quiet-collection.ts";
import type { Clock } from "../../src/clock.ts";

/** Until the next look it takes as long as it is told to. */
class SteppedClock implements Clock {
  readonly #tasks: (() => void)[] = [];
  readonly #delaysMs = new Set<number>();

  get delaysMs(): number[] {
    return [...this.#delaysMs];
  }

  nowMs(): number {
    return 0;
  }

  monotonicMs(): number {
    return 0;
  }

  after(delayMs: number, task: () => void): () => void {
    this.#delaysMs.add(delayMs);
    this.#tasks.push(task);
    return () => {};
  }

  step(): void {
    for (const task of this.#tasks.splice(0)) task();
  }
}

test("garbage is collected in the first quiet second, once", () => {
  const clock = new SteppedClock();
  // What was before it began does not count.
  const shares = [0, 0.9, 0.3, 0.01, 0.01];
  let collections = 0;
  collectWhenQuiet({ clock, workShare: () => shares.shift() ?? 0, collect: () => collections++ });
  const after: number[] = [];
  for (let second = 0; second < 5; second++) {
    clock.step();
    after.push(collections);
  }
  assert.deepEqual(after, [0, 0, 1, 1, 1]);
});

test("a program that is called from its start on keeps what it has compiled until it has rested for ten minutes", () => {
  const clock = new SteppedClock();
  const shares = [0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9];
  let collections = 0;
  collectWhenQuiet({ clock, workShare: () => shares.shift() ?? 0, collect: () => collections++ });
  for (let look = 0; look < 15; look++) clock.step();
  assert.equal(collections, 0);
  clock.step();
  assert.equal(collections, 1);
});

test("after each time of work garbage is collected once, when there was none for ten minutes without a break", () => {
  const clock = new SteppedClock();
  let share = 0;
  let collections = 0;
  collectWhenQuiet({ clock, workShare: () => share, collect: () => collections++ });
  const minutes = (count: number, at: number): number => {
    share = at;
    for (let minute = 0; minute < count; minute++) clock.step();
    return collections;
  };
  const afterStart = minutes(1, 0);
  const whereNothingWasDone = minutes(30, 0.01);
  minutes(1, 0.5);
  minutes(9, 0.01);
  const interrupted = minutes(1, 0.5);
  const almost = minutes(9, 0.01);
  const rested = minutes(1, 0.01);
  const longAfter = minutes(60, 0.01);
  assert.deepEqual([afterStart, whereNothingWasDone, interrupted, almost, rested, longAfter], [1, 1, 1, 1, 2, 2]);
  assert.deepEqual(clock.delaysMs, [1_000, 60_000]);
});

test("the event loop's share tells work from waiting", async () => {
  const share = eventLoopShare();
  await new Promise((resolve) => setTimeout(resolve, 1));
  share();
  const untilMs = performance.now() + 100;
  while (performance.now() < untilMs);
  await new Promise((resolve) => setTimeout(resolve, 1));
  const atWork = share();
  await new Promise((resolve) => setTimeout(resolve, 300));
  const waiting = share();
  assert.ok(atWork > 0.5, `at work: ${atWork}`);
  assert.ok(waiting < 0.3, `waiting: ${waiting}`);
});

test("a collection gives memory back, and leaves no function to collect with", () => {
  let garbage: unknown = Array.from({ length: 500_000 }, (_, index) => ({ index }));
  const before = getHeapStatistics().used_heap_size;
  assert.ok(garbage);
  garbage = undefined;
  collectAll();
  assert.ok(getHeapStatistics().used_heap_size < before - 10_000_000);
  assert.equal("gc" in globalThis, false);
});
