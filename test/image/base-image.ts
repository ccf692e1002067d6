import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const cache = fileURLToPath(new URL("../../.cache/image", import.meta.url));
const authorities = "/etc/ssl/certs/ca-certificates.crt";

/**
 * Makes a stand-in for `node:24-bookworm-slim` where no registry can be reached: Debian's packages of the same names, by debootstrap,
 * and this machine's Node and npm at the places where that image has them. Kept in `.cache/`.
 *
 * @returns the archive of its files.
 */
export function baseArchive(): string {
  const archive = join(cache, "base.tar");
  if (existsSync(archive)) return archive;
  installed("debootstrap");
  const draft = mkdtempSync(join(tmpdir(), "tollgate-base-"));
  try {
    mkdirSync(cache, { recursive: true });
    run("debootstrap", ["--variant=minbase", "bookworm", draft]);
    const modules = join(draft, "usr/local/lib/node_modules");
    mkdirSync(modules, { recursive: true });
    cpSync(process.execPath, join(draft, "usr/local/bin/node"));
    cpSync(npmDirectory(), join(modules, "npm"), { recursive: true });
    symlinkSync("../lib/node_modules/npm/bin/npm-cli.js", join(draft, "usr/local/bin/npm"));
    // What this machine trusts, and so how it reaches the npm registry.
    if (existsSync(authorities)) {
      mkdirSync(join(draft, dirname(authorities)), { recursive: true });
      cpSync(authorities, join(draft, authorities), { dereference: true });
      writeFileSync(join(draft, "root/.npmrc"), `cafile=${authorities}\n`);
    }
    run("tar", ["--directory", draft, "--create", "--file", `${archive}-${process.pid}`, "."]);
    renameSync(`${archive}-${process.pid}`, archive);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return archive;
}

/** Sees to it that a program is there: as root on Debian and its kin it is installed, elsewhere the error says what to do. */
export function installed(program: string): void {
  if (spawnSync(program, ["--version"]).error === undefined) return;
  const apt = ["-qy", "--no-install-recommends", "install", program];
  if (process.getuid?.() === 0) {
    // Lists that are missing or old are the usual reason for a failure.
    if (spawnSync("apt-get", apt).status === 0) return;
    spawnSync("apt-get", ["-q", "update"]);
    if (spawnSync("apt-get", apt).status === 0) return;
  }
  throw new Error(`This needs \`${program}\` and root: \`apt-get install ${program}\` (Debian, Ubuntu).`);
}

/** @returns what it printed. @throws Error with what it said. */
export function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    env,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    timeout: 540_000,
  });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args.join(" ")} failed: ${error?.message ?? ""}\n${stdout}${stderr}`);
}

/** npm's own package: where the npm that runs this is, else the one on PATH. */
function npmDirectory(): string {
  const program = process.env.npm_execpath ?? run("sh", ["-c", "command -v npm"]).trim();
  return dirname(dirname(realpathSync(program)));
}
