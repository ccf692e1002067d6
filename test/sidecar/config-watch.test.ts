import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ConfigWatch } from "../../sidecar/config-watch.ts";
import { systemClock } from "../../src/clock.ts";
import type { Fault } from "../../src/config/config.ts";
import { ConfigReading, readConfigFile } from "../../src/config/load.ts";
import { remarkText } from "../../src/config/remarks.ts";
import { folderWith } from "../config/temporary.ts";

const modelFile = (name: string) =>
  `model_list: [{model_name: ${name}, litellm_params: {model: openai/x, api_key: os.environ/KEY_A}}]`;

/** A watch on a file that includes another and takes a key from a third. */
async function stage(context: TestContext) {
  const folder = await folderWith(context, {
    "config.yaml": "include: [models.yaml]",
    "models.yaml": modelFile("m1"),
    "key-a": "sk-first",
  });
  const file = join(folder, "config.yaml");
  const env = { KEY_A_FILE: join(folder, "key-a") };
  const reading = await readConfigFile({ file, env });
  assert.ok(reading instanceof ConfigReading);
  const reads: (ConfigReading | readonly Fault[])[] = [];
  const reload = async (read: ConfigReading | readonly Fault[]) => void reads.push(read);
  const watch = new ConfigWatch({ settings: { configPath: file, env }, reading, reload, clock: systemClock });
  context.after(() => watch.close());
  await watch.start();
  const next = async (count: number) => {
    for (let tries = 0; reads.length < count && tries < 150; tries++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(reads.length, count);
    return reads.at(-1);
  };
  return { folder, next, watch };
}

/** The model names and the key of what was read. */
async function contentOf(read: ConfigReading | readonly Fault[] | undefined): Promise<string> {
  assert.ok(read instanceof ConfigReading, JSON.stringify(read));
  const result = await read.compile({ nowMs: 0 });
  assert.ok(result.ok);
  return [...result.config.modelGroups].map(([name, [first]]) => `${name} ${first?.apiKey?.reveal()}`).join();
}

test("a change of an included file, and of a file that holds a key, is put into force", async (context) => {
  const { folder, next } = await stage(context);
  await next(0);
  writeFileSync(join(folder, "models.yaml"), modelFile("m2"));
  assert.equal(await contentOf(await next(1)), "m2 sk-first");
  writeFileSync(join(folder, "key-a"), "sk-second\n");
  assert.equal(await contentOf(await next(2)), "m2 sk-second");
});

test("a file that cannot be used is told of once, and the next good one is put into force", async (context) => {
  const { folder, next, watch } = await stage(context);
  rmSync(join(folder, "models.yaml"));
  const faults = await next(1);
  assert.ok(!(faults instanceof ConfigReading));
  assert.match(
    faults?.map(remarkText).join() ?? "",
    /config.yaml:1: include\[0\]: cannot read .*models.yaml: there is no such file/,
  );
  // The file that is missing is watched for.
  writeFileSync(join(folder, "models.yaml"), modelFile("m3"));
  assert.equal(await contentOf(await next(2)), "m3 sk-first");
  await Promise.all([watch.reload(), watch.reload(), watch.reload(), watch.reload()]);
  await next(3);
});

test("what changed while the gateway was put together is put into force", async (context) => {
  const { folder, next } = await stage(context);
  await next(0);
  const file = join(folder, "config.yaml");
  const old = await readConfigFile({ file, env: {} });
  assert.ok(old instanceof ConfigReading);
  writeFileSync(file, modelFile("m4"));
  let reloads = 0;
  const reload = async () => void reloads++;
  const watch = new ConfigWatch({ settings: { configPath: file, env: {} }, reading: old, reload, clock: systemClock });
  context.after(() => watch.close());
  await watch.start();
  assert.equal(reloads, 1);
});
