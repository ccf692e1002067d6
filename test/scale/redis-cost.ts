/** What Redis spends on one script, by its own account: it runs one at a time, so this is what bounds a server. */

import { Redis } from "ioredis";
import { podsKey } from "../../src/counters/live-pods.ts";
import type { RedisCounters } from "../../src/counters/redis.ts";
import { connect } from "../counters/redis-pod.ts";
import { windowClaim } from "../counters/sample-claims.ts";
import { startRedis } from "../redis.ts";

/** Microseconds of Redis's time. */
export interface RedisCost {
  /** A call with a limit of requests and one of tokens: its take, and what it gives back when it ends, as scripts of their own. */
  readonly callUs: number;
  /** A pod's sign of life among so many. */
  readonly beatUs: readonly { readonly pods: number; readonly us: number }[];
}

/** The least of so many is what it costs when nothing disturbs it. */
const rounds = 5;

/** Measures on a Redis of its own. @param callCount in each round. */
export async function measureRedis(callCount: number, podCounts: readonly number[]): Promise<RedisCost> {
  const server = await startRedis();
  const redis = new Redis({ host: server.host, port: server.port });
  const counters = connect(server);
  try {
    await counters.ping();
    const callUs = (await leastUsOf(redis, () => takeTurns(counters, callCount))) / callCount;
    const beatUs = [];
    for (const pods of podCounts) {
      const endMs = String(Date.now() + 3_600_000);
      for (let from = 0; from < pods; from += 1_000) {
        const names = Array.from({ length: Math.min(1_000, pods - from) }, (_, n) => [endMs, `other-${from + n}`]);
        await redis.zadd(podsKey, ...names.flat());
      }
      const beats = 50;
      const us = await leastUsOf(redis, async () => {
        for (let n = 0; n < beats; n++) await connect(server, { podId: `pod-${n}` }).close();
      });
      // Each says that it lives, and then that it leaves.
      beatUs.push({ pods, us: us / (2 * beats) });
    }
    return { callUs, beatUs };
  } finally {
    await counters.close();
    redis.disconnect();
    await server.stop();
  }
}

async function takeTurns(counters: RedisCounters, callCount: number): Promise<void> {
  for (let call = 0; call < callCount; call++) {
    const group = `key:${call % 100}`;
    const verdict = await counters.take([
      windowClaim({ group, name: "requests", ceiling: 1_000_000 }),
      windowClaim({ group, name: "tokens", amount: 500, ceiling: 1_000_000_000 }),
    ]);
    if (!verdict.ok) throw new Error("Redis refused a call.");
    await verdict.hold.release([1, 300]);
  }
}

/** Redis's time in scripts meanwhile, in microseconds. */
async function leastUsOf(redis: Redis, work: () => Promise<void>): Promise<number> {
  const us: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await redis.config("RESETSTAT");
    await work();
    const stats = await redis.info("commandstats");
    us.push(Number(/^cmdstat_evalsha:calls=\d+,usec=(\d+)/m.exec(stats)?.[1] ?? Number.NaN));
  }
  return Math.min(...us);
}
