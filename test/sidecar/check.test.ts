import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { check } from "../../sidecar/check.ts";
import { folderWith } from "../config/temporary.ts";

const deploy = join(import.meta.dirname, "../../deploy");
const cases = join(import.meta.dirname, "../config/cases");

async function run(argv: readonly string[], env: Record<string, string> = {}) {
  let out = "";
  let err = "";
  const code = await check(argv, {
    stdout: {
      write: (text) => {
        out += text;
      },
    },
    stderr: {
      write: (text) => {
        err += text;
      },
    },
    env,
  });
  return { code, out, err };
}

const secrets = {
  OPENAI_API_KEY: "sk-secret-one",
  OPENAI_API_KEY_SECOND: "sk-secret-two",
  PROXY_API_KEY: "sk-secret-three",
  LITELLM_MASTER_KEY: "sk-secret-master",
  DATABASE_URL: "postgresql://user:secret-password@db.example.com:5433/books",
  REDIS_HOST: "redis.example.com",
  REDIS_PORT: "6380",
  REDIS_PASSWORD: "secret-redis",
};

test("a right file is shown as it was compiled, with 0", async () => {
  const { code, out, err } = await run([join(deploy, "config.example.yaml")], secrets);
  assert.equal(code, 0);
  assert.equal(err, "");
  assert.match(out, /: 4 models, 6 deployments\n/);
  assert.match(
    out,
    /\n {2}openai\/gpt-4o at api\.openai\.com, key yes\n {4}order 1, weight 3, rpm 500, tpm 800000, timeout 120 s, stream 20 s, at most 4096 tokens out\n/,
  );
  assert.match(
    out,
    /\$0\.2 in, \$0\.6 out, \$0\.02 cache read, \$0\.25 cache write per million tokens; over 200000 tokens in: \$0\.4 in, \$0\.6 out \(config\)/,
  );
  assert.match(out, /\n {2}gpt-4 -> gpt-4o \(hidden\)\n/);
  assert.match(
    out,
    /\nRedis +redis\.example\.com:6380\/0, password yes; while it is away each pod enforces its share of the limits\n/,
  );
  assert.match(out, /\nCache +at redis\.example\.com:6380\/0, 600 s, for every key, namespace tollgate\n/);
  assert.match(out, /\nDatabase +db\.example\.com:5433\n/);
  assert.match(out, /\nMaster key +yes\n/);
  assert.match(out, /\nTime zone +Europe\/Berlin\n/);
});

test("nothing secret is printed, in words or in JSON", async () => {
  for (const flags of [[], ["--json"]]) {
    const { out, err } = await run([join(deploy, "config.example.yaml"), ...flags], secrets);
    assert.doesNotMatch(out + err, /secret-|sk-/);
  }
});

test("a wrong file is refused with all its faults, with 64", async () => {
  const file = join(cases, "wrong-types.yaml");
  const { code, out, err } = await run([file]);
  assert.equal(code, 64);
  assert.equal(out, "");
  assert.match(
    err,
    new RegExp(`${file}:6: model_list\\[0\\]\\.litellm_params\\.rpm: found "lots"; write a whole number`),
  );
  assert.match(err, /cannot be used: 11 faults\.\n$/);
});

test("--json says the same to programs", async () => {
  const right = JSON.parse((await run([join(deploy, "config.demo.yaml"), "--json"])).out);
  assert.equal(right.ok, true);
  assert.deepEqual(
    right.config.models.map(({ name }: { name: string }) => name),
    ["demo", "demo-slow", "demo-error"],
  );
  assert.deepEqual(right.config.models[0].deployments[0].pricePerMillion, {
    input: "0.15",
    output: "0.6",
    cacheRead: "0.15",
    cacheWrite: "0.15",
    longInput: [],
    version: "config",
  });
  assert.equal(right.config.models[0].deployments[0].order, null);
  assert.equal(right.notices.length, 2);
  const wrong = await run([join(cases, "wrong-strategy.yaml"), "--json"]);
  assert.equal(wrong.code, 64);
  assert.deepEqual([JSON.parse(wrong.out).ok, JSON.parse(wrong.out).config], [false, null]);
  assert.equal(JSON.parse(wrong.out).faults[0].path, "router_settings.routing_strategy");
});

test("a wrong command line is refused with how to write it, with 64", async (context) => {
  const folder = await folderWith(context, {});
  for (const argv of [[], ["a", "b"], ["--yaml", "a"]]) {
    const { code, err } = await run(argv);
    assert.equal(code, 64);
    assert.match(err, /usage: tollgate check FILE \[--json\]\n$/);
  }
  assert.equal((await run([join(folder, "absent.yaml")])).code, 64);
});
