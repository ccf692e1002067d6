import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { freePort } from "../free-port.ts";
import { testDatabaseUrl } from "../postgres.ts";
import { testRedis } from "../redis.ts";
import { Upstream } from "../upstream.ts";

export const masterKey = "sk-master-key-of-the-tests";
const runtimeToken = "runtime-token-of-the-tests";
const main = new URL("../../sidecar/main.ts", import.meta.url).pathname;

/** One program of the stack, in a process of its own. */
export class Process {
  #child: ChildProcess;
  readonly #args: readonly string[];
  #env: Readonly<Record<string, string>>;
  /** The last of what it printed. */
  output = "";
  /** How much of that is kept: what is loaded for long says more than a text can hold. */
  outputCharsMax = 64 * 1_048_576;

  /**
   * @param nodeFlags for node itself.
   * @param program default: from source.
   */
  constructor(
    args: readonly string[],
    env: Readonly<Record<string, string>>,
    nodeFlags: readonly string[] = [],
    program = main,
  ) {
    this.#args = [...nodeFlags, program, ...args];
    this.#env = env;
    this.#child = this.#spawn();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Starts it again after it was killed, with other variables if they are given. */
  restart(env: Readonly<Record<string, string>> = {}): void {
    this.#env = { ...this.#env, ...env };
    this.#child = this.#spawn();
  }

  /** Starts it again so that no file of its can become larger than so many half kilobytes. */
  restartConfined(fileBlocks: number): void {
    const confined = `ulimit -f ${fileBlocks}; exec "$0" "$@"`;
    this.#child = this.#spawn("/bin/sh", ["-c", confined, process.execPath, ...this.#args]);
  }

  /** Sends a signal and waits for the end. */
  async kill(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.#child.exitCode;
    const exit = once(this.#child, "exit");
    this.#child.kill(signal);
    await exit;
    return this.#child.exitCode;
  }

  /** Waits until it ends by itself and all it printed has come. @returns the exit code. */
  async exited(): Promise<number | null> {
    if (!this.ended) await once(this.#child, "close");
    return this.#child.exitCode;
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  #spawn(command = process.execPath, args = this.#args): ChildProcess {
    const child = spawn(command, args, {
      env: { PATH: process.env.PATH, HOME: process.env.HOME, ...this.#env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (text) => {
        this.output += String(text);
        if (this.output.length > this.outputCharsMax) this.output = this.output.slice(-this.outputCharsMax / 2);
      });
    }
    return child;
  }
}

/** A sidecar in a process of its own. */
export interface TestSidecar {
  readonly url: string;
  readonly adminUrl: string;
  readonly dataDir: string;
  readonly process: Process;
  /** Waits until it takes calls. */
  ready(): Promise<void>;
}

/** What a stack is made of. */
export interface StackOptions {
  readonly sidecars: number;
  /** Further attempts after a failed one. Default: none. */
  readonly retries?: number;
  /** More YAML for the end of the config file. */
  readonly config?: string;
  /** More deployments: lines of `model_list`. */
  readonly models?: string;
  /** Where Redis is: lines of `router_settings`. Default: a database of the run's own. */
  readonly redis?: string;
  /** Where the KeyService reaches the database's server on this machine, if not directly. */
  readonly databasePort?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** More variables for each sidecar, by its index. */
  readonly sidecarEnv?: (index: number) => Readonly<Record<string, string>>;
  /** The programs' file. Default: from source. */
  readonly program?: string;
  /** Flags of node for the sidecars. */
  readonly nodeFlags?: readonly string[];
  /** Called when it is known where the KeyService will be, before any sidecar starts. */
  readonly beforeSidecars?: (keyServiceUrl: string) => void;
}

/** KeyService and sidecars as real processes, a real PostgreSQL and Redis, and an upstream that keeps its own bill. */
export class Stack {
  readonly upstream: Upstream;
  readonly sidecars: readonly TestSidecar[];
  readonly keyService: Process;
  readonly keyServiceUrl: string;
  /** The file that all programs are started with. */
  readonly configPath: string;
  readonly database: pg.Pool;
  readonly #cleanUps: (() => Promise<void> | void)[];

  private constructor(
    parts: Pick<Stack, "upstream" | "sidecars" | "keyService" | "keyServiceUrl" | "configPath" | "database">,
    cleanUps: (() => Promise<void> | void)[],
  ) {
    this.upstream = parts.upstream;
    this.sidecars = parts.sidecars;
    this.keyService = parts.keyService;
    this.keyServiceUrl = parts.keyServiceUrl;
    this.configPath = parts.configPath;
    this.database = parts.database;
    this.#cleanUps = cleanUps;
  }

  static async start(options: StackOptions): Promise<Stack> {
    const cleanUps: (() => Promise<void> | void)[] = [];
    const directory = mkdtempSync(join(tmpdir(), "tollgate-e2e-"));
    cleanUps.push(() => rmSync(directory, { recursive: true, force: true }));
    const [upstream, databaseUrl, redis] = await Promise.all([Upstream.start(), testDatabaseUrl(), testRedis()]);
    cleanUps.push(
      () => upstream.close(),
      () => databaseUrl.drop(),
    );
    const configPath = join(directory, "config.yaml");
    writeFileSync(configPath, configFor(upstream, redis, options));
    const keyServicePort = await freePort();
    const keyServiceUrl = `http://127.0.0.1:${keyServicePort}`;
    const shared = {
      LITELLM_MASTER_KEY: masterKey,
      TOLLGATE_KEYSERVICE_TOKEN: runtimeToken,
      LITELLM_SALT_KEY: "pepper-of-the-tests",
      KEYSERVICE_URL: keyServiceUrl,
      // Two cores shared by everything: an answer in 50 ms cannot be promised here.
      TOLLGATE_REDIS_TIMEOUT_MS: "2000",
      ...options.env,
    };
    const keyServiceEnv = {
      ...shared,
      DATABASE_URL: withPort(databaseUrl.url, options.databasePort),
      TOLLGATE_KEYSERVICE_PORT: String(keyServicePort),
      TOLLGATE_DATA_DIR: join(directory, "keyservice"),
    };
    const keyService = new Process(["keyservice", "--config", configPath], keyServiceEnv, [], options.program);
    cleanUps.push(async () => void (await keyService.kill("SIGKILL")));
    options.beforeSidecars?.(keyServiceUrl);
    const sidecars: TestSidecar[] = [];
    for (let index = 0; index < options.sidecars; index++) {
      const [port, adminPort] = [await freePort(), await freePort()];
      const dataDir = join(directory, `pod-${index}`);
      const env = {
        ...shared,
        TOLLGATE_PORT: String(port),
        TOLLGATE_ADMIN_PORT: String(adminPort),
        TOLLGATE_ADMIN_HOST: "127.0.0.1",
        TOLLGATE_POD_ID: `pod-${index}`,
        TOLLGATE_DATA_DIR: dataDir,
        ...options.sidecarEnv?.(index),
      };
      const process = new Process(["sidecar", "--config", configPath], env, options.nodeFlags, options.program);
      cleanUps.push(async () => void (await process.kill("SIGKILL")));
      const adminUrl = `http://127.0.0.1:${adminPort}`;
      sidecars.push({
        url: `http://127.0.0.1:${port}`,
        ...{ adminUrl, dataDir, process },
        ready: () => waitFor(`sidecar ${index}`, `${adminUrl}/readyz`, process),
      });
    }
    const database = new pg.Pool({ connectionString: databaseUrl.url, max: 2 });
    database.on("error", () => {});
    cleanUps.push(() => database.end());
    const stack = new Stack({ upstream, sidecars, keyService, keyServiceUrl, configPath, database }, cleanUps);
    try {
      await stack.keyServiceReady();
      await Promise.all(sidecars.map((sidecar) => sidecar.ready()));
    } catch (error) {
      await stack.close();
      throw error;
    }
    return stack;
  }

  /** Waits until the KeyService answers. */
  keyServiceReady(): Promise<void> {
    return waitFor("keyservice", `${this.keyServiceUrl}/health/readiness`, this.keyService);
  }

  /** One request to LiteLLM's management API. */
  async admin(method: string, path: string, body?: object): Promise<{ status: number; body: Record<string, unknown> }> {
    const answer = await fetch(this.keyServiceUrl + path, {
      method,
      headers: { authorization: `Bearer ${masterKey}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  }

  /** @returns the secret of a new key. */
  async generateKey(fields: object = {}): Promise<string> {
    const { status, body } = await this.admin("POST", "/key/generate", fields);
    if (status !== 200) throw new Error(`key/generate: ${status} ${JSON.stringify(body)}`);
    return String(body.key);
  }

  /** One unary chat call by bare HTTP. */
  async chat(sidecar: number, key: string, fields: object = {}): Promise<Response> {
    return fetch(`${this.sidecars[sidecar]?.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "ok", messages: [{ role: "user", content: "Hello" }], ...fields }),
    });
  }

  /** The spend log's rows of a key, oldest first, once `count` of them are there. */
  async booked(key: string, count: number): Promise<readonly pg.QueryResultRow[]> {
    const keyId = await this.#keyId(key);
    for (let tries = 0; ; tries++) {
      const { rows } = await this.database.query(
        "SELECT * FROM spend_log WHERE key_id = $1 ORDER BY booked_at, call_id, attempt",
        [keyId],
      );
      if (rows.length >= count || tries >= 100) return rows;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Nano-dollars spent and reserved over all periods of a key's main budget. */
  async spent(key: string): Promise<{ spent: bigint; reserved: bigint }> {
    const { rows } = await this.database.query(
      `SELECT coalesce(sum(spent_nanos), 0)::text AS spent, coalesce(sum(reserved_nanos), 0)::text AS reserved
       FROM budget_periods JOIN budgets USING (budget_id) WHERE scope = 'key' AND scope_id = $1 AND place = 0`,
      [await this.#keyId(key)],
    );
    return { spent: BigInt(rows[0]?.spent), reserved: BigInt(rows[0]?.reserved) };
  }

  /** @throws with its output if a program has ended by itself. */
  async close(): Promise<void> {
    const fallen = [this.keyService, ...this.sidecars.map(({ process }) => process)].filter(({ ended }) => ended);
    for (const cleanUp of this.#cleanUps.toReversed()) await cleanUp();
    if (fallen.length > 0)
      throw new Error(`a program has ended by itself:\n${fallen.map(({ output }) => output).join("\n")}`);
  }

  async #keyId(key: string): Promise<string> {
    const { body } = await this.admin("GET", `/key/info?key=${encodeURIComponent(key)}`);
    return String((body.info as Record<string, unknown>).key_id);
  }
}

function configFor(
  upstream: Upstream,
  redis: { host: string; port: number; db: number },
  options: StackOptions,
): string {
  const deployments = [...upstream.scripts.keys()].map(
    (name) => `
  - model_name: ${name}
    litellm_params:
      model: openai/${name}
      api_base: ${upstream.baseUrl}
      api_key: sk-upstream-secret
      max_tokens: 100
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
      stream_timeout: 5
      timeout: 5`,
  );
  return `
model_list:${deployments.join("")}
${options.models ?? ""}
router_settings:
  num_retries: ${options.retries ?? 0}
${options.redis ?? `  redis_host: ${redis.host}\n  redis_port: ${redis.port}\n  redis_db: ${redis.db}`}
${options.config ?? ""}
`;
}

function withPort(address: string, port: number | undefined): string {
  const url = new URL(address);
  if (port !== undefined) url.port = String(port);
  return url.href;
}

async function waitFor(name: string, url: string, process: Process): Promise<void> {
  // Several programs start at once, on two cores that do other things too.
  for (let tries = 0; tries < 600; tries++) {
    if (process.ended) break;
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${name} did not become ready:\n${process.output}`);
}
