import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { Secret } from "../src/secret.ts";
import { findPostgresBinaries } from "./embedded-postgres-binaries.ts";
import {
  type Cluster,
  clusterDirectory,
  directoryAccess,
  openCluster,
  serverUser,
  superuser,
} from "./embedded-postgres-cluster.ts";
import { stopForgottenServer } from "./embedded-postgres-orphan.ts";
import { claimDataDirectory } from "./embedded-postgres-owner.ts";
import { interruptWhenOrphaned } from "./last-will.ts";

const startTimeoutMs = 60_000;
const stopTimeoutMs = 10_000;

const defaultParameters = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  shared_buffers: "32MB",
  max_wal_size: "256MB",
  log_checkpoints: "off",
  log_timezone: "UTC",
  timezone: "UTC",
};

/** What an embedded PostgreSQL is started with. */
export interface EmbeddedPostgresOptions {
  /** Directory that keeps the cluster, its password and the file `owner`; made if it is not there. */
  readonly dataDir: string;
  /** Told what the server says, line by line. Nothing in it is secret. */
  readonly log: (line: string) => void;
  /** Server parameters besides the default ones. */
  readonly parameters?: Readonly<Record<string, string>>;
}

/** A running embedded PostgreSQL. It does not keep this process alive, and does not outlive it. */
export interface EmbeddedPostgres {
  /** Connection string of the superuser, with the password. */
  readonly url: Secret;
  /** Its port, on 127.0.0.1. */
  readonly port: number;
  /** Its process. */
  readonly pid: number;
  /** Stops it (open connections are cut, committed work is safe) and gives the data directory up. May be called again. */
  stop(): Promise<void>;
}

/**
 * Starts a real PostgreSQL of its own in `dataDir`, on a free port of 127.0.0.1, and waits until it accepts connections.
 * The first start makes the cluster; later ones find their data again. Works as root too, by running the server as user
 * `postgres` or `nobody`.
 *
 * @throws Error, in words for the operator, when another live process owns the directory or the server does not start.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { log, parameters } = options;
  const dataDir = resolve(options.dataDir);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const giveUp = claimDataDirectory(dataDir);
  try {
    const directory = clusterDirectory(dataDir);
    const user = serverUser(directory);
    const native = findPostgresBinaries(user);
    await stopForgottenServer(directory, log);
    const cluster = await openCluster(dataDir, user, native);
    const program = join(native, "bin", "postgres");
    const { server, port } = await startServer({
      program,
      cluster,
      parameters: { ...defaultParameters, ...parameters },
      log,
    });
    let stopping: Promise<void> | undefined;
    return {
      url: new Secret(`postgres://${superuser}:${cluster.password.reveal()}@127.0.0.1:${port}/postgres`),
      port,
      pid: server.pid ?? 0,
      stop() {
        stopping ??= stopServer(server).finally(giveUp);
        return stopping;
      },
    };
  } catch (error) {
    giveUp();
    throw error;
  }
}

interface ServerParts {
  readonly program: string;
  readonly cluster: Cluster;
  readonly parameters: Readonly<Record<string, string>>;
  readonly log: (line: string) => void;
}

async function startServer(parts: ServerParts): Promise<{ server: ChildProcess; port: number }> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    const server = spawnServer(parts, port);
    const failure = await whenReady(server, parts.log);
    if (failure === undefined) return { server, port };
    // Between our finding a port free and the server's taking it, somebody else may.
    if (attempt === 3 || !failure.includes("could not bind")) {
      throw new Error(`The embedded PostgreSQL in ${parts.cluster.directory} did not start: ${failure}`);
    }
  }
}

function spawnServer({ program, cluster, parameters }: ServerParts, port: number): ChildProcess {
  const access = directoryAccess(cluster.directory);
  try {
    const settings = Object.entries({ ...parameters, port: String(port) }).flatMap(([name, value]) => [
      "-c",
      `${name}=${value}`,
    ]);
    const server = spawn(program, ["-D", access.argument, ...settings], {
      ...cluster.user,
      cwd: "/",
      env: {},
      // A group of its own: a Ctrl-C is for us, and we still need the database to finish what is under way.
      detached: true,
      stdio: ["ignore", "ignore", "pipe", access.descriptor],
    });
    if (server.pid !== undefined) server.once("exit", interruptWhenOrphaned(server.pid, cluster.user));
    return server;
  } finally {
    access.close();
  }
}

/** Undefined when the server accepts connections; when it ends or fails instead, what it said. */
async function whenReady(server: ChildProcess, log: (line: string) => void): Promise<string | undefined> {
  if (server.stderr === null) throw new Error("PostgreSQL's log is not connected");
  const said: string[] = [];
  const lines = createInterface({ input: server.stderr });
  const outcome = new Promise<string | undefined>((resolve) => {
    const timer = setTimeout(() => server.kill("SIGKILL"), startTimeoutMs);
    const settle = (failure: string | undefined) => {
      clearTimeout(timer);
      resolve(failure);
    };
    lines.on("line", (line) => {
      log(line);
      if (said.length < 20) said.push(line);
      if (line.includes("ready to accept connections")) settle(undefined);
    });
    server.once("error", (error) => settle(error.message));
    server.once("close", (code, signal) => settle([...said, `ended (${signal ?? code})`].join("\n")));
  });
  const failure = await outcome;
  server.unref();
  (server.stderr as unknown as { unref(): void }).unref();
  return failure;
}

async function stopServer(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.ref();
  const ended = once(server, "exit");
  server.kill("SIGINT");
  const timer = setTimeout(() => server.kill("SIGQUIT"), stopTimeoutMs);
  await ended;
  clearTimeout(timer);
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw new Error("no port was given out");
  return address.port;
}
