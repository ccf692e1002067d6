/**
 * `npm run bench`: what a call costs, as a ratio to the thinnest pipe Node can be (by gRPC: to a bare service by connect-node), measured in
 * the same run. What is measured stands on one core, upstream and load on the other; floor and sidecar take turns, each ratio is of
 * neighbours, and each round of two fresh processes. Prints the lanes and what was reached of the targets, and writes all figures to `bench.json`.
 *
 *   --rounds 5 --seconds 2 --runs 1
 *   --lane "governed, 1 KB"   this lane alone
 *   --soak 600                memory under a steady load for so many seconds, alone
 *   --profile DIRECTORY       V8's CPU profiles of the sidecars, written when they end; what is measured then is slower
 */
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { commit, median, spread } from "./figures.ts";
import { type Footprint, measureFootprint, soak } from "./footprint.ts";
import { type FrontierTurns, frontierOf, measureFrontier } from "./frontier.ts";
import { type Lane, lanes } from "./lanes.ts";
import { type CrowdTurn, crowdResult, crowds, measureCrowd } from "./open-streams.ts";
import { addedMs, fastest, type LaneResult, laneResult, measureRound, type Round } from "./pairs.ts";
import { Stage } from "./stage.ts";
import { measureStarts, type Starts } from "./starts.ts";
import { type BenchResults, targetTable } from "./targets.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "2" },
    runs: { type: "string", default: "1" },
    lane: { type: "string" },
    soak: { type: "string" },
    profile: { type: "string" },
  },
});
const pace = { rounds: Number(values.rounds), forMs: Number(values.seconds) * 1000 };
const say = (line: string) => process.stdout.write(`${line}\n`);
const [usual, streams] = [laneNamed("governed, 1 KB"), laneNamed("governed stream")];
if (cpus().length < 2) throw new Error("The bench needs two cores.");
const chosen = values.lane === undefined ? undefined : laneNamed(values.lane);

const stage = await Stage.start(values.profile);
try {
  const facts = { commit: commit(), node: process.version, cpu: cpus()[0]?.model, ...pace };
  say(`${facts.cpu}, Node ${facts.node}, commit ${facts.commit}\n`);
  if (values.soak !== undefined) write({ ...facts, soak: await soaked(Number(values.soak)) });
  else if (chosen !== undefined) write({ ...facts, lanes: await measuredByItself(chosen) });
  else await bench(Number(values.runs), (runs) => write({ ...facts, runs }));
} finally {
  await stage.close();
}

/**
 * Runs take turns, round by round: so one that differs from the other does so by itself, and not since the machine was slower in its hour.
 *
 * @param keep takes all that was measured.
 */
async function bench(runCount: number, keep: (runs: readonly object[]) => void): Promise<void> {
  const runs: Run[] = [];
  for (let run = 0; run < runCount; run++) runs.push(await begun());
  for (let round = 1; round <= pace.rounds; round++)
    for (const [index, run] of runs.entries()) {
      say(`Round ${round} of ${pace.rounds}, run ${index + 1} of ${runCount}.`);
      await takeRound(run);
    }
  const results = runs.map(resultsOf);
  say(`\n${targetTable(results)}\n`);
  keep(results.map(({ lanes: byName, ...others }) => ({ lanes: [...byName.values()], ...others })));
}

/** What a run has measured so far. */
interface Run {
  readonly lanes: ReadonlyMap<Lane, Round[]>;
  readonly besides: Besides;
  readonly footprint: Footprint;
}

/** The footprint before any lane: a process that was loaded keeps memory. */
async function begun(): Promise<Run> {
  return {
    lanes: new Map(lanes.map((lane) => [lane, []])),
    besides: { frontiers: [], starts: [], crowds: { fifty: [], hundred: [], fiveHundred: [] } },
    footprint: await measureFootprint(stage, usual),
  };
}

/** All in each round, so that a figure is of the whole time and not of one part of it, in which the machine may have been slow. */
async function takeRound({ lanes: rounds, besides }: Run): Promise<void> {
  for (const [lane, done] of rounds) {
    const one = await measureRound(stage, lane, pace.forMs);
    done.push(one);
    await measureBesides(besides, lane, one);
  }
  besides.starts.push(await measureStarts(stage, usual));
}

/** What a whole bench measures besides the lanes. */
interface Besides {
  readonly frontiers: FrontierTurns[];
  readonly starts: Starts[];
  readonly crowds: Record<"fifty" | "hundred" | "fiveHundred", CrowdTurn[]>;
}

function resultsOf({ lanes: rounds, footprint, besides }: Run): BenchResults {
  say(`\nIdle: ${footprint.idleMb.toFixed(0)} MB, ${footprint.idleCpuPercent.toFixed(1)} % of a core.\n`);
  const results = told(rounds);
  const { frontiers, starts, crowds: turns } = besides;
  const frontier = frontierOf(frontiers);
  const { floorPerSecond, subjectPerSecond } = frontier;
  say(`\nWith p99 <= 20 ms: ${subjectPerSecond.toFixed(0)} calls a second (floor ${floorPerSecond.toFixed(0)}).`);
  const [fifty, hundred, fiveHundred] = [
    crowdResult(turns.fifty),
    crowdResult(turns.hundred),
    crowdResult(turns.fiveHundred),
  ];
  for (const [name, { chunksPerSecond, gapAddedP99Ms, firstAddedP50Ms }] of Object.entries({
    fifty,
    hundred,
    fiveHundred,
  }))
    say(
      `${name} streams: ${chunksPerSecond.toFixed(0)} chunks a second, first +${firstAddedP50Ms.toFixed(2)} ms (p50), ` +
        `between chunks +${gapAddedP99Ms.toFixed(2)} ms (p99).`,
    );
  return {
    ...{ lanes: new Map(results.map((result) => [result.lane, result])), footprint, besides },
    ...{ frontier, crowds: { fifty, hundred, fiveHundred } },
    readyMs: median(starts.flatMap(({ readyMs }) => readyMs)),
    npmStartMs: median(starts.flatMap(({ npmStartMs }) => npmStartMs)),
  };
}

async function measuredByItself(lane: Lane): Promise<readonly LaneResult[]> {
  const rounds: Round[] = [];
  for (let round = 0; round < pace.rounds; round++) rounds.push(await measureRound(stage, lane, pace.forMs));
  return told(new Map([[lane, rounds]]));
}

function told(rounds: ReadonlyMap<Lane, readonly Round[]>): readonly LaneResult[] {
  const results = [...rounds].map(([lane, done]) => laneResult(lane, done));
  say(
    "| lane | CPU us a call or chunk (floor) | ratio to the floor | calls a second (floor) | alone: added p50, p99 ms |",
  );
  say("|---|---|---|---|---|");
  for (const result of results) say(rowOf(result));
  return results;
}

/** What is measured with the processes of a lane, while they are warm. */
async function measureBesides({ frontiers, crowds: turns }: Besides, lane: Lane, round: Round): Promise<void> {
  if (lane === usual) frontiers.push(await measureFrontier(stage, lane, fastest(round)));
  if (lane !== streams) return;
  turns.fifty.push(...(await measureCrowd(stage, lane, crowds.fifty)));
  turns.hundred.push(...(await measureCrowd(stage, lane, crowds.hundred)));
  turns.fiveHundred.push(...(await measureCrowd(stage, lane, crowds.fiveHundred)));
}

function rowOf(result: LaneResult): string {
  const of = (who: "floor" | "subject", figure: "cpuUs" | "perSecond") =>
    median(result.busy.map((pair) => pair[who][figure])).toFixed(0);
  return (
    `| ${result.lane} | ${of("subject", "cpuUs")} (${of("floor", "cpuUs")}) | ${result.ratio.toFixed(2)} (${spread(result.ratios)}) ` +
    `| ${of("subject", "perSecond")} (${of("floor", "perSecond")}) ` +
    `| ${addedMs(result, "p50Ms").toFixed(2)}, ${addedMs(result, "p99Ms").toFixed(2)} |`
  );
}

async function soaked(seconds: number) {
  const points = await soak(stage, usual, seconds);
  const later = points.slice(points.length / 2).map(({ residentMb }) => residentMb);
  say(`Resident over the second half of ${seconds} s: ${Math.min(...later)}-${Math.max(...later)} MB.`);
  return points;
}

function laneNamed(name: string): Lane {
  const lane = lanes.find((one) => one.name === name);
  if (lane === undefined)
    throw new Error(`There is no such lane; there are: ${lanes.map((one) => one.name).join("; ")}`);
  return lane;
}

function write(results: object): void {
  writeFileSync("bench.json", `${JSON.stringify(results, undefined, 2)}\n`);
}
