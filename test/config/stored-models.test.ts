import assert from "node:assert/strict";
import { test } from "node:test";
import type { Config, Fault } from "../../src/config/config.ts";
import type { ConfigReading } from "../../src/config/load.ts";
import { checkEntry, factsOf } from "../../src/config/model-check.ts";
import { noPrivateHosts } from "../../src/config/private-hosts.ts";
import { remarkText } from "../../src/config/remarks.ts";
import type { StoredCredential, StoredModel } from "../../src/config/stored-models.ts";
import { loadText, readingOf } from "./temporary.ts";

const nowMs = Date.parse("2026-11-26T00:00:00Z");
const file = `
model_list:
  - model_name: m
    litellm_params: {model: openai/of-file, api_base: "http://127.0.0.1:1/v1", api_key: sk-of-file, input_cost_per_token: 0, output_cost_per_token: 0}
    model_info: {id: f1}
`;

const free = { input_cost_per_token: 0, output_cost_per_token: 0 };

function stored(id: string, params: object = {}, name = "m"): StoredModel {
  const litellm_params = {
    model: `openai/${id}`,
    api_base: "https://two.example/v1",
    api_key: "sk-stored",
    ...free,
    ...params,
  };
  return { id, entry: { model_name: name, litellm_params, model_info: { id } } };
}

async function compiled(
  reading: ConfigReading,
  models: readonly StoredModel[],
  credentials: readonly StoredCredential[] = [],
): Promise<Config> {
  const result = await reading.compile({ stored: { models, credentials }, nowMs });
  if (!result.ok) throw new Error(result.faults.map(remarkText).join("\n"));
  return result.config;
}

const idsOf = (config: Config, name = "m") => config.modelGroups.get(name)?.map(({ id }) => id);
const textsOf = (remarks: readonly Fault[]) =>
  remarks.map((remark) => remarkText(remark).replace(/^\S*\/config/, "config"));

test("models of the database come after the file's, and those of one name are one group", async (context) => {
  const reading = await readingOf(context, file);
  const config = await compiled(reading, [stored("s1"), stored("s2", {}, "n"), stored("s3")]);
  assert.deepEqual(idsOf(config), ["f1", "s1", "s3"]);
  assert.deepEqual(idsOf(config, "n"), ["s2"]);
  assert.deepEqual(idsOf(await compiled(reading, [])), ["f1"]);
});

test("a file without models, or without anything but settings, takes them too", async (context) => {
  const reading = await readingOf(context, "router_settings: {num_retries: 1}");
  assert.deepEqual(idsOf(await compiled(reading, [stored("s1")])), ["s1"]);
});

test("where the file has an id too the file's model is served, and a notice says so", async (context) => {
  const reading = await readingOf(context, file);
  const config = await compiled(reading, [stored("f1"), stored("s2")]);
  assert.deepEqual(idsOf(config), ["f1", "s2"]);
  assert.equal(config.modelGroups.get("m")?.[0]?.model, "of-file");
  assert.deepEqual(textsOf(config.notices), [
    "the database's model f1: model_list[0] of the file has this id too: the file's is served",
  ]);
});

test("the digest tells configurations apart by what is stored", async (context) => {
  const reading = await readingOf(context, file);
  const digests = await Promise.all(
    [[], [stored("s1")], [stored("s1", { api_key: "sk-other" })]].map(
      async (models) => (await compiled(reading, models)).digest,
    ),
  );
  assert.equal(new Set(digests).size, 3);
});

test("a fault of a stored model names the model and not the file, and other models none", async (context) => {
  const reading = await readingOf(context, file);
  const models = [stored("s1"), stored("bad", { rpm: "many", api_key: 5 })];
  const result = await reading.compile({ stored: { models, credentials: [] }, nowMs });
  assert.ok(!result.ok);
  assert.deepEqual(textsOf(result.faults), [
    "the database's model bad: litellm_params.api_key: found a number; write a text, best as os.environ/NAME",
    'the database\'s model bad: litellm_params.rpm: found "many"; write a whole number of at least 0, such as 100',
  ]);
  assert.ok(result.faults.every(({ modelId }) => modelId === "bad"));
});

test("a credential lends what a deployment does not say itself; the database's goes before the file's", async (context) => {
  const reading = await readingOf(
    context,
    `
model_list:
  - model_name: m
    litellm_params: {model: openai/gpt-4o, litellm_credential_name: shared}
    model_info: {id: f1}
  - model_name: m
    litellm_params: {model: openai/gpt-4o, litellm_credential_name: shared, api_key: sk-own}
    model_info: {id: f2}
credential_list:
  - credential_name: shared
    credential_values: {api_key: sk-shared, api_base: "http://127.0.0.1:3/v1"}
    credential_info: {description: for all}
`,
  );
  const keysOf = (config: Config) =>
    config.modelGroups.get("m")?.map(({ apiKey, apiBase }) => [apiKey?.reveal(), apiBase]);
  const alone = await compiled(reading, []);
  assert.deepEqual(alone.notices, []);
  assert.deepEqual(keysOf(alone), [
    ["sk-shared", "http://127.0.0.1:3/v1"],
    ["sk-own", "http://127.0.0.1:3/v1"],
  ]);
  const credential = { name: "shared", values: { api_key: "sk-rotated", api_base: "https://four.example/v1" } };
  const s1 = stored("s1", { litellm_credential_name: "shared", api_key: undefined });
  const both = await compiled(reading, [s1], [credential]);
  assert.deepEqual(keysOf(both)?.[0], ["sk-rotated", "https://four.example/v1"]);
  assert.deepEqual(keysOf(both)?.[2], ["sk-rotated", "https://two.example/v1"]);
});

test("a deployment keeps its id when the credential it names gets another key", async (context) => {
  const yaml = `
model_list:
  - model_name: m
    litellm_params: {model: openai/a, litellm_credential_name: shared}
`;
  const reading = await readingOf(context, yaml);
  const withKey = async (api_key: string) =>
    idsOf(await compiled(reading, [], [{ name: "shared", values: { api_key } }]));
  assert.deepEqual(await withKey("sk-1"), await withKey("sk-2"));
  assert.equal((await withKey("sk-1"))?.[0], (await reading.entries())[0]?.id);
});

test("a deployment whose credential is not there, or has no key here, is left out and not called with another key", async (context) => {
  const yaml = `
model_list:
  - model_name: m
    litellm_params: {model: openai/gpt-4o, litellm_credential_name: shared}
`;
  const reading = await readingOf(context, yaml, { OPENAI_API_KEY: "sk-the-pods-own" });
  const missing = await compiled(reading, []);
  assert.equal(idsOf(missing), undefined);
  assert.match(
    textsOf(missing.notices).join("\n"),
    /litellm_credential_name: there is no credential "shared": the deployment is left out/,
  );
  const unset = await compiled(reading, [], [{ name: "shared", values: { api_key: "os.environ/TEAM_KEY" } }]);
  assert.equal(idsOf(unset), undefined);
  assert.match(
    textsOf(unset.notices).join("\n"),
    /neither TEAM_KEY nor TEAM_KEY_FILE is set: the deployment has no key/,
  );
});

test("what a file would be refused for, an entry is refused for in the same words", async (context) => {
  const wrong: object[] = [
    { model_name: "m", litellm_params: { model: "openai/" } },
    { model_name: "m", litellm_params: { model: "openai/gpt-4o", rpm: -1 } },
    { model_name: "m", litellm_params: { model: "openai/gpt-4o", api_base: "http://169.254.169.254/v1" } },
    { model_name: "m", litellm_params: { model: "openai/gpt-4o", timeout: 0, weight: "heavy" } },
    { model_name: "m", litellm_params: { model: "openai/gpt-4o", input_cost_per_token: 5 } },
    { model_name: "", litellm_params: { model: "openai/gpt-4o" } },
    { model_name: "m", litellm_params: "openai/gpt-4o" },
    { model_name: "m", litellm_params: { model: "m", mock_response: 5 }, model_info: { max_tokens: 0 } },
    { model_name: "m", litellm_params: { model: "openai/gpt-4o", extra_headers: { a: 1 } } },
  ];
  for (const entry of wrong) {
    const ofFile = await loadText(context, JSON.stringify({ model_list: [entry] }));
    assert.ok(!ofFile.ok, JSON.stringify(entry));
    const { faults } = await checkEntry({ entry: { ...entry }, credentials: [], privateHosts: noPrivateHosts, nowMs });
    const plain = (remarks: readonly Fault[]) =>
      remarks.map(({ path, message }) => `${path.replace(/^model_list\[0\]\.?/, "")}: ${message}`).sort();
    assert.deepEqual(plain(faults), plain(ofFile.faults));
  }
});

test("an entry is not refused for what only a pod can know, and told of what would have no effect", async () => {
  const litellm_params = {
    model: "os.environ/MODEL",
    rpm: "os.environ/RPM",
    api_key: "os.environ/KEY",
    api_base: "os.environ/BASE",
  };
  const ofPods = await checkEntry({
    entry: { model_name: "m", litellm_params },
    credentials: [],
    privateHosts: noPrivateHosts,
    nowMs,
  });
  assert.deepEqual(ofPods, { faults: [], notices: [] });
  const supported = {
    model_name: "m",
    litellm_params: { model: "gpt-4o" },
    model_info: { supported_environments: ["production"] },
  };
  assert.deepEqual(await checkEntry({ entry: supported, credentials: [], privateHosts: noPrivateHosts, nowMs }), {
    faults: [],
    notices: [],
  });
  const odd = {
    model_name: "m",
    litellm_params: { model: "opnai/x", api_kye: "sk-1", input_cost_per_token: 0, output_cost_per_token: 0 },
  };
  const { faults, notices } = await checkEntry({ entry: odd, credentials: [], privateHosts: noPrivateHosts, nowMs });
  assert.deepEqual(faults, []);
  assert.deepEqual(notices.map(({ path }) => path).sort(), ["litellm_params.api_kye", "litellm_params.model"]);
});

test("the facts of an entry are the compiled deployment's: provider, model, price and figures", () => {
  const litellm_params = { model: "openai/gpt-4o-mini", rpm: 5, output_cost_per_token: 0.5 };
  const facts = factsOf({ model_name: "m", litellm_params, model_info: { max_input_tokens: 9, mode: "chat" } }, nowMs);
  assert.deepEqual(
    [facts?.provider, facts?.model, facts?.rpm, facts?.maxInputTokens, facts?.mode],
    ["openai", "gpt-4o-mini", 5, 9, "chat"],
  );
  assert.equal(facts?.price?.inputPicos, 150_000n);
  assert.equal(facts?.price?.outputPicos, 500_000_000_000n);
  assert.equal(factsOf({ model_name: "m", litellm_params: { model: 5 } }, nowMs), undefined);
});

const onlyUnder = (setting: string) => `${file}\ntollgate: {stored_models_private_hosts: [${setting}]}`;

test("a model of the database at a private host is a fault of its own, and where that host is allowed it is called there", async (context) => {
  const hosts = ["10.1.2.3", "127.0.0.1:8000", "[fd00::7]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "2130706433"];
  const models = [...hosts, "vllm", "localhost", "vllm.models.svc", "vllm.internal"].map((host, index) =>
    stored(`p${index}`, { api_base: `http://${host}/v1` }),
  );
  const result = await (await readingOf(context, file)).compile({ stored: { models, credentials: [] }, nowMs });
  assert.ok(!result.ok);
  assert.deepEqual(
    result.faults.map(({ modelId }) => modelId),
    models.map(({ id }) => id),
  );
  assert.equal(
    textsOf(result.faults)[0],
    "the database's model p0: litellm_params.api_base: 10.1.2.3 is a private host: the database's models are called there only where tollgate.stored_models_private_hosts allows it, in the KeyService's configuration and in the sidecars'",
  );
  const allowed = await readingOf(
    context,
    onlyUnder('10.0.0.0/8, 127.0.0.1, "fd00::/8", vllm, localhost, "*.models.svc", VLLM.internal'),
  );
  assert.equal(idsOf(await compiled(allowed, models))?.length, 1 + models.length);
});

test("what is allowed is told as ranges and hosts, and anything else is refused with what to write", async (context) => {
  const result = await loadText(context, onlyUnder('10.0.0.0/33, "http://vllm", "*", 5'));
  assert.ok(!result.ok);
  const wanted = "write a range of addresses such as 10.20.0.0/16, or a host such as vllm.models.svc or *.models.svc";
  assert.deepEqual(
    result.faults.map(({ message }) => message),
    ['"10.0.0.0/33"', '"http://vllm"', '"*"', "5"].map((found) => `found ${found}; ${wanted}`),
  );
});

test("only an address that stands in the database is bound: a file's entry, its credential and the environment name any", async (context) => {
  const reading = await readingOf(
    context,
    `
model_list:
  - model_name: m
    litellm_params: {model: openai/of-file, api_base: "http://10.0.0.1/v1", litellm_credential_name: of-database}
    model_info: {id: f1}
  - model_name: m
    litellm_params: {model: openai/of-file, litellm_credential_name: with-address}
    model_info: {id: f2}
credential_list:
  - credential_name: of-file
    credential_values: {api_key: sk-shared, api_base: "http://10.0.0.3/v1"}
`,
    { HOSTED_VLLM_API_BASE: "http://10.0.0.4/v1" },
  );
  const credentials = [
    { name: "of-database", values: { api_key: "sk-of-database" } },
    { name: "with-address", values: { api_key: "sk-of-database", api_base: "http://10.0.0.5/v1" } },
  ];
  const models = [
    stored("s1", { api_base: undefined, litellm_credential_name: "of-file", api_key: undefined }),
    {
      id: "s2",
      entry: { model_name: "m", litellm_params: { model: "hosted_vllm/x", ...free }, model_info: { id: "s2" } },
    },
  ];
  for (const { entry } of models) delete (entry.litellm_params as { api_base?: unknown }).api_base;
  const config = await compiled(reading, models, credentials);
  assert.deepEqual(
    config.modelGroups.get("m")?.map(({ id, apiBase, privateHosts }) => [id, apiBase, privateHosts]),
    [
      ["f1", "http://10.0.0.1/v1", undefined],
      ["s1", "http://10.0.0.3/v1", undefined],
      ["s2", "http://10.0.0.4/v1", undefined],
    ],
  );
  assert.match(textsOf(config.notices).join(), /model_list\[1\].litellm_params.api_base: 10.0.0.5 is a private host/);
  const bound = await compiled(await readingOf(context, file), [stored("s1")]);
  assert.equal(bound.modelGroups.get("m")?.[1]?.privateHosts?.text, "");
});
