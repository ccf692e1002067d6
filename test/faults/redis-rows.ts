import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { startRedis } from "../redis.ts";
import {
  busiestMinute,
  type Incident,
  latencyFact,
  limitedRpm,
  medianMs,
  onlyStatuses,
  type Row,
  type Scene,
  seconds,
} from "./row.ts";
import { eventually, figure, pause } from "./world.ts";

const noErrors =
  "no errors; limits by each pod's share, so at most twice the limit in a minute, and a call a pod at each end of the outage; money exact";

export const redisRows: readonly Row[] = [
  {
    name: "1",
    fault: "Redis killed (kill -9), started again empty",
    promise: `${noErrors}; the median call is slower by less than 5 ms; used again within 5 s`,
    isQuick: true,
    run: async (scene) => {
      const { world } = scene;
      let backMs = 0;
      const incident = await scene.incident({
        inject: () => world.redis.kill("SIGKILL"),
        heal: async () => {
          await world.redis.stop();
          await world.restartRedis();
          backMs = await usedAgainMs(scene);
        },
      });
      return [...judge(scene, incident), `Redis used again after ${seconds(backMs)}`];
    },
  },
  {
    name: "2",
    fault: "Redis answers 2 s late",
    promise: `${noErrors}; the median call is slower by less than 5 ms`,
    run: async (scene) => {
      const incident = await scene.incident({
        inject: () => {
          scene.world.toRedis.latencyMs = 2000;
        },
        heal: async () => {
          scene.world.toRedis.latencyMs = 0;
          await usedAgainMs(scene);
        },
      });
      return judge(scene, incident);
    },
  },
  {
    name: "3",
    fault: "Redis blackholed",
    promise: `${noErrors}; connections to Redis do not pile up (at most two a pod)`,
    run: async (scene) => {
      const { toRedis, pods } = scene.world;
      const incident = await scene.incident({
        inject: () => {
          toRedis.mode = "blackhole";
          toRedis.connections.peak = toRedis.connections.open;
        },
        heal: async () => {
          toRedis.mode = "pass";
          await usedAgainMs(scene);
        },
      });
      const { peak } = toRedis.connections;
      assert.ok(peak <= 2 * pods.length, `${peak} connections at once`);
      return [...judge(scene, incident), `at most ${peak} connections at once`];
    },
  },
  {
    name: "4",
    fault: "Redis fails over to a replica; the old master turns read-only (no Sentinel: the address moves)",
    promise: `${noErrors}; READONLY is understood, and the new master used within 5 s`,
    run: async (scene) => {
      const { world } = scene;
      const replica = await startRedis({ args: ["--repl-diskless-sync-delay", "0"] });
      const [newMaster, oldMaster] = [replica, world.redis].map(({ port }) => new Redis({ port, host: "127.0.0.1" }));
      const old = world.redis;
      try {
        await newMaster?.replicaof("127.0.0.1", old.port);
        await eventually("the replica follows", async () =>
          /master_link_status:up/.test(String(await newMaster?.info())),
        );
        let backMs = 0;
        const incident = await scene.incident({
          inject: async () => {
            await newMaster?.replicaof("NO", "ONE");
            await oldMaster?.replicaof("127.0.0.1", replica.port);
          },
          heal: async () => {
            world.toRedis.targetPort = replica.port;
            world.redis = replica;
            backMs = await usedAgainMs(scene);
          },
        });
        return [...judge(scene, incident), `new master used after ${seconds(backMs)}`];
      } finally {
        newMaster?.disconnect();
        oldMaster?.disconnect();
        await old.stop();
      }
    },
  },
  {
    name: "5",
    fault: "Redis flushed (FLUSHALL, SCRIPT FLUSH)",
    promise:
      "no errors; one window may begin anew, so at most twice the limit in a minute; scripts are loaded again; money exact",
    run: async (scene) => {
      const client = new Redis({ port: scene.world.redis.port, host: "127.0.0.1" });
      try {
        const incident = await scene.incident({
          inject: async () => {
            await client.flushall();
            await client.script("FLUSH");
          },
          heal: () => {},
        });
        return judge(scene, incident);
      } finally {
        client.disconnect();
      }
    },
  },
];

/** What every fault of Redis must leave alone. */
function judge({ isQuick, world }: Scene, incident: Incident): string[] {
  const { before, during, outcomes, keys, facts } = incident;
  onlyStatuses(outcomes, 200, 429);
  const refusedByLimit = outcomes.filter(({ key, code }) => key === keys.loose.name && code !== "").length;
  assert.equal(refusedByLimit, 0, "the loose key was refused");
  // Redis forgets a window once, or has not seen what pods decided alone; and pods are not loaded quite alike, so that at either
  // end one has its share used up while another has a call left of its own.
  const served = busiestMinute(outcomes, keys.limited.name);
  // In the short form other tests keep the machine busy, and pods decide alone though nothing is wrong with Redis.
  const servedMax = isQuick ? 3 * limitedRpm : 2 * limitedRpm + 2 * world.pods.length;
  assert.ok(served <= servedMax, `${served} calls in a minute with a limit of ${limitedRpm}`);
  const slowerMs = medianMs(during) - medianMs(before);
  if (!isQuick) assert.ok(slowerMs < 5, `the median call took ${slowerMs} ms more`);
  return [
    ...facts,
    `key with ${limitedRpm} requests a minute: ${served} served in the busiest (${(served / limitedRpm).toFixed(2)} × the limit)`,
    latencyFact("first byte before", before),
    latencyFact("during", during),
  ];
}

/** How long until every pod uses Redis again. */
async function usedAgainMs({ world }: Scene): Promise<number> {
  const startMs = performance.now();
  await eventually(
    "every pod uses Redis again",
    async () => {
      const up = await Promise.all(world.pods.map((pod) => figure(pod, 'tollgate_dependency_up{dep="redis"}')));
      return up.every((each) => each === 1);
    },
    5_000,
  );
  await pause(0);
  return performance.now() - startMs;
}
