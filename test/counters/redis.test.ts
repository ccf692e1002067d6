import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import type { Counters } from "../../src/counters/counters.ts";
import { type TestRedis, testRedis } from "../redis.ts";
import { keepsThePromises } from "./contract.ts";
import type { PodOrder } from "./pod-process.ts";
import { connect } from "./redis-pod.ts";
import { granted, refused, slotClaim, windowClaim } from "./sample-claims.ts";

keepsThePromises("counters in Redis", async () => {
  const redis = await testRedis();
  const counters = [connect(redis), connect(redis), connect(redis)] as const;
  return { counters, close: async () => void (await Promise.all(counters.map((pod) => pod.close()))) };
});

describe("counters of several processes in one Redis", () => {
  let redis: TestRedis;
  let counters: Counters;
  const children: ChildProcess[] = [];
  before(async () => {
    redis = await testRedis();
    counters = connect(redis);
  });
  after(async () => {
    for (const child of children) child.kill("SIGKILL");
    await counters.close();
  });

  /** Another process takes so often; resolves to how often it was granted. It keeps what it holds until it is killed. */
  async function elsewhere(order: Omit<PodOrder, "redis">): Promise<{ granted: number; child: ChildProcess }> {
    const child = fork(fileURLToPath(new URL("./pod-process.ts", import.meta.url)), [
      JSON.stringify({ redis, ...order }),
    ]);
    children.push(child);
    const [count] = await once(child, "message");
    return { granted: Number(count), child };
  }

  test("three processes with 400 takes between them get exactly the 100 there are", async () => {
    const claims = [windowClaim({ ceiling: 100 })];
    const pods = await Promise.all([150, 150, 100].map((takes) => elsewhere({ claims, takes })));
    assert.equal(
      pods.reduce((sum, pod) => sum + pod.granted, 0),
      100,
    );
  });

  test("a slot outlives its process by its time to live, not more", async () => {
    const claim = slotClaim({ ttlMs: 600 });
    const pod = await elsewhere({ claims: [claim], takes: 1 });
    assert.equal(pod.granted, 1);
    await sleep(800);
    await refused(counters, claim);
    pod.child.kill("SIGKILL");
    await once(pod.child, "exit");
    await refused(counters, claim);
    await sleep(620);
    await granted(counters, claim);
  });
});

test("nothing is left in Redis for ever, whatever happened to it", async () => {
  const redis = await testRedis();
  const counters = connect(redis);
  const client = new Redis(redis);
  try {
    const window = windowClaim({ windowMs: 300 });
    const slot = slotClaim({ ttlMs: 300, ceiling: 5 });
    const hold = await granted(counters, window, slot);
    await granted(counters, window, slot);
    await granted(counters, { ...windowClaim(), amount: 0 });
    await hold.release([5]);
    await sleep(150);
    for (const key of await client.keys("*")) assert.ok((await client.pttl(key)) > 0, key);
    await counters.close();
    await sleep(350);
    const left = await client.keys("*:300");
    assert.deepEqual([...left, ...(await client.keys("*:slots"))], []);
  } finally {
    client.disconnect();
    await counters.close();
  }
});

test("a window in use stays small", async () => {
  const redis = await testRedis();
  const counters = connect(redis);
  const client = new Redis(redis);
  try {
    const claim = windowClaim({ windowMs: 120, ceiling: 1000 });
    for (let call = 0; call < 200; call += 1) {
      await counters.take([claim]);
      await sleep(3);
    }
    const [key = ""] = await client.keys("*:120");
    assert.ok((await client.hlen(key)) <= 64);
  } finally {
    client.disconnect();
    await counters.close();
  }
});
