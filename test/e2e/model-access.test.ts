import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { masterKey, Stack } from "./stack.ts";

function deployment(group: string, id: string, params: readonly string[], info: readonly string[] = []): string {
  return `
  - model_name: ${group}
    litellm_params:
      mock_response: "hello from ${id}"
      ${[...(params.some((param) => param.startsWith("model:")) ? [] : ["model: mock/m"]), ...params].join("\n      ")}
    model_info:
      ${[`id: ${id}`, ...info].join("\n      ")}`;
}

const models = [
  deployment("chat", "frankfurt", ["region_name: eu-central-1"]),
  deployment("chat", "virginia", ["region_name: us-east-1"]),
  deployment("chat", "somewhere", []),
  deployment("american", "ohio", ["region_name: us"]),
  deployment("rescued", "oregon", ["region_name: us-west-2"]),
  deployment("both", "tested", [], ["access_groups: [beta, all-of-them]"]),
  deployment("both", "untested", []),
  deployment("wild/*", "wild", [], ["access_groups: [beta]"]),
  deployment("stable", "stable", []),
  deployment("wide/*", "wide", ["model: openai/*"]),
].join("");

/** What their answers say of it. */
const regions: Readonly<Record<string, string>> = {
  ...{ frankfurt: "eu-central-1", virginia: "us-east-1", ohio: "us", oregon: "us-west-2" },
};

const config = `
  enable_pre_call_checks: true
  fallbacks:
    - rescued: [american, chat]
`;

describe("which models and deployments calls reach", () => {
  let stack: Stack;
  let key: string;
  before(async () => {
    stack = await Stack.start({ sidecars: 1, models, config });
    key = await stack.generateKey({});
    await customer({ user_id: "anna", allowed_model_region: "eu" });
    await customer({ user_id: "ben", allowed_model_region: "US-EAST-1" });
    await customer({ user_id: "carl" });
  });
  after(() => stack?.close());

  async function customer(fields: object, path = "new"): Promise<void> {
    const { status, body } = await stack.admin("POST", `/customer/${path}`, fields);
    assert.equal(status, 200, JSON.stringify(body));
  }

  /** Where calls of an end user come to, or what they are told. */
  async function reached(model: string, user?: string, calls = 12, token = key): Promise<string[]> {
    const answers = await Promise.all(Array.from({ length: calls }, () => stack.chat(0, token, { model, user })));
    const places = answers.map(async (answer) => {
      const { error } = (await answer.json()) as { error?: { code: string } };
      if (error !== undefined) return `${answer.status} ${error.code}`;
      const [id, region] = ["id", "region"].map((what) => answer.headers.get(`x-litellm-model-${what}`));
      assert.equal(region, regions[id ?? ""] ?? null);
      return id ?? "";
    });
    return [...new Set(await Promise.all(places))].sort();
  }

  async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    for (let tries = 0; !(await isSo()); tries++) {
      assert.ok(tries < 50, what);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  test("an end user's calls stay in his region, and where nobody says where a deployment is they do not go", async () => {
    assert.deepEqual(await reached("chat", "anna"), ["frankfurt"]);
    assert.deepEqual(await reached("chat", "ben"), ["virginia"]);
    assert.deepEqual(await reached("chat", "carl", 60), ["frankfurt", "somewhere", "virginia"]);
    assert.deepEqual(await reached("chat", undefined, 60), ["frankfurt", "somewhere", "virginia"]);
    assert.deepEqual(await reached("virginia", "anna"), ["403 region_not_allowed"], "nor by a deployment's id");
  });

  test("a model that is not there is refused, or its fallbacks are asked that are", async () => {
    const answer = await stack.chat(0, key, { model: "american", user: "anna" });
    const { error } = (await answer.json()) as { error: { message: string; param: string } };
    assert.equal(answer.status, 403);
    assert.deepEqual(error.param, "user");
    assert.match(error.message, /^american has no .*: the call must be answered in eu, and it answers in us\.$/);
    assert.deepEqual(await reached("rescued", "anna"), ["frankfurt"]);
    assert.deepEqual(await reached("rescued", "ben"), ["virginia"]);
  });

  test("a region that is changed holds for the next calls, and one that cannot be is refused", async () => {
    await customer({ user_id: "dora", allowed_model_region: "eu" });
    assert.deepEqual(await reached("chat", "dora"), ["frankfurt"]);
    await customer({ user_id: "dora", allowed_model_region: "us" }, "update");
    await until("the change has arrived", async () => (await reached("chat", "dora"))[0] === "virginia");
    await customer({ user_id: "dora", allowed_model_region: null }, "update");
    await until("it is gone", async () => (await reached("chat", "dora", 60)).length === 3);
    for (const allowed_model_region of ["the moon!", 7, ["eu"]]) {
      const { status, body } = await stack.admin("POST", "/customer/new", { user_id: "eve", allowed_model_region });
      assert.equal(status, 400);
      assert.match(JSON.stringify(body), /allowed_model_region.*must be .*eu.*us.*eu-central-1/);
    }
  });

  test("an explanation says where a deployment is not", async () => {
    const answer = await fetch(`${stack.sidecars[0]?.url}/tollgate.completion.v1.RoutingService/Explain`, {
      method: "POST",
      headers: { authorization: `Bearer ${masterKey}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "chat", body: { user: "anna", messages: [{ role: "user", content: "Hi" }] } }),
    });
    type At = { deployment: { id: string }; reason: string; detail: string };
    const { groups } = (await answer.json()) as { groups: { tried: At[]; excluded: At[] }[] };
    const [{ tried, excluded } = { tried: [], excluded: [] }] = groups;
    const said = excluded.map(({ deployment: { id }, reason, detail }) => [id, reason, detail]);
    assert.deepEqual(
      tried.map(({ deployment: { id } }) => id),
      ["frankfurt"],
    );
    const must = "the call must be answered in eu, and";
    assert.deepEqual(said, [
      ["virginia", "region", `${must} it answers in us-east-1`],
      ["somewhere", "region", `${must} nobody says where it answers (region_name)`],
    ]);
  });

  test("a call that is too long for a model behind a wildcard is refused, and goes to one that is larger", async () => {
    const messages = [{ role: "user", content: "word ".repeat(10_000) }];
    const answers = ["gpt-4", "gpt-4o-mini"].map((model) => stack.chat(0, key, { model: `wide/${model}`, messages }));
    const [small, large] = await Promise.all(answers);
    assert.equal(
      ((await small?.json()) as { error?: { code: string } } | undefined)?.error?.code,
      "context_length_exceeded",
    );
    assert.equal(large?.headers.get("x-litellm-model-id"), "wide");
  });

  test("a whitelist may name an access group, of a key, a team and an end user", async () => {
    const beta = await stack.generateKey({ models: ["beta"] });
    assert.deepEqual(await reached("both", undefined, 60, beta), ["tested", "untested"]);
    assert.deepEqual(await reached("wild/one", undefined, 1, beta), ["wild"]);
    assert.deepEqual(await reached("stable", undefined, 1, beta), ["403 model_not_allowed"]);
    assert.deepEqual(await reached("beta", undefined, 1, beta), ["404 model_not_found"], "it is no model");
    const listed = await fetch(`${stack.sidecars[0]?.url}/v1/models`, { headers: { authorization: `Bearer ${beta}` } });
    const { data } = (await listed.json()) as { data: { id: string }[] };
    assert.deepEqual(
      data.map(({ id }) => id),
      ["both"],
    );
    const info = await fetch(`${stack.keyServiceUrl}/model/info`, { headers: { authorization: `Bearer ${beta}` } });
    const seen = (await info.json()) as { data: { model_info: { id: string } }[] };
    assert.deepEqual(
      seen.data.map(({ model_info }) => model_info.id),
      ["tested", "wild"],
    );
    await stack.admin("POST", "/team/new", { team_id: "testers", models: ["all-of-them", "stable"] });
    const ofTeam = await stack.generateKey({ team_id: "testers" });
    assert.deepEqual(await reached("both", undefined, 60, ofTeam), ["tested", "untested"]);
    assert.deepEqual(await reached("wild/one", undefined, 1, ofTeam), ["403 model_not_allowed"]);
    await customer({ user_id: "tess", models: ["beta"] });
    assert.deepEqual(await reached("wild/one", "tess", 1), ["wild"]);
    assert.deepEqual(await reached("stable", "tess", 1), ["403 model_not_allowed"]);
  });
});
