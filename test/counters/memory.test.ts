import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { systemClock } from "../../src/clock.ts";
import { createMemoryCounters } from "../../src/counters/memory.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { keepsThePromises } from "./contract.ts";
import { granted, refused, windowClaim } from "./sample-claims.ts";

keepsThePromises("counters in memory", async () => {
  const counters = createMemoryCounters({ clock: systemClock });
  return { counters: [counters, counters, counters], close: () => counters.close() };
});

test("whatever arrives when, no span holds more than the ceiling, and retry-after is exact", async () => {
  const arrivals = fc.array(fc.record({ afterMs: fc.nat(400), amount: fc.integer({ min: 1, max: 5 }) }), {
    maxLength: 80,
  });
  await fc.assert(
    fc.asyncProperty(arrivals, fc.integer({ min: 5, max: 1000 }), async (calls, windowMs) => {
      const clock = new HandClock();
      const counters = createMemoryCounters({ clock });
      const accepted: { atMs: number; amount: number }[] = [];
      for (const { afterMs, amount } of calls) {
        await clock.advance(afterMs);
        const claim = windowClaim({ name: "w", ceiling: 8, amount, windowMs });
        const verdict = await counters.take([claim]);
        if (!verdict.ok) {
          await clock.advance(verdict.retryAfterMs);
          await granted(counters, claim);
        }
        const atMs = clock.monotonicMs();
        accepted.push({ atMs, amount });
        const lately = accepted.filter((call) => call.atMs >= atMs - windowMs);
        assert.ok(lately.reduce((sum, call) => sum + call.amount, 0) <= 8);
      }
    }),
    { numRuns: 200 },
  );
});

test("a window is exact within a sixtieth", async () => {
  const clock = new HandClock();
  const counters = createMemoryCounters({ clock });
  const claim = windowClaim({ ceiling: 1, windowMs: 60_000 });
  await granted(counters, claim);
  await clock.advance(60_999);
  assert.equal((await refused(counters, claim)).retryAfterMs, 1);
  await clock.advance(1);
  await granted(counters, claim);
});

test("aged windows are forgotten", async () => {
  const clock = new HandClock();
  const counters = createMemoryCounters({ clock });
  for (let call = 0; call < 20_000; call += 1) {
    await counters.take([windowClaim(), windowClaim()]);
    if (call % 10 === 0) await clock.advance(610);
  }
  // About 100 steps of 10 calls with 2 windows each fit into a minute.
  assert.ok(counters.size < 2 * 2200, `${counters.size} are remembered`);
});
