import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Redis } from "ioredis";
import { RedisAnswers } from "../../src/cache/redis-answers.ts";
import { systemClock, systemRandom } from "../../src/clock.ts";
import type { RedisAddress } from "../../src/config/redis-address.ts";
import { type TestRedis, testRedis } from "../redis.ts";
import { type RedisCluster, startCluster } from "../redis-cluster.ts";

const entry = Buffer.from([0, 255, 13, 10, 128]);
const keys = Array.from({ length: 30 }, (_, index) => `answer-${index}`);

function answersAt(address: Pick<RedisAddress, "kind" | "nodes" | "db">): RedisAnswers {
  const how = { username: undefined, password: undefined, tls: undefined, sentinel: undefined };
  const parts = { clock: systemClock, random: systemRandom, telemetry: { log: () => {} }, timeoutMs: 2000 };
  return new RedisAnswers({ ...parts, address: { ...address, ...how } });
}

async function keep(answers: RedisAnswers): Promise<void> {
  for (const key of keys) answers.put(key, entry, 60_000);
  // What is sent later is carried out later, on each node.
  for (const key of keys) assert.deepEqual(await answers.get(key), entry);
}

async function foundCount(answers: RedisAnswers): Promise<number> {
  return (await Promise.all(keys.map((key) => answers.get(key)))).filter((found) => found !== undefined).length;
}

async function areKept(answers: RedisAnswers): Promise<void> {
  try {
    assert.ok(await answers.ping());
    assert.equal(await foundCount(answers), 0);
    await keep(answers);
    await answers.delete(keys.slice(0, 10));
    assert.equal(await foundCount(answers), 20);
    await answers.clear();
    assert.equal(await foundCount(answers), 0);
  } finally {
    await answers.close();
  }
}

describe("answers in one Redis", () => {
  let redis: TestRedis;
  before(async () => {
    redis = await testRedis();
  });

  test("are found until they are deleted, and nothing else is cleared", async () => {
    const client = new Redis(redis);
    try {
      await client.set("someone's", 1);
      await areKept(answersAt({ kind: "server", nodes: [redis], db: redis.db }));
      assert.equal(await client.get("someone's"), "1");
    } finally {
      client.disconnect();
    }
  });
});

describe("answers in a Redis Cluster", () => {
  let cluster: RedisCluster;
  before(async () => {
    cluster = await startCluster();
  });
  after(() => cluster.stop());

  test("are found on every node until they are deleted, all of them with clear", async () => {
    const [seed] = cluster.masters;
    assert.ok(seed);
    await areKept(answersAt({ kind: "cluster", nodes: [seed], db: 0 }));
  });

  test("on a node that is away are not found, and those of the others are", async () => {
    const [seed, , lost] = cluster.masters;
    assert.ok(seed && lost);
    const answers = answersAt({ kind: "cluster", nodes: [seed], db: 0 });
    try {
      // Each node is connected when it is first asked.
      await foundCount(answers);
      await keep(answers);
      lost.kill("SIGKILL");
      const count = await foundCount(answers);
      assert.ok(count > 2 && count < keys.length - 2, `${count} are found`);
      await assert.rejects(answers.delete(keys));
    } finally {
      await answers.close();
    }
  });
});
