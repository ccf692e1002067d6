import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Clock, systemClock } from "../../src/clock.ts";
import type { RedisUnavailable } from "../../src/config/config.ts";
import { type Counters, CountersUnavailable } from "../../src/counters/counters.ts";
import { createMemoryCounters } from "../../src/counters/memory.ts";
import type { RedisCounters } from "../../src/counters/redis.ts";
import { StandbyCounters } from "../../src/counters/standby.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { type RedisServer, startRedis, testRedis } from "../redis.ts";
import { keepsThePromises } from "./contract.ts";
import { connect } from "./redis-pod.ts";
import { granted, refused, slotClaim, windowClaim } from "./sample-claims.ts";

const away: Counters = {
  take: () => Promise.reject(new CountersUnavailable(new Error("away"))),
  ping: async () => false,
  close: async () => {},
};

/** A pod whose store is away. */
function alone(livePods: number | undefined, mode: RedisUnavailable = "local_share", clock: Clock = new HandClock()) {
  return new StandbyCounters({ store: away, livePods: () => livePods, mode, clock });
}

keepsThePromises("counters with a standby, while Redis answers", async () => {
  const redis = await testRedis();
  const pod = () => {
    const store = connect(redis);
    return new StandbyCounters({
      store,
      livePods: () => store.countLivePods(),
      mode: "local_share",
      clock: systemClock,
    });
  };
  const counters = [pod(), pod(), pod()] as const;
  return { counters, close: async () => void (await Promise.all(counters.map((each) => each.close()))) };
});

keepsThePromises("the only pod's counters, while Redis is away", async () => {
  const counters = alone(1, "local_share", systemClock);
  const promises = { take: counters.take.bind(counters), close: () => counters.close(), ping: async () => true };
  return { counters: [promises, promises, promises], close: () => counters.close() };
});

describe("while Redis is away", () => {
  test("each of four pods lets through a quarter of the limit, rounded down", async () => {
    const claim = windowClaim({ ceiling: 103 });
    for (let pod = 0; pod < 4; pod += 1) {
      const counters = alone(4);
      for (let call = 0; call < 25; call += 1) await granted(counters, claim);
      const refusal = await refused(counters, windowClaim(), claim);
      assert.equal(refusal.refused, claim, "the claim the caller made is named, not the share");
      assert.deepEqual(refusal.remaining, [2, 0]);
      assert.equal(counters.decidedAlone, 26);
    }
  });

  test("a share is never below one, and a ceiling of 0 allows nothing", async () => {
    const counters = alone(10);
    await granted(counters, windowClaim({ ceiling: 3 }), slotClaim({ ceiling: 1 }));
    await refused(counters, windowClaim({ ceiling: 0 }));
    await refused(counters, slotClaim({ ceiling: 0 }));
  });

  test("slots are shared too, and free again once released", async () => {
    const counters = alone(3);
    const claim = slotClaim({ ceiling: 7 });
    const hold = await granted(counters, claim);
    await granted(counters, claim);
    await refused(counters, claim);
    await hold.release([]);
    await granted(counters, claim);
  });

  test("what fits the limit but not the share goes through an empty window, and is corrected to what was used", async () => {
    const counters = alone(4);
    const claim = windowClaim({ ceiling: 100, amount: 80 });
    const hold = await granted(counters, claim);
    await refused(counters, { ...claim, amount: 1 });
    await hold.release([10]);
    await granted(counters, { ...claim, amount: 15 });
    await refused(counters, windowClaim({ ceiling: 100, amount: 101 }));
  });

  test("a pod that was never told how many there are refuses", async () => {
    await assert.rejects(alone(undefined).take([windowClaim()]), CountersUnavailable);
  });

  test("closed, everything is refused as unavailable", async () => {
    const counters = alone(2, "closed");
    await assert.rejects(counters.take([windowClaim()]), CountersUnavailable);
    assert.equal(counters.decidedAlone, 0);
  });

  test("open, everything is granted and counted, though not what no limit can be made of", async () => {
    const counters = alone(undefined, "open");
    const claim = windowClaim({ ceiling: 1 });
    for (let call = 0; call < 5; call += 1) await granted(counters, claim);
    assert.equal(counters.decidedAlone, 5);
    await assert.rejects(counters.take([windowClaim({ amount: -1 })]), RangeError);
  });
});

test("evenly loaded pods keep the limit over the whole outage", async () => {
  const clock = new HandClock();
  const shared = createMemoryCounters({ clock });
  let isAway = false;
  const store: Counters = { ...away, take: (claims) => (isAway ? away : shared).take(claims) };
  const pods = Array.from(
    { length: 4 },
    () => new StandbyCounters({ store, livePods: () => 4, mode: "local_share", clock }),
  );
  const claim = windowClaim({ ceiling: 60 });
  const accepted: number[] = [];
  for (let second = 0; second < 240; second += 1) {
    isAway = second >= 50 && second < 160;
    for (const pod of pods) {
      const verdict = await pod.take([claim]);
      if (verdict.ok) accepted.push(second);
    }
    await clock.advance(1000);
    if (second >= 160) continue;
    const lately = accepted.filter((at) => at > second - 60).length;
    assert.ok(lately <= 60, `${lately} in the minute before second ${second}`);
  }
  assert.ok(accepted.filter((at) => at >= 50 && at < 160).length >= 60, "hardly anything was let through");
});

describe("pods count each other", () => {
  let redis: RedisServer;
  const pods: RedisCounters[] = [];
  before(async () => {
    redis = await startRedis();
  });
  after(async () => {
    await Promise.all(pods.map((pod) => pod.close()));
    await redis.stop();
  });

  const until = async (what: string, isTrue: () => boolean) => {
    for (const startMs = performance.now(); !isTrue(); await sleep(20)) {
      assert.ok(performance.now() - startMs < 8000, what);
    }
  };

  test("in the background, once for each name, and remember it when Redis goes", async () => {
    pods.push(connect(redis, { podId: "a" }));
    await until("one", () => pods[0]?.livePods === 1);
    pods.push(connect(redis, { podId: "b" }), connect(redis, { podId: "b" }));
    await until("two", () => pods.every((pod, index) => index === 0 || pod.livePods === 2));
    assert.ok(pods.every((pod) => pod.isUp));
    await until("the first has heard", () => pods[0]?.livePods === 2);
    await redis.stop();
    await until("gone", () => pods.every((pod) => !pod.isUp));
    assert.ok(pods.every((pod) => pod.livePods === 2));
  });
});
