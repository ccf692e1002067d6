import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { environment, nodeFlags } from "../../deploy/runtime.ts";
import { startEmbeddedPostgres } from "../../sidecar/embedded-postgres.ts";
import { bundled } from "../bundled.ts";
import { Stack, type TestSidecar } from "../e2e/stack.ts";
import { databaseCount, startRedis } from "../redis.ts";
import { installRedis } from "../redis-program.ts";
import { pin, yieldAlways } from "./cpu.ts";
import type { Floor, Lane, Traced } from "./lanes.ts";

/** One core for what is measured, the other for the rest. */
const [subjectCore, loadCore] = [0, 1];
const bundleFolder = fileURLToPath(new URL("../../.cache/bundle", import.meta.url));
/** For all that has the load's core: of five threads on it one in five turns is the load's, whenever V8 collects its garbage. `npm run bench` starts so, too. */
const withoutHelpers: readonly string[] = ["--single-threaded-gc"];

/** A line for each call: kept as they come, they made the load's own collection of garbage stop it for 30 to 100 ms, four times a second. */
const outputCharsMax = 65_536;

/** Spend records that wait in a sidecar that is up to date: those of its last moment. */
const pendingMax = 500;
const bookedWithinMs = 120_000;

/** What is measured: a process that answers at a port. */
export interface Subject {
  readonly port: number;
  readonly pid: number;
}

/** Variables of a sidecar, by how much of its calls it tells. */
const tracedBy = (collectorUrl: string): Readonly<Record<Traced, Readonly<Record<string, string>>>> => ({
  none: { TOLLGATE_LOG_LEVEL: "warn" },
  tenth: {
    OTEL_EXPORTER_OTLP_ENDPOINT: collectorUrl,
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: "0.1",
  },
  all: { OTEL_EXPORTER_OTLP_ENDPOINT: collectorUrl },
});

/** All programs of a bench: real PostgreSQL and Redis, a KeyService, sidecars, floors, an upstream and a collector. */
export class Stage {
  readonly #cleanUps: (() => unknown)[] = [];
  readonly #sidecars = new Map<Traced, TestSidecar>();
  readonly #floors = new Map<Floor, Subject>();
  readonly #keys = new Map<Lane["key"], string>();
  readonly #profileDir: string | undefined;
  #upstreamUrl = "";

  private constructor(profileDir: string | undefined) {
    this.#profileDir = profileDir;
  }

  /** @param profileDir where V8's CPU profiles of the sidecars are written when they end; undefined: none are made. */
  static async start(profileDir: string | undefined): Promise<Stage> {
    const stage = new Stage(profileDir);
    try {
      await stage.#start();
      return stage;
    } catch (error) {
      await stage.close();
      throw error;
    }
  }

  /** Which process a lane is about. */
  subjectOf({ traced }: Pick<Lane, "traced">): Subject {
    const { url, process } = this.sidecarOf(traced);
    return { port: Number(new URL(url).port), pid: process.pid };
  }

  sidecarOf(traced: Traced): TestSidecar {
    const sidecar = this.#sidecars.get(traced);
    if (sidecar === undefined) throw new Error(`no sidecar is traced so: ${traced}`);
    return sidecar;
  }

  floorOf({ against }: Pick<Lane, "against">): Subject {
    if (against === "untraced sidecar") return this.subjectOf({ traced: "none" });
    const floor = this.#floors.get(against);
    if (floor === undefined) throw new Error(`there is no such floor: ${against}`);
    return floor;
  }

  keyOf({ key }: Pick<Lane, "key">): string {
    return this.#keys.get(key) ?? "";
  }

  /** Starts a lane's sidecar and its floor anew. */
  async renew({ traced, against }: Pick<Lane, "traced" | "against">): Promise<void> {
    await this.#restart(traced);
    if (against === "untraced sidecar") await this.#restart("none");
    else await this.#startFloor(against);
    this.pinSidecars();
  }

  /** Waits until what a lane's sidecar has spent is booked: elsewhere a KeyService keeps up, here it comes after the load. */
  async booked({ traced }: Pick<Lane, "traced">): Promise<void> {
    const { adminUrl } = this.sidecarOf(traced);
    const untilMs = performance.now() + bookedWithinMs;
    for (let pending = Number.POSITIVE_INFINITY; pending > pendingMax; ) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const metrics = await (await fetch(`${adminUrl}/metrics`)).text();
      const [, text] = /^tollgate_usage_wal_pending (\d+)$/m.exec(metrics) ?? [];
      if (text === undefined) throw new Error("the sidecar does not tell how many spend records wait");
      pending = Number(text);
      if (performance.now() > untilMs) throw new Error(`${pending} spend records are not booked in time`);
    }
  }

  async #restart(traced: Traced): Promise<void> {
    const sidecar = this.sidecarOf(traced);
    await sidecar.process.kill("SIGTERM");
    sidecar.process.restart();
    await sidecar.ready();
  }

  /** Those that were started again, too. */
  pinSidecars(): void {
    for (const { process: program } of this.#sidecars.values()) pin(program.pid, subjectCore);
  }

  async close(): Promise<void> {
    for (const cleanUp of this.#cleanUps.toReversed()) await cleanUp();
  }

  async #start(): Promise<void> {
    pin(process.pid, loadCore);
    const [upstream, collector] = [
      await this.#program("upstream.ts", [], loadCore, withoutHelpers),
      await this.#program("collector.ts", [], loadCore, withoutHelpers),
    ];
    await this.#startServers();
    const envs = Object.entries(tracedBy(`http://127.0.0.1:${collector.port}`)) as [Traced, Record<string, string>][];
    const profiling = this.#profileDir === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${this.#profileDir}`];
    const stack = await Stack.start({
      ...{ program: bundled(bundleFolder), sidecars: envs.length, models: modelsAt(upstream.port) },
      nodeFlags: [...nodeFlags, ...profiling],
      sidecarEnv: (index) => ({ ...environment, ...envs[index]?.[1] }),
    });
    this.#cleanUps.push(() => stack.close().catch((error) => this.#profileDir ?? Promise.reject(error)));
    // A profile is written by a program that ends of itself.
    if (profiling.length > 0)
      this.#cleanUps.push(() => Promise.all(stack.sidecars.map(({ process: program }) => program.kill("SIGTERM"))));
    pin(stack.keyService.pid, loadCore);
    yieldAlways(stack.keyService.pid);
    for (const [index, sidecar] of stack.sidecars.entries()) {
      this.#sidecars.set(envs[index]?.[0] ?? "none", sidecar);
      sidecar.process.outputCharsMax = outputCharsMax;
    }
    this.pinSidecars();
    await this.#makeKeys(stack);
    this.#upstreamUrl = `http://127.0.0.1:${upstream.port}`;
    await this.#startFloor("pipe");
    await this.#startFloor("connect-node");
  }

  /** In place of the one there was. */
  async #startFloor(floor: Exclude<Floor, "untraced sidecar">): Promise<void> {
    const former = this.#floors.get(floor);
    if (former !== undefined) process.kill(former.pid, "SIGKILL");
    const [file, args] = floor === "pipe" ? ["floor.ts", [this.#upstreamUrl]] : ["grpc-floor.ts", []];
    this.#floors.set(floor, await this.#program(file, args, subjectCore));
  }

  async #startServers(): Promise<void> {
    const dataDir = mkdtempSync(join(tmpdir(), "tollgate-bench-"));
    this.#cleanUps.push(() => rmSync(dataDir, { recursive: true, force: true }));
    const postgres = await startEmbeddedPostgres({ dataDir, log: () => {}, parameters: {} });
    this.#cleanUps.push(() => postgres.stop());
    // It and the KeyService stand elsewhere in earnest. Of a lower priority alone, they made the load wait for their turn's end, up to 3 ms.
    yieldAlways(postgres.pid);
    installRedis();
    const redis = await startRedis({ args: ["--databases", String(databaseCount)] });
    this.#cleanUps.push(() => redis.stop());
    process.env.TOLLGATE_TEST_POSTGRES_URL = postgres.url.reveal();
    process.env.TOLLGATE_TEST_REDIS_URL = `redis://${redis.host}:${redis.port}`;
  }

  async #makeKeys(stack: Stack): Promise<void> {
    const big = { max_budget: 100_000, budget_duration: "1d", rpm_limit: 100_000_000, tpm_limit: 10_000_000_000 };
    const { body } = await stack.admin("POST", "/team/new", { team_alias: "bench", ...big });
    const models = ["bench", "translated"];
    this.#keys.set("plain", await stack.generateKey({}));
    this.#keys.set("governed", await stack.generateKey({ ...big, team_id: body.team_id, models }));
  }

  async #program(file: string, args: readonly string[], core: number, flags: readonly string[] = []): Promise<Subject> {
    const child = spawn(process.execPath, [...flags, new URL(file, import.meta.url).pathname, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#cleanUps.push(() => child.kill("SIGKILL"));
    const [port] = (await once(child.stdout, "data")) as [Buffer];
    const pid = child.pid ?? 0;
    pin(pid, core);
    return { port: Number(port.toString()), pid };
  }
}

function modelsAt(upstreamPort: number): string {
  const prices = "input_cost_per_token: 0.000001\n      output_cost_per_token: 0.000002";
  const deployment = (name: string, model: string, base: string) => `
  - model_name: ${name}
    litellm_params:
      model: ${model}
      api_base: http://127.0.0.1:${upstreamPort}${base}
      api_key: sk-upstream
      ${prices}`;
  return deployment("bench", "openai/bench", "/v1") + deployment("translated", "anthropic/bench", "");
}
