/**
 * `npm run bench`: what a call costs, as a ratio to the thinnest pipe Node can be, or by gRPC to a bare service by connect-node, measured in the same run. Sidecar and floor stand on one
 * core, upstream and load on the other; floor and lane take turns, and each ratio is of neighbours. Prints a table and writes the
 * figures to `bench.json`.
 *
 *   --rounds 5 --seconds 5 --lane "governed, 1 KB"
 *   --telemetry           what telemetry costs: a sidecar that traces every call and logs a line of it, against one that does neither
 *   --profile DIRECTORY   V8's CPU profile of the sidecar, written when it ends; what is measured then is slower
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startEmbeddedPostgres } from "../../sidecar/embedded-postgres.ts";
import { Stack } from "../e2e/stack.ts";
import { databaseCount, startRedis } from "../redis.ts";
import { installRedis } from "../redis-program.ts";
import { cpuMs, pin, residentMb } from "./cpu.ts";
import { chunksOf, commit, median, quantile, spread } from "./figures.ts";
import { runGrpcLoad } from "./grpc-load.ts";
import { bodyOf, type Lane, lanes } from "./lanes.ts";
import { type LoadResult, runLoad } from "./load.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "5" },
    lane: { type: "string" },
    telemetry: { type: "boolean", default: false },
    profile: { type: "string" },
  },
});
const [rounds, forMs] = [Number(values.rounds), Number(values.seconds) * 1000];
const say = (line: string) => process.stdout.write(`${line}\n`);
/** One core for what is measured, the other for the rest. */
const [subjectCore, loadCore] = [0, 1];
if (cpus().length < 2) throw new Error("The bench needs two cores.");

/** What is measured: a process that answers at a port. */
interface Subject {
  readonly port: number;
  readonly pid: number;
}

/** One turn of one subject. */
interface Turn {
  readonly cpuUs: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly firstP50Ms: number;
  readonly calls: number;
}

const cleanUps: (() => unknown)[] = [];
try {
  await bench();
} finally {
  for (const cleanUp of cleanUps.toReversed()) await cleanUp();
}

async function bench(): Promise<void> {
  pin(process.pid, loadCore);
  const upstream = await start("upstream.ts", [], loadCore);
  const { subjects, keys } = await startSidecars(upstream.port);
  const subject = subjects.at(-1);
  const thinnest = () => start("floor.ts", [`http://127.0.0.1:${upstream.port}`], subjectCore);
  const floor = values.telemetry ? subjects[0] : await thinnest();
  const grpcFloor = values.telemetry ? floor : await start("grpc-floor.ts", [], subjectCore);
  if (subject === undefined || floor === undefined || grpcFloor === undefined) throw new Error("there is no sidecar");
  const chosen = lanes.filter(({ name }) => values.lane === undefined || name === values.lane);
  if (chosen.length === 0)
    throw new Error(`There is no such lane; there are: ${lanes.map(({ name }) => name).join("; ")}`);
  const results: object[] = [];
  say(
    "| lane | CPU us a call (floor) | ratio to the floor | calls a second | p50, p99 ms (floor) | alone: added p50, p99 ms |",
  );
  say("|---|---|---|---|---|---|");
  if (values.telemetry) say("(the floor is the sidecar without telemetry)");
  for (const lane of chosen) {
    const against = lane.by === "grpc" ? grpcFloor : floor;
    results.push(await measure(lane, against, subject, keys[lane.key] ?? ""));
  }
  say(`\nResident: sidecar ${residentMb(subject.pid).toFixed(0)} MB, floor ${residentMb(floor.pid).toFixed(0)} MB`);
  const facts = { commit: commit(), node: process.version, cpu: cpus()[0]?.model, rounds, seconds: forMs / 1000 };
  writeFileSync("bench.json", `${JSON.stringify({ ...facts, lanes: results }, undefined, 2)}\n`);
}

async function measure(lane: Lane, floor: Subject, subject: Subject, key: string): Promise<object> {
  const body = bodyOf(lane);
  const turn = (of: Subject, connections: number, ms: number) => take(of, { lane, key, body, connections, ms });
  // A cold process costs twice as much.
  await turn(floor, lane.connections, 3_000);
  await turn(subject, lane.connections, 5_000);
  const pairs: { floor: Turn; subject: Turn; alone: { floor: Turn; subject: Turn } }[] = [];
  for (let round = 0; round < rounds; round++) {
    const busy = {
      floor: await turn(floor, lane.connections, forMs),
      subject: await turn(subject, lane.connections, forMs),
    };
    const alone = { floor: await turn(floor, 1, forMs / 2), subject: await turn(subject, 1, forMs / 2) };
    pairs.push({ ...busy, alone });
  }
  const ratios = pairs.map((pair) => pair.subject.cpuUs / pair.floor.cpuUs);
  const of = (pick: (pair: (typeof pairs)[number]) => number) => median(pairs.map(pick));
  const added = (pick: (turn: Turn) => number) => of(({ alone }) => pick(alone.subject) - pick(alone.floor)).toFixed(2);
  say(
    `| ${lane.name} | ${of(({ subject: s }) => s.cpuUs).toFixed(0)} (${of(({ floor: f }) => f.cpuUs).toFixed(0)}) ` +
      `| ${median(ratios).toFixed(2)} (${spread(ratios)}) | ${of(({ subject: s }) => s.perSecond).toFixed(0)} ` +
      `| ${of(({ subject: s }) => s.p50Ms).toFixed(1)}, ${of(({ subject: s }) => s.p99Ms).toFixed(1)} ` +
      `(${of(({ floor: f }) => f.p50Ms).toFixed(1)}, ${of(({ floor: f }) => f.p99Ms).toFixed(1)}) ` +
      `| ${added(({ p50Ms }) => p50Ms)}, ${added(({ p99Ms }) => p99Ms)} |`,
  );
  return { lane: lane.name, ratio: median(ratios), ratios, pairs };
}

/** Loads a subject for a while, and says what its process spent on it. */
async function take(
  { port, pid }: Subject,
  parts: { lane: Lane; key: string; body: Buffer; connections: number; ms: number },
): Promise<Turn> {
  const { lane, key, body, connections, ms } = parts;
  const before = cpuMs(pid);
  const startedMs = performance.now();
  const result: LoadResult = await (lane.by === "grpc" ? runGrpcLoad : runLoad)({
    ...{ port, key, body, connections },
    forMs: ms,
  });
  const tookMs = performance.now() - startedMs;
  if (result.failures > result.calls / 100)
    throw new Error(`${result.failures} of ${result.calls + result.failures} calls failed`);
  return {
    cpuUs: ((cpuMs(pid) - before) * 1000) / (result.calls * chunksOf(lane)),
    perSecond: (result.calls * 1000) / tookMs,
    p50Ms: quantile(result.timesMs, 0.5),
    p99Ms: quantile(result.timesMs, 0.99),
    firstP50Ms: quantile(result.firstByteMs, 0.5),
    calls: result.calls,
  };
}

async function start(file: string, args: readonly string[], core: number): Promise<Subject> {
  const child = spawn(process.execPath, [new URL(file, import.meta.url).pathname, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  cleanUps.push(() => child.kill("SIGKILL"));
  const [port] = (await once(child.stdout, "data")) as [Buffer];
  const pid = child.pid ?? 0;
  pin(pid, core);
  return { port: Number(port.toString()), pid };
}

/** One, or one without telemetry and one with. */
async function startSidecars(
  upstreamPort: number,
): Promise<{ subjects: readonly Subject[]; keys: Readonly<Record<string, string>> }> {
  const dataDir = mkdtempSync(join(tmpdir(), "tollgate-bench-"));
  cleanUps.push(() => rmSync(dataDir, { recursive: true, force: true }));
  const postgres = await startEmbeddedPostgres({ dataDir, log: () => {}, parameters: {} });
  cleanUps.push(() => postgres.stop());
  installRedis();
  const redis = await startRedis({ args: ["--databases", String(databaseCount)] });
  cleanUps.push(() => redis.stop());
  process.env.TOLLGATE_TEST_POSTGRES_URL = postgres.url.reveal();
  process.env.TOLLGATE_TEST_REDIS_URL = `redis://${redis.host}:${redis.port}`;
  const models = `
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:${upstreamPort}/v1
      api_key: sk-upstream
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
  - model_name: translated
    litellm_params:
      model: anthropic/bench
      api_base: http://127.0.0.1:${upstreamPort}
      api_key: sk-upstream
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002`;
  const nodeFlags = values.profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${values.profile}`];
  const telemetry = values.telemetry ? await telemetryEnvs() : [{}];
  const sidecarEnv = (index: number) => telemetry[index] ?? {};
  const stack = await Stack.start({ sidecars: telemetry.length, models, nodeFlags, sidecarEnv });
  cleanUps.push(() => stack.close().catch((error) => values.profile ?? Promise.reject(error)));
  // A profile is written by a program that ends of itself.
  if (values.profile !== undefined) cleanUps.push(() => stack.sidecars.at(-1)?.process.kill("SIGTERM"));
  pin(stack.keyService.pid, loadCore);
  for (const { process: program } of stack.sidecars) pin(program.pid, subjectCore);
  const big = { max_budget: 100_000, budget_duration: "1d", rpm_limit: 100_000_000, tpm_limit: 10_000_000_000 };
  const { body } = await stack.admin("POST", "/team/new", { team_alias: "bench", ...big });
  const keys = {
    plain: await stack.generateKey({}),
    governed: await stack.generateKey({ ...big, team_id: body.team_id, models: ["bench", "translated"] }),
  };
  const subjects = stack.sidecars.map(({ url, process: { pid } }) => ({ port: Number(new URL(url).port), pid }));
  return { subjects, keys };
}

/** Without telemetry, and with all of it. */
async function telemetryEnvs(): Promise<Readonly<Record<string, string>>[]> {
  const { port } = await start("collector.ts", [], loadCore);
  return [{ TOLLGATE_LOG_LEVEL: "warn" }, { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` }];
}
