import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { Redis } from "ioredis";
import { interruptWhenOrphaned } from "../sidecar/last-will.ts";
import { freePort } from "./free-port.ts";
import { redisProgram } from "./redis-program.ts";

/** Where a test finds its Redis. */
export interface TestRedis {
  readonly host: string;
  readonly port: number;
  /** A numbered database that no other test of the run is given; it starts empty. */
  readonly db: number;
}

/** How many numbered databases the shared Redis of a test run has. */
export const databaseCount = 4096;

/** Gives out a database of the test run's Redis. It is shared: no FLUSHALL, and no key may count on being in database 0. */
export async function testRedis(): Promise<TestRedis> {
  const url = process.env.TOLLGATE_TEST_REDIS_URL;
  if (url === undefined)
    throw new Error("No test Redis: run tests with `npm test`, or `npm test -- test/some.test.ts`.");
  const { hostname: host, port } = new URL(url);
  const client = new Redis({ host, port: Number(port || 6379), lazyConnect: true });
  try {
    await client.connect();
    const db = await client.incr("tollgate-test-databases-given-out");
    await client.select(db);
    await client.flushdb();
    return { host, port: Number(port || 6379), db };
  } finally {
    client.disconnect();
  }
}

/** A whole Redis of a test's own, to be stopped, killed or frozen. */
export interface RedisServer {
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  /** Ends the server; also one that is frozen or gone. */
  stop(): Promise<void>;
  /** Signals the server process: SIGKILL is a crash, SIGSTOP and SIGCONT freeze and thaw it. */
  kill(signal: NodeJS.Signals): void;
}

/**
 * Starts a Redis that keeps nothing, on 127.0.0.1. It does not outlive this process.
 *
 * @param options.port a fixed port, to come back where a stopped one was; else a free one.
 * @param options.args more of redis-server's arguments.
 * @param options.tls it speaks TLS, and nothing else.
 * @param options.sentinelFile it is a sentinel, and this is its file.
 */
export async function startRedis(
  options: { port?: number; args?: readonly string[]; tls?: boolean; sentinelFile?: string } = {},
): Promise<RedisServer> {
  const { command, env } = redisProgram();
  const port = options.port ?? (await freePort());
  const ports = options.tls === true ? ["--port", "0", "--tls-port", String(port)] : ["--port", String(port)];
  const settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", "/tmp"];
  const file = options.sentinelFile === undefined ? [] : [options.sentinelFile, "--sentinel"];
  const isReady = (line: string) => line.includes(file.length === 0 ? "Ready to accept connections" : "Sentinel ID is");
  const server = spawn(command, [...file, ...ports, ...settings, ...(options.args ?? [])], {
    env,
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(server, "exit");
  if (server.pid !== undefined) server.once("exit", interruptWhenOrphaned(server.pid));
  let said = "";
  for await (const line of createInterface({ input: server.stdout })) {
    said += `${line}\n`;
    if (isReady(line)) break;
  }
  if (server.exitCode !== null || !isReady(said)) throw new Error(`redis-server did not start:\n${said}`);
  server.stdout.resume();
  server.unref();
  return {
    host: "127.0.0.1",
    port,
    pid: server.pid ?? 0,
    async stop() {
      if (server.exitCode !== null || server.signalCode !== null) return;
      server.ref();
      server.kill("SIGKILL");
      await ended;
    },
    kill: (signal) => {
      server.kill(signal);
    },
  };
}
