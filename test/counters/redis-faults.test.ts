import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import { Redis } from "ioredis";
import { systemClock } from "../../src/clock.ts";
import { type Claim, type Counters, CountersUnavailable, type Verdict } from "../../src/counters/counters.ts";
import { StandbyCounters } from "../../src/counters/standby.ts";
import { type RedisServer, startRedis } from "../redis.ts";
import { connect, type Log } from "./redis-pod.ts";
import { startRelay } from "./relay.ts";
import { granted, refused, slotClaim, windowClaim } from "./sample-claims.ts";

describe("counters when Redis fails", () => {
  const timeoutMs = 50;
  let redis: RedisServer;
  let admin: Redis;
  let counters: Counters;
  let log: Log;

  beforeEach(async () => {
    redis = await startRedis();
    admin = new Redis({ host: redis.host, port: redis.port, retryStrategy: () => 50 });
    admin.on("error", () => {});
    log = [];
    counters = connect(redis, { log, timeoutMs });
    while (!(await counters.ping())) await sleep(20);
  });

  afterEach(async () => {
    admin.disconnect();
    redis.kill("SIGCONT");
    await counters.close();
    await redis.stop();
  });

  /** Fails a take, and says how long that took. */
  async function failedAfterMs(): Promise<number> {
    const startMs = performance.now();
    await assert.rejects(counters.take([windowClaim()]), CountersUnavailable);
    return performance.now() - startMs;
  }

  /** Takes until it is granted, and says how long that took. */
  async function backAfterMs(pod = counters): Promise<number> {
    const startMs = performance.now();
    for (;;) {
      const verdict = await pod.take([windowClaim()]).catch(() => undefined);
      const passedMs = performance.now() - startMs;
      if (verdict?.ok) return passedMs;
      assert.ok(passedMs < 10_000, "Redis never came back");
      await sleep(20);
    }
  }

  /** Takes until there is a verdict: on a busy machine 50 ms are not always enough, and what came too late is given back. */
  async function decided(...claims: Claim[]): Promise<Verdict> {
    for (;;) {
      const verdict = await counters.take(claims).catch(() => undefined);
      if (verdict !== undefined) return verdict;
      await sleep(200);
    }
  }

  /** How late things are on this machine, as busy as it is: the longest of twenty takes while all is well, twice. */
  async function slackMs(pod = counters): Promise<number> {
    let longestMs = 0;
    for (let call = 0; call < 20; call += 1) {
      const startMs = performance.now();
      await pod.take([windowClaim()]).catch(() => {});
      longestMs = Math.max(longestMs, performance.now() - startMs);
    }
    return 2 * longestMs;
  }

  test("killed, it costs nearly nothing; started again, it is used again, and held slots are back", async () => {
    const claim = slotClaim({ ttlMs: 300 });
    assert.ok((await decided(claim)).ok);
    const slack = await slackMs();
    await redis.stop();
    for (let call = 0; call < 5; call += 1) await failedAfterMs();
    const timesMs = [];
    for (let call = 0; call < 50; call += 1) timesMs.push(await failedAfterMs());
    assert.ok((timesMs.sort((one, other) => one - other)[45] ?? 0) < 5 + slack, `${timesMs}, ${slack}`);
    assert.equal(await counters.ping(), false);
    redis = await startRedis({ port: redis.port });
    const backMs = await backAfterMs();
    assert.ok(backMs < 5000, `${backMs}`);
    await sleep(200);
    assert.equal((await decided(claim)).ok, false);
    assert.deepEqual(
      log.map(({ message }) => message),
      ["Redis does not answer; limits cannot be asked.", "Redis answers again."],
    );
  });

  test("frozen, it costs its time limit, then nothing; thawed, what it did too late is given back", async () => {
    const window = windowClaim({ ceiling: 10, amount: 4 });
    const slot = slotClaim({ ceiling: 1 });
    const slack = await slackMs();
    redis.kill("SIGSTOP");
    const startMs = performance.now();
    await assert.rejects(counters.take([window, slot]), CountersUnavailable);
    const waitedMs = performance.now() - startMs;
    assert.ok(waitedMs >= timeoutMs - 2 && waitedMs < timeoutMs + 10 + slack, `${waitedMs}`);
    for (let call = 0; call < 2; call += 1) await failedAfterMs();
    assert.ok((await failedAfterMs()) < 5 + slack);
    redis.kill("SIGCONT");
    const backMs = await backAfterMs();
    assert.ok(backMs < 5000, `${backMs}`);
    await sleep(50);
    const verdict = await decided(window, slot);
    assert.ok(verdict.ok);
    assert.deepEqual(verdict.remaining, [6, 0]);
  });

  test("a connection on which nothing comes any more is given up, and another is made", async () => {
    const relay = await startRelay(redis.port);
    const distant = connect(relay, { timeoutMs });
    try {
      await backAfterMs(distant);
      relay.silence();
      const backMs = await backAfterMs(distant);
      assert.ok(backMs < 5000, `${backMs}`);
    } finally {
      await distant.close();
      await relay.close();
    }
  });

  for (const fault of ["slow", "silent"] as const) {
    for (const mode of ["local_share", "closed", "open"] as const) {
      const name = fault === "slow" ? "two seconds slow" : "swallowing all that is sent";
      test(`${name}, it costs no call of mode ${mode} more than its time limit, and is used again soon after`, async () => {
        const relay = await startRelay(redis.port);
        const store = connect(relay, { timeoutMs });
        const distant = new StandbyCounters({ store, livePods: () => 1, mode, clock: systemClock });
        try {
          await backAfterMs(store);
          const slack = await slackMs(store);
          if (fault === "slow") relay.slow(2000);
          else relay.silence();
          const timesMs = [];
          const outcomes = [];
          for (let call = 0; call < 60; call += 1) {
            const startMs = performance.now();
            outcomes.push(await distant.take([windowClaim()]).catch((error: unknown) => error));
            timesMs.push(performance.now() - startMs);
            await sleep(5);
          }
          const isAsConfigured = (outcome: unknown) =>
            mode === "closed" ? outcome instanceof CountersUnavailable : (outcome as { ok?: boolean }).ok === true;
          assert.ok(outcomes.every(isAsConfigured), inspect(outcomes));
          timesMs.sort((one, other) => other - one);
          // A few wait, until it is known to be away.
          assert.ok(
            (timesMs[1] ?? 0) < timeoutMs + 10 + slack && (timesMs[20] ?? 0) < 5 + slack,
            `${timesMs}, ${slack}`,
          );
          relay.slow(0);
          const backMs = await backAfterMs(store);
          assert.ok(backMs < 5000, `${backMs}`);
        } finally {
          await distant.close();
          await relay.close();
        }
      });
    }
  }

  test("after a failover the new master is found, though the old one still answers", async () => {
    const heir = await startRedis();
    const relay = await startRelay(redis.port);
    const distant = connect(relay, { timeoutMs });
    try {
      await backAfterMs(distant);
      relay.leadTo(heir.port);
      await admin.replicaof("127.0.0.1", String(heir.port));
      const backMs = await backAfterMs(distant);
      assert.ok(backMs < 5000, `${backMs}`);
    } finally {
      await distant.close();
      await relay.close();
      await heir.stop();
    }
  });

  test("an answer that lies ready when this process was held up is not late", async () => {
    await granted(counters, windowClaim());
    const take = counters.take([windowClaim()]);
    setImmediate(() => {
      for (const endMs = performance.now() + 3 * timeoutMs; performance.now() < endMs; );
    });
    assert.ok((await take).ok);
  });

  test("flushed, windows begin anew, held slots come back, and scripts are loaded again", async () => {
    // Its buckets are long enough for what is taken before and after to meet in one.
    const window = windowClaim({ ceiling: 3, windowMs: 86_400_000 });
    const slot = slotClaim({ ttlMs: 300 });
    const hold = await granted(counters, { ...window, amount: 3 }, slot);
    await admin.flushall();
    await admin.script("FLUSH");
    await granted(counters, window);
    await sleep(150);
    await refused(counters, slot);
    await hold.release([0]);
    assert.deepEqual((await counters.take([{ ...window, amount: 0 }])).remaining, [3]);
    await granted(counters, slot);
    await admin.script("FLUSH");
    await Promise.all([granted(counters, windowClaim()), granted(counters, windowClaim())]);
    assert.deepEqual(log, []);
  });

  test("demoted to a replica it is unavailable, and used again as a master", async () => {
    await admin.replicaof("127.0.0.1", "1");
    for (let call = 0; call < 8; call += 1) {
      await failedAfterMs();
      await sleep(40);
    }
    assert.equal(await counters.ping(), false);
    await admin.replicaof("NO", "ONE");
    const backMs = await backAfterMs();
    assert.ok(backMs < 5000, `${backMs}`);
  });

  test("a release never rejects and does not wait for long", async () => {
    const verdict = await decided(windowClaim({ amount: 5 }), slotClaim());
    assert.ok(verdict.ok);
    const slack = await slackMs();
    redis.kill("SIGSTOP");
    const startMs = performance.now();
    await verdict.hold.release([1, undefined]);
    assert.ok(performance.now() - startMs < timeoutMs + 10 + slack);
    const late = await counters.take([windowClaim()]).catch((error: unknown) => error);
    assert.ok(late instanceof CountersUnavailable);
  });

  test("a memory limit or a missing login is unavailability, and no error shows the password", async () => {
    await admin.config("SET", "requirepass", "the-right-password");
    const intruder = connect(redis, { password: "a-wrong-password", log, timeoutMs });
    const owner = connect(redis, { password: "the-right-password" });
    try {
      for (let call = 0; call < 4; call += 1) {
        const error = await intruder.take([windowClaim()]).catch((thrown: unknown) => thrown);
        assert.ok(error instanceof CountersUnavailable);
        assert.doesNotMatch(inspect(error, { depth: 20, showHidden: true }), /password"?:|wrong-password/);
        await sleep(20);
      }
      assert.doesNotMatch(inspect(log, { depth: 20 }), /wrong-password/);
      while (!(await owner.ping())) await sleep(20);
      await granted(owner, windowClaim());
      await admin.config("SET", "maxmemory", "1");
      await assert.rejects(owner.take([windowClaim()]), CountersUnavailable);
    } finally {
      await Promise.all([intruder.close(), owner.close()]);
    }
  });
});

test("counters may be made before there is a Redis, and closed without one", async () => {
  const place = await startRedis();
  await place.stop();
  const counters = connect(place, { timeoutMs: 50 });
  await assert.rejects(counters.take([windowClaim()]), CountersUnavailable);
  assert.equal(await counters.ping(), false);
  const redis = await startRedis({ port: place.port });
  try {
    for (const startMs = performance.now(); !(await counters.ping()); await sleep(20)) {
      assert.ok(performance.now() - startMs < 5000);
    }
    await granted(counters, windowClaim());
  } finally {
    await redis.stop();
    await counters.close();
  }
});

test("a take right after the start waits for the connection", async () => {
  const redis = await startRedis();
  const counters = connect(redis);
  try {
    await granted(counters, windowClaim(), slotClaim());
  } finally {
    await counters.close();
    await redis.stop();
  }
});
