import { median, quantile } from "./figures.ts";
import { bodyOf, type Lane } from "./lanes.ts";
import type { Stage, Subject } from "./stage.ts";
import { runStreamLoad } from "./stream-load.ts";
import type { StreamShape } from "./stream-shape.ts";

/** So many streams at once, in which a chunk comes so often. */
interface Crowd {
  readonly count: number;
  readonly shape: StreamShape;
  /** How often it is measured with the same processes, floor and sidecar by turns. */
  readonly turns: number;
}

/** What a crowd of streams met, through the floor and then through the sidecar. */
export interface CrowdTurn {
  readonly lost: number;
  /** What the sidecar adds, in milliseconds. */
  readonly firstAddedP50Ms: number;
  readonly gapAddedP99Ms: number;
  readonly chunksPerSecond: number;
}

export const crowds = {
  fifty: { count: 50, shape: { chunkCount: 100, pauseMs: 20 }, turns: 6 },
  hundred: { count: 100, shape: { chunkCount: 150, pauseMs: 20 }, turns: 10 },
  fiveHundred: { count: 500, shape: { chunkCount: 250, pauseMs: 20 }, turns: 2 },
  /** A chunk each second: what is measured is that they are open. */
  twoThousand: { count: 2_000, shape: { chunkCount: 8, pauseMs: 1_000 }, turns: 1 },
} as const satisfies Record<string, Crowd>;

/** With processes that are warm. */
export async function measureCrowd(stage: Stage, lane: Lane, crowd: Crowd): Promise<readonly CrowdTurn[]> {
  const { count, shape } = crowd;
  const [key, body] = [stage.keyOf(lane), bodyOf({ ...lane, stream: shape })];
  const through = ({ port }: Subject) => runStreamLoad({ port, key, body, count, shape });
  const turns: CrowdTurn[] = [];
  for (let turn = 0; turn < crowd.turns; turn++) {
    const floor = await through(stage.floorOf(lane));
    const startedMs = performance.now();
    const subject = await through(stage.subjectOf(lane));
    const tookMs = performance.now() - startedMs;
    turns.push({
      ...{ lost: subject.lost, chunksPerSecond: (subject.chunks * 1_000) / tookMs },
      firstAddedP50Ms: quantile(subject.firstMs, 0.5) - quantile(floor.firstMs, 0.5),
      gapAddedP99Ms: quantile(subject.gapsMs, 0.99) - quantile(floor.gapsMs, 0.99),
    });
  }
  return turns;
}

/** Of all turns: the streams that were lost, and the median of the rest. */
export function crowdResult(turns: readonly CrowdTurn[]): CrowdTurn {
  const middle = (figure: keyof CrowdTurn) => median(turns.map((turn) => turn[figure]));
  return {
    lost: turns.reduce((sum, { lost }) => sum + lost, 0),
    firstAddedP50Ms: middle("firstAddedP50Ms"),
    gapAddedP99Ms: middle("gapAddedP99Ms"),
    chunksPerSecond: middle("chunksPerSecond"),
  };
}
