import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readlink, realpath, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";

const sidecar = fileURLToPath(new URL("../../sidecar", import.meta.url));
const olderNode = nodeOnPath((major) => major >= 20 && major < 24);

/** A clone in small: our set-up and command, one dependency that needs no network, and a program that says what it was asked. */
let clone: string;

beforeEach(async () => {
  clone = await mkdtemp(join(tmpdir(), `tollgate-test-${process.pid}-`));
  await mkdir(join(clone, "sidecar"));
  for (const file of ["setup.mjs", "tollgate.mjs"]) await cp(join(sidecar, file), join(clone, "sidecar", file));
  const saysArguments = `console.log(process.version.split(".")[0], ...process.argv.slice(2));\n`;
  await writeFile(join(clone, "sidecar/main.ts"), saysArguments);
  await writeFile(
    join(clone, "package.json"),
    JSON.stringify({
      name: "tollgate",
      version: "1.0.0",
      bin: { tollgate: "sidecar/tollgate.mjs" },
      dependencies: { part: "file:./part" },
    }),
  );
  await writePart("1.0.0");
});

afterEach(() => rm(clone, { recursive: true, force: true }));

test("a fresh clone is installed, and `npx tollgate` finds its own program, offline", async () => {
  const first = setUp();
  assert.equal(first.status, 0, first.stderr);
  assert.match(first.stdout, /installing dependencies/);
  assert.equal(await readlink(join(clone, "node_modules/.bin/tollgate")), "../../sidecar/tollgate.mjs");
  const npx = run("npx", ["--offline", "tollgate", "check", "a file.yaml"]);
  assert.equal(npx.status, 0, npx.stderr);
  assert.match(npx.stdout, /^v\d+ check a file.yaml$/m);
});

test("with everything in place it only looks, and needs no npm", () => {
  assert.equal(setUp().status, 0);
  const again = setUp({ PATH: "/nowhere" });
  assert.deepEqual([again.status, again.stdout, again.stderr], [0, "", ""]);
});

test("a lockfile that has changed, and a package that is gone, are installed again", async () => {
  assert.equal(setUp().status, 0);
  await writePart("2.0.0");
  assert.match(setUp().stdout, /installing dependencies/);
  assert.equal(setUp({ PATH: "/nowhere" }).status, 0);
  await rm(join(clone, "node_modules/part"), { recursive: true });
  assert.match(setUp().stdout, /installing dependencies/);
  assert.equal(setUp({ PATH: "/nowhere" }).status, 0);
});

test("a failed install says so and fails", async () => {
  await writeFile(join(clone, "package-lock.json"), JSON.stringify({ lockfileVersion: 3, packages: {} }));
  const outcome = setUp();
  assert.equal(outcome.status, 1);
  assert.match(outcome.stderr, /npm ci failed/);
});

test("installed as a package, the command runs what was compiled", async () => {
  const home = join(clone, "node_modules/tollgate");
  await mkdir(join(home, "dist/sidecar"), { recursive: true });
  await cp(join(clone, "sidecar"), join(home, "sidecar"), { recursive: true });
  await writeFile(join(home, "package.json"), JSON.stringify({ name: "tollgate", type: "module" }));
  await writeFile(join(home, "dist/sidecar/main.js"), `console.log("compiled", process.argv[2]);\n`);
  const outcome = run(process.execPath, [join(home, "sidecar/tollgate.mjs"), "sidecar"]);
  assert.equal(outcome.stdout, "compiled sidecar\n", outcome.stderr);
});

test("under an older Node the command goes over to the installed one, or names the fix", {
  skip: olderNode ? false : "needs a Node 20 to 23 on PATH",
}, async () => {
  const command = [join(clone, "sidecar/tollgate.mjs"), "up"];
  const without = run(olderNode ?? "", command);
  assert.equal(without.status, 1);
  assert.match(without.stderr, /needs Node 24 or later.*npm ci/);

  const home = join(clone, `node_modules/node-${process.platform}-${process.arch}`);
  await mkdir(join(home, "bin"), { recursive: true });
  await writeFile(join(home, "package.json"), "{}");
  await symlink(await realpath(process.execPath), join(home, "bin/node"));
  assert.equal(run(olderNode ?? "", command).stdout, `${process.version.split(".")[0]} up\n`);
});

function setUp(environment: NodeJS.ProcessEnv = {}) {
  return run(process.execPath, [join(clone, "sidecar/setup.mjs")], environment);
}

function run(command: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
  // What npm tells its scripts is about our own project.
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("npm_"));
  const env = { ...Object.fromEntries(inherited), npm_config_cache: join(clone, ".npm"), ...environment };
  return spawnSync(command, args, { cwd: clone, env, encoding: "utf8" });
}

/** The dependency in the given version, with a lockfile that asks for it. */
async function writePart(version: string): Promise<void> {
  await mkdir(join(clone, "part"), { recursive: true });
  await writeFile(join(clone, "part/package.json"), JSON.stringify({ name: "part", version }));
  // npm would rather keep what is installed than what is new.
  await rm(join(clone, "package-lock.json"), { force: true });
  await rename(join(clone, "node_modules"), join(clone, "kept")).catch(() => {});
  const locked = run("npm", ["install", "--package-lock-only", "--offline", "--install-links"]);
  assert.equal(locked.status, 0, locked.stderr);
  await rename(join(clone, "kept"), join(clone, "node_modules")).catch(() => {});
}

function nodeOnPath(accepts: (major: number) => boolean): string | undefined {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .map((directory) => join(directory, "node"))
    .find((node) => {
      const { status, stdout } = spawnSync(node, ["--version"], { encoding: "utf8" });
      return status === 0 && accepts(Number.parseInt(stdout.slice(1), 10));
    });
}
