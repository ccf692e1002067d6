import { cpuMs, residentMb } from "./cpu.ts";
import { bodyOf, type Lane } from "./lanes.ts";
import { runOpenLoad } from "./open-load.ts";
import { crowds } from "./open-streams.ts";
import type { Stage } from "./stage.ts";
import { runStreamLoad } from "./stream-load.ts";

/** What a sidecar takes of its pod before it does anything, and when it holds much. */
export interface Footprint {
  readonly idleMb: number;
  /** With 2,000 streams open. */
  readonly streamsMb: number;
  readonly streamsLost: number;
  /** Of one core, when there are no calls. */
  readonly idleCpuPercent: number;
}

const idleMs = 10_000;

/** A sidecar's, started anew. */
export async function measureFootprint(stage: Stage, lane: Lane): Promise<Footprint> {
  await stage.renew(lane);
  const { pid } = stage.subjectOf(lane);
  await sleep(idleMs / 2);
  const before = cpuMs(pid);
  await sleep(idleMs);
  const idleCpuPercent = ((cpuMs(pid) - before) / idleMs) * 100;
  const idleMb = residentMb(pid);
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
      streamsMb = residentMb(pid);
    },
  });
  return { idleMb, streamsMb, streamsLost: lost, idleCpuPercent };
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

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
