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
/** So late are timers and answers where the machine is busy, and no later where it still says something. */
const lateMsMax = 25;
/**
 * After three failures in a row Redis is not asked any more; and so much may be on its way beside a call: what the one before gave
 * back, what is told to the other pods, a sign of life.
 */
const failuresMax = 3 + 5;

/** Two sidecars, and deployments that take of Redis for every call. */
async function setUp(redis: string): Promise<{ stack: Stack; upstream: PlannedUpstream }> {
  const upstream = await PlannedUpstream.start();
  const rpms = { roomy: 100_000, narrow0: 20, narrow1: 20, narrow2: 20, narrow3: 20 };
  const models = Object.entries(rpms).map(([group, rpm]) => {
    upstream.plan(group, "a", ["ok"]);
    return upstream.deployment(group, "a", { group, params: { rpm } });
  });
  const env = { TOLLGATE_REDIS_TIMEOUT_MS: String(timeoutMs), REDIS_UNAVAILABLE: "local_share" };
  const config = "tollgate:\n  redis_unavailable: os.environ/REDIS_UNAVAILABLE";
  const options = { sidecars: 2, models: models.join("\n"), redis, config, env };
  const stack = await Stack.start(options).catch(async (error) => {
    await upstream.close();
    throw error;
  });
  return { stack, upstream };
}

/** What some calls came to. */
interface Run {
  /** In milliseconds, the shortest first: of calls that take of Redis, and of others that were made in between. */
  readonly limitedMs: readonly number[];
  readonly freeMs: readonly number[];
  /** At each sidecar. */
  readonly sidecars: readonly Figures[];
}

interface Figures {
  /** Requests to Redis that failed, or were waited for in vain. */
  readonly failures: number;
  /** Calls whose limits were decided without Redis. */
  readonly alone: number;
}

async function figuresOf({ sidecars }: Stack): Promise<Figures[]> {
  return Promise.all(
    sidecars.map(async ({ adminUrl }) => {
      const text = await (await fetch(`${adminUrl}/metrics`)).text();
      const figure = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1]);
      return { failures: figure("tollgate_redis_failures_total"), alone: figure("tollgate_limits_degraded_total") };
    }),
  );
}

/** Calls one after the other, at both sidecars in turn: each sidecar has the half of them. */
async function run(stack: Stack, key: string, calls: number): Promise<Run> {
  const unlimited = await stack.generateKey({});
  await Promise.all(stack.sidecars.map((_, sidecar) => stack.chat(sidecar, unlimited)));
  const before = await figuresOf(stack);
  const timeOf = async (sidecar: number, secret: string, fields: object) => {
    const startMs = performance.now();
    const answer = await stack.chat(sidecar, secret, fields);
    await answer.text();
    assert.equal(answer.status, 200, "no caller sees it");
    return performance.now() - startMs;
  };
  const [limitedMs, freeMs]: [number[], number[]] = [[], []];
  for (let call = 0; call < calls; call++) {
    freeMs.push(await timeOf(call % 2, unlimited, {}));
    limitedMs.push(await timeOf(call % 2, key, { model: "roomy" }));
  }
  const after = await figuresOf(stack);
  const sidecars = after.map(({ failures, alone }, index) => ({
    failures: failures - (before[index]?.failures ?? 0),
    alone: alone - (before[index]?.alone ?? 0),
  }));
  for (const timesMs of [limitedMs, freeMs]) timesMs.sort((a, b) => a - b);
  return { limitedMs, freeMs, sidecars };
}

/** How much longer calls take for Redis. Where those that do not ask it are slow too, the machine is, and that says nothing. */
function slowedByAtMost(ms: number, { limitedMs, freeMs }: Run): void {
  if ((freeMs.at(-1) ?? 0) > lateMsMax) return;
  const times = `${limitedMs.map(Math.round)}; without Redis: ${freeMs.map(Math.round)}`;
  // Not the slowest: one call of a run is often held up by what else the machine does.
  for (const part of [1 / 2, 3 / 4]) {
    const at = Math.floor(limitedMs.length * part) - 1;
    assert.ok((limitedMs[at] ?? 0) - (freeMs[at] ?? 0) < ms, times);
  }
}

/** Waits until both use Redis, or both do not. */
async function isUsed(stack: Stack, used: boolean, withinMs = 5_000): Promise<void> {
  const startMs = performance.now();
  for (;;) {
    const texts = await Promise.all(
      stack.sidecars.map(async ({ adminUrl }) => (await fetch(`${adminUrl}/metrics`)).text()),
    );
    const isAsWanted = (text: string) =>
      text.includes(`tollgate_dependency_up{dep="redis"} ${used ? 1 : 0}\n`) &&
      // A share is a limit's by as many pods as are known to live.
      text.includes("\ntollgate_live_pods 2\n");
    if (texts.every(isAsWanted)) return;
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
    await isUsed(stage.stack, true);
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
      await inject();
      try {
        const first = await run(stack, key, 20);
        await isUsed(stack, false);
        for (const { alone, failures } of first.sidecars) {
          assert.equal(alone, 10, "no limit was left undecided");
          assert.ok(failures <= failuresMax, `${failures} requests of 10 calls were waited for in vain`);
        }
        slowedByAtMost(timeoutMs + lateMsMax, first);
        const later = await run(stack, key, 20);
        for (const each of later.sidecars)
          assert.deepEqual(each, { alone: 10, failures: 0 }, "nothing was asked of it");
        slowedByAtMost(20, later);
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
      await run(stage.stack, key, 10);
      await client.flushall();
      await client.script("FLUSH");
      await run(stage.stack, key, 20);
      await isUsed(stage.stack, true, 0);
    } finally {
      client.disconnect();
    }
  });

  test("is away: a sidecar that is to be closed refuses what has limits, one that is to be open counts nothing", async () => {
    const { stack } = stage;
    const [closed, open] = stack.sidecars;
    const modes = [closed, open].map(async (sidecar, index) => {
      await sidecar?.process.kill("SIGTERM");
      sidecar?.process.restart({ REDIS_UNAVAILABLE: index === 0 ? "closed" : "open" });
      await sidecar?.ready();
    });
    await Promise.all(modes);
    await isUsed(stack, true);
    const [narrow, unlimited] = [await stack.generateKey({ rpm_limit: 2 }), await stack.generateKey({})];
    Object.assign(proxy, { mode: "blackhole" });
    try {
      const statuses = async (sidecar: number, secret: string, model: string) => {
        const answers = [];
        for (let call = 0; call < 6; call++) answers.push(await stack.chat(sidecar, secret, { model }));
        return answers;
      };
      const before = await figuresOf(stack);
      const [byKey, byDeployment] = [await statuses(0, narrow, "ok"), await statuses(0, unlimited, "narrow3")];
      for (const answer of [...byKey, ...byDeployment]) {
        assert.equal(answer.status, 503);
        const { error } = (await answer.json()) as { error: { code: string } };
        assert.equal(error.code, "counters_unavailable");
        assert.ok(Number(answer.headers.get("retry-after")) > 0, "and says when to come back");
      }
      assert.ok(
        (await statuses(0, unlimited, "ok")).every(({ status }) => status === 200),
        "without limits nobody asks",
      );
      assert.ok((await statuses(1, narrow, "ok")).every(({ status }) => status === 200));
      await isUsed(stack, false);
      const [atClosed, atOpen] = await figuresOf(stack);
      assert.deepEqual([atClosed?.alone, (atOpen?.alone ?? 0) - (before[1]?.alone ?? 0)], [0, 6]);
      for (const [index, each] of [atClosed, atOpen].entries()) {
        const inVain = (each?.failures ?? 0) - (before[index]?.failures ?? 0);
        assert.ok(inVain <= failuresMax, `${inVain} requests were waited for in vain`);
      }
    } finally {
      Object.assign(proxy, { mode: "pass" });
    }
    await isUsed(stack, true);
    for (const sidecar of [0, 1]) {
      const key = await stack.generateKey({ rpm_limit: 2 });
      // Where the machine is too busy for an answer in time, a call of the two may have been refused, or not counted.
      let statuses: number[] = [];
      for (let call = 0; call < 20 && !statuses.includes(429); call++) {
        statuses = [...statuses, (await stack.chat(sidecar, key)).status];
      }
      assert.ok(statuses.includes(429), `its limits hold again: ${statuses}`);
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
    const before = await figuresOf(stack);
    const [limited, unlimited] = [await stack.generateKey({ rpm_limit: 15 }), await stack.generateKey({})];
    const served = async (key: string, model: string) => {
      const calls = Array.from({ length: 30 }, (_, index) => stack.chat(index % 2, key, { model }));
      return (await Promise.all(calls)).filter(({ status }) => status === 200).length;
    };
    const counts = [await served(limited, "roomy"), await served(unlimited, "narrow0")];
    // Where the machine is too busy for an answer in time, a pod goes by its share of what it does not know to be used.
    const isAsked = (await figuresOf(stack)).every(({ alone }, index) => alone === before[index]?.alone);
    if (isAsked) assert.deepEqual(counts, [15, 20]);
    else assert.ok((counts[0] ?? 0) <= 30 && (counts[1] ?? 0) <= 40, `${counts}`);
    // Keys and deployments lie on all masters: those on the frozen one are decided by share.
    const keys = await Promise.all(Array.from({ length: 6 }, () => stack.generateKey({ rpm_limit: 100_000 })));
    const [frozen] = cluster.masters;
    frozen?.kill("SIGSTOP");
    try {
      const beforeFrozen = await figuresOf(stack);
      for (const key of keys) slowedByAtMost(timeoutMs + lateMsMax, await run(stack, key, 8));
      for (const [index, { failures }] of (await figuresOf(stack)).entries()) {
        const inVain = failures - (beforeFrozen[index]?.failures ?? 0);
        assert.ok(inVain <= failuresMax, `${inVain} requests of 24 calls were waited for in vain`);
      }
    } finally {
      frozen?.kill("SIGCONT");
    }
    await isUsed(stack, true);
  });
});
