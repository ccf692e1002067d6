import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { Closers } from "../../src/lifecycle.ts";
import { freePort } from "../free-port.ts";
import { testDatabaseUrl } from "../postgres.ts";
import { testRedis } from "../redis.ts";
import { inputTokens, Upstream, words } from "../upstream.ts";
import { masterKey, Process } from "./stack.ts";

const costNanos = BigInt(inputTokens) * 1_000n + BigInt(words.length) * 2_000n;

/** A Service of the cluster: new connections go to the replicas that are ready, by turns. */
class ServiceAddress {
  readonly ports: number[] = [];
  readonly #server: Server;
  #turn = 0;

  private constructor() {
    this.#server = createServer((client) => {
      const port = this.ports[this.#turn++ % this.ports.length];
      if (port === undefined) return client.destroy();
      const replica = connect(port, "127.0.0.1");
      client.pipe(replica).pipe(client);
      client.on("error", () => replica.destroy()).on("close", () => replica.destroy());
      replica.on("error", () => client.destroy()).on("close", () => client.destroy());
    });
  }

  static async open(): Promise<ServiceAddress> {
    const address = new ServiceAddress();
    await new Promise<void>((resolve) => address.#server.listen(0, "127.0.0.1", () => resolve()));
    return address;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
  }
}

const directory = mkdtempSync(join(tmpdir(), "tollgate-rolling-"));
const configPath = join(directory, "config.yaml");
const closers = new Closers();
const running = new Set<Process>();
let upstream: Upstream;
let service: ServiceAddress;
let database: pg.Pool;
let shared: Record<string, string>;
let key: string;

before(async () => {
  closers.add("folder", () => rmSync(directory, { recursive: true, force: true }));
  const [provider, books, redis] = await Promise.all([Upstream.start(), testDatabaseUrl(), testRedis()]);
  upstream = provider;
  closers.add("upstream", () => upstream.close());
  closers.add("books", () => books.drop());
  database = new pg.Pool({ connectionString: books.url, max: 1 });
  database.on("error", () => {});
  closers.add("pool", () => database.end());
  service = await ServiceAddress.open();
  closers.add("service", () => service.close());
  closers.add("programs", async () => {
    await Promise.all([...running].map((program) => program.kill("SIGKILL")));
  });
  writeFileSync(
    configPath,
    `
model_list:
  - model_name: ok
    litellm_params: {model: openai/ok, api_base: "${upstream.baseUrl}", api_key: sk-up, max_tokens: 100,
      input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}
router_settings: {num_retries: 0, redis_host: ${redis.host}, redis_port: ${redis.port}, redis_db: ${redis.db}}
`,
  );
  shared = {
    ...{ DATABASE_URL: books.url, LITELLM_MASTER_KEY: masterKey, LITELLM_SALT_KEY: "pepper-of-the-tests" },
    ...{ TOLLGATE_KEYSERVICE_TOKEN: "runtime-token", KEYSERVICE_URL: service.url, TOLLGATE_REDIS_TIMEOUT_MS: "2000" },
  };
});
after(() =>
  closers.close((name, error) => {
    throw new Error(`could not close ${name}`, { cause: error });
  }),
);

function start(args: readonly string[], env: Record<string, string>): Process {
  const program = new Process(args, { ...shared, ...env });
  running.add(program);
  return program;
}

async function stop(program: Process): Promise<void> {
  assert.equal(await program.kill("SIGTERM"), 0, program.output.slice(-2_000));
  running.delete(program);
}

async function answers(url: string, program: Process): Promise<void> {
  for (let tries = 0; tries < 600 && !program.ended; tries++) {
    if ((await fetch(url).catch(() => undefined))?.ok) return;
    await sleep(50);
  }
  assert.fail(`${url} does not answer:\n${program.output}`);
}

interface Replica {
  readonly program: Process;
  readonly port: number;
}

/** As a Deployment rolls: the new replica is ready before the old one is told to go, which is no endpoint from then on. */
async function newReplica(): Promise<Replica> {
  const port = await freePort();
  const program = start(["keyservice"], { TOLLGATE_KEYSERVICE_PORT: String(port) });
  await answers(`http://127.0.0.1:${port}/health/readiness`, program);
  service.ports.push(port);
  return { program, port };
}

async function endReplica({ program, port }: Replica): Promise<void> {
  const ended = stop(program);
  // Endpoints follow a moment after the signal.
  await sleep(100);
  service.ports.splice(service.ports.indexOf(port), 1);
  await ended;
}

const failures: string[] = [];
let calls = 0;

/** An application beside its sidecar: it begins when kubelet sees the sidecar started, and finishes what it has begun when it is told to go. */
class App {
  readonly #url: string;
  readonly #loops: Promise<void>[];
  #told = false;

  constructor(url: string) {
    this.#url = url;
    this.#loops = [false, true, true].map((stream) => this.#loop(stream));
  }

  async stop(): Promise<void> {
    this.#told = true;
    await Promise.all(this.#loops);
  }

  async #loop(stream: boolean): Promise<void> {
    while (!this.#told) {
      calls++;
      try {
        const answer = await fetch(`${this.#url}/v1/chat/completions`, {
          method: "POST",
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          body: JSON.stringify({ model: "ok", stream, messages: [{ role: "user", content: "Hello" }] }),
        });
        const text = await answer.text();
        const isWhole = stream ? text.includes("[DONE]") && !text.includes('"error"') : text.includes('"usage"');
        if (answer.status !== 200 || !isWhole) failures.push(`${answer.status} ${text.slice(0, 300)}`);
      } catch (error) {
        failures.push(String(error));
      }
      await sleep(15);
    }
  }
}

interface Pod {
  readonly sidecar: Process;
  readonly app: App;
  readonly dataDir: string;
}

let podCount = 0;

/** As kubelet starts a pod: the application only when the sidecar's startup probe has succeeded. */
async function newPod(): Promise<Pod> {
  const name = `pod-${podCount++}`;
  const [port, adminPort, dataDir] = [await freePort(), await freePort(), join(directory, name)];
  const sidecar = start(["sidecar", "--config", configPath], {
    ...{ TOLLGATE_PORT: String(port), TOLLGATE_ADMIN_PORT: String(adminPort), TOLLGATE_ADMIN_HOST: "127.0.0.1" },
    ...{ TOLLGATE_POD_ID: name, TOLLGATE_DATA_DIR: dataDir },
  });
  await answers(`http://127.0.0.1:${adminPort}/startupz`, sidecar);
  return { sidecar, app: new App(`http://127.0.0.1:${port}`), dataDir };
}

/** As kubelet ends one: the application first, then the sidecar, and with the pod its disk is gone. */
async function endPod({ sidecar, app, dataDir }: Pod): Promise<void> {
  await app.stop();
  await stop(sidecar);
  rmSync(dataDir, { recursive: true });
}

test("everything is replaced under load, in kubelet's order: no call fails, and all that was spent is in the books", async () => {
  let replicas: Replica[] = await Promise.all([newReplica(), newReplica()]);
  const made = await fetch(`${service.url}/key/generate`, {
    method: "POST",
    headers: { authorization: `Bearer ${masterKey}`, "content-type": "application/json" },
    body: JSON.stringify({ max_budget: 100 }),
  });
  key = ((await made.json()) as { key: string }).key;
  const pods = await Promise.all([newPod(), newPod()]);
  await sleep(500);
  const renewed = await Promise.all([newPod(), newPod()]);
  for (const old of pods) await endPod(old);
  const next: Replica[] = [];
  for (const old of replicas) {
    next.push(await newReplica());
    await endReplica(old);
    await sleep(300);
  }
  replicas = next;
  for (const pod of renewed) await endPod(pod);
  assert.deepEqual(failures, []);
  assert.ok(calls > 200, `${calls} calls`);
  const bill = upstream.calls.filter(({ outputTokens }) => outputTokens === words.length).length;
  assert.equal(bill, calls);
  const { rows } = await database.query("SELECT count(*)::int AS rows, sum(cost_nanos)::text AS cost FROM spend_log");
  assert.deepEqual(rows, [{ rows: calls, cost: String(BigInt(calls) * costNanos) }]);
  const { rows: left } = await database.query("SELECT sum(reserved_nanos)::text AS reserved FROM budget_periods");
  assert.deepEqual(left, [{ reserved: "0" }]);
  for (const replica of replicas) await endReplica(replica);
});
