import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemRandom } from "../../src/clock.ts";
import type { Counters, WindowClaim } from "../../src/counters/counters.ts";
import { peek } from "../../src/counters/peek.ts";
import { choosesAmongAlternatives } from "./alternatives.ts";
import { granted, type Pods, refused, slotClaim, windowClaim } from "./sample-claims.ts";

/** What is left of a claim's limit, asked without taking any of it. */
async function left(counters: Counters, claim: WindowClaim): Promise<number | undefined> {
  return (await counters.take([{ ...claim, amount: 0 }])).remaining[0];
}

/** Holds an implementation to what `Counters` promises. */
export function keepsThePromises(name: string, open: () => Promise<Pods>): void {
  describe(name, () => {
    let pods: Pods;
    let a: Counters;
    let b: Counters;
    before(async () => {
      pods = await open();
      [a, b] = pods.counters;
    });
    after(() => pods.close());

    test("a fresh window lets through exactly its ceiling", async () => {
      const claim = windowClaim({ ceiling: 100 });
      for (let call = 1; call <= 100; call += 1) {
        const verdict = await (call % 2 ? a : b).take([claim]);
        assert.ok(verdict.ok, `call ${call} was refused`);
        assert.deepEqual(verdict.remaining, [100 - call]);
      }
      const refusal = await refused(a, claim);
      assert.equal(refusal.refused, claim);
      assert.deepEqual(refusal.remaining, [0]);
    });

    test("a peek tells what lists of claims lack and until when, and takes nothing of any", async () => {
      const [window, slot] = [windowClaim({ ceiling: 2 }), slotClaim({ group: "user:contract" })];
      const [tokens, spare] = [windowClaim({ ceiling: 100, amount: 60 }), slotClaim()];
      assert.deepEqual(await peek(a, [[window], [slot], [tokens, spare], []]), Array(4).fill(undefined));
      const hold = await granted(a, slot);
      await granted(b, window);
      await granted(b, window);
      await granted(a, tokens);
      for (let look = 0; look < 3; look += 1) {
        const lacks = await peek(b, [[window], [slot], [spare, tokens], [spare], []]);
        assert.deepEqual(
          lacks.map((lack) => lack?.refused),
          [window, slot, tokens, undefined, undefined],
        );
        const waits = lacks.map((lack) => lack?.retryAfterMs ?? 0);
        assert.ok((waits[0] ?? 0) > 55_000 && (waits[0] ?? 0) <= 62_000, `the window is waited for: ${waits}`);
        assert.ok((waits[1] ?? 0) >= 1 && (waits[1] ?? 0) <= 1_000, `the slot is waited for: ${waits}`);
      }
      await hold.release([]);
      assert.deepEqual(await peek(b, [[slot]]), [undefined]);
      await (await granted(b, spare)).release([]);
      assert.equal(await left(a, window), 0, "as much is left as before");
    });

    test("of 400 takes at the same time over three pods exactly 100 fit into 100", async () => {
      const claims = [
        windowClaim({ ceiling: 100 }),
        windowClaim({ ceiling: 100_000, amount: 80, group: "team:contract" }),
      ];
      const takes = Array.from({ length: 400 }, (_, index) => pods.counters[index % 3]?.take(claims));
      const verdicts = await Promise.all(takes);
      assert.equal(verdicts.filter((verdict) => verdict?.ok).length, 100);
      assert.deepEqual((await refused(a, ...claims)).remaining, [0, 92_000]);
    });

    test("ten parallel takes of 80 tokens at a limit of 100 let exactly one through", async () => {
      const claim = windowClaim({ ceiling: 100, amount: 80 });
      const verdicts = await Promise.all(
        Array.from({ length: 10 }, (_, index) => pods.counters[index % 3]?.take([claim])),
      );
      assert.equal(verdicts.filter((verdict) => verdict?.ok).length, 1);
    });

    test("a take is all or nothing, within a group and over groups", async () => {
      const roomy = windowClaim({ ceiling: 10, amount: 4 });
      const elsewhere = windowClaim({ ceiling: 10, amount: 4, group: "team:contract" });
      const slot = slotClaim({ ceiling: 1, group: "user:contract" });
      const tight = windowClaim({ ceiling: 3, amount: 4, group: "model:contract" });
      const refusal = await refused(a, roomy, elsewhere, slot, tight);
      assert.equal(refusal.refused, tight);
      assert.deepEqual(refusal.remaining, [10, 10, 1, 3]);
      assert.equal(await left(b, roomy), 10);
      assert.equal(await left(b, elsewhere), 10);
      await granted(b, slot);
    });

    test("the first claim without room is named, and the wait is long enough for all of them", async () => {
      const short = windowClaim({ ceiling: 1, windowMs: 600 });
      const long = windowClaim({ ceiling: 1, windowMs: 60_000 });
      await granted(a, short, long);
      const refusal = await refused(a, windowClaim(), short, long);
      assert.equal(refusal.refused, short);
      assert.ok(refusal.retryAfterMs > 50_000, `${refusal.retryAfterMs}`);
    });

    test("what alone exceeds the ceiling is told to wait a whole window", async () => {
      assert.equal((await refused(a, windowClaim({ ceiling: 10, amount: 11 }))).retryAfterMs, 60_000);
    });

    test("a ceiling of 0 allows nothing, not even nothing", async () => {
      assert.equal((await refused(a, windowClaim({ ceiling: 0 }))).retryAfterMs, 60_000);
      assert.equal((await refused(a, windowClaim({ ceiling: 0, amount: 0 }))).retryAfterMs, 60_000);
      assert.equal((await refused(a, slotClaim({ ceiling: 0 }))).retryAfterMs, 30_000);
    });

    test("no claims at all are granted", async () => {
      const hold = await granted(a);
      await hold.release([]);
    });

    test("two claims on one counter in one take are counted together", async () => {
      const claim = windowClaim({ ceiling: 10, amount: 6 });
      const refusal = await refused(a, claim, claim);
      assert.equal(refusal.refused, claim);
      assert.equal(await left(a, claim), 10);
      const slot = slotClaim({ ceiling: 2 });
      const hold = await granted(a, slot, slot);
      await refused(b, slot);
      await hold.release([]);
      await granted(b, slot, slot);
    });

    test("after retry-after there is room, and shortly before there is none", async () => {
      const claim = windowClaim({ ceiling: 3, windowMs: 600 });
      await granted(a, claim);
      await sleep(150);
      await granted(b, claim, { ...claim, amount: 1 });
      const first = await refused(a, claim);
      assert.ok(first.retryAfterMs > 300 && first.retryAfterMs <= 470, `${first.retryAfterMs}`);
      const both = await refused(b, { ...claim, amount: 3 });
      assert.ok(both.retryAfterMs > 500 && both.retryAfterMs <= 620, `${both.retryAfterMs}`);
      await sleep(first.retryAfterMs - 150);
      await refused(a, claim);
      await sleep(151);
      await granted(b, claim);
      await refused(b, claim);
    });

    test("no span of the window's length ever holds more than the ceiling", async () => {
      const claim = windowClaim({ ceiling: 20, windowMs: 300 });
      const accepted: { sentMs: number; answeredMs: number }[] = [];
      const arrive = async (pod: Counters) => {
        for (const endMs = performance.now() + 1200; performance.now() < endMs; ) {
          const sentMs = performance.now();
          if ((await pod.take([claim])).ok) accepted.push({ sentMs, answeredMs: performance.now() });
          await sleep(systemRandom() * 12);
        }
      };
      await Promise.all(pods.counters.flatMap((pod) => [arrive(pod), arrive(pod)]));
      accepted.sort((one, other) => one.answeredMs - other.answeredMs);
      for (let last = claim.ceiling; last < accepted.length; last += 1) {
        const spanMs = (accepted[last]?.answeredMs ?? 0) - (accepted[last - claim.ceiling]?.sentMs ?? 0);
        assert.ok(spanMs > claim.windowMs, `${claim.ceiling + 1} within ${spanMs} ms`);
      }
      assert.ok(accepted.length >= 3 * claim.ceiling, `only ${accepted.length} were let through`);
    });

    test("windows of different lengths do not mix", async () => {
      const minute = windowClaim({ ceiling: 1 });
      await granted(a, minute);
      await granted(a, { ...minute, windowMs: 86_400_000 });
      await refused(a, minute);
    });

    test("release lowers and raises what was taken, once", async () => {
      const claim = windowClaim({ ceiling: 100, amount: 80 });
      const hold = await granted(a, claim);
      await hold.release([30]);
      assert.equal(await left(b, claim), 70);
      await hold.release([0]);
      assert.equal(await left(b, claim), 70);
      await (await granted(b, { ...claim, amount: 10 })).release([90]);
      assert.equal((await refused(a, { ...claim, amount: 0 })).remaining[0], 0);
    });

    test("release keeps what it is not told about, and never goes below nothing", async () => {
      const kept = windowClaim({ amount: 4 });
      const emptied = windowClaim({ amount: 4 });
      await (await granted(a, kept, emptied)).release([undefined, -20]);
      assert.equal(await left(a, kept), 6);
      assert.equal(await left(a, emptied), 10);
      await (await granted(a, kept)).release([Number.NaN]);
      assert.equal(await left(a, kept), 2);
    });

    test("release of what has aged out changes nothing", async () => {
      const claim = windowClaim({ ceiling: 10, amount: 8, windowMs: 400 });
      const hold = await granted(a, claim);
      await sleep(410);
      await granted(b, claim);
      await hold.release([0]);
      assert.equal((await refused(a, claim)).remaining[0], 2);
    });

    test("slots are as many as the ceiling, and free again once released", async () => {
      const claim = slotClaim({ ceiling: 2 });
      const first = await granted(a, claim);
      const second = await granted(b, claim);
      const refusal = await refused(a, claim);
      assert.deepEqual(refusal.remaining, [0]);
      assert.ok(refusal.retryAfterMs >= 1 && refusal.retryAfterMs <= 1000);
      await first.release([]);
      await first.release([]);
      await granted(b, claim);
      await refused(b, claim);
      await second.release([undefined]);
      await granted(a, claim);
    });

    test("of many pods that want a slot at once as many get one as there are", async () => {
      const claim = slotClaim({ ceiling: 7 });
      const verdicts = await Promise.all(
        Array.from({ length: 60 }, (_, index) => pods.counters[index % 3]?.take([claim])),
      );
      assert.equal(verdicts.filter((verdict) => verdict?.ok).length, 7);
    });

    test("a held slot is kept for longer than its time, and gone after release", async () => {
      const claim = slotClaim({ ttlMs: 450 });
      const hold = await granted(a, claim);
      await sleep(800);
      await refused(b, claim);
      await hold.release([]);
      await sleep(200);
      await granted(b, claim);
    });

    test("names and groups may hold anything", async () => {
      for (const group of ["{", "}", "a}b{c", "%7D", "käse 🧀", "\ud800", ""]) {
        const claims = [windowClaim({ group, ceiling: 1 }), slotClaim({ group, name: "{}:*\n" })];
        await granted(a, ...claims);
        assert.deepEqual((await refused(b, ...claims)).remaining, [0, 0], group);
      }
    });

    test("numbers no limit can be made of are refused by name", async () => {
      for (const wrong of [{ amount: -1 }, { amount: 0.5 }, { amount: Number.NaN }, { ceiling: -1 }, { windowMs: 0 }]) {
        await assert.rejects(a.take([windowClaim(wrong)]), RangeError);
      }
      await assert.rejects(a.take([slotClaim({ ttlMs: Number.POSITIVE_INFINITY })]), RangeError);
      await assert.rejects(a.take([slotClaim({ ceiling: Number.NaN })]), /key:contract:s\d+" has the ceiling NaN/);
    });

    choosesAmongAlternatives(() => pods);

    test("it answers", async () => {
      assert.equal(await a.ping(), true);
    });
  });
}
