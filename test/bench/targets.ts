import type { Footprint } from "./footprint.ts";
import type { Frontier } from "./frontier.ts";
import type { CrowdTurn } from "./open-streams.ts";
import { addedMs, type LaneResult } from "./pairs.ts";

/** All that a whole bench measures. */
export interface BenchResults {
  /** By name. */
  readonly lanes: ReadonlyMap<string, LaneResult>;
  readonly frontier: Frontier;
  readonly crowds: { readonly fifty: CrowdTurn; readonly hundred: CrowdTurn; readonly fiveHundred: CrowdTurn };
  readonly footprint: Footprint;
  /** Medians of all starts. */
  readonly readyMs: number;
  readonly npmStartMs: number;
  /** What of it was measured in each round. */
  readonly besides: object;
}

/** What Tollgate means to reach. */
interface Target {
  readonly what: string;
  readonly target: string;
  /** As large as this at most; or at least, where `isFloor`. */
  readonly bound: number;
  readonly isFloor?: true;
  readonly unit: string;
  readonly measured: (results: BenchResults) => number;
}

const laneOf = ({ lanes }: BenchResults, name: string): LaneResult => {
  const lane = lanes.get(name);
  if (lane === undefined) throw new Error(`the lane "${name}" was not measured`);
  return lane;
};
const ratio = (what: string, name: string, bound: number, floor = "the floor"): Target => ({
  ...{ what, target: `at most ${bound} x ${floor}`, bound, unit: "x" },
  measured: (results) => laneOf(results, name).ratio,
});
const added = (what: string, name: string, figure: "p50Ms" | "p99Ms", boundUs: number): Target => ({
  ...{ what, target: `at most ${boundUs} us`, bound: boundUs, unit: "us" },
  measured: (results) => addedMs(laneOf(results, name), figure) * 1_000,
});
const atMost = (what: string, bound: number, unit: string, measured: (results: BenchResults) => number): Target => ({
  what,
  target: `at most ${bound} ${unit}`,
  bound,
  unit,
  measured,
});

const targets: readonly Target[] = [
  ratio("plain, 1 KB: CPU of a call", "plain, 1 KB", 1.3),
  ratio("governed, 1 KB: CPU of a call", "governed, 1 KB", 1.7),
  ratio(
    "every call traced and logged: CPU of a call",
    "every call traced and logged, 1 KB",
    1.15,
    "the untraced sidecar",
  ),
  {
    ...{ what: "governed, 1 KB: calls a second at p99 <= 20 ms", target: "at least 0.6 x the floor", bound: 0.6 },
    ...{ isFloor: true, unit: "x", measured: ({ frontier }) => frontier.ratio },
  },
  added("governed, 1 KB, one connection: added p50", "governed, 1 KB", "p50Ms", 150),
  added("governed, 1 KB, one connection: added p99", "governed, 1 KB", "p99Ms", 500),
  added("governed, 200 KB, one connection: added p50", "governed, 200 KB", "p50Ms", 250),
  ratio("governed stream: CPU of a chunk", "governed stream", 1.3),
  atMost("50 streams: added p50 of the first chunk", 0.5, "ms", ({ crowds }) => crowds.fifty.firstAddedP50Ms),
  atMost("100 streams: added p99 between chunks", 5, "ms", ({ crowds }) => crowds.hundred.gapAddedP99Ms),
  atMost("500 streams of 50 chunks a second: lost", 0, "streams", ({ crowds }) => crowds.fiveHundred.lost),
  atMost("2,000 open streams: lost", 0, "streams", ({ footprint }) => footprint.streamsLost),
  ratio("gRPC, 1 KB: CPU of a call", "gRPC, 1 KB", 0.6, "a bare echo by connect-node"),
  atMost("idle sidecar: resident", 100, "MB", ({ footprint }) => footprint.idleMb),
  atMost("2,000 open streams: resident", 220, "MB", ({ footprint }) => footprint.streamsMb),
  atMost("`tollgate sidecar`: ready after exec", 500, "ms", ({ readyMs }) => readyMs),
  atMost("`npm start` on a warm checkout", 3_000, "ms", ({ npmStartMs }) => npmStartMs),
];

/** The table of what is meant to be reached, and what was; a column for each run. */
export function targetTable(runs: readonly BenchResults[]): string {
  const heads = runs.map((_, index) => (runs.length === 1 ? "measured" : `run ${index + 1}`));
  const lines = targets.map(({ what, target, bound, isFloor, unit, measured }) => {
    const values = runs.map(measured);
    const isMet = values.every((value) => (isFloor === true ? value >= bound : value <= bound));
    const texts = values.map((value) => `${textOf(value)} ${unit}`);
    return `| ${what} | ${target} | ${texts.join(" | ")} | ${isMet ? "yes" : "no"} |`;
  });
  return [
    `| what | target | ${heads.join(" | ")} | met |`,
    `|---|---|${runs.map(() => "---|").join("")}---|`,
    ...lines,
  ].join("\n");
}

function textOf(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2);
}
