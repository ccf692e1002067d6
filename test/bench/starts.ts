import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../free-port.ts";
import type { Lane } from "./lanes.ts";
import type { Stage } from "./stage.ts";

/** How long programs take to start, in milliseconds. */
export interface Starts {
  /** A sidecar, from exec until it takes calls; the KeyService is there. */
  readonly readyMs: readonly number[];
  /** `npm start` on a checkout that was started before: with PostgreSQL and KeyService, from exec until a call would be answered. */
  readonly npmStartMs: readonly number[];
}

const [sidecarCount, npmCount] = [4, 3];
const startedWithinMs = 60_000;

/** Some starts of each kind. */
export async function measureStarts(stage: Stage, lane: Lane): Promise<Starts> {
  return { readyMs: await sidecarStarts(stage, lane, sidecarCount), npmStartMs: await npmStarts(npmCount) };
}

/** A sidecar's, started anew. */
async function sidecarStarts(stage: Stage, { traced }: Lane, count: number): Promise<readonly number[]> {
  const { adminUrl, process: program } = stage.sidecarOf(traced);
  const times: number[] = [];
  for (let start = 0; start < count; start++) {
    await program.kill("SIGTERM");
    const startMs = performance.now();
    program.restart();
    await answered(`${adminUrl}/readyz`);
    times.push(performance.now() - startMs);
  }
  stage.pinSidecars();
  return times;
}

async function npmStarts(count: number): Promise<readonly number[]> {
  const dataDir = mkdtempSync(join(tmpdir(), "tollgate-bench-up-"));
  const [port, adminPort, keyServicePort] = [await freePort(), await freePort(), await freePort()];
  const env = {
    ...{ PATH: process.env.PATH, HOME: process.env.HOME, TOLLGATE_DATA_DIR: dataDir, TOLLGATE_PORT: String(port) },
    ...{ TOLLGATE_ADMIN_PORT: String(adminPort), TOLLGATE_KEYSERVICE_PORT: String(keyServicePort) },
  };
  const startOnce = async () => {
    const startMs = performance.now();
    const child = spawn("npm", ["start"], { env, stdio: "ignore" });
    try {
      await answered(`http://127.0.0.1:${adminPort}/readyz`);
      return performance.now() - startMs;
    } finally {
      child.kill("SIGTERM");
      await once(child, "exit");
    }
  };
  try {
    // The first makes the database.
    await startOnce();
    const times: number[] = [];
    for (let start = 0; start < count; start++) times.push(await startOnce());
    return times;
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** Waits until an address answers 200. */
async function answered(url: string): Promise<void> {
  const untilMs = performance.now() + startedWithinMs;
  while (performance.now() < untilMs) {
    const answer = await fetch(url).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.ok) return;
    await sleep(5);
  }
  throw new Error(`${url} does not answer`);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
