import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type AuditOptions, audit, quiesce, usd } from "./audit.ts";
import { limitedRpm, moneyFacts, onlyStatuses, type Row, type Scene, seconds } from "./row.ts";
import { Traffic, tally } from "./traffic.ts";
import { figure, pause, ready } from "./world.ts";

const diskBytes = 32 * 1024 * 1024;

export const podRows: readonly Row[] = [
  {
    name: "22",
    fault: "a pod and its disk deleted while the KeyService is down",
    promise:
      "keys with budgets: the lost lease is charged in full (overspend 0); keys without: the honest gap, the pod's unsent usage",
    world: { leaseTtlS: 6 },
    run: podDeleted,
  },
  {
    name: "23",
    fault: "the journal's disk is full on one of three pods",
    promise:
      "that pod refuses every call with 503 before it costs anything, and says so in a metric; well again without a restart",
    skip: () => (canMount() ? undefined : "needs the right to mount a tmpfs"),
    world: {
      sidecarEnv: (index, directory) => (index === 0 ? { TOLLGATE_DATA_DIR: smallDisk(join(directory, "small")) } : {}),
    },
    run: diskFull,
  },
  {
    name: "32",
    fault: "everything restarted one after another with SIGTERM: sidecars, KeyService, Redis",
    promise:
      "no call of a well-behaved application fails; no money is left behind; each is gone within its grace (30 s)",
    run: rollingRestart,
  },
];

async function podDeleted(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const options: AuditOptions = { isJournalLost: true };
  const keys = await scene.keys();
  const traffic = new Traffic({ world, keys: Object.values(keys), pauseMs: 100 });
  await pause(scene.seconds * 250);
  await world.keyService.kill("SIGKILL");
  await pause(2000);
  const lost = world.pod(0);
  await lost.process.kill("SIGKILL");
  rmSync(lost.dataDir, { recursive: true });
  await pause(1000);
  world.keyService.restart();
  await world.keyServiceReady();
  await pause(Math.max(scene.seconds * 500, world.leaseTtlMs));
  await traffic.stop();
  await quiesce(world, Object.values(keys));
  const audits = await Promise.all(Object.values(keys).map((key) => audit(world, key, options)));
  assert.deepEqual(
    audits.flatMap(({ faults }) => faults),
    [],
  );
  const of = (name: string) => audits.find((each) => each.name === name);
  const [tight, loose, unlimited] = [of(keys.tight.name), of(keys.loose.name), of(keys.unlimited.name)];
  for (const each of [tight, loose]) {
    assert.ok(each !== undefined && each.ledger >= each.bill, `${each?.name}: the ledger is below the bill`);
  }
  const gap = (unlimited?.bill ?? 0n) - (unlimited?.ledger ?? 0n);
  return [
    ...moneyFacts(audits),
    `over-charge of the loose key ${usd((loose?.ledger ?? 0n) - (loose?.bill ?? 0n))} (its lost lease)`,
    `the honest gap: ${usd(gap)} of the unlimited key is not in the books`,
  ];
}

async function diskFull(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const disk = join(world.directory, "small");
  const filler = join(disk, "filler");
  let [failures, callsBefore, callsDuring, fullAtMs] = [0, 0, 0, 0];
  let filling: NodeJS.Timeout | undefined;
  try {
    const incident = await scene.incident({
      inject: async () => {
        fill(filler);
        // A segment of the journal that is done with is removed, and leaves room.
        filling = setInterval(() => fill(filler), 100);
        await pause(500);
        fullAtMs = performance.now();
        callsBefore = world.bills.all.length;
      },
      heal: async () => {
        clearInterval(filling);
        callsDuring = world.bills.all.length - callsBefore;
        failures = (await figure(world.pod(0), "tollgate_usage_wal_failures_total")) ?? 0;
        rmSync(filler);
      },
    });
    const { during, outcomes } = incident;
    onlyStatuses(outcomes, 200, 429, 503);
    onlyStatuses(
      outcomes.filter(({ pod }) => pod > 0),
      200,
      429,
    );
    const here = during.filter(({ pod, atMs }) => pod === 0 && atMs > fullAtMs);
    const refused = here.filter(({ code }) => code === "journal_unavailable").length;
    const served = here.filter(({ status }) => status === 200).length;
    assert.ok(refused > 0 && served < here.length / 10, tally(here));
    assert.ok(failures > 0, "the metric does not show it");
    assert.ok(callsDuring > 0);
    return [
      ...incident.facts,
      `the pod with the full disk: ${tally(here)}; tollgate_usage_wal_failures_total ${failures}`,
    ];
  } finally {
    clearInterval(filling);
    spawnSync("umount", ["-l", disk]);
  }
}

async function rollingRestart(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const stopped: number[] = [];
  const restart = async (program: (typeof world)["keyService"]) => {
    const startMs = performance.now();
    assert.equal(await program.kill("SIGTERM"), 0, program.output.slice(-2000));
    stopped.push(performance.now() - startMs);
    program.restart();
  };
  const incident = await scene.incident({
    persistent: true,
    inject: async () => {
      for (const pod of world.pods) {
        await restart(pod.process);
        await ready(pod);
      }
      await restart(world.keyService);
      await world.keyServiceReady();
      await world.redis.stop();
      await world.restartRedis();
    },
    heal: () => {},
  });
  const { outcomes, keys } = incident;
  onlyStatuses(outcomes, 200, 429);
  const refused = outcomes.filter(
    ({ key, status }) => status === 429 && [keys.loose.name, keys.unlimited.name].includes(key),
  );
  assert.equal(refused.length, 0, "a key with money was refused");
  const slowestMs = Math.max(...stopped);
  assert.ok(slowestMs < 30_000);
  const served = outcomes.filter(({ key, status }) => key === keys.limited.name && status === 200).length;
  return [
    ...incident.facts,
    `${outcomes.length} calls, none failed; slowest drain ${seconds(slowestMs)}`,
    `key with ${limitedRpm} requests a minute: ${served} served (Redis restarted empty)`,
  ];
}

function canMount(): boolean {
  const place = join("/tmp", `tollgate-test-${process.pid}-mount`);
  mkdirSync(place, { recursive: true });
  const { status } = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", place]);
  if (status === 0) spawnSync("umount", [place]);
  rmSync(place, { recursive: true, force: true });
  return status === 0;
}

function smallDisk(place: string): string {
  mkdirSync(place, { recursive: true });
  const { status, stderr } = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${diskBytes}`, "tmpfs", place]);
  assert.equal(status, 0, String(stderr));
  return place;
}

/** Takes all there is, to the last block. */
function fill(filler: string): void {
  if (!existsSync(filler)) writeFileSync(filler, "");
  for (;;) {
    const { bavail, bsize } = statfsSync(filler);
    if (bavail === 0) return;
    try {
      writeFileSync(filler, Buffer.alloc(bavail * bsize), { flag: "a" });
    } catch {
      return;
    }
  }
}
