import { residentMb } from "./cpu.ts";
import { median, quantile } from "./figures.ts";
import { bodyOf, type Lane } from "./lanes.ts";
import type { Stage, Subject } from "./stage.ts";
import { runStreamLoad, type StreamLoadResult } from "./stream-load.ts";
import type { StreamShape } from "./stream-shape.ts";

/** So many streams at once, in which a chunk comes so often. */
interface Crowd {
  readonly count: number;
  readonly shape: StreamShape;
}

/** What a crowd of streams met, through the floor and through the sidecar. */
export interface CrowdResult {
  readonly count: number;
  readonly lost: number;
  /** What the sidecar adds, in milliseconds. */
  readonly firstAddedP50Ms: number;
  readonly gapAddedP99Ms: number;
  readonly chunksPerSecond: number;
  /** With all of them open, in megabytes. */
  readonly residentMb: number;
}

export const crowds = {
  fifty: { count: 50, shape: { chunkCount: 100, pauseMs: 20 } },
  hundred: { count: 100, shape: { chunkCount: 150, pauseMs: 20 } },
  fiveHundred: { count: 500, shape: { chunkCount: 250, pauseMs: 20 } },
  /** A chunk each second: what is measured is that they are open. */
  twoThousand: { count: 2_000, shape: { chunkCount: 8, pauseMs: 1_000 } },
} as const satisfies Record<string, Crowd>;

/** Each is done so often, floor and sidecar in turns. */
const rounds = 5;

export async function measureCrowd(stage: Stage, lane: Lane, { count, shape }: Crowd): Promise<CrowdResult> {
  const [key, body] = [stage.keyOf(lane), bodyOf({ ...lane, stream: shape })];
  let [resident, lost, chunks, tookMs] = [0, 0, 0, 0];
  const through = ({ port, pid }: Subject, isSubject: boolean): Promise<StreamLoadResult> =>
    runStreamLoad({
      ...{ port, key, body, count, shape },
      onAllOpen: () => {
        if (isSubject) resident = Math.max(resident, residentMb(pid));
      },
    });
  const [firsts, gaps]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    const floor = await through(stage.floorOf(lane), false);
    const startedMs = performance.now();
    const subject = await through(stage.subjectOf(lane), true);
    tookMs += performance.now() - startedMs;
    chunks += subject.chunks;
    lost += subject.lost;
    firsts.push(quantile(subject.firstMs, 0.5) - quantile(floor.firstMs, 0.5));
    gaps.push(quantile(subject.gapsMs, 0.99) - quantile(floor.gapsMs, 0.99));
  }
  return {
    ...{ count, lost, residentMb: resident, chunksPerSecond: (chunks * 1_000) / tookMs },
    ...{ firstAddedP50Ms: median(firsts), gapAddedP99Ms: median(gaps) },
  };
}
