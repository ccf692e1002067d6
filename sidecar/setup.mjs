/**
 * Makes a clone ready to run, with nothing but Node 20+ and npm: installs what `package-lock.json` asks for, Node 24 included,
 * and lets `npx tollgate` find this clone's own program. Runs before `npm start` and `npm test`; with nothing to do it only looks.
 *
 * Plain JavaScript for the oldest Node it may meet, and no imports but Node's own: nothing is installed yet when it runs.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readlinkSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, "node_modules");
const needed = 24;

try {
  // What only developers need is not missed by a start.
  if (!isInstalled({ dev: process.env.npm_lifecycle_event !== "start" })) install();
  requireNode();
  linkProgram();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}

/** Whether node_modules, by npm's own record of it, holds what the lockfile asks for on this machine. */
function isInstalled({ dev }) {
  const wanted = packagesIn(join(root, "package-lock.json"));
  const present = packagesIn(join(modules, ".package-lock.json"));
  if (wanted === undefined) throw new Error(`There is no package-lock.json in ${root}: the clone is not whole.`);
  if (present === undefined) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === "" || (entry.dev && !dev)) return true;
    const installed = present[path];
    if (installed !== undefined) {
      return (
        installed.version === entry.version && installed.integrity === entry.integrity && existsSync(join(root, path))
      );
    }
    return entry.optional === true && !isForThisMachine(entry);
  });
}

/** npm leaves out optional packages for other machines. Which C library one needs is left to npm to know. */
function isForThisMachine({ os, cpu, libc }) {
  if (libc !== undefined || (os === undefined && cpu === undefined)) return false;
  return (os ?? [process.platform]).includes(process.platform) && (cpu ?? [process.arch]).includes(process.arch);
}

function packagesIn(lockfile) {
  try {
    return JSON.parse(readFileSync(lockfile, "utf8")).packages ?? {};
  } catch {
    return undefined;
  }
}

function install() {
  process.stdout.write("tollgate: installing dependencies with npm ci ...\n");
  const args = ["ci", "--loglevel=error", "--no-audit", "--no-fund", "--ignore-scripts"];
  // npm's own Node, as the one in node_modules is about to be replaced.
  const { npm_execpath: npm, npm_node_execpath: node } = process.env;
  const [command, ...rest] = npm?.endsWith("npm-cli.js") ? [node ?? process.execPath, npm, ...args] : ["npm", ...args];
  const { status, signal, error } = spawnSync(command, rest, { cwd: root, stdio: "inherit" });
  if (status === 0) return;
  throw new Error(
    `tollgate: npm ci failed (${error?.message ?? signal ?? `exit code ${status}`}). It needs the npm registry and a writable ${root}.`,
  );
}

function requireNode() {
  if (Number.parseInt(process.versions.node, 10) >= needed) return;
  const { status, stdout } = spawnSync(join(modules, ".bin", "node"), ["--version"], { encoding: "utf8" });
  const found = status === 0 ? Number.parseInt(stdout.slice(1), 10) : 0;
  if (found >= needed) return;
  throw new Error(
    [
      `tollgate: this needs Node ${needed}, and there is only ${process.version}.`,
      `For Linux on x64 and arm64 npm brings it along; install again with \`npm ci --include=optional\`.`,
      `Elsewhere install Node ${needed} from https://nodejs.org/ (or \`nvm install ${needed}\`) and put it first on PATH.`,
    ].join("\n"),
  );
}

function linkProgram() {
  const link = join(modules, ".bin", "tollgate");
  const target = join("..", "..", "sidecar", "tollgate.mjs");
  try {
    if (readlinkSync(link) === target) return;
  } catch {
    // Not there, or no link: made below.
  }
  mkdirSync(dirname(link), { recursive: true });
  rmSync(link, { force: true });
  symlinkSync(target, link);
}
