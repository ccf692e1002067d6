import assert from "node:assert/strict";
import { audit, quiesce } from "./audit.ts";
import { moneyFacts, onlyStatuses, type Row, type Scene, seconds } from "./row.ts";
import { Traffic, tally } from "./traffic.ts";
import { pause, ready, type World } from "./world.ts";

const killsOfLongRun = 200;

export const killRows: readonly Row[] = [
  {
    name: "21",
    fault: `kill -9 of a random process (three sidecars, KeyService, Redis, PostgreSQL), ${killsOfLongRun} times, under load`,
    promise: "the ledger is the bill, or above it by no more than what the killed sidecars' calls had reserved",
    run: (scene) => kills(scene, killsOfLongRun),
  },
  {
    name: "21 (short)",
    fault: "kill -9 of each of those processes once, under load",
    promise: "as 21",
    isQuick: true,
    run: (scene) => kills(scene, undefined),
  },
];

/** A process that can be killed, and started again on what it left. */
interface Victim {
  readonly name: "sidecar" | "KeyService" | "Redis" | "PostgreSQL";
  readonly kill: () => Promise<unknown>;
  readonly restart: () => Promise<void> | void;
}

/** @param times how many processes are killed, chosen at random; undefined: each once. */
async function kills(scene: Scene, times: number | undefined): Promise<string[]> {
  const { world } = scene;
  const keys = Object.values(await scene.keys());
  const unconfirmedBefore = await unconfirmedCalls(world);
  const victims = victimsOf(world);
  const killed = times === undefined ? victims : Array.from({ length: times }, () => anyOf(victims));
  const traffic = new Traffic({ world, keys, pauseMs: 60 });
  try {
    await pause(1000);
    for (const { kill, restart } of killed) {
      await kill();
      await pause(Math.random() * 200);
      await restart();
      await pause(200 + Math.random() * 1200);
    }
    assert.ok(!world.keyService.ended, `the KeyService has ended of itself:\n${world.keyService.output.slice(-2000)}`);
    await world.keyServiceReady();
    await Promise.all(world.pods.map(ready));
    await pause(1000);
  } finally {
    await traffic.stop();
  }
  const { outcomes } = traffic;
  onlyStatuses(
    outcomes.filter(({ status, code }) => status !== 0 && code !== "broken"),
    200,
    429,
    503,
  );
  const quietMs = await quiesce(world, keys);
  const audits = await Promise.all(keys.map((key) => audit(world, key)));
  assert.deepEqual(
    audits.flatMap(({ faults }) => faults),
    [],
  );
  const unconfirmed = (await unconfirmedCalls(world)) - unconfirmedBefore;
  const count = (name: Victim["name"]) => killed.filter((victim) => victim.name === name).length;
  // Every key has two callers at every pod, each with one call at a time.
  const inFlightMax = count("sidecar") * keys.length * 2;
  assert.ok(unconfirmed <= inFlightMax, `${unconfirmed} calls are unconfirmed, and at most ${inFlightMax} were killed`);
  const names = ["sidecar", "KeyService", "Redis", "PostgreSQL"] as const;
  return [
    ...moneyFacts(audits),
    `${killed.length} kills: ${names.map((name) => `${name} ×${count(name)}`).join(", ")}`,
    `${unconfirmed} calls booked as unconfirmed, each named in the log, of at most ${inFlightMax} that a killed sidecar had in flight`,
    `answers: ${tally(outcomes)}`,
    `all booked and returned ${seconds(quietMs)} after the traffic`,
  ];
}

function victimsOf(world: World): Victim[] {
  return [
    ...world.pods.map(
      ({ process }): Victim => ({
        name: "sidecar",
        kill: () => process.kill("SIGKILL"),
        restart: () => process.restart(),
      }),
    ),
    {
      name: "KeyService",
      kill: () => world.keyService.kill("SIGKILL"),
      restart: () => world.keyService.restart(),
    },
    { name: "Redis", kill: () => world.redis.stop(), restart: () => world.restartRedis() },
    { name: "PostgreSQL", kill: () => world.endPostgres("SIGKILL"), restart: () => world.restartPostgres() },
  ];
}

function anyOf<Item>(items: readonly Item[]): Item {
  const item = items[Math.floor(Math.random() * items.length)];
  if (item === undefined) throw new Error("there is nothing to choose from");
  return item;
}

/** How many calls the log has whose end nobody saw. */
async function unconfirmedCalls(world: World): Promise<number> {
  const rows = await world.query("SELECT FROM spend_log WHERE status = 'unconfirmed' AND attempt > 0");
  return rows.length;
}
