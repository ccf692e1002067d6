import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../sidecar/embedded-postgres.ts";
import { Process } from "../e2e/stack.ts";
import { freePort } from "../free-port.ts";
import { type RedisServer, startRedis } from "../redis.ts";
import { Upstream } from "../upstream.ts";
import { Bills } from "./bills.ts";
import { FaultProxy } from "./proxy.ts";

export const masterKey = "sk-master-key-of-the-faults";
export const runtimeToken = "runtime-token-of-the-faults";

/** What a world is made of. */
export interface WorldOptions {
  /** Default 3. */
  readonly sidecars?: number;
  /** Default 20 s. */
  readonly leaseTtlS?: number;
  readonly keyServiceEnv?: Readonly<Record<string, string>>;
  /** Further parameters of deployments, by their models. */
  readonly params?: Readonly<Record<string, object>>;
  readonly sidecarEnv?: (index: number, directory: string) => Readonly<Record<string, string>>;
}

/** A sidecar in a process of its own, and its own way to the KeyService. */
export interface Pod {
  readonly url: string;
  readonly adminUrl: string;
  readonly dataDir: string;
  readonly process: Process;
  readonly toKeyService: FaultProxy;
}

/** Everything as real processes, with a proxy on every way between them, and a provider that keeps its own bill. */
export class World {
  readonly directory = mkdtempSync(join(tmpdir(), `tollgate-test-${process.pid}-`));
  readonly leaseTtlMs: number;
  readonly upstream: Upstream;
  readonly bills: Bills;
  readonly pods: Pod[] = [];
  readonly toRedis: FaultProxy;
  readonly toPostgres: FaultProxy;
  redis: RedisServer;
  keyService!: Process;
  keyServiceUrl = "";
  #postgres: EmbeddedPostgres;
  readonly #options: WorldOptions;
  readonly #cleanUps: (() => Promise<unknown>)[] = [];
  #sharedEnv: Readonly<Record<string, string>> = {};

  private constructor(
    options: WorldOptions,
    parts: Pick<World, "upstream" | "redis" | "toRedis" | "toPostgres"> & { postgres: EmbeddedPostgres },
  ) {
    this.#options = options;
    this.leaseTtlMs = (options.leaseTtlS ?? 20) * 1000;
    this.upstream = parts.upstream;
    this.bills = new Bills(parts.upstream);
    this.redis = parts.redis;
    this.toRedis = parts.toRedis;
    this.toPostgres = parts.toPostgres;
    this.#postgres = parts.postgres;
  }

  static async start(options: WorldOptions = {}): Promise<World> {
    const dataDir = mkdtempSync(join(tmpdir(), `tollgate-test-${process.pid}-`));
    const [upstream, redis, postgres] = await Promise.all([
      Upstream.start(),
      startRedis(),
      startEmbeddedPostgres({ dataDir, log: () => {} }),
    ]);
    const toRedis = await FaultProxy.start(redis.port);
    const toPostgres = await FaultProxy.start(postgres.port);
    const world = new World(options, { upstream, redis, postgres, toRedis, toPostgres });
    world.#dataDir = dataDir;
    try {
      await world.#start();
    } catch (error) {
      await world.close();
      throw error;
    }
    return world;
  }

  #dataDir = "";

  async #start(): Promise<void> {
    const port = await freePort();
    this.keyServiceUrl = `http://127.0.0.1:${port}`;
    this.#sharedEnv = {
      LITELLM_MASTER_KEY: masterKey,
      TOLLGATE_KEYSERVICE_TOKEN: runtimeToken,
      LITELLM_SALT_KEY: "pepper-of-the-faults",
      TOLLGATE_LOG_LEVEL: "info",
    };
    const databaseUrl = new URL(this.#postgres.url.reveal());
    databaseUrl.port = String(this.toPostgres.port);
    this.keyService = new Process(["keyservice"], {
      ...this.#sharedEnv,
      DATABASE_URL: databaseUrl.href,
      TOLLGATE_KEYSERVICE_PORT: String(port),
      TOLLGATE_DATA_DIR: join(this.directory, "keyservice"),
      TOLLGATE_LEASE_TTL_S: String(this.leaseTtlMs / 1000),
      ...this.#options.keyServiceEnv,
    });
    this.#cleanUps.push(() => this.keyService.kill("SIGKILL"));
    await this.keyServiceReady();
    for (let index = 0; index < (this.#options.sidecars ?? 3); index++) await this.addPod();
    await Promise.all(this.pods.map((pod) => ready(pod)));
  }

  /** Starts one more sidecar, without waiting for it. */
  async addPod(): Promise<Pod> {
    const index = this.pods.length;
    const configPath = join(this.directory, "config.yaml");
    writeFileSync(configPath, configFor(this.upstream, this.toRedis.port, this.#options.params));
    const toKeyService = await FaultProxy.start(Number(new URL(this.keyServiceUrl).port));
    const [port, adminPort] = [await freePort(), await freePort()];
    const dataDir = join(this.directory, `pod-${index}`);
    const program = new Process(["sidecar", "--config", configPath], {
      ...this.#sharedEnv,
      KEYSERVICE_URL: `http://127.0.0.1:${toKeyService.port}`,
      TOLLGATE_PORT: String(port),
      TOLLGATE_ADMIN_PORT: String(adminPort),
      TOLLGATE_ADMIN_HOST: "127.0.0.1",
      TOLLGATE_POD_ID: `pod-${index}`,
      TOLLGATE_DATA_DIR: dataDir,
      ...this.#options.sidecarEnv?.(index, this.directory),
    });
    this.#cleanUps.push(
      () => toKeyService.close(),
      () => program.kill("SIGKILL"),
    );
    const url = `http://127.0.0.1:${port}`;
    const pod = { url, adminUrl: `http://127.0.0.1:${adminPort}`, dataDir, process: program, toKeyService };
    this.pods.push(pod);
    return pod;
  }

  pod(index: number): Pod {
    const pod = this.pods[index];
    if (pod === undefined) throw new Error(`there is no pod ${index}`);
    return pod;
  }

  keyServiceReady(): Promise<void> {
    return eventually("the KeyService is ready", async () => {
      const answer = await fetch(`${this.keyServiceUrl}/health/readiness`, { signal: AbortSignal.timeout(2_000) });
      return answer.ok;
    });
  }

  /** One request to LiteLLM's management API; status 0 if there was no answer. */
  async admin(path: string, body: object): Promise<{ status: number; body: Record<string, unknown> }> {
    try {
      const answer = await fetch(this.keyServiceUrl + path, {
        method: "POST",
        headers: { authorization: `Bearer ${masterKey}`, "content-type": "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(15_000),
      });
      return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
    } catch {
      return { status: 0, body: {} };
    }
  }

  /** The database itself, past all proxies. int8 comes as bigint. */
  async query<Row extends pg.QueryResultRow>(sql: string, values: readonly unknown[] = []): Promise<Row[]> {
    const client = new pg.Client({ connectionString: this.#postgres.url.reveal(), types: { getTypeParser } });
    client.on("error", () => {});
    await client.connect();
    try {
      return (await client.query<Row>(sql, [...values])).rows;
    } finally {
      await client.end();
    }
  }

  /** SIGKILL is a crash, SIGQUIT an immediate stop. */
  async endPostgres(signal: "SIGKILL" | "SIGQUIT"): Promise<void> {
    process.kill(this.#postgres.pid, signal);
    await this.#postgres.stop();
  }

  /** Starts PostgreSQL again on its data. */
  async restartPostgres(): Promise<void> {
    await eventually("PostgreSQL is back", async () => {
      // The crashed server's children may still hold its memory.
      this.#postgres = await startEmbeddedPostgres({ dataDir: this.#dataDir, log: () => {} });
      return true;
    });
    this.toPostgres.targetPort = this.#postgres.port;
  }

  /** Starts Redis again, empty, where it was. */
  async restartRedis(): Promise<void> {
    this.redis = await startRedis({ port: this.redis.port });
  }

  async close(): Promise<void> {
    for (const cleanUp of this.#cleanUps.toReversed()) await cleanUp();
    await Promise.all([this.toRedis.close(), this.toPostgres.close(), this.upstream.close()]);
    await Promise.all([this.redis.stop(), this.#postgres.stop()]);
    for (const directory of [this.directory, this.#dataDir]) rmSync(directory, { recursive: true, force: true });
  }
}

/** Waits until a pod takes calls. */
export function ready(pod: Pod): Promise<void> {
  return eventually("the sidecar is ready", async () => {
    if (pod.process.ended) throw new Error(`the sidecar has ended:\n${pod.process.output.slice(-2000)}`);
    const answer = await fetch(`${pod.adminUrl}/readyz`, { signal: AbortSignal.timeout(2_000) });
    return answer.ok;
  });
}

/** A figure of a pod's metrics; undefined while it cannot be asked, or has none such. */
export async function figure(pod: Pod, name: string): Promise<number | undefined> {
  try {
    const text = await (await fetch(`${pod.adminUrl}/metrics`, { signal: AbortSignal.timeout(2_000) })).text();
    const line = text.split("\n").find((candidate) => candidate.startsWith(`${name} `));
    return line === undefined ? undefined : Number(line.slice(name.length + 1));
  } catch {
    return undefined;
  }
}

/** Repeats `check` until it gives true; exceptions count as false. @returns how long that took, in milliseconds. */
export async function eventually(what: string, check: () => Promise<boolean>, withinMs = 30_000): Promise<void> {
  const deadlineMs = performance.now() + withinMs;
  let failure: unknown;
  for (;;) {
    try {
      if (await check()) return;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
    if (performance.now() > deadlineMs) throw new Error(`not within ${withinMs} ms: ${what}`, { cause: failure });
    await pause(100);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function getTypeParser(oid: number, format?: "text" | "binary") {
  const int8 = 20;
  if (oid === int8 && format !== "binary") return BigInt;
  return pg.types.getTypeParser(oid, format);
}

function configFor(upstream: Upstream, redisPort: number, params: WorldOptions["params"] = {}): string {
  const deployments = [...upstream.scripts.keys()].map(
    (name) => `
  - model_name: ${name}
    litellm_params:
      model: openai/${name}
      api_base: ${upstream.baseUrl}
      api_key: sk-upstream-secret
      max_tokens: 20
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
      stream_timeout: 30
      timeout: 120${Object.entries(params[name] ?? {})
        .map(([key, value]) => `\n      ${key}: ${JSON.stringify(value)}`)
        .join("")}`,
  );
  return `model_list:${deployments.join("")}
router_settings:
  num_retries: 0
  redis_host: 127.0.0.1
  redis_port: ${redisPort}
`;
}
