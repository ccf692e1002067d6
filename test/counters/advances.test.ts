import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { systemClock, systemRandom } from "../../src/clock.ts";
import { Advances } from "../../src/counters/advances.ts";
import { counterKey } from "../../src/counters/claims.ts";
import { type Counters, CountersUnavailable, type WindowClaim } from "../../src/counters/counters.ts";
import { StandbyCounters } from "../../src/counters/standby.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { type TestRedis, testRedis } from "../redis.ts";
import { keepsThePromises } from "./contract.ts";
import { PaperWindows } from "./paper-windows.ts";
import { connect } from "./redis-pod.ts";
import { granted, refused, slotClaim, windowClaim } from "./sample-claims.ts";

function pod(redis: TestRedis): Advances {
  return new Advances({ store: connect(redis), clock: systemClock });
}

keepsThePromises("counters that take in advance", async () => {
  const redis = await testRedis();
  const counters = [pod(redis), pod(redis), pod(redis)] as const;
  return { counters, close: async () => void (await Promise.all(counters.map((each) => each.close()))) };
});

const roomy = { ceiling: 1_000_000 };

test("a thousand calls of a busy pod ask Redis a few times, and each is told what is left", async () => {
  const store = connect(await testRedis());
  let asked = 0;
  const counted = {
    take: (...ask: Parameters<Counters["take"]>) => {
      asked += 1;
      return store.take(...ask);
    },
    correct: store.correct.bind(store),
    ping: () => store.ping(),
    close: () => store.close(),
  };
  const counters = new Advances({ store: counted, clock: systemClock });
  try {
    const claims = [windowClaim(roomy), windowClaim({ ceiling: 1_000_000_000, amount: 900, group: "team:advances" })];
    for (let call = 1; call <= 1000; call += 1) {
      const verdict = await counters.take(claims, [[], [slotClaim()]]);
      assert.ok(verdict.ok);
      assert.equal(verdict.chosen, 0);
      assert.deepEqual(verdict.remaining, [1_000_000 - call, 1_000_000_000 - 900 * call]);
      await verdict.chosenHold?.release([]);
    }
    assert.ok(asked <= 150, `${asked} takes`);
    const before = asked;
    for (let call = 0; call < 5; call += 1) await granted(counters, ...claims, slotClaim());
    assert.equal(asked, before + 5, "whatever wants a slot asks");
  } finally {
    await counters.close();
  }
});

test("of three busy pods none ever lets more through than there is, in any span of the window's length", async () => {
  const redis = await testRedis();
  const pods = [pod(redis), pod(redis), pod(redis)];
  const claim = windowClaim({ ceiling: 2_000, windowMs: 3_000 });
  const accepted: { sentMs: number; answeredMs: number }[] = [];
  const arrive = async (counters: Counters) => {
    for (const endMs = performance.now() + 7_000; performance.now() < endMs; ) {
      const sentMs = performance.now();
      if ((await counters.take([claim])).ok) accepted.push({ sentMs, answeredMs: performance.now() });
      await sleep(systemRandom() * 8);
    }
  };
  await Promise.all(pods.flatMap((each) => [1, 2, 3].map(() => arrive(each))));
  await Promise.all(pods.map((each) => each.close()));
  accepted.sort((one, other) => one.answeredMs - other.answeredMs);
  for (let last = claim.ceiling; last < accepted.length; last += 1) {
    let firstMs = Number.POSITIVE_INFINITY;
    for (let at = last - claim.ceiling; at <= last; at += 1) firstMs = Math.min(firstMs, accepted[at]?.sentMs ?? 0);
    const spanMs = (accepted[last]?.answeredMs ?? 0) - firstMs;
    assert.ok(spanMs > claim.windowMs, `${claim.ceiling + 1} within ${spanMs} ms`);
  }
  assert.ok(accepted.length > 2 * claim.ceiling, `only ${accepted.length} were let through`);
});

test("what is in Redis afterwards is what calls used, to the last token", async () => {
  const redis = await testRedis();
  const pods = [pod(redis), pod(redis), pod(redis)];
  const client = new Redis(redis);
  try {
    const tokens = windowClaim({ ceiling: 100_000_000, amount: 500, windowMs: 60_000 });
    const requests = windowClaim({ ceiling: 100_000, windowMs: 60_000 });
    const real = { tokens: 0, requests: 0 };
    const arrive = async (counters: Counters) => {
      for (const endMs = performance.now() + 2_600; performance.now() < endMs; ) {
        const hold = await granted(counters, requests, tokens);
        await sleep(systemRandom() * 6);
        const isGivenBack = systemRandom() < 0.1;
        const used = isGivenBack ? 0 : Math.floor(systemRandom() * 1_200);
        real.tokens += used;
        real.requests += isGivenBack ? 0 : 1;
        await hold.release([isGivenBack ? 0 : undefined, used]);
        await hold.release([0, 0]);
      }
    };
    await Promise.all(pods.flatMap((each) => [1, 2, 3, 4].map(() => arrive(each))));
    await Promise.all(pods.map((each) => each.close()));
    assert.ok(real.requests > 1_000, `only ${real.requests} calls`);
    assert.equal(Number(await client.hget(counterKey(tokens), "s")), real.tokens);
    assert.equal(Number(await client.hget(counterKey(requests), "s")), real.requests);
  } finally {
    client.disconnect();
  }
});

test("a steady flow of calls asks for more once a bucket, and call by call only where buckets meet", async () => {
  for (const atOnce of [1, 16]) {
    const clock = new HandClock();
    const store = new PaperWindows({ clock });
    const counters = new Advances({ store, clock });
    const claim = windowClaim({ ceiling: 10_000_000 });
    for (let ms = 0; ms < 5_000; ms += 1) {
      if (ms === 2_000) store.takes.length = 0;
      await Promise.all(Array.from({ length: atOnce }, () => granted(counters, claim)));
      await clock.advance(1);
    }
    const more = store.takes.flat().filter((each) => each.kind === "window" && each.amount > 1);
    assert.ok(more.length <= 4, `${more.length} takes of more than a call in three buckets`);
    assert.ok(store.takes.length <= 30 * atOnce, `${store.takes.length} takes of ${3_000 * atOnce} calls`);
  }
});

test("calls that begin to come, fifty a second, ask the store a few times, and calls that came at once and end do not hoard", async () => {
  const clock = new HandClock();
  const store = new PaperWindows({ clock });
  const counters = new Advances({ store, clock });
  const claim = windowClaim({ ceiling: 10_000_000 });
  for (let call = 0; call < 50; call += 1) {
    await granted(counters, claim);
    await clock.advance(20);
  }
  assert.ok(store.takes.length <= 8, `${store.takes.length} takes of 50 calls`);
  const other = windowClaim({ ceiling: 10_000_000, group: "key:at-once" });
  for (let call = 0; call < 20; call += 1) await granted(counters, other);
  assert.ok(store.used(other) <= 2 * 20, `${store.used(other)} for 20 calls`);
});

/** A pod that has just made some calls, one a millisecond. */
async function busy(claim: WindowClaim, facts: { calls?: number; aheadMs?: number; pace?: number } = {}) {
  const clock = new HandClock();
  const store = new PaperWindows({ clock, ...facts });
  const counters = new Advances({ store, clock });
  for (let call = 0; call < (facts.calls ?? 40); call += 1) {
    await granted(counters, claim);
    await clock.advance(1);
  }
  return { clock, store, counters };
}

describe("what was taken in advance", () => {
  test("is never drawn after its bucket has ended by the store's clock, however it goes and however long answers take", async () => {
    for (const aheadMs of [0, 123, 499, 990, 999]) {
      for (const pace of [1, 1.003, 0.99]) {
        const claim = windowClaim(roomy);
        const { clock, store, counters } = await busy(claim, { calls: 1, aheadMs, pace });
        let [drawn, bucket] = [0, 0];
        for (let call = 0; call < 600; call += 1) {
          store.way = call % 7 === 0 ? [call % 11, (call % 5) * 9] : [0, 0];
          const asked = store.takes.length;
          const nowMs = store.nowMs();
          await granted(counters, claim);
          if (store.takes.length > asked) bucket = Math.floor((store.nowMs() - store.way[1] * pace) / 1000);
          else {
            assert.equal(Math.floor(nowMs / 1000), bucket, `call ${call}, ${aheadMs} ms ahead, pace ${pace}`);
            drawn += 1;
          }
          await clock.advance(5);
        }
        assert.ok(drawn > 400, `only ${drawn} were drawn, ${aheadMs} ms ahead`);
      }
    }
  });

  test("goes back when its bucket is over", async () => {
    const claim = windowClaim(roomy);
    const { clock, store } = await busy(claim);
    assert.ok(store.used(claim) > 40, "something was taken in advance");
    await clock.advance(1_060);
    assert.equal(store.used(claim), 40);
  });

  test("goes back at the end, and then nothing is drawn any more", async () => {
    const claim = windowClaim(roomy);
    const { store, counters } = await busy(claim);
    await counters.close();
    assert.equal(store.used(claim), 40);
    await assert.rejects(counters.take([claim]), CountersUnavailable);
  });

  test("is drawn while the store is away, as long as it is good and there is some of it", async () => {
    const claim = windowClaim(roomy);
    const { clock, store, counters } = await busy(claim);
    const spare = store.used(claim) - 40;
    store.isAway = true;
    for (let call = 0; call < spare; call += 1) await granted(counters, claim);
    await assert.rejects(counters.take([claim]), CountersUnavailable);
    store.isAway = false;
    await granted(counters, claim);
    await clock.advance(1_000);
    store.isAway = true;
    await assert.rejects(counters.take([claim]), CountersUnavailable);
  });

  test("is given back before a call of this pod is refused, and a call that fits without is not refused", async () => {
    const claim = windowClaim(roomy);
    const { store, counters } = await busy(claim);
    const spare = store.used(claim) - 40;
    store.others = roomy.ceiling - store.used(claim);
    await granted(counters, { ...claim, amount: spare });
    const refusal = await refused(counters, claim);
    assert.equal(refusal.refused, claim);
    assert.equal(store.used(claim), roomy.ceiling);
  });

  test("is asked for once, and then the call alone, when others have been quick", async () => {
    const claim = windowClaim(roomy);
    const { clock, store, counters } = await busy(claim);
    await clock.advance(1_000);
    store.others = roomy.ceiling - store.used(claim) - 1;
    store.takes.length = 0;
    const hold = await granted(counters, claim);
    assert.deepEqual(
      store.takes.flat().map((each) => each.kind === "window" && each.amount > 1),
      [true, false],
    );
    await refused(counters, claim);
    assert.equal(store.takes.length, 3, "it has learned that there is no room");
    await hold.release([0]);
    await granted(counters, claim);
  });

  test("is of no use where the ceiling has changed", async () => {
    const claim = windowClaim(roomy);
    const { store, counters } = await busy(claim);
    assert.ok(store.used(claim) > 40, "something was taken in advance");
    await refused(counters, { ...claim, ceiling: 40 });
    const verdict = await counters.take([{ ...claim, ceiling: 41 }]);
    assert.ok(verdict.ok);
    assert.deepEqual(verdict.remaining, [0]);
    await refused(counters, claim, { ...claim, ceiling: 41 });
  });

  test("is what calls have left of their estimates, too, and what they use more is taken of it", async () => {
    const claim = windowClaim({ ...roomy, amount: 100 });
    const { clock, store, counters } = await busy(claim);
    const holds = [await granted(counters, claim)];
    const before = store.used(claim);
    for (let call = 0; call < 9; call += 1) holds.push(await granted(counters, claim));
    const [first, second, third, ...others] = holds;
    const spent = 4_000 + 100 * holds.length;
    await first?.release([60]);
    await second?.release([130]);
    await third?.release([undefined]);
    await clock.advance(60);
    assert.equal(store.used(claim), before, "none of this is worth a way to the store");
    await clock.advance(1_060);
    assert.equal(store.used(claim), spent - 10);
    for (const hold of others) await hold.release([99]);
    await clock.advance(60);
    assert.equal(store.used(claim), spent - 10 - others.length);
    await others[0]?.release([0]);
    await clock.advance(60);
    assert.equal(store.used(claim), spent - 10 - others.length, "once");
  });

  test("does not hide what calls use beyond their estimates", async () => {
    const claim = windowClaim(roomy);
    const { clock, store, counters } = await busy(claim);
    const spare = store.used(claim) - 40;
    await (await granted(counters, claim)).release([5_000]);
    await clock.advance(60);
    assert.equal(store.used(claim), 40 + 5_000);
    store.isAway = true;
    await assert.rejects(counters.take([claim]), CountersUnavailable, `nothing is left of ${spare}`);
  });

  test("is not hoarded: what calls give back beyond a 64th of the rest goes back", async () => {
    const claim = windowClaim({ ...roomy, amount: 3_000 });
    const { clock, store, counters } = await busy(claim, { calls: 0 });
    const holds = [];
    for (let call = 0; call < 40; call += 1) holds.push(await granted(counters, claim));
    for (const hold of holds) await hold.release([0]);
    await clock.advance(60);
    assert.ok(store.used(claim) <= roomy.ceiling / 64, `${store.used(claim)} are kept`);
  });

  test("goes back at once when others have used half of the limit", async () => {
    const claim = windowClaim(roomy);
    const { clock, store, counters } = await busy(claim);
    const spare = store.used(claim) - 40;
    store.others = 500_000;
    await granted(counters, { ...claim, amount: spare + 1 });
    await clock.advance(60);
    assert.equal(store.used(claim), 500_040 + spare + 1);
  });

  test("is taken of the whole limit's first half only, and of no small limit", async () => {
    for (const [ceiling, isAsked] of [
      [200, true],
      [1_000, false],
    ] as const) {
      const claim = windowClaim({ ceiling });
      const { clock, store, counters } = await busy(claim, { calls: 0 });
      for (let call = 1; call <= ceiling; call += 1) {
        const verdict = await counters.take([claim]);
        assert.ok(verdict.ok);
        assert.deepEqual(verdict.remaining, [ceiling - call]);
        if (call > ceiling / 2) assert.equal(store.used(claim), call, "nothing is in advance");
        await clock.advance(1);
      }
      assert.equal(store.takes.length === ceiling, isAsked, `${store.takes.length} takes of ${ceiling}`);
      await refused(counters, claim);
    }
  });

  test("is not taken for calls now and then, nor of windows with long buckets", async () => {
    const [seldom, hourly] = [windowClaim(roomy), windowClaim({ ...roomy, windowMs: 3_600_000 })];
    const { clock, store, counters } = await busy(hourly);
    assert.equal(store.used(hourly), 40);
    for (let call = 1; call <= 30; call += 1) {
      for (let again = 0; again < 4; again += 1) await granted(counters, seldom);
      await clock.advance(3_000);
    }
    assert.ok(store.takes.flat().every((claim) => claim.kind === "window" && claim.amount === 1));
  });

  test("is drawn for all claims of a call or for none, and twice where two are on one window", async () => {
    const [one, other] = [windowClaim(roomy), windowClaim(roomy)];
    const { store, counters } = await busy(one);
    const spare = store.used(one) - 40;
    await granted(counters, one, other);
    for (const claims of [[one, one], [one]]) {
      store.isAway = true;
      await assert.rejects(counters.take([...claims, other]), CountersUnavailable);
    }
    await granted(counters, one, one);
    for (let call = 2; call < spare; call += 1) await granted(counters, one);
    await assert.rejects(counters.take([one]), CountersUnavailable);
  });

  test("is not worth an amount that no limit can be made of", async () => {
    const { counters } = await busy(windowClaim(roomy));
    const claim = windowClaim(roomy);
    for (let call = 0; call < 40; call += 1) await granted(counters, claim);
    for (const amount of [-1, 0.5, Number.NaN]) {
      await assert.rejects(counters.take([{ ...claim, amount }]), RangeError);
    }
  });
});

test("windows that nobody takes of any more are forgotten", async () => {
  const { clock, counters } = await busy(windowClaim(roomy));
  for (let second = 0; second < 60; second += 1) {
    for (let key = 0; key < 20; key += 1) await granted(counters, windowClaim({ ...roomy, group: `${second}:${key}` }));
    await clock.advance(1_000);
    assert.ok(counters.size <= 200, `${counters.size} in second ${second}`);
  }
});

test("what is drawn counts for the pod's own share while Redis is away", async () => {
  const clock = new HandClock();
  const store = new PaperWindows({ clock });
  const advances = new Advances({ store, clock });
  const counters = new StandbyCounters({ store: advances, livePods: () => 2, mode: "local_share", clock });
  const claim = windowClaim({ ceiling: 10_000 });
  for (let call = 0; call < 3_000; call += 1) await granted(counters, claim);
  assert.ok(store.takes.length < 1_000, `${store.takes.length} takes`);
  await clock.advance(1_000);
  store.isAway = true;
  const verdict = await counters.take([claim]);
  assert.ok(verdict.ok);
  assert.deepEqual(verdict.remaining, [5_000 - 3_001]);
});
