import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../free-port.ts";
import { cpuMs, residentMb } from "./cpu.ts";
import { median } from "./figures.ts";
import { bodyOf, type Lane } from "./lanes.ts";
import { runOpenLoad } from "./open-load.ts";
import { crowds } from "./open-streams.ts";
import type { Stage } from "./stage.ts";
import { runStreamLoad } from "./stream-load.ts";

/** What a sidecar takes of its pod before it does anything, and when it holds much. */
export interface Footprint {
  /** From exec until it takes calls, in milliseconds; the KeyService is there. */
  readonly readyMs: number;
  /** `npm start` on a checkout that was started before: with PostgreSQL and KeyService, from exec until a call would be answered. */
  readonly npmStartMs: number;
  readonly idleMb: number;
  /** With 2,000 streams open. */
  readonly streamsMb: number;
  readonly streamsLost: number;
  /** Of one core, when there are no calls. */
  readonly idleCpuPercent: number;
}

/** The machine is never quiet for all of them: their median counts. */
const [starts, npmStarts] = [11, 7];
const idleMs = 10_000;
const startedWithinMs = 60_000;

/** A sidecar's, started anew. */
export async function measureFootprint(stage: Stage, lane: Lane): Promise<Footprint> {
  const sidecar = stage.sidecarOf(lane.traced);
  const { adminUrl, process: program } = sidecar;
  const times: number[] = [];
  for (let start = 0; start < starts; start++) {
    await program.kill("SIGTERM");
    const startMs = performance.now();
    program.restart();
    await answered(`${adminUrl}/readyz`);
    times.push(performance.now() - startMs);
  }
  stage.pinSidecars();
  await sleep(idleMs / 2);
  const before = cpuMs(program.pid);
  await sleep(idleMs);
  const idleCpuPercent = ((cpuMs(program.pid) - before) / idleMs) * 100;
  const idleMb = residentMb(program.pid);
  let streamsMb = 0;
  const { count, shape } = crowds.twoThousand;
  const { lost } = await runStreamLoad({
    ...{
      port: stage.subjectOf(lane).port,
      key: stage.keyOf(lane),
      body: bodyOf({ ...lane, stream: shape }),
      count,
      shape,
    },
    onAllOpen: () => {
      streamsMb = residentMb(program.pid);
    },
  });
  return {
    readyMs: median(times),
    npmStartMs: await npmStartMs(),
    idleMb,
    streamsMb,
    streamsLost: lost,
    idleCpuPercent,
  };
}

async function npmStartMs(): Promise<number> {
  const dataDir = mkdtempSync(join(tmpdir(), "tollgate-bench-up-"));
  const [port, adminPort, keyServicePort] = [await freePort(), await freePort(), await freePort()];
  const env = {
    ...{ PATH: process.env.PATH, HOME: process.env.HOME, TOLLGATE_DATA_DIR: dataDir, TOLLGATE_PORT: String(port) },
    ...{ TOLLGATE_ADMIN_PORT: String(adminPort), TOLLGATE_KEYSERVICE_PORT: String(keyServicePort) },
  };
  const startOnce = async () => {
    const startMs = performance.now();
    const child = spawn("npm", ["start"], { env, stdio: "ignore" });
    try {
      await answered(`http://127.0.0.1:${adminPort}/readyz`);
      return performance.now() - startMs;
    } finally {
      child.kill("SIGTERM");
      await once(child, "exit");
    }
  };
  try {
    // The first makes the database.
    await startOnce();
    const times: number[] = [];
    for (let start = 0; start < npmStarts; start++) times.push(await startOnce());
    return median(times);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** A point of a soak. */
export interface SoakPoint {
  readonly atS: number;
  readonly residentMb: number;
}

const soakPerSecond = 500;
const soakStepMs = 10_000;

/** Memory under a steady load, every ten seconds. */
export async function soak(stage: Stage, lane: Lane, seconds: number): Promise<readonly SoakPoint[]> {
  const { port, pid } = stage.subjectOf(lane);
  const load = { port, key: stage.keyOf(lane), body: bodyOf(lane), perSecond: soakPerSecond, forMs: soakStepMs };
  const points: SoakPoint[] = [];
  const startMs = performance.now();
  while (performance.now() - startMs < seconds * 1_000) {
    const { failures } = await runOpenLoad(load);
    if (failures > 0) throw new Error(`${failures} calls failed`);
    points.push({ atS: Math.round((performance.now() - startMs) / 1_000), residentMb: Math.round(residentMb(pid)) });
  }
  return points;
}

/** Waits until an address answers 200. */
async function answered(url: string): Promise<void> {
  const untilMs = performance.now() + startedWithinMs;
  while (performance.now() < untilMs) {
    const answer = await fetch(url).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.ok) return;
    await sleep(5);
  }
  throw new Error(`${url} does not answer`);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
