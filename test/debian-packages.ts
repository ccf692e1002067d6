import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const cache = fileURLToPath(new URL("../.cache", import.meta.url));

/** Programs of Debian packages that are unpacked for the tests. */
export interface UnpackedPackages {
  readonly directory: string;
  /** For whoever runs its programs: they find their libraries. */
  readonly env: NodeJS.ProcessEnv;
}

/** Where packages are, or would be, that were fetched under a name. */
export function unpackedPackages(name: string): UnpackedPackages {
  const directory = join(cache, name);
  const libraries = ["usr/lib", "lib"]
    .map((folder) => join(directory, folder))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => [folder, ...readdirSync(folder).map((entry) => join(folder, entry))]);
  return { directory, env: { ...process.env, LD_LIBRARY_PATH: libraries.join(":") } };
}

/**
 * Fetches packages with apt and unpacks them into `.cache/`, which needs no root, installs nothing on the machine and starts no
 * service.
 *
 * @param hint what to say if that cannot be done: what to install.
 * @throws Error with the hint.
 */
export function fetchPackages(name: string, packages: readonly string[], hint: string): void {
  if (spawnSync("apt-get", ["--version"]).status !== 0) throw new Error(hint);
  process.stdout.write(`fetching ${packages.join(" ")} with apt-get into .cache/ ...\n`);
  const fetched = join(cache, `${name}-packages-${process.pid}`);
  const draft = join(cache, `${name}-${process.pid}`);
  const run = (command: string, args: readonly string[]) => {
    const { status, error, stderr } = spawnSync(command, args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`${command} failed: ${error?.message ?? stderr.trim()}\n${hint}`);
  };
  try {
    download(fetched, packages, run);
    for (const file of readdirSync(join(fetched, "archives")).filter((entry) => entry.endsWith(".deb"))) {
      run("dpkg", ["-x", join(fetched, "archives", file), draft]);
    }
    rmSync(join(cache, name), { recursive: true, force: true });
    try {
      renameSync(draft, join(cache, name));
    } catch (error) {
      // Another test has fetched the same at the same time.
      if (!existsSync(join(cache, name))) throw error;
    }
  } finally {
    for (const directory of [fetched, draft]) rmSync(directory, { recursive: true, force: true });
  }
}

/** Downloads packages and those of their libraries that the machine lacks, by apt's own rules but to a place of ours. */
function download(
  to: string,
  packages: readonly string[],
  run: (command: string, args: readonly string[]) => void,
): void {
  for (const directory of ["archives/partial", "state/lists/partial"])
    mkdirSync(join(to, directory), { recursive: true });
  const cacheOptions = ["-o", `Dir::Cache=${to}`, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="];
  const install = ["-qy", "--no-install-recommends", "--download-only", "install", ...packages];
  if (spawnSync("apt-get", [...cacheOptions, ...install]).status === 0) return;
  // The machine's package lists are missing or old; an update of them would need root, so there are lists of ours.
  const stateOptions = ["-o", `Dir::State=${join(to, "state")}`, "-o", "Dir::State::status=/var/lib/dpkg/status"];
  // Its status is not looked at: a machine's own hooks may fail after the lists have come.
  spawnSync("apt-get", [...cacheOptions, ...stateOptions, "-q", "update"]);
  run("apt-get", [...cacheOptions, ...stateOptions, ...install]);
}
