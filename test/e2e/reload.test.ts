import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Stack } from "./stack.ts";

const seconds = 10;
const reloadsPerSecond = 10;

/** Has the programs collect their garbage at SIGUSR2, and say what is left of their heap: what they hold on to. */
const collecting =
  "--expose-gc --import data:text/javascript,process.on('SIGUSR2',()=>{globalThis.gc();console.error('heap='+process.memoryUsage().heapUsed)})";

let stack: Stack;
let key: string;
before(async () => {
  stack = await Stack.start({ sidecars: 1, env: { NODE_OPTIONS: collecting } });
  key = await stack.generateKey({ max_budget: 100 });
});
after(() => stack.close());

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${stack.sidecars[0]?.adminUrl}/metrics`)).text();
  return Number(new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1]);
}

async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    if (await holds()) return;
    await sleep(100);
  }
  assert.fail(`${what} within 10 s:\n${stack.sidecars[0]?.process.output.slice(-2_000)}`);
}

test(`${reloadsPerSecond} reloads a second under load: no call fails, nothing is held on to`, async () => {
  const file = readFileSync(stack.configPath, "utf8");
  const process = stack.sidecars[0]?.process;
  assert.ok(process);
  const failures: string[] = [];
  let [calls, version] = [0, 0];
  /** Calls and reloads for so long. */
  const stir = async (forMs: number) => {
    const untilMs = Date.now() + forMs;
    const caller = async () => {
      while (Date.now() < untilMs) {
        const answer = await stack.chat(0, key, { stream: calls % 2 === 0, model: "ok" });
        const text = await answer.text();
        calls++;
        if (answer.status !== 200 || text.includes('"error"')) failures.push(`${answer.status} ${text}`);
      }
    };
    const operator = async () => {
      while (Date.now() < untilMs) {
        // Each version has deployments of its own, so what is kept by deployment would pile up.
        writeFileSync(
          stack.configPath,
          file.replaceAll("input_cost", `rpm: ${1_000_000 + version++}\n      input_cost`),
        );
        globalThis.process.kill(process.pid, "SIGHUP");
        await sleep(1000 / reloadsPerSecond);
      }
    };
    await Promise.all([caller(), caller(), caller(), caller(), operator()]);
  };
  /** What is held on to once nothing is under way. */
  const held = async () => {
    for (let collection = 0; collection < 3; collection++) {
      await sleep(300);
      globalThis.process.kill(process.pid, "SIGUSR2");
    }
    await sleep(300);
    const heapBytes = Number([...process.output.matchAll(/^heap=(\d+)$/gm)].at(-1)?.[1]);
    return { files: await metric("process_open_fds"), heapBytes };
  };
  await stir((seconds * 1000) / 3);
  const before = await held();
  await stir((seconds * 1000 * 2) / 3);
  const after = await held();
  assert.deepEqual(failures, []);
  assert.ok(calls > 100, `${calls} calls`);
  const reloads = process.output.match(/A new configuration is in force/g)?.length ?? 0;
  // Those that are asked for while one is under way are one: on a busy machine there are fewer.
  assert.ok(reloads >= 2 * seconds, `${reloads} reloads`);
  assert.equal(await metric("tollgate_config_last_reload_successful"), 1);
  assert.ok(after.files <= before.files + 10, `${before.files} files open became ${after.files}`);
  const grownMb = (after.heapBytes - before.heapBytes) / 1_048_576;
  assert.ok(grownMb < 8, `the heap grew by ${grownMb} MB`);
});

test("a file with a fault leaves the last good one in force, is told of, and the next good one follows by itself", async () => {
  const file = readFileSync(stack.configPath, "utf8");
  const renamed = file.replace("model_name: ok\n", "model_name: renamed\n");
  writeFileSync(stack.configPath, renamed.replace("num_retries: 0", "num_retries: many"));
  await eventually("the fault is told", async () => (await metric("tollgate_config_last_reload_successful")) === 0);
  assert.equal((await stack.chat(0, key, { model: "ok" })).status, 200);
  assert.match(stack.sidecars[0]?.process.output ?? "", /config.yaml:\d+: router_settings.num_retries: found .*many/);
  writeFileSync(stack.configPath, renamed);
  await eventually(
    "the new name is served",
    async () => (await stack.chat(0, key, { model: "renamed" })).status === 200,
  );
  assert.equal(await metric("tollgate_config_last_reload_successful"), 1);
  assert.equal((await stack.chat(0, key, { model: "ok" })).status, 404);
  const redis = renamed.replace(/redis_db: (\d+)/, "redis_db: 1$1");
  writeFileSync(stack.configPath, redis);
  const restart = /^.*Some settings that were changed are in force after a restart only.*$/m;
  await eventually("the log says what wants a restart", async () =>
    restart.test(stack.sidecars[0]?.process.output ?? ""),
  );
  assert.match(restart.exec(stack.sidecars[0]?.process.output ?? "")?.[0] ?? "", /router_settings\.redis_/);
});
