/** What callers see of a Redis that fails, with the time limit that is the default. `npm run test:faults` does the same at length. */

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { FaultProxy } from "../faults/proxy.ts";
import { type RedisServer, startRedis } from "../redis.ts";
import { type RedisCluster, startCluster } from "../redis-cluster.ts";
import { PlannedUpstream } from "./planned-upstream.ts";
import { Stack } from "./stack.ts";

const timeoutMs = 50;

/** Two sidecars, and deployments that take of Redis for every call. */
async function setUp(redis: string): Promise<{ stack: Stack; upstream: PlannedUpstream }> {
  const upstream = await PlannedUpstream.start();
  const rpms = { roomy: 100_000, narrow0: 20, narrow1: 20, narrow2: 20, narrow3: 20 };
  const models = Object.entries(rpms).map(([group, rpm]) => {
    upstream.plan(group, "a", ["ok"]);
    return upstream.deployment(group, "a", { group, params: { rpm } });
  });
  const env = { TOLLGATE_REDIS_TIMEOUT_MS: String(timeoutMs) };
  const stack = await Stack.start({ sidecars: 2, models: models.join("\n"), redis, env }).catch(async (error) => {
    await upstream.close();
    throw error;
  });
  return { stack, upstream };
}

/** Calls one after the other, at both sidecars in turn. @returns their times in milliseconds, the shortest first. */
async function timesOf(stack: Stack, key: string, calls: number): Promise<number[]> {
  const timesMs: number[] = [];
  for (let call = 0; call < calls; call++) {
    const startMs = performance.now();
    const answer = await stack.chat(call % 2, key, { model: "roomy" });
    await answer.text();
    assert.equal(answer.status, 200, "no caller sees it");
    timesMs.push(performance.now() - startMs);
  }
  return timesMs.sort((a, b) => a - b);
}

/** Waits until both use Redis, or both do not. */
async function isUsed(stack: Stack, used: boolean, withinMs = 5_000): Promise<void> {
  const startMs = performance.now();
  for (;;) {
    const texts = await Promise.all(
      stack.sidecars.map(async ({ adminUrl }) => (await fetch(`${adminUrl}/metrics`)).text()),
    );
    if (texts.every((text) => text.includes(`tollgate_dependency_up{dep="redis"} ${used ? 1 : 0}\n`))) return;
    assert.ok(
      performance.now() - startMs < withinMs,
      `not within ${withinMs} ms: Redis is ${used ? "used" : "given up"}`,
    );
    await sleep(50);
  }
}

/** While Redis is away, each pod has its share of a limit of 20, and they never have more together. */
async function sharesHold({ stack, upstream }: Awaited<ReturnType<typeof setUp>>, model: string): Promise<void> {
  const key = await stack.generateKey({});
  const statuses: number[] = [];
  for (let call = 0; call < 30; call++) statuses.push((await stack.chat(call % 2, key, { model })).status);
  assert.equal(statuses.filter((status) => status === 200).length, 20);
  assert.ok(statuses.every((status) => status === 200 || status === 429));
  assert.equal(upstream.tried(model).length, 20);
}

describe("two sidecars whose Redis", () => {
  let redis: RedisServer;
  let proxy: FaultProxy;
  let stage: Awaited<ReturnType<typeof setUp>>;
  let key: string;
  before(async () => {
    redis = await startRedis();
    proxy = await FaultProxy.start(redis.port);
    stage = await setUp(`  redis_host: 127.0.0.1\n  redis_port: ${proxy.port}`);
    key = await stage.stack.generateKey({ rpm_limit: 100_000 });
  });
  after(async () => {
    await stage?.upstream.close();
    await stage?.stack.close();
    await proxy.close();
    await redis.stop();
  });
  afterEach(() => isUsed(stage.stack, true));

  const faults: readonly (readonly [what: string, inject: () => unknown, heal: () => unknown])[] = [
    [
      "is killed",
      () => redis.stop(),
      async () => {
        redis = await startRedis({ port: redis.port });
      },
    ],
    [
      "answers two seconds late",
      () => Object.assign(proxy, { latencyMs: 2_000 }),
      () => Object.assign(proxy, { latencyMs: 0 }),
    ],
    [
      "says nothing any more",
      () => Object.assign(proxy, { mode: "blackhole" }),
      () => Object.assign(proxy, { mode: "pass" }),
    ],
  ];
  for (const [index, [what, inject, heal]] of faults.entries()) {
    test(`${what}: calls go on, slower by its time limit at first and then by nothing, within each pod's share`, async () => {
      const { stack } = stage;
      const well = await timesOf(stack, key, 40);
      await inject();
      try {
        const first = await timesOf(stack, key, 20);
        const [usualMs, slowestMs] = [well[20] ?? 0, well.at(-1) ?? 0];
        const addedMs = (first[10] ?? 0) - usualMs;
        assert.ok(addedMs < timeoutMs + 10, `the usual call took ${addedMs} ms more`);
        assert.ok(
          (first[17] ?? 0) < slowestMs + timeoutMs + 10,
          `${first.map(Math.round)}; before: ${well.map(Math.round)}`,
        );
        await isUsed(stack, false);
        const later = await timesOf(stack, key, 20);
        assert.ok((later[10] ?? 0) - usualMs < 20, `${later.map(Math.round)}; before: ${well.map(Math.round)}`);
        await sharesHold(stage, `narrow${index}`);
      } finally {
        await heal();
      }
      await isUsed(stack, true);
    });
  }

  test("is flushed: calls go on, and it is used all the while", async () => {
    const client = new Redis({ host: redis.host, port: redis.port });
    try {
      await timesOf(stage.stack, key, 10);
      await client.flushall();
      await client.script("FLUSH");
      await timesOf(stage.stack, key, 20);
      await isUsed(stage.stack, true, 0);
    } finally {
      client.disconnect();
    }
  });
});

describe("two sidecars whose Redis is a Cluster of three masters", () => {
  let cluster: RedisCluster;
  let stage: Awaited<ReturnType<typeof setUp>>;
  before(async () => {
    cluster = await startCluster();
    const nodes = cluster.masters.map(({ host, port }) => ({ host, port }));
    stage = await setUp(`  cache_kwargs: { redis_startup_nodes: ${JSON.stringify(nodes)} }`);
  });
  after(async () => {
    await stage?.upstream.close();
    await stage?.stack.close();
    await cluster.stop();
  });

  test("keep limits of keys and deployments exactly, go on when a master freezes, and use it again", async () => {
    const { stack } = stage;
    await sharesHold(stage, "narrow0");
    const limited = await stack.generateKey({ rpm_limit: 15 });
    const statuses = await Promise.all(
      Array.from({ length: 30 }, async (_, index) => (await stack.chat(index % 2, limited, { model: "roomy" })).status),
    );
    assert.equal(statuses.filter((status) => status === 200).length, 15);
    // Keys and deployments lie on all masters: those on the frozen one are decided by share.
    const keys = await Promise.all(Array.from({ length: 6 }, () => stack.generateKey({ rpm_limit: 100_000 })));
    const well = await timesOf(stack, keys[0] ?? "", 20);
    const [frozen] = cluster.masters;
    frozen?.kill("SIGSTOP");
    try {
      for (const key of keys) {
        const times = await timesOf(stack, key, 8);
        const addedMs = (times[4] ?? 0) - (well[10] ?? 0);
        assert.ok(addedMs < timeoutMs + 10, `the usual call took ${addedMs} ms more`);
      }
    } finally {
      frozen?.kill("SIGCONT");
    }
    await isUsed(stack, true);
  });
});
