/**
 * A sidecar of several processes (`tollgate.workers`): each is a whole sidecar, and they share the data port. To the KeyService and to Redis
 * each is a pod of its own, so that limits and budgets hold over workers as they do over pods, and what is lent to each is by what it
 * spends. The first process takes no calls: it starts the others, passes signals on, and answers kubelet and Prometheus for all.
 */
import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type ErrorCode, GatewayError, type Readiness, systemClock, tlsMaterial } from "../src/index.ts";
import { type AdminDoor, type AdminFacts, openAdminDoor } from "./admin-door.ts";
import type { FileConfig } from "./config-file.ts";
import { createLogger } from "./logger.ts";
import type { Settings } from "./settings.ts";
import type { Sidecar } from "./sidecar-handle.ts";
import { mergeMetrics } from "./worker-metrics.ts";

/** What the first process asks of a worker. */
type Question =
  | { readonly what: "readiness" }
  | { readonly what: "metrics"; readonly accept: string | undefined }
  | { readonly what: "reader"; readonly key: string };

type ToWorker =
  | { readonly kind: "begin"; readonly index: number }
  | (Question & { readonly kind: "ask"; readonly id: number });
type FromWorker =
  /** Listens: what it is told before is lost. */
  | { readonly kind: "here" }
  | { readonly kind: "started"; readonly host: string; readonly port: number }
  | { readonly kind: "answer"; readonly id: number; readonly value?: unknown; readonly refusal?: Refusal };

interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

/** A worker that fell is started again so much later, in milliseconds. */
const restartMs = 1_000;
/** Longer than this no worker is waited for when somebody asks how the sidecar does; kubelet gives up after a second. */
const answerMs = 800;

/** Starts the workers. @throws Error if one of them does not start. */
export async function startWorkers(settings: Settings, config: FileConfig): Promise<Sidecar> {
  const logger = createLogger(settings, { service: "tollgate", pod: settings.podId });
  const workers = new Workers(config.workers, (facts, message) => logger.error(facts, message));
  try {
    const { host, port } = await workers.start();
    const { ports, coversAdminPort } = settings.tls;
    const onError = (error: unknown) => logger.error({ error }, "bug");
    const material = coversAdminPort && ports ? tlsMaterial(ports, { clock: systemClock, onError }) : undefined;
    const admin = await openAdminDoor(
      settings,
      {
        readiness: () => workers.readiness(),
        expose: (accept) => workers.metrics(accept),
        checkReader: config.guardsMetrics ? (key) => workers.checkReader(key) : undefined,
      },
      material,
      onError,
    );
    logger.info({ host, port, adminPort: admin.port, workers: config.workers }, "sidecar listens");
    return {
      ...{ host, port, adminPort: admin.port },
      reload: async () => workers.signal("SIGHUP"),
      close: async () => {
        await workers.close();
        await admin.close();
      },
    };
  } catch (error) {
    await workers.close();
    throw error;
  }
}

/** Is one of them: waits to be told which, and answers what the first process asks. */
export async function beWorker(
  settings: Settings,
  start: (parts: { settings: Settings; openAdmin: (facts: AdminFacts) => Promise<AdminDoor> }) => Promise<Sidecar>,
): Promise<Sidecar> {
  const told = once(process, "message");
  tell({ kind: "here" });
  const [begin] = (await told) as [ToWorker];
  if (begin.kind !== "begin") throw new Error("A worker is started by the sidecar alone.");
  const sidecar = await start({
    settings: { ...settings, podId: `${settings.podId}-${begin.index}` },
    openAdmin: async (facts) => {
      process.on("message", (message: ToWorker) => void answer(message, facts));
      return { port: 0, close: async () => {} };
    },
  });
  tell({ kind: "started", host: sidecar.host, port: sidecar.port });
  return sidecar;
}

async function answer(message: ToWorker, facts: AdminFacts): Promise<void> {
  if (message.kind !== "ask") return;
  const { id } = message;
  try {
    tell({ kind: "answer", id, value: await valueFor(message, facts) });
  } catch (thrown) {
    const { code, message: text } = GatewayError.from(thrown);
    tell({ kind: "answer", id, refusal: { code, message: text } });
  }
}

async function valueFor(question: Question, { readiness, expose, checkReader }: AdminFacts): Promise<unknown> {
  switch (question.what) {
    case "readiness":
      return readiness();
    case "metrics":
      return expose(question.accept);
    case "reader":
      return checkReader?.(question.key);
  }
}

/** To the first process, as long as there is one. */
function tell(message: FromWorker): void {
  if (process.connected) process.send?.(message);
}

/** The workers, as the first process sees them. */
class Workers {
  readonly #count: number;
  readonly #onFall: (facts: object, message: string) => void;
  /** By their numbers. */
  readonly #running = new Map<number, Worker>();
  /** Those that have opened the port, and answer. */
  readonly #started = new Map<number, Worker>();
  readonly #asked = new Map<number, (answer: Extract<FromWorker, { kind: "answer" }>) => void>();
  #questions = 0;
  #isClosing = false;

  constructor(count: number, onFall: (facts: object, message: string) => void) {
    this.#count = count;
    this.#onFall = onFall;
  }

  async start(): Promise<{ readonly host: string; readonly port: number }> {
    const [first] = await Promise.all(Array.from({ length: this.#count }, (_, index) => this.#fork(index)));
    if (first === undefined) throw new Error("There are no workers.");
    return first;
  }

  signal(signal: NodeJS.Signals): void {
    for (const worker of this.#running.values()) worker.process.kill(signal);
  }

  /** Ends them as it is ended itself: calls in flight finish first. */
  async close(): Promise<void> {
    this.#isClosing = true;
    const ended = [...this.#running.values()].map((worker) => worker.isDead() || once(worker, "exit"));
    this.signal("SIGTERM");
    await Promise.all(ended);
  }

  /** It can take calls while one of them can. */
  async readiness(): Promise<Readiness> {
    const answers = await this.#askAll<Readiness>({ what: "readiness" });
    const all = [...answers.values()];
    const checks = [...answers].flatMap(([index, one]) =>
      Object.entries(one.checks).map(([name, state]) => [`worker ${index}: ${name}`, state] as const),
    );
    return {
      started: all.length === this.#count && all.every(({ started }) => started),
      ready: !this.#isClosing && all.some(({ ready }) => ready),
      checks: Object.fromEntries(checks),
    };
  }

  async metrics(accept: string | undefined): Promise<{ contentType: string; text: string }> {
    const answers = await this.#askAll<{ contentType: string; text: string }>({ what: "metrics", accept });
    const [first] = answers.values();
    if (first === undefined) throw new Error("No worker answers.");
    const texts = new Map([...answers].map(([index, { text }]) => [index, text]));
    return { contentType: first.contentType, text: mergeMetrics(texts) };
  }

  async checkReader(key: string): Promise<void> {
    const [worker] = this.#started.values();
    const unavailable = { code: "keyservice_unavailable", message: "No worker can be asked about the key." } as const;
    const answer = worker && (await this.#ask(worker, { what: "reader", key }));
    const { refusal } = answer ?? { refusal: unavailable };
    if (refusal !== undefined) throw new GatewayError(refusal.code, refusal.message);
  }

  /** @returns the answers of those that answer in time, by their numbers. */
  async #askAll<Value>(question: Question): Promise<ReadonlyMap<number, Value>> {
    const asked = [...this.#started].map(
      async ([index, worker]) => [index, await this.#ask(worker, question)] as const,
    );
    const answers = new Map<number, Value>();
    for (const [index, answer] of await Promise.all(asked))
      if (answer !== undefined && answer.refusal === undefined) answers.set(index, answer.value as Value);
    return answers;
  }

  /** @returns undefined if it does not answer in time. */
  async #ask(worker: Worker, question: Question): Promise<Extract<FromWorker, { kind: "answer" }> | undefined> {
    if (!worker.isConnected()) return undefined;
    this.#questions += 1;
    const id = this.#questions;
    const answered = new Promise<Extract<FromWorker, { kind: "answer" }>>((resolve) => this.#asked.set(id, resolve));
    send(worker, { ...question, kind: "ask", id });
    const timeout = new AbortController();
    try {
      return await Promise.race([answered, sleep(answerMs, undefined, { signal: timeout.signal })]);
    } finally {
      timeout.abort();
      this.#asked.delete(id);
    }
  }

  /** @returns where it listens. */
  async #fork(index: number): Promise<{ readonly host: string; readonly port: number }> {
    const worker = cluster.fork();
    this.#running.set(index, worker);
    const started = new Promise<{ host: string; port: number }>((resolve, reject) => {
      worker.on("message", (message: FromWorker) => {
        if (message.kind === "here") send(worker, { kind: "begin", index });
        else if (message.kind === "started") {
          this.#started.set(index, worker);
          resolve(message);
        } else if (message.kind === "answer") this.#asked.get(message.id)?.(message);
      });
      worker.on("exit", (code, signal) => {
        reject(new Error(`Worker ${index} ended with ${signal ?? code} before it had started.`));
        if (this.#isClosing || this.#running.get(index) !== worker) return;
        this.#running.delete(index);
        this.#started.delete(index);
        this.#onFall({ worker: index, code, signal }, "a worker has ended; it is started again");
      });
    });
    const place = await started;
    worker.on("exit", () => void this.#startAgain(index));
    return place;
  }

  async #startAgain(index: number): Promise<void> {
    await sleep(restartMs);
    if (this.#isClosing) return;
    await this.#fork(index).catch(() => this.#startAgain(index));
  }
}

function send(worker: Worker, message: ToWorker): void {
  worker.send(message);
}
