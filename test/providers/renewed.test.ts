import assert from "node:assert/strict";
import { test } from "node:test";
import { Renewed } from "../../src/providers/renewed.ts";
import { HandClock } from "../keys/hand-clock.ts";

const forever = new AbortController().signal;
const flush = () => new Promise((resolve) => setImmediate(resolve));

/** A credential that holds for 100 s and is renewed 20 s before it ends; each fetch waits to be answered. */
function stage() {
  const clock = new HandClock();
  const fetches: { answer(): void; fail(error: Error): void }[] = [];
  const renewed = new Renewed<number>({
    clock,
    aheadMs: 20_000,
    fetch: () =>
      new Promise((resolve, reject) => {
        const value = fetches.length + 1;
        fetches.push({
          answer: () => resolve({ value, expiresAtMs: clock.nowMs() + 100_000 }),
          fail: reject,
        });
      }),
  });
  return { clock, fetches, renewed };
}

test("however many want it, one fetch is under way", async () => {
  const { fetches, renewed } = stage();
  const wanted = Array.from({ length: 50 }, () => renewed.get(forever));
  await flush();
  assert.equal(fetches.length, 1);
  fetches[0]?.answer();
  assert.deepEqual([...new Set(await Promise.all(wanted))], [1]);
  assert.equal(await renewed.get(forever), 1);
  assert.equal(fetches.length, 1);
});

test("before it ends it is fetched anew, while calls go on with the one there is", async () => {
  const { clock, fetches, renewed } = stage();
  const first = renewed.get(forever);
  fetches[0]?.answer();
  await first;
  await clock.advance(79_000);
  assert.equal(await renewed.get(forever), 1);
  assert.equal(fetches.length, 1);
  await clock.advance(2_000);
  assert.deepEqual(await Promise.all([renewed.get(forever), renewed.get(forever)]), [1, 1]);
  assert.equal(fetches.length, 2);
  fetches[1]?.answer();
  await flush();
  assert.equal(await renewed.get(forever), 2);
});

test("when the fetch fails the old one serves until its end, and nobody hammers", async () => {
  const { clock, fetches, renewed } = stage();
  const first = renewed.get(forever);
  fetches[0]?.answer();
  await first;
  await clock.advance(81_000);
  assert.equal(await renewed.get(forever), 1);
  fetches[1]?.fail(new Error("away"));
  await flush();
  assert.equal(await renewed.get(forever), 1);
  assert.equal(fetches.length, 2, "a second has not passed");
  await clock.advance(1_000);
  assert.equal(await renewed.get(forever), 1);
  assert.equal(fetches.length, 3);
  fetches[2]?.fail(new Error("still away"));
  await flush();
  await clock.advance(20_000);
  const wanted = renewed.get(forever);
  await flush();
  assert.equal(fetches.length, 4);
  fetches[3]?.fail(new Error("gone"));
  await assert.rejects(wanted, /gone/);
  await assert.rejects(renewed.get(forever), /gone/);
  assert.equal(fetches.length, 4, "the failure is remembered for a second");
});

test("who gives up waiting ends no fetch that others wait for", async () => {
  const { fetches, renewed } = stage();
  const controller = new AbortController();
  const impatient = renewed.get(controller.signal);
  const patient = renewed.get(forever);
  controller.abort(new Error("enough"));
  await assert.rejects(impatient, /enough/);
  fetches[0]?.answer();
  assert.equal(await patient, 1);
});

test("what never runs out is fetched once", async () => {
  const clock = new HandClock();
  let fetches = 0;
  const fetch = async () => ({ value: ++fetches, expiresAtMs: undefined });
  const renewed = new Renewed({ clock, aheadMs: 20_000, fetch });
  await renewed.get(forever);
  await clock.advance(10_000_000);
  assert.equal(await renewed.get(forever), 1);
});
