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
  /** CPU of a call, or of a chunk, by that of the floor. */
  readonly ratios: readonly number[];
  readonly ratio: number;
  /** As fast as it goes. */
  readonly busy: readonly Pair[];
  /** One call after the other. */
  readonly alone: readonly Pair[];
}

/** A cold process costs twice as much. */
const [floorWarmMs, subjectWarmMs] = [3_000, 5_000];
/** So many pairs of sidecars are held against each other. */
const sidecarPairs = 5;

/** Floor and sidecar take turns; each ratio is of neighbours. */
export async function measureLane(
  stage: Stage,
  lane: Lane,
  { rounds, forMs }: { readonly rounds: number; readonly forMs: number },
): Promise<LaneResult> {
  const body = bodyOf(lane);
  const turn = (of: Subject, connections: number, ms: number) =>
    take(of, { lane, key: stage.keyOf(lane), body, connections, ms });
  const warm = async () => {
    await turn(stage.floorOf(lane), lane.connections, floorWarmMs);
    await turn(stage.subjectOf(lane), lane.connections, subjectWarmMs);
  };
  const pair = async (connections: number, ms: number): Promise<Pair> => ({
    floor: await turn(stage.floorOf(lane), connections, ms),
    subject: await turn(stage.subjectOf(lane), connections, ms),
  });
  // V8 compiles two processes differently, by more than what one of them does besides costs.
  const isOfSidecars = lane.against === "untraced sidecar";
  const [busy, alone]: [Pair[], Pair[]] = [[], []];
  for (let round = 0; round < (isOfSidecars ? sidecarPairs : rounds); round++) {
    if (isOfSidecars) await Promise.all([stage.restart("none"), stage.restart(lane.traced)]);
    if (isOfSidecars || round === 0) await warm();
    busy.push(await pair(lane.connections, forMs));
    alone.push(await pair(1, forMs / 2));
  }
  const ratios = busy.map((one) => one.subject.cpuUs / one.floor.cpuUs);
  return { lane: lane.name, ratios, ratio: median(ratios), busy, alone };
}

/** What a sidecar adds to a call that is alone, in milliseconds. */
export function addedMs({ alone }: LaneResult, figure: "p50Ms" | "p99Ms"): number {
  return median(alone.map((one) => one.subject[figure] - one.floor[figure]));
}

/** Loads a subject for a while, and says what its process spent on it. */
async function take(
  { port, pid }: Subject,
  parts: { lane: Lane; key: string; body: Buffer; connections: number; ms: number },
): Promise<Turn> {
  const { lane, key, body, connections, ms } = parts;
  const before = cpuMs(pid);
  const startedMs = performance.now();
  const load = { port, key, body, connections, forMs: ms };
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
