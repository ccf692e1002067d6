import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const cache = fileURLToPath(new URL("../.cache", import.meta.url));
const extracted = join(cache, "redis");

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
 * Makes sure that there is a redis-server. On Debian and its kin a missing one is fetched with apt and unpacked into
 * `.cache/`, which needs no root, installs nothing on the machine and starts no service.
 *
 * @throws Error that says what to install.
 */
export function installRedis(): void {
  if ([{ command: "redis-server", env: process.env }, extractedProgram()].some(runs)) return;
  if (spawnSync("apt-get", ["--version"]).status !== 0) throw new Error(`No redis-server was found. ${installHint()}`);
  process.stdout.write("fetching redis-server with apt-get into .cache/ ...\n");
  const packages = join(cache, `redis-packages-${process.pid}`);
  const draft = join(cache, `redis-${process.pid}`);
  try {
    fetchPackages(packages);
    for (const file of readdirSync(join(packages, "archives")).filter((name) => name.endsWith(".deb"))) {
      run("dpkg", ["-x", join(packages, "archives", file), draft]);
    }
    rmSync(extracted, { recursive: true, force: true });
    renameSync(draft, extracted);
  } finally {
    for (const directory of [packages, draft]) rmSync(directory, { recursive: true, force: true });
  }
  redisProgram();
}

/** Downloads redis-server and those of its libraries that the machine lacks, by apt's own rules but to a place of ours. */
function fetchPackages(to: string): void {
  for (const directory of ["archives/partial", "state/lists/partial"])
    mkdirSync(join(to, directory), { recursive: true });
  const cacheOptions = ["-o", `Dir::Cache=${to}`, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="];
  const download = ["-qy", "--no-install-recommends", "--download-only", "install", "redis-server"];
  if (spawnSync("apt-get", [...cacheOptions, ...download]).status === 0) return;
  // The machine's package lists are missing or old; an update of them would need root, so there are lists of ours.
  const stateOptions = ["-o", `Dir::State=${join(to, "state")}`, "-o", "Dir::State::status=/var/lib/dpkg/status"];
  // Its status is not looked at: a machine's own hooks may fail after the lists have come.
  spawnSync("apt-get", [...cacheOptions, ...stateOptions, "-q", "update"]);
  run("apt-get", [...cacheOptions, ...stateOptions, ...download]);
}

function extractedProgram(): RedisProgram {
  const libraries = ["usr/lib", "lib"]
    .map((directory) => join(extracted, directory))
    .filter((directory) => existsSync(directory))
    .flatMap((directory) => [directory, ...readdirSync(directory).map((name) => join(directory, name))]);
  return {
    command: join(extracted, "usr/bin/redis-server"),
    env: { ...process.env, LD_LIBRARY_PATH: libraries.join(":") },
  };
}

function runs({ command, env }: RedisProgram): boolean {
  return spawnSync(command, ["--version"], { env }).status === 0;
}

function run(command: string, args: readonly string[]): void {
  const { status, error, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status === 0) return;
  throw new Error(`${command} failed: ${error?.message ?? stderr.trim()}\n${installHint()}`);
}

function installHint(): string {
  return process.platform === "darwin"
    ? "The tests need Redis: `brew install redis`."
    : "The tests need Redis: install `redis-server` (Debian, Ubuntu) or `redis` (Fedora, Alpine, Arch).";
}
