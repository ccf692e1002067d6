import { cpuMs } from "./cpu.ts";
import { chunksOf, median, quantile } from "./figures.ts";
import { runGrpcLoad } from "./grpc-load.ts";
import { bodyOf, type Lane } from "./lanes.ts";
import { runLoad } from "./load.ts";
import type { Stage, Subject } from "./stage.ts";

/** One turn of one subject. */
interface Turn {
  readonly cpuUs: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly calls: number;
}

/** A turn of the floor, and one of the sidecar. */
interface Pair {
  readonly floor: Turn;
  readonly subject: Turn;
}

/** What a lane costs, by neighbouring turns. */
export interface LaneResult {
  readonly lane: string;
  /** CPU of a call, or of a chunk, by that of the floor: each round's median, and that of all pairs. */
  readonly ratios: readonly number[];
  readonly ratio: number;
  /** As fast as it goes. */
  readonly busy: readonly Pair[];
  /** One call after the other. */
  readonly alone: readonly Pair[];
}

/** A cold process costs twice as much; a sidecar is compiled for a good while. */
const [pipeWarmMs, sidecarWarmMs] = [3_000, 12_000];

/** What was measured with one pair of processes. */
export interface Round {
  readonly busy: readonly Pair[];
  readonly alone: readonly Pair[];
}

/**
 * Floor and sidecar take turns of a fraction of a second; each ratio is of neighbours, since the same work takes twice as long when others keep
 * the machine busy. Each round is of two fresh processes: V8 compiles two of one program differently, and so may what one keeps in memory.
 */
export async function measureRound(stage: Stage, lane: Lane, forMs: number): Promise<Round> {
  await renewWarm(stage, lane);
  const { connections, turnMs, times } = lane;
  const turnCount = Math.max(1, Math.round(forMs / turnMs));
  const busy = await takePairs(stage, lane, turnCount * times.busy, { connections, forMs: turnMs });
  await stage.booked(lane);
  const alone = await takePairs(stage, lane, turnCount * times.alone, { connections: 1, forMs: turnMs / 2 });
  return { busy, alone };
}

export function laneResult(lane: Lane, rounds: readonly Round[]): LaneResult {
  const busy = rounds.flatMap((round) => round.busy);
  const ratios = rounds.map((round) => ratioOf(round.busy));
  return { lane: lane.name, ratios, ratio: ratioOf(busy), busy, alone: rounds.flatMap(({ alone }) => alone) };
}

/** How many calls a second floor and sidecar answer as fast as they can. */
export function fastest({ busy }: Round): { readonly floorPerSecond: number; readonly subjectPerSecond: number } {
  return {
    floorPerSecond: median(busy.map(({ floor }) => floor.perSecond)),
    subjectPerSecond: median(busy.map(({ subject }) => subject.perSecond)),
  };
}

function ratioOf(pairs: readonly Pair[]): number {
  return median(pairs.map(({ floor, subject }) => subject.cpuUs / floor.cpuUs));
}

/** Starts a lane's floor and sidecar anew, and calls them until they are compiled. */
async function renewWarm(stage: Stage, lane: Lane): Promise<void> {
  const { connections, against } = lane;
  await stage.renew(lane);
  const forMs = against === "untraced sidecar" ? sidecarWarmMs : pipeWarmMs;
  await take(stage, lane, stage.floorOf(lane), { connections, forMs });
  await take(stage, lane, stage.subjectOf(lane), { connections, forMs: sidecarWarmMs });
}

async function takePairs(
  stage: Stage,
  lane: Lane,
  turnCount: number,
  how: { readonly connections: number; readonly forMs: number },
): Promise<readonly Pair[]> {
  const pairs: Pair[] = [];
  for (let turn = 0; turn < turnCount; turn++) {
    pairs.push({
      floor: await take(stage, lane, stage.floorOf(lane), how),
      subject: await take(stage, lane, stage.subjectOf(lane), how),
    });
  }
  return pairs;
}

/** What a sidecar adds to a call that is alone, in milliseconds. */
export function addedMs({ alone }: LaneResult, figure: "p50Ms" | "p99Ms"): number {
  return median(alone.map((one) => one.subject[figure] - one.floor[figure]));
}

/** Loads a subject for a while, and says what its process spent on it. */
async function take(
  stage: Stage,
  lane: Lane,
  { port, pid }: Subject,
  how: { readonly connections: number; readonly forMs: number },
): Promise<Turn> {
  const before = cpuMs(pid);
  const startedMs = performance.now();
  const load = { port, key: stage.keyOf(lane), body: bodyOf(lane), ...how };
  const result = await (lane.by === "grpc" ? runGrpcLoad(load) : runLoad(load));
  const tookMs = performance.now() - startedMs;
  if (result.failures > result.calls / 100)
    throw new Error(`${result.failures} of ${result.calls + result.failures} calls failed`);
  return {
    cpuUs: ((cpuMs(pid) - before) * 1000) / (result.calls * chunksOf(lane)),
    perSecond: (result.calls * 1000) / tookMs,
    p50Ms: quantile(result.timesMs, 0.5),
    p99Ms: quantile(result.timesMs, 0.99),
    calls: result.calls,
  };
}
