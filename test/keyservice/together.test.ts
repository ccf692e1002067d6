import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { clientSpan, withinSpan } from "../../src/active-span.ts";
import { Together } from "../../src/keyservice/together.ts";
import { idOf, linksOf, TracedCalls } from "../traced-calls.ts";

/** Doubles numbers, when told to go on; negative ones it cannot. */
class Doubling {
  readonly groups: (readonly number[])[] = [];
  readonly #held: (() => void)[] = [];
  readonly together: Together<number, number>;

  constructor(atOnce: number, failsAll = false) {
    this.together = new Together({
      work: async (items: readonly number[]) => {
        this.groups.push(items);
        await new Promise<void>((resolve) => this.#held.push(resolve));
        if (items.some((item) => item < 0)) throw new Error(`cannot: ${items}`);
        return items.map((item) => item * 2);
      },
      weigh: (item) => Math.abs(item),
      weightMax: 10,
      atOnce,
      failsAll: () => failsAll,
    });
  }

  /** Lets all work go on until nothing is held any more. */
  async goOn(): Promise<void> {
    while (this.#held.length > 0) {
      for (const resolve of this.#held.splice(0)) resolve();
      await new Promise(setImmediate);
    }
  }
}

describe("work done together", () => {
  test("begins at once, and takes what has come meanwhile in one go, in order", async () => {
    const { together, groups, ...doubling } = stage(1);
    const results = Promise.all([1, 2, 3, 4].map((item) => together.run(item)));
    await doubling.goOn();
    assert.deepEqual(await results, [2, 4, 6, 8]);
    assert.deepEqual(groups, [[1], [2, 3, 4]]);
  });

  test("is under way as often as it may be, and never heavier than it may be but for one heavy item", async () => {
    const { together, groups, ...doubling } = stage(2);
    const results = Promise.all([1, 2, 6, 4, 5, 30, 1].map((item) => together.run(item)));
    assert.deepEqual(groups, [[1], [2]]);
    await doubling.goOn();
    assert.deepEqual(await results, [2, 4, 12, 8, 10, 60, 2]);
    assert.deepEqual(groups, [[1], [2], [6, 4], [5], [30], [1]]);
  });

  test("fails only for what cannot be done, and goes on", async () => {
    const { together, ...doubling } = stage(1);
    const results = Promise.allSettled([1, 2, -3, 4].map((item) => together.run(item)));
    await doubling.goOn();
    assert.deepEqual(
      (await results).map(({ status }) => status),
      ["fulfilled", "fulfilled", "rejected", "fulfilled"],
    );
    const later = together.run(5);
    await doubling.goOn();
    assert.equal(await later, 10);
  });

  test("is not tried one by one when that would fail as well", async () => {
    const { together, groups, ...doubling } = stage(1, true);
    const results = Promise.allSettled([1, 2, -3, 4].map((item) => together.run(item)));
    await doubling.goOn();
    assert.deepEqual(
      (await results).map(({ status }) => status),
      ["fulfilled", "rejected", "rejected", "rejected"],
    );
    assert.equal(groups.length, 2);
  });

  test("shows below the first span it is for, linked to the others, whoever came when it was begun", async () => {
    const traced = new TracedCalls();
    const goOn: (() => void)[] = [];
    const together = new Together({
      work: async (items: readonly string[]) => {
        const span = clientSpan(`work for ${items}`, {});
        await new Promise<void>((resolve) => goOn.push(resolve));
        span?.end();
        return items;
      },
      ...{ weigh: () => 1, weightMax: 10, atOnce: 1, failsAll: () => true },
    });
    const calls = ["a", "b", "unseen", "c"].map((name) => traced.begin(name));
    const done = calls.map((call) => withinSpan(call, () => together.run(call.name)).then(() => call.end()));
    // The first is done alone, and has ended when the others are begun.
    while (goOn.length > 0) {
      goOn.shift()?.();
      await new Promise(setImmediate);
    }
    await Promise.all(done);
    const [a, b, , c] = calls.map(idOf);
    const work = traced.ended.filter(({ name }) => name.startsWith("work"));
    assert.deepEqual(
      work.map((span) => [span.name, span.parentSpanContext?.spanId, linksOf(span)]),
      [
        ["work for a", a, []],
        ["work for b,unseen,c", b, [c]],
      ],
    );
  });
});

function stage(atOnce: number, failsAll?: boolean) {
  const doubling = new Doubling(atOnce, failsAll);
  return { together: doubling.together, groups: doubling.groups, goOn: () => doubling.goOn() };
}
