import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { systemClock } from "../src/clock.ts";
import { FileWatch } from "../src/file-watch.ts";

function folder(context: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "tollgate-watch-"));
  context.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A volume as kubelet writes it: the files are links through `..data`, which a rename points to the next version. */
class MountedConfigMap {
  readonly path: string;
  #version = 0;

  constructor(path: string, files: Readonly<Record<string, string>>) {
    this.path = path;
    this.swap(files);
    for (const name of Object.keys(files)) symlinkSync(join("..data", name), join(path, name));
  }

  swap(files: Readonly<Record<string, string>>): void {
    const version = `..version_${++this.#version}`;
    mkdirSync(join(this.path, version));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(this.path, version, name), text);
    symlinkSync(version, join(this.path, "..data_tmp"));
    renameSync(join(this.path, "..data_tmp"), join(this.path, "..data"));
    if (this.#version > 1) rmSync(join(this.path, `..version_${this.#version - 1}`), { recursive: true });
  }
}

/** A watch, and a count of the changes it told. */
async function watching(context: TestContext, files: readonly string[], pollMs: number) {
  let changes = 0;
  const onChange = () => void changes++;
  const watch = new FileWatch({ files: () => files, onChange, clock: systemClock, pollMs });
  context.after(() => watch.close());
  await watch.start();
  const told = async (count: number) => {
    for (let tries = 0; changes < count && tries < 150; tries++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    return changes;
  };
  return { watch, told };
}

const neverMs = 3_600_000;

test("each swap of a mounted ConfigMap is seen, not the first alone", async (context) => {
  const map = new MountedConfigMap(folder(context), { "config.yaml": "version 1" });
  const { told } = await watching(context, [join(map.path, "config.yaml")], neverMs);
  for (const version of [2, 3, 4]) {
    map.swap({ "config.yaml": `version ${version}` });
    assert.equal(await told(version - 1), version - 1);
  }
});

test("where nobody tells of changes, contents are compared", async (context) => {
  const path = join(folder(context), "later", "token");
  const { told } = await watching(context, [path], 50);
  // The folder is not there yet, so nothing watches it.
  mkdirSync(join(path, ".."));
  writeFileSync(path, "one");
  assert.equal(await told(1), 1);
});

test("a file that was touched has not changed", async (context) => {
  const path = join(folder(context), "config.yaml");
  writeFileSync(path, "one");
  const { watch, told } = await watching(context, [path], neverMs);
  utimesSync(path, 1, 1);
  writeFileSync(path, "one");
  await watch.look();
  assert.equal(await told(0), 0);
  writeFileSync(path, "two");
  await watch.look();
  assert.equal(await told(1), 1);
});

test("a folder that is written to without end is looked at all the same", async (context) => {
  const path = folder(context);
  writeFileSync(join(path, "config.yaml"), "one");
  const { told } = await watching(context, [join(path, "config.yaml")], neverMs);
  const writing = setInterval(() => writeFileSync(join(path, "other"), String(Math.random())), 20);
  writeFileSync(join(path, "config.yaml"), "two");
  const changes = await told(1);
  clearInterval(writing);
  assert.equal(changes, 1);
});
