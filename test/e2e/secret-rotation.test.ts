/** Secrets that are replaced in their files while everything runs, and a KeyService's file that changes. */

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { type RedisServer, startRedis } from "../redis.ts";
import { masterKey, Stack } from "./stack.ts";

const [formerPassword, nextPassword] = ["the-former-password", "the-next-password"];
const nextMasterKey = "sk-the-next-master-key";

let folder: string;
let redis: RedisServer;
let stack: Stack;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "tollgate-rotation-"));
  writeFileSync(join(folder, "redis"), `${formerPassword}\n`);
  writeFileSync(join(folder, "master"), `${masterKey}\n`);
  redis = await startRedis({ args: ["--requirepass", formerPassword] });
  stack = await Stack.start({
    sidecars: 2,
    redis: `  redis_host: ${redis.host}\n  redis_port: ${redis.port}\n  redis_password: os.environ/REDIS_PASSWORD`,
    config: "general_settings: {store_model_in_db: true}",
    env: {
      REDIS_PASSWORD_FILE: join(folder, "redis"),
      LITELLM_MASTER_KEY: "",
      LITELLM_MASTER_KEY_FILE: join(folder, "master"),
    },
  });
});
after(async () => {
  await stack?.close();
  await redis?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const startMs = performance.now(); !(await holds()); await sleep(100)) {
    assert.ok(performance.now() - startMs < 30_000, `${what}:\n${stack.sidecars[0]?.process.output.slice(-2_000)}`);
  }
}

/** Each sidecar's state of Redis, in a word. */
async function redisStates(): Promise<readonly (string | undefined)[]> {
  const texts = stack.sidecars.map(async ({ adminUrl }) => (await fetch(`${adminUrl}/readyz?verbose`)).text());
  return (await Promise.all(texts)).map((text) => /redis (connected|away)/.exec(text)?.[1]);
}

/** Calls with limits at both sidecars as long as `work` lasts. @returns what became of them. */
async function underLoad(key: string, work: () => Promise<void>): Promise<{ calls: number; failures: string[] }> {
  const failures: string[] = [];
  let [calls, isOver] = [0, false];
  const caller = async (sidecar: number) => {
    while (!isOver) {
      const answer = await stack.chat(sidecar, key);
      const text = await answer.text();
      calls++;
      if (answer.status !== 200) failures.push(`${answer.status} ${text}`);
    }
  };
  const callers = [0, 1, 0, 1].map(caller);
  await work().finally(() => {
    isOver = true;
  });
  await Promise.all(callers);
  return { calls, failures };
}

test("Redis's password is replaced under load: no call fails, and both sidecars count with the new one", async () => {
  const key = await stack.generateKey({ rpm_limit: 1_000_000, max_budget: 100 });
  const client = new Redis({ host: redis.host, port: redis.port, password: formerPassword });
  try {
    const { calls, failures } = await underLoad(key, async () => {
      // Both are good for a while, as it is done where nobody may notice.
      await client.acl("SETUSER", "default", `>${nextPassword}`);
      writeFileSync(join(folder, "redis"), `${nextPassword}\n`);
      const isTold = () =>
        stack.sidecars.every(({ process }) => process.output.includes("A new configuration is in force"));
      await eventually("the file is read again", async () => isTold());
      await client.acl("SETUSER", "default", `<${formerPassword}`);
      await client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      await eventually("they are connected again", async () => {
        const clients = String(await client.call("CLIENT", "LIST", "TYPE", "normal"));
        const states = await redisStates();
        return (
          clients.split("\n").filter((line) => line !== "").length > 2 && states.every((each) => each === "connected")
        );
      });
    });
    assert.deepEqual(failures, []);
    assert.ok(calls > 20, `${calls} calls`);
    const count = async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await client.info("commandstats"))?.[1] ?? 0);
    const before = await count();
    assert.equal((await stack.chat(0, key)).status, 200);
    await eventually("what is called now is counted there", async () => (await count()) > before);
    const outputs = [stack.keyService, ...stack.sidecars.map(({ process }) => process)].map(({ output }) => output);
    for (const secret of [formerPassword, nextPassword]) {
      assert.ok(outputs.every((output) => !output.includes(secret)));
    }
    assert.ok(outputs.every((output) => !output.includes("after a restart only")));
  } finally {
    client.disconnect();
  }
});

test("the master key is replaced in its file: soon the new one administers and calls, and the old one does neither", async () => {
  const administers = async (secret: string) =>
    (await fetch(`${stack.keyServiceUrl}/key/list`, { headers: { authorization: `Bearer ${secret}` } })).status;
  const calls = async (secret: string) => (await stack.chat(0, secret)).status;
  const key = await stack.generateKey({});
  assert.deepEqual([await administers(masterKey), await calls(masterKey)], [200, 200]);
  writeFileSync(join(folder, "master"), `${nextMasterKey}\n`);
  await eventually("the new one is known", async () => (await administers(nextMasterKey)) === 200);
  await eventually("at the sidecar too", async () => (await calls(nextMasterKey)) === 200);
  assert.deepEqual([await administers(masterKey), await calls(masterKey)], [401, 401]);
  assert.equal(await calls(key), 200, "keys are hashed with the salt key");
  writeFileSync(join(folder, "master"), `${masterKey}\n`);
  await eventually("the old one is back", async () => (await administers(masterKey)) === 200);
});

test("the KeyService's file changes while it runs: rules for new keys and models, and one with a fault changes nothing", async () => {
  const file = readFileSync(stack.configPath, "utf8");
  const generate = async (fields: object) => (await stack.admin("POST", "/key/generate", fields)).status;
  const write = async (id: string) => {
    const litellm_params = { model: "openai/x", api_base: "http://10.1.2.3/v1", api_key: "sk-x" };
    return (await stack.admin("POST", "/model/new", { model_name: id, litellm_params, model_info: { id } })).status;
  };
  const metric = async () =>
    /^tollgate_config_last_reload_successful (\d)$/m.exec(
      await (await fetch(`${stack.keyServiceUrl}/metrics`)).text(),
    )?.[1];
  assert.deepEqual([await generate({ max_budget: 50 }), await write("one"), await metric()], [200, 400, "1"]);
  const bounded = `${file}
litellm_settings: {upperbound_key_generate_params: {max_budget: 10}}
tollgate: {stored_models_private_hosts: [10.0.0.0/8]}`;
  writeFileSync(stack.configPath, bounded);
  await eventually("the bound holds", async () => (await generate({ max_budget: 50 })) === 400);
  assert.deepEqual([await generate({ max_budget: 5 }), await write("two")], [200, 200]);
  writeFileSync(stack.configPath, `${bounded}\nrouter_settings: {num_retries: many}`);
  await eventually("the fault is told", async () => (await metric()) === "0");
  assert.equal(await generate({ max_budget: 50 }), 400);
  writeFileSync(stack.configPath, `${file.replace("store_model_in_db: true", "store_model_in_db: false")}`);
  await eventually("the bound is gone", async () => (await generate({ max_budget: 50 })) === 200);
  await eventually("all is well", async () => (await metric()) === "1");
  assert.match(
    stack.keyService.output,
    /after a restart only.*store_model_in_db|store_model_in_db.*after a restart only/,
  );
});
