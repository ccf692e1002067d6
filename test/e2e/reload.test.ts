import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Stack } from "./stack.ts";

const seconds = 10;
const reloadsPerSecond = 10;

/** Has the programs collect their garbage at SIGUSR2, so that what is left of their heap is what they hold on to. */
const collecting = "--expose-gc --import data:text/javascript,process.on('SIGUSR2',()=>globalThis.gc())";

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
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(`${what} within 10 s:\n${stack.sidecars[0]?.process.output.slice(-2_000)}`);
}

test(`${reloadsPerSecond} reloads a second under load: no call fails, nothing is held on to`, async () => {
  const file = readFileSync(stack.configPath, "utf8");
  const process = stack.sidecars[0]?.process;
  assert.ok(process);
  const untilMs = Date.now() + seconds * 1000;
  const failures: string[] = [];
  let calls = 0;
  const caller = async () => {
    while (Date.now() < untilMs) {
      const answer = await stack.chat(0, key, { stream: calls % 2 === 0, model: "ok" });
      const text = await answer.text();
      calls++;
      if (answer.status !== 200 || text.includes('"error"')) failures.push(`${answer.status} ${text}`);
    }
  };
  const open: number[] = [];
  const heap: number[] = [];
  const operator = async () => {
    for (let reload = 0; Date.now() < untilMs; reload++) {
      // Each version has deployments of its own, so what is kept by deployment would pile up.
      writeFileSync(stack.configPath, file.replaceAll("input_cost", `rpm: ${1_000_000 + reload}\n      input_cost`));
      globalThis.process.kill(process.pid, "SIGHUP");
      await new Promise((resolve) => setTimeout(resolve, 1000 / reloadsPerSecond));
      if (reload % 10 !== 0) continue;
      globalThis.process.kill(process.pid, "SIGUSR2");
      open.push(await metric("process_open_fds"));
      heap.push(await metric("nodejs_heap_size_used_bytes"));
    }
  };
  await Promise.all([caller(), caller(), caller(), caller(), operator()]);
  assert.deepEqual(failures, []);
  assert.ok(calls > 100, `${calls} calls`);
  const reloads = process.output.match(/A new configuration is in force/g)?.length ?? 0;
  // Those that are asked for while one is under way are one: on a busy machine there are fewer.
  assert.ok(reloads >= 2 * seconds, `${reloads} reloads`);
  assert.equal(await metric("tollgate_config_last_reload_successful"), 1);
  const third = Math.floor(open.length / 3);
  assert.ok(Math.max(...open.slice(-third)) <= Math.max(...open.slice(0, third)) + 10, `files open: ${open}`);
  const grownBytes = Math.min(...heap.slice(-third)) - Math.min(...heap.slice(0, third));
  assert.ok(grownBytes < 8 * 1_048_576, `heap: ${heap.map((bytes) => Math.round(bytes / 1e6))}`);
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
