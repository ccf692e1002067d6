import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { Redis } from "ioredis";
import { systemClock, systemRandom } from "../../src/clock.ts";
import { Board } from "../../src/counters/board.ts";
import { MemoryBoard } from "../../src/counters/board-memory.ts";
import { RedisBoard } from "../../src/counters/board-redis.ts";
import type { Figures } from "../../src/counters/board-store.ts";
import { Connection } from "../../src/counters/connection.ts";
import { LivePods } from "../../src/counters/live-pods.ts";
import { startRedis, type TestRedis, testRedis } from "../redis.ts";
import { boardsKeepTheirPromises, knows, newId } from "./board-contract.ts";
import { connect } from "./redis-pod.ts";

const halfLifeMs = 60_000;
const cause = { code: "provider_error", status: 503 };

/** A pod with a board. */
function podAt(redis: Pick<TestRedis, "host" | "port">, options: Parameters<typeof connect>[1] = {}) {
  const counters = connect(redis, options);
  const board = new Board({ store: counters.boardStore(halfLifeMs), clock: systemClock, halfLifeMs });
  const close = async () => {
    await board.close();
    await counters.close();
  };
  return { board, close };
}

boardsKeepTheirPromises("boards that meet in Redis", async () => {
  const redis = await testRedis();
  const pods = [podAt(redis), podAt(redis), podAt(redis)] as const;
  const boards = [pods[0].board, pods[1].board, pods[2].board] as const;
  return { boards, close: async () => void (await Promise.all(pods.map((pod) => pod.close()))) };
});

test("whatever pods tell, in whichever order, Redis answers as memory does", async () => {
  const redis = await testRedis();
  const pods = ["a", "b", "c"].map((podId) => connect(redis, { podId }));
  const ids = ["one", "two", '3"{}'];
  const decaying = fc.record({ sum: fc.integer({ min: 0, max: 9000 }), count: fc.integer({ min: 0, max: 90 }) });
  const numbers = { inFlight: fc.nat(50), requests: fc.nat(9000), tokens: fc.nat(9_000_000) };
  const figures = fc.record({ ...numbers, pace: decaying, firstToken: decaying });
  const row = fc.dictionary(fc.constantFrom(...ids), figures, { maxKeys: 3 });
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.record({ pod: fc.nat(2), row }), { maxLength: 20 }), async (posts) => {
        const memory = new MemoryBoard({ clock: systemClock, halfLifeMs: 1e9 });
        const tell = async (number: number, told: Readonly<Record<string, Figures>>) => {
          const post = { figures: new Map(Object.entries(told)), cool: new Map(), clear: [], ids };
          const store = pods[number]?.boardStore(1e9);
          const [{ totals = [] } = {}, expected] = await Promise.all([
            store?.exchange(post),
            memory.storeOf(`${number}`).exchange(post),
          ]);
          for (const [index, total] of totals.entries())
            assert.deepEqual(rounded(total), rounded(expected.totals[index]));
        };
        for (const { pod, row: told } of posts) await tell(pod, told);
        for (const pod of pods.keys()) await tell(pod, {});
      }),
      { numRuns: 50 },
    );
  } finally {
    await Promise.all(pods.map((pod) => pod.close()));
  }
});

/** Without what fades in the few milliseconds between two tellings, and without traces. */
function rounded(figures: Figures | undefined): unknown {
  return JSON.parse(JSON.stringify(figures), (_, value) =>
    typeof value === "number" ? Math.round(value * 10) / 10 : value,
  );
}

test("what a killed pod had under way is under way no more within 20 s; what one that left had, at once", async () => {
  const redis = await testRedis();
  const id = newId();
  const start = async () => {
    const child = fork(fileURLToPath(new URL("./board-process.ts", import.meta.url)), [JSON.stringify({ redis, id })]);
    await once(child, "message");
    return child;
  };
  const pod = podAt(redis);
  const client = new Redis(redis);
  const children = await Promise.all([start(), start()]);
  try {
    await knows(pod.board, id, (facts) => facts.inFlight === 6);
    children[0].kill("SIGKILL");
    const tookMs = await knows(pod.board, id, (facts) => facts.inFlight === 3, 25_000);
    assert.ok(tookMs > 5_000 && tookMs < 20_000, `${tookMs}`);
    children[1].kill("SIGTERM");
    assert.ok((await knows(pod.board, id, (facts) => facts.inFlight === 0)) < 2_000);
    await pod.close();
    assert.deepEqual(await client.hgetall("tollgate:{pods}:board"), {}, "nothing is left of pods that are gone");
  } finally {
    for (const child of children) child.kill("SIGKILL");
    client.disconnect();
    await pod.close();
  }
});

test("a pod that is killed and comes back under its name has nothing under way", async () => {
  const redis = await testRedis();
  const id = newId();
  const [pod, killed] = [podAt(redis), podAt(redis, { podId: "again" })];
  killed.board.began(id);
  await knows(pod.board, id, (facts) => facts.inFlight === 1);
  // As after a kill: the first says nothing more, the second has the same name.
  const again = podAt(redis, { podId: "again" });
  try {
    assert.ok((await knows(pod.board, id, (facts) => facts.inFlight === 0)) < 1000);
  } finally {
    await Promise.all([pod, killed, again].map((each) => each.close()));
  }
});

test("flushed, the board is whole again as soon as each pod has a call", async () => {
  const redis = await startRedis();
  const [one, other] = [podAt(redis), podAt(redis)];
  const client = new Redis({ host: redis.host, port: redis.port });
  const id = newId();
  try {
    for (const pod of [one, other]) {
      pod.board.began(id);
      pod.board.ended(id, { tokens: 10, msPerOutputToken: 5 });
      pod.board.began(id);
    }
    await knows(one.board, id, (facts) => facts.requests === 4);
    await client.flushall();
    other.board.of(id);
    await sleep(600);
    await knows(one.board, id, (facts) => facts.requests === 4 && facts.inFlight === 2 && facts.tokens === 20, 1000);
  } finally {
    client.disconnect();
    await Promise.all([one.close(), other.close()]);
    await redis.stop();
  }
});

test("frozen and killed, Redis costs the board's readers nothing, and what they said meanwhile is told when it is back", async () => {
  let redis = await startRedis();
  const [one, other] = [podAt(redis, { timeoutMs: 50 }), podAt(redis, { timeoutMs: 50 })];
  const id = newId();
  try {
    other.board.began(id);
    await knows(one.board, id, (facts) => facts.inFlight === 1);
    redis.kill("SIGSTOP");
    await knows(one.board, id, (facts) => facts.inFlight === 0, 1000);
    const startMs = performance.now();
    for (let call = 0; call < 1000; call += 1) {
      one.board.began(id);
      one.board.of(id);
      one.board.ended(id, { tokens: 1 });
    }
    assert.ok(performance.now() - startMs < 200, `${performance.now() - startMs}`);
    await redis.stop();
    one.board.cool(id, 60_000, cause);
    await sleep(1000);
    assert.equal(one.board.of(id).cooling?.code, "provider_error");
    redis = await startRedis({ port: redis.port });
    const tookMs = await knows(other.board, id, ({ cooling, requests }) => cooling !== undefined && requests === 1001);
    assert.ok(tookMs < 5000, `${tookMs}`);
    await knows(one.board, id, ({ inFlight }) => inFlight === 1, 1000);
  } finally {
    await Promise.all([one.close(), other.close()]);
    await redis.stop();
  }
});

test("a thousand pods give Redis no more to do than a hundred", async () => {
  const redis = await startRedis();
  const address = { kind: "server", nodes: [redis], db: 0, username: undefined, tls: undefined } as const;
  // Their own connections would be what is measured.
  const connection = new Connection({
    ...{ address: { ...address, sentinel: undefined, password: undefined }, consequence: "", timeoutMs: 30_000 },
    ...{ clock: systemClock, random: systemRandom, telemetry: { log: () => {} } },
  });
  const client = new Redis({ host: redis.host, port: redis.port });
  // They have been there for a while: what each hears first is how many they are.
  const deadMs = Date.now() + 60_000;
  await client.zadd("tollgate:{pods}", ...Array.from({ length: 1_000 }, (_, index) => [deadMs, `pod-${index}`]).flat());
  const pods = Array.from({ length: 1_000 }, (_, index) => {
    const life = new LivePods({ connection, clock: systemClock, podId: `pod-${index}` });
    const store = new RedisBoard({ connection, podId: `pod-${index}`, halfLifeMs, pods: life });
    return { life, board: new Board({ store, clock: systemClock, halfLifeMs }) };
  });
  // As many calls as there might be: each pod always wants to know.
  const asking = setInterval(() => {
    for (const { board } of pods) board.of("d");
  }, 100);
  try {
    for (let waited = 0; pods.some(({ life }) => life.known !== 1_000); waited += 1) {
      assert.ok(waited < 100, "they do not hear of each other");
      await sleep(100);
    }
    await client.config("RESETSTAT");
    const startMs = performance.now();
    await sleep(3_000);
    const tookS = (performance.now() - startMs) / 1_000;
    const stats = /cmdstat_evalsha:calls=(\d+),usec=(\d+)/.exec(await client.info("commandstats"));
    // Exchanges; and a sign of life of each every five seconds, mostly all at once.
    const [perS, busy] = [Number(stats?.[1]) / tookS, Number(stats?.[2]) / 1e6 / tookS];
    assert.ok(perS > 300 && perS < 400 + 200 + 60, `${perS} scripts a second`);
    assert.ok(busy < 0.25, `Redis is busy for ${busy} of the time`);
  } finally {
    clearInterval(asking);
    client.disconnect();
    await Promise.all(pods.map(({ board, life }) => board.close().then(() => life.close())));
    await connection.close();
    await redis.stop();
  }
});

test("nothing stays in Redis for ever", async () => {
  const redis = await testRedis();
  const pod = podAt(redis);
  const client = new Redis(redis);
  try {
    const id = newId();
    pod.board.began(id);
    pod.board.cool(id, 1000, cause);
    for (let waited = 0; (await client.keys("*:cooling")).length === 0; waited += 1) {
      assert.ok(waited < 100, "it was never told");
      await sleep(50);
    }
    for (const key of await client.keys("*")) assert.ok((await client.pttl(key)) > 0, key);
  } finally {
    client.disconnect();
    await pod.close();
  }
});
