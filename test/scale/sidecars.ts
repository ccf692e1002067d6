/** One KeyService and many simulated sidecars: what they ask of it, what that costs, and how long answers and changes take. */

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { Closers } from "../../src/lifecycle.ts";
import { cpuMs, residentMb } from "../bench/cpu.ts";
import { Process } from "../e2e/stack.ts";
import { freePort } from "../free-port.ts";
import { type RpcFigures, type RpcName, rpcNames } from "./counting-authority.ts";
import type { Order, Report } from "./sidecar-host.ts";

const masterKey = "sk-master-of-the-sidecars";
const runtimeToken = "runtime-token-of-the-sidecars";
/** A process that simulates more is busier than what it measures. */
const sidecarsPerProcess = 500;
const teamCount = 10;

/** How many, how busy, and how long. */
export interface SidecarsOptions {
  /** Steps of the curve, rising. */
  readonly counts: readonly number[];
  /** Of each sidecar. */
  readonly callsPerSecond: number;
  /** Keys, each used by the sidecars whose turn it is. */
  readonly keyCount: number;
  /** At each step, not counted and counted. */
  readonly warmUpMs: number;
  readonly measureMs: number;
  /** Its process, for its CPU time; undefined: somebody else's as well. */
  readonly postgresPid: number | undefined;
  /** Told of each step when it is done. */
  readonly onStep: (step: SidecarsStep) => void;
}

/** One step of the curve. Rates are per second. */
export interface SidecarsStep {
  readonly sidecars: number;
  readonly rpcs: Readonly<
    Record<
      RpcName,
      { readonly rate: number; readonly p50Ms: number; readonly p99Ms: number; readonly failures: number }
    >
  >;
  /** Shares of one core. */
  readonly keyServiceCores: number;
  readonly postgresCores: number | undefined;
  readonly keyServiceMb: number;
  readonly transactions: number;
  readonly rowsWritten: number;
  readonly walKb: number;
  /** From the answer to the change of a key until the last sidecar had heard of it; until half of them had. In milliseconds. */
  readonly changeHeardMs: { readonly half: number; readonly last: number };
}

/** The curve, and whether the money is all there. */
export interface SidecarsResult {
  readonly steps: readonly SidecarsStep[];
  /** Calls that ended, and those without money or answer. */
  readonly settled: number;
  readonly refused: number;
  readonly failed: number;
  /** What the calls cost, by the sidecars, by the spend log and by the keys' budgets; what is still lent. */
  readonly cost: bigint;
  readonly logged: bigint;
  readonly spent: bigint;
  readonly reserved: bigint;
}

/** Runs them against an empty database, as processes of their own. */
export async function measureSidecars(databaseUrl: string, options: SidecarsOptions): Promise<SidecarsResult> {
  const closers = new Closers();
  const directory = mkdtempSync(join(tmpdir(), "tollgate-sidecars-"));
  closers.add("directory", async () => rmSync(directory, { recursive: true, force: true }));
  try {
    const port = await freePort();
    const keyService = new Process(["keyservice"], {
      ...{ DATABASE_URL: databaseUrl, LITELLM_MASTER_KEY: masterKey, TOLLGATE_KEYSERVICE_TOKEN: runtimeToken },
      ...{ TOLLGATE_KEYSERVICE_PORT: String(port), TOLLGATE_DATA_DIR: directory, TOLLGATE_LOG_LEVEL: "warn" },
    });
    closers.add("KeyService", async () => void (await keyService.kill("SIGTERM")));
    const database = new pg.Client({ connectionString: databaseUrl });
    await database.connect();
    closers.add("database", () => database.end());
    const run = new Sidecars({ url: `http://127.0.0.1:${port}`, keyService, database, directory, options });
    closers.add("sidecars", () => run.close());
    return await run.measure();
  } finally {
    await closers.close((_, error) => {
      throw error;
    });
  }
}

interface SidecarsParts {
  readonly url: string;
  readonly keyService: Process;
  readonly database: pg.Client;
  readonly directory: string;
  readonly options: SidecarsOptions;
}

/** What is read before and after. */
interface Reading {
  readonly atMs: number;
  readonly keyServiceMs: number;
  readonly postgresMs: number | undefined;
  readonly transactions: number;
  readonly rows: number;
  readonly walBytes: number;
}

interface MadeKey {
  readonly keyId: string;
  readonly secret: string;
}

class Sidecars {
  readonly #parts: SidecarsParts;
  readonly #hosts: ChildProcess[] = [];
  readonly #keys: MadeKey[] = [];
  #count = 0;
  #steps = 0;

  constructor(parts: SidecarsParts) {
    this.#parts = parts;
  }

  async close(): Promise<void> {
    for (const host of this.#hosts) {
      if (host.exitCode !== null || host.signalCode !== null) continue;
      host.kill("SIGKILL");
      await once(host, "exit");
    }
  }

  async measure(): Promise<SidecarsResult> {
    await this.#makeKeys();
    const steps: SidecarsStep[] = [];
    for (const count of this.#parts.options.counts) {
      await this.#grow(count);
      const step = await this.#step();
      this.#parts.options.onStep(step);
      steps.push(step);
    }
    const stopped = await Promise.all(this.#hosts.map((host) => ask(host, { type: "stop" }, "stopped")));
    const sum = (value: (report: (typeof stopped)[number]) => number) =>
      stopped.reduce((total, report) => total + value(report), 0);
    return {
      steps,
      ...{
        settled: sum(({ settled }) => settled),
        refused: sum(({ refused }) => refused),
        failed: sum(({ failed }) => failed),
      },
      cost: stopped.reduce((total, { cost }) => total + BigInt(cost), 0n),
      ...(await this.#books()),
    };
  }

  async #makeKeys(): Promise<void> {
    const { options, keyService } = this.#parts;
    for (;;) {
      if (keyService.ended) throw new Error(`The KeyService has ended: ${keyService.output}`);
      if (
        (await this.#post("/team/new", { team_id: "team-0", max_budget: 1_000_000 }).catch(() => undefined)) !==
        undefined
      )
        break;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    for (let team = 1; team < teamCount; team++)
      await this.#post("/team/new", { team_id: `team-${team}`, max_budget: 1_000_000 });
    for (let n = 0; n < options.keyCount; n++) {
      const body = { team_id: `team-${n % teamCount}`, max_budget: 10_000, budget_duration: "30d" };
      const { key, key_id: keyId } = (await this.#post("/key/generate", body)) as { key: string; key_id: string };
      this.#keys.push({ keyId, secret: key });
    }
  }

  /** Starts further sidecars, so that there are `count`. */
  async #grow(count: number): Promise<void> {
    const { url, directory, options } = this.#parts;
    const started: Promise<unknown>[] = [];
    while (this.#count < count) {
      const size = Math.min(sidecarsPerProcess, count - this.#count);
      const first = this.#count;
      const host = fork(join(import.meta.dirname, "sidecar-host.ts"));
      this.#hosts.push(host);
      const tokens = Array.from({ length: size }, (_, n) => this.#keys[(first + n) % this.#keys.length]?.secret ?? "");
      const { callsPerSecond } = options;
      started.push(
        ask(host, { type: "start", url, runtimeToken, directory, tokens, first, callsPerSecond }, "started"),
      );
      this.#count += size;
    }
    await Promise.all(started);
  }

  async #step(): Promise<SidecarsStep> {
    const { options, keyService } = this.#parts;
    await new Promise((resolve) => setTimeout(resolve, options.warmUpMs));
    await this.#figures();
    const before = await this.#read();
    await new Promise((resolve) => setTimeout(resolve, options.measureMs));
    const [figures, after] = [await this.#figures(), await this.#read()];
    const keyServiceMb = residentMb(keyService.pid);
    const changeHeardMs = await this.#changeHeard();
    const seconds = (after.atMs - before.atMs) / 1_000;
    const perSecond = (name: keyof Reading) => ((after[name] ?? 0) - (before[name] ?? 0)) / seconds;
    return {
      sidecars: this.#count,
      rpcs: Object.fromEntries(
        rpcNames.map((name) => [name, latencyOf(figures[name], seconds)]),
      ) as SidecarsStep["rpcs"],
      keyServiceCores: perSecond("keyServiceMs") / 1_000,
      postgresCores: before.postgresMs === undefined ? undefined : perSecond("postgresMs") / 1_000,
      ...{ keyServiceMb, changeHeardMs, transactions: perSecond("transactions"), rowsWritten: perSecond("rows") },
      walKb: perSecond("walBytes") / 1_024,
    };
  }

  async #figures(): Promise<Record<RpcName, RpcFigures>> {
    const reports = await Promise.all(this.#hosts.map((host) => ask(host, { type: "figures" }, "figures")));
    return Object.fromEntries(
      rpcNames.map((name) => [
        name,
        {
          tookMs: reports.flatMap(({ rpcs }) => rpcs[name].tookMs),
          failures: reports.reduce((sum, { rpcs }) => sum + rpcs[name].failures, 0),
        },
      ]),
    ) as Record<RpcName, RpcFigures>;
  }

  async #changeHeard(): Promise<{ half: number; last: number }> {
    // Each step another, so that what is heard is this change.
    const { keyId, secret } = this.#keys[this.#steps++ % this.#keys.length] as MadeKey;
    const heard = Promise.all(this.#hosts.map((host) => ask(host, { type: "heard", keyId }, "heard")));
    heard.catch(() => {});
    await this.#post("/key/update", { key: secret, metadata: { step: this.#count } });
    const answeredMs = Date.now();
    const atMs = (await heard).flatMap((report) => report.atMs).toSorted((a, b) => a - b);
    const after = (index: number) => Math.max(0, (atMs[index] ?? 0) - answeredMs);
    return { half: after(atMs.length >> 1), last: after(atMs.length - 1) };
  }

  async #read(): Promise<Reading> {
    const { database, keyService, options } = this.#parts;
    // Backends tell their figures once a second.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const { rows } = await database.query(
      `SELECT xact_commit::float8 AS transactions, (tup_inserted + tup_updated + tup_deleted)::float8 AS rows,
         (SELECT wal_bytes::float8 FROM pg_stat_wal) AS "walBytes"
       FROM pg_stat_database WHERE datname = current_database()`,
    );
    const { postgresPid } = options;
    return {
      ...{ atMs: performance.now(), keyServiceMs: cpuMs(keyService.pid) },
      postgresMs: postgresPid === undefined ? undefined : familyCpuMs(postgresPid),
      ...(rows[0] as Pick<Reading, "transactions" | "rows" | "walBytes">),
    };
  }

  async #books(): Promise<{ logged: bigint; spent: bigint; reserved: bigint }> {
    const { rows } = await this.#parts.database.query<Record<"logged" | "spent" | "reserved", string>>(
      `SELECT (SELECT coalesce(sum(cost_nanos), 0) FROM spend_log) AS logged,
         coalesce(sum(spent_nanos), 0) AS spent, coalesce(sum(reserved_nanos), 0) AS reserved
       FROM budget_periods JOIN budgets USING (budget_id) WHERE scope = 'key'`,
    );
    const { logged = "0", spent = "0", reserved = "0" } = rows[0] ?? {};
    return { logged: BigInt(logged), spent: BigInt(spent), reserved: BigInt(reserved) };
  }

  async #post(path: string, body: object): Promise<unknown> {
    const headers = { authorization: `Bearer ${masterKey}`, "content-type": "application/json" };
    const response = await fetch(`${this.#parts.url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }
}

/** Waits for the report of this type. @throws Error if the process ends before. */
async function ask<Type extends Report["type"]>(
  host: ChildProcess,
  order: Order,
  type: Type,
): Promise<Extract<Report, { type: Type }>> {
  return new Promise((resolve, reject) => {
    const onMessage = (report: Report) => {
      if (report.type !== type) return;
      host.off("message", onMessage);
      host.off("exit", onExit);
      resolve(report as Extract<Report, { type: Type }>);
    };
    const onExit = (code: number | null, signal: string | null) =>
      reject(new Error(`A process of sidecars ended (${code ?? signal}) instead of being ${type}.`));
    host.on("message", onMessage);
    host.on("exit", onExit);
    host.send(order);
  });
}

function latencyOf({ tookMs, failures }: RpcFigures, seconds: number): SidecarsStep["rpcs"][RpcName] {
  const sorted = tookMs.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { rate: sorted.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99), failures };
}

/** CPU time of a process and its living children, in milliseconds. */
function familyCpuMs(parent: number): number {
  const pids = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  let sum = 0;
  for (const pid of pids) {
    try {
      const parentOf = Number(readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)?.split(" ")[1]);
      if (pid === parent || parentOf === parent) sum += cpuMs(pid);
    } catch {
      // It has just ended.
    }
  }
  return sum;
}
