import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fetchPackages, unpackedPackages } from "./debian-packages.ts";

/** How redis-server is started. */
export interface RedisProgram {
  readonly command: string;
  readonly env: NodeJS.ProcessEnv;
}

/** The redis-server on PATH, or the one that `installRedis` fetched. */
export function redisProgram(): RedisProgram {
  const program = [{ command: "redis-server", env: process.env }, extractedProgram()].find(runs);
  if (program === undefined) throw new Error(`No redis-server was found. ${installHint()}`);
  return program;
}

/**
 * Makes sure that there is a redis-server. On Debian and its kin a missing one is fetched into `.cache/`.
 *
 * @throws Error that says what to install.
 */
export function installRedis(): void {
  if ([{ command: "redis-server", env: process.env }, extractedProgram()].some(runs)) return;
  fetchPackages("redis", ["redis-server"], installHint());
  redisProgram();
}

function extractedProgram(): RedisProgram {
  const { directory, env } = unpackedPackages("redis");
  return { command: join(directory, "usr/bin/redis-server"), env };
}

function runs({ command, env }: RedisProgram): boolean {
  return spawnSync(command, ["--version"], { env }).status === 0;
}

function installHint(): string {
  return process.platform === "darwin"
    ? "The tests need Redis: `brew install redis`."
    : "The tests need Redis: install `redis-server` (Debian, Ubuntu) or `redis` (Fedora, Alpine, Arch).";
}
