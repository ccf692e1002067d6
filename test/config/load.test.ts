import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { loadConfig } from "../../src/config/load.ts";
import { remarkText } from "../../src/config/remarks.ts";
import { configOf, folderWith, loadText } from "./temporary.ts";

const nowMs = Date.parse("2026-11-23T00:00:00Z");
const deploy = join(import.meta.dirname, "../../deploy");

const demo = `
model_list:
  - model_name: demo
    litellm_params: { model: mock/demo, mock_response: hi, input_cost_per_token: 0, output_cost_per_token: 0 }
`;

test("a file that is not there, a folder and a file that is no text are named as such", async (context) => {
  const folder = await folderWith(context, { "binary.yaml": Uint8Array.of(0xff, 0xfe, 0x00) });
  await mkdir(join(folder, "folder.yaml"));
  const faultOf = async (name: string) => {
    const file = join(folder, name);
    const result = await loadConfig({ file, env: {}, nowMs });
    assert.ok(!result.ok);
    return result.faults.map((fault) => remarkText(fault).replaceAll(file, "FILE"));
  };
  assert.deepEqual(await faultOf("absent.yaml"), ["FILE: cannot read FILE: there is no such file"]);
  assert.deepEqual(await faultOf("folder.yaml"), ["FILE: cannot read FILE: it is a directory; name a file"]);
  assert.deepEqual(await faultOf("binary.yaml"), ["FILE: cannot read FILE: it is not UTF-8 text"]);
});

test("the example loads without faults when no variable is set, and names every key of the issue", async () => {
  const result = await loadConfig({ file: join(deploy, "config.example.yaml"), env: {}, nowMs });
  assert.ok(result.ok);
  assert.deepEqual([...result.config.modelGroups.keys()], ["gpt-4o", "llama", "small", "demo"]);
  assert.ok(!result.config.notices.some(({ message }) => message.includes("unknown key")));
});

test("the example uses its variables when they are set", async () => {
  const env = {
    OPENAI_API_KEY: "sk-one",
    OPENAI_API_KEY_SECOND: "sk-two",
    OPENAI_ORGANIZATION: "org-1",
    PROXY_API_KEY: "sk-three",
    LITELLM_MASTER_KEY: "sk-master",
    DATABASE_URL: "postgresql://u:p@db/books",
    REDIS_HOST: "redis.example.com",
    REDIS_PORT: "6380",
    REDIS_PASSWORD: "secret",
  };
  const result = await loadConfig({ file: join(deploy, "config.example.yaml"), env, nowMs });
  assert.ok(result.ok);
  const { config } = result;
  const deployments = config.modelGroups.get("gpt-4o") ?? [];
  assert.deepEqual(
    deployments.map(({ id, order, weight, rpm }) => ({ id, order, weight, rpm })),
    [
      { id: "gpt-4o-first", order: 1, weight: 3, rpm: 500 },
      { id: "gpt-4o-second", order: 1, weight: 1, rpm: undefined },
      { id: "gpt-4o-proxy", order: 2, weight: undefined, rpm: undefined },
    ],
  );
  assert.deepEqual(
    deployments.map(({ apiKey }) => apiKey?.reveal()),
    ["sk-one", "sk-two", "sk-three"],
  );
  assert.equal(deployments[0]?.headers["OpenAI-Organization"], "org-1");
  assert.equal(config.masterKey?.reveal(), "sk-master");
  assert.equal(config.databaseUrl?.reveal(), "postgresql://u:p@db/books");
  assert.deepEqual(config.redis?.nodes, [{ host: "redis.example.com", port: 6380 }]);
  assert.equal(config.redis?.password?.reveal(), "secret");
  assert.equal(config.environment, "production");
  assert.deepEqual(config.aliases.get("gpt-4"), { group: "gpt-4o", hidden: true });
});

test("the demo serves mocks without any account, and real models once their key is set", async () => {
  const file = join(deploy, "config.demo.yaml");
  const without = await loadConfig({ file, env: {}, nowMs });
  assert.ok(without.ok);
  assert.deepEqual([...without.config.modelGroups.keys()], ["demo", "demo-slow", "demo-error"]);
  assert.ok([...without.config.modelGroups.values()].flat().every(({ price }) => price !== undefined));
  const withKey = await loadConfig({ file, env: { OPENAI_API_KEY: "sk-one" }, nowMs });
  assert.ok(withKey.ok);
  assert.deepEqual(
    [...withKey.config.modelGroups.keys()],
    ["demo", "demo-slow", "demo-error", "gpt-4o-mini", "gpt-4o"],
  );
  assert.deepEqual(withKey.config.notices, []);
});

test("NAME_FILE stands in for NAME, trimmed, and NAME wins", async (context) => {
  const folder = await folderWith(context, { key: "sk-from-file\n" });
  const yaml = `${demo}general_settings: { master_key: os.environ/KEY }\n`;
  const fromFile = await configOf(context, yaml, { KEY_FILE: join(folder, "key") });
  assert.equal(fromFile.masterKey?.reveal(), "sk-from-file");
  const fromVariable = await configOf(context, yaml, { KEY: "sk-own", KEY_FILE: join(folder, "key") });
  assert.equal(fromVariable.masterKey?.reveal(), "sk-own");
});

test("a NAME_FILE that cannot be read is a fault that shows neither its path nor a value", async (context) => {
  const result = await loadText(context, `${demo}general_settings: { master_key: os.environ/KEY }\n`, {
    KEY_FILE: "/nowhere/this-must-not-show",
  });
  assert.ok(!result.ok);
  assert.deepEqual(
    result.faults.map(({ line, path, message }) => ({ line, path, message })),
    [{ line: 5, path: "general_settings.master_key", message: "KEY_FILE names a file that cannot be read (ENOENT)" }],
  );
});

test("environment_variables come before the process's own, and do not change them", async (context) => {
  const yaml = `${demo}
general_settings: { master_key: os.environ/KEY, environment: os.environ/STAGE }
environment_variables: { KEY: sk-written, STAGE: os.environ/STAGE }
`;
  const env = { KEY: "sk-process", STAGE: "staging" };
  const config = await configOf(context, yaml, env);
  assert.equal(config.masterKey?.reveal(), "sk-written");
  assert.equal(config.environment, "staging");
  assert.deepEqual(env, { KEY: "sk-process", STAGE: "staging" });
});

test("included files add to lists and replace other sections", async (context) => {
  const folder = await folderWith(context, {
    "config.yaml": `include: [more.yaml]\n${demo}router_settings: { num_retries: 1, timeout: 7 }\n`,
    "more.yaml": `${demo.replaceAll("demo", "extra")}router_settings: { num_retries: 5 }\n`,
  });
  const result = await loadConfig({ file: join(folder, "config.yaml"), env: {}, nowMs });
  assert.ok(result.ok);
  assert.deepEqual([...result.config.modelGroups.keys()], ["demo", "extra"]);
  assert.equal(result.config.router.retries, 5);
  assert.equal(result.config.modelGroups.get("demo")?.[0]?.timeoutMs, 600_000);
});

test("anchors, merges and numbers that are written as text are read as LiteLLM reads them", async (context) => {
  const config = await configOf(
    context,
    `
model_list:
  - model_name: a
    litellm_params: &base { model: mock/a, mock_response: hi, rpm: "60", timeout: "1.5", input_cost_per_token: 0, output_cost_per_token: 0 }
  - model_name: b
    litellm_params:
      <<: *base
      rpm: 30
router_settings:
`,
  );
  assert.deepEqual(
    [...config.modelGroups.values()].flat().map(({ rpm, timeoutMs }) => ({ rpm, timeoutMs })),
    [
      { rpm: 60, timeoutMs: 1500 },
      { rpm: 30, timeoutMs: 1500 },
    ],
  );
  assert.deepEqual(config.notices, []);
});

test("the digest changes with any file, and with nothing else", async (context) => {
  const digestOf = async (yaml: string, env = {}) => (await configOf(context, yaml, env)).digest;
  assert.equal(await digestOf(demo), await digestOf(demo, { LITELLM_MASTER_KEY: "sk-1" }));
  assert.notEqual(await digestOf(demo), await digestOf(`${demo}\n`));
});

test("no part of a configuration prints a secret", async (context) => {
  const config = await configOf(
    context,
    `
model_list:
  - model_name: gpt-4o
    litellm_params: { model: openai/gpt-4o, api_key: sk-this-must-not-show }
router_settings: { redis_url: "redis://:this-must-not-show@127.0.0.1" }
general_settings: { master_key: this-must-not-show, database_url: "postgres://u:this-must-not-show@db/x" }
`,
  );
  assert.equal(config.redis?.password?.reveal(), "this-must-not-show");
  const { inspect } = await import("node:util");
  assert.doesNotMatch(inspect(config, { depth: 9 }), /must-not-show/);
});
