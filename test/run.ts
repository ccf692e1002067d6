/**
 * `npm test`: starts a real PostgreSQL and a real Redis, runs node's test runner over the given files (all, if none are
 * given), and stops both servers whatever happens. Flags go to node: `npm test -- --test-name-pattern=budget test/keys/*.ts`.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "../sidecar/embedded-postgres.ts";
import { Closers } from "../src/lifecycle.ts";
import { databaseCount, startRedis } from "./redis.ts";
import { installRedis } from "./redis-program.ts";

/** A test that takes longer hangs. */
const testTimeoutMs = 600_000;
/** The machines that run this have two cores, and the servers want some too. */
const filesAtOnce = 2;

/** Every test file is a process of its own, and most load the same modules. */
const compileCache = join(import.meta.dirname, "../.cache/compiled");

const closers = new Closers();
process.exitCode = await main(process.argv.slice(2)).finally(() =>
  closers.close((name, error) => process.stderr.write(`could not close ${name}: ${error}\n`)),
);

async function main(args: readonly string[]): Promise<number> {
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => interrupted.abort(signal));

  removeLeftovers();
  const directory = mkdtempSync(join(tmpdir(), `tollgate-test-${process.pid}-`));
  closers.add("temporary directory", () => rmSync(directory, { recursive: true, force: true }));
  const env = { NODE_COMPILE_CACHE: compileCache, ...process.env, ...(await startServers(directory)) };
  if (interrupted.signal.aborted) return exitCodeOf(interrupted.signal.reason);

  const totalsFile = join(directory, "totals.tap");
  const runner = spawn(process.execPath, runnerArguments(args, totalsFile), { env, stdio: "inherit" });
  interrupted.signal.addEventListener("abort", () => runner.kill(interrupted.signal.reason));
  const [code, signal] = (await once(runner, "exit")) as [number | null, NodeJS.Signals | null];
  if (interrupted.signal.aborted || code === null) return exitCodeOf(interrupted.signal.reason ?? signal);
  return conclude(code, totalsFile);
}

async function startServers(directory: string): Promise<Record<string, string>> {
  const addresses: Record<string, string> = {};
  if (process.env.TOLLGATE_TEST_POSTGRES_URL === undefined) {
    // What a power cut would lose does not matter here, and not waiting for the disk makes the tests quick.
    const parameters = { fsync: "off", synchronous_commit: "on", full_page_writes: "off", max_connections: "300" };
    const postgres = await startEmbeddedPostgres({ dataDir: directory, log: () => {}, parameters });
    closers.add("PostgreSQL", () => postgres.stop());
    addresses.TOLLGATE_TEST_POSTGRES_URL = postgres.url.reveal();
  }
  if (process.env.TOLLGATE_TEST_REDIS_URL === undefined) {
    installRedis();
    const redis = await startRedis({ args: ["--databases", String(databaseCount)] });
    closers.add("Redis", () => redis.stop());
    addresses.TOLLGATE_TEST_REDIS_URL = `redis://${redis.host}:${redis.port}`;
  }
  return addresses;
}

function runnerArguments(args: readonly string[], totalsFile: string): string[] {
  const flags = args.filter((arg) => arg.startsWith("-"));
  const files = args.filter((arg) => !arg.startsWith("-"));
  return [
    ...["--test", `--test-concurrency=${filesAtOnce}`, `--test-timeout=${testTimeoutMs}`],
    ...["--test-reporter=spec", "--test-reporter-destination=stdout"],
    ...["--test-reporter=tap", `--test-reporter-destination=${totalsFile}`],
    ...flags,
    ...(files.length > 0 ? files : ["test/**/*.test.ts"]),
  ];
}

/** The run's last lines are always node's counts, also where the list of failures has pushed them up. */
function conclude(code: number, totalsFile: string): number {
  const report = existsSync(totalsFile) ? readFileSync(totalsFile, "utf8") : "";
  // node counts a file in which no test ran as a test of its own.
  const ran = [...report.matchAll(/^ *# Subtest: (.*)$/gm)].some(([, name]) => name?.endsWith(".test.ts") === false);
  if (!ran) process.stderr.write("\nNo test ran.\n");
  const totals = [...report.matchAll(/^# ((?:tests|suites|pass|fail|cancelled|skipped|todo) \d+)$/gm)].slice(-7);
  if (code !== 0) process.stdout.write(`\n${totals.map(([, total]) => `ℹ ${total}`).join("\n")}\n`);
  return ran ? code : code || 1;
}

function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** A run that was killed stops its servers all the same, but leaves its files. */
function removeLeftovers(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = Number(/^tollgate-test-(\d+)-/.exec(name)?.[1] ?? 0);
    if (pid === 0 || isAlive(pid)) continue;
    try {
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
    } catch {
      // Another user's; theirs to remove.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
