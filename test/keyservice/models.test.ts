import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { JsonObject } from "../../src/completion.ts";
import { loadText } from "../config/temporary.ts";
import { type Answer, Stage } from "./admin-stage.ts";

const secret = "sk-provider-secret-of-the-tests-WXYZ";
const params = { model: "openai/gpt-4o-mini", api_key: secret, rpm: 100 };
/** A file's models, as a configuration gives them. */
const fileModels = {
  entries: async () => [
    {
      id: "f1",
      entry: {
        model_name: "of-file",
        litellm_params: { model: "openai/gpt-4o", api_key: secret, rpm: 7 },
        model_info: { id: "f1", supports_vision: true },
      },
    },
  ],
};

let stage: Stage;

async function made(body: JsonObject): Promise<JsonObject> {
  const answer = await stage.http("POST", "/model/new", body);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body;
}

const newId = () => `m-${randomUUID()}`;
const newModel = (id: string, more: JsonObject = {}) =>
  made({ model_name: `group of ${id}`, litellm_params: { ...params, ...more }, model_info: { id } });
const infoOf = async (id: string) => (await stage.http("GET", `/model/info?litellm_model_id=${id}`)).body.data[0];

function assertError({ status, body }: Answer, expected: number, message: RegExp, param?: string): void {
  assert.equal(status, expected, JSON.stringify(body));
  assert.match(body.error.message, message);
  assert.equal(JSON.stringify(body).includes(secret), false);
  if (param !== undefined) assert.equal(body.error.param, param);
}

describe("LiteLLM's model endpoints", () => {
  before(async () => {
    stage = await Stage.open({ fileModels });
  });
  after(async () => {
    await stage.close();
    assert.deepEqual(stage.bugs, []);
  });

  it("make a model, with an id of its own or a new one, and show it with its secrets masked", async () => {
    const row = await made({ model_name: "mini", litellm_params: params, model_info: { mode: "chat", anything: [1] } });
    assert.match(String(row.model_id), /^[0-9a-f-]{36}$/);
    assert.deepEqual(row.litellm_params, { ...params, api_key: "****WXYZ" });
    assert.deepEqual(row.model_info, { mode: "chat", anything: [1], id: row.model_id, db_model: true });
    assert.equal(row.created_by, "master_key");
    const info = await infoOf(String(row.model_id));
    assert.deepEqual(info.litellm_params, row.litellm_params);
    assert.equal(info.model_info.db_model, true);
    assert.equal(info.model_info.input_cost_per_token, 0.00000015);
    assert.equal(info.model_info.litellm_provider, "openai");
    assert.equal(info.model_info.key, "gpt-4o-mini");
  });

  it("refuse a wrong model before it is stored, in the configuration's words", async (context) => {
    const wrong: JsonObject[] = [
      { model_name: "w", litellm_params: { model: "openai/gpt-4o", rpm: "many" } },
      { model_name: "w", litellm_params: { model: "openai/gpt-4o", api_base: "http://169.254.169.254/" } },
      { model_name: "w", litellm_params: { rpm: 1 } },
      { model_name: "w", litellm_params: { model: "openai/gpt-4o", api_key: { key: secret } } },
      { model_name: "w", litellm_params: { model: "openai/gpt-4o" }, model_info: { input_cost_per_token: 9 } },
    ];
    for (const body of wrong) {
      const ofFile = await loadText(context, JSON.stringify({ model_list: [body] }));
      assert.ok(!ofFile.ok);
      const [fault] = ofFile.faults;
      assert.ok(fault);
      const path = fault.path.replace("model_list[0].", "");
      const answer = await stage.http("POST", "/model/new", body);
      assertError(answer, 400, /./, path);
      assert.equal(answer.body.error.message, `${path}: ${fault.message}.`);
    }
    const found = await stage.http("GET", "/v2/model/info?model=w");
    assert.equal(found.body.total_count, 0);
  });

  it("refuse a model and a credential whose address is private, over both faces, also one that becomes so", async () => {
    const words = /: 10\.0\.0\.1 is a private host: .* only where tollgate\.stored_models_private_hosts allows it/;
    const inside = { ...params, api_base: "http://10.0.0.1/v1" };
    const body = { model_name: "inside", litellm_params: inside };
    assertError(await stage.http("POST", "/model/new", body), 400, words, "litellm_params.api_base");
    const { model_id: id } = await made({ model_name: "outside", litellm_params: params });
    const change = { litellm_params: { api_base: "http://10.0.0.1/v1" } };
    assertError(await stage.http("PATCH", `/model/${id}/update`, change), 400, words, "litellm_params.api_base");
    await assert.rejects(
      stage.modelAdmin.createModel({ model: { modelName: "inside", litellmParams: inside } }),
      words,
    );
    for (const key of ["api_base", "base_url", "aws_bedrock_runtime_endpoint"]) {
      const credential_values = { [key]: "http://10.0.0.1" };
      const answer = await stage.http("POST", "/credentials", { credential_name: "inside", credential_values });
      assertError(answer, 400, words, `credential_values.${key}`);
    }
  });

  it("refuse bodies that are no models, and what the database cannot hold", async () => {
    const cases: [JsonObject, RegExp, string?][] = [
      [{ litellm_params: params }, /`model_name` is missing/, "model_name"],
      [{ model_name: "w" }, /`litellm_params` is missing/, "litellm_params"],
      [{ model_name: "w", litellm_params: [] }, /must be a JSON object/, "litellm_params"],
      [{ model_name: 5, litellm_params: params }, /must be a string/, "model_name"],
      [{ model_name: "", litellm_params: params }, /must not be empty/, "model_name"],
      [{ model_name: "w".repeat(257), litellm_params: params }, /at most 256/, "model_name"],
      [{ model_name: "w", litellm_params: { ...params, tags: ["\u0000"] } }, /NUL/, "litellm_params"],
      [{ model_name: "w", litellm_params: params, model_info: { id: 5 } }, /must be a string/, "model_info.id"],
      [{ model_name: "w", litellm_params: params, model_info: { id: "" } }, /must not be empty/, "model_info.id"],
      [{ model_name: "w", litellm_params: { ...params, api_key: "****WXYZ" } }, /shown in a secret's place/],
    ];
    for (const [body, message, param] of cases)
      assertError(await stage.http("POST", "/model/new", body), 400, message, param);
    const id = newId();
    await newModel(id);
    const again = { model_name: "w", litellm_params: params, model_info: { id } };
    assertError(
      await stage.http("POST", "/model/new", again),
      400,
      /There is a model with this `model_info.id` already/,
    );
    const ofFile = { model_name: "w", litellm_params: params, model_info: { id: "f1" } };
    assertError(await stage.http("POST", "/model/new", ofFile), 400, /already/);
  });

  it("tell what would have no effect, and store it all the same", async () => {
    const row = await made({ model_name: "n", litellm_params: { model: "opnai/x", api_kye: secret } });
    assert.match(String(row.notices), /litellm_params.model: provider "opnai" is not known.*did you mean "openai"/);
    assert.match(String(row.notices), /api_kye: unknown key: it has no effect; did you mean api_key/);
    assert.equal(JSON.stringify(row).includes(secret), false);
  });

  it("change the keys that are sent, take away those sent as null, and keep secrets that come back masked", async () => {
    const id = newId();
    await newModel(id, { weight: 1, extra_headers: { "X-Key": "a-header-secret-of-the-tests" } });
    const patched = await stage.http("PATCH", `/model/${id}/update`, {
      litellm_params: { ...(await infoOf(id)).litellm_params, rpm: 5, weight: null },
    });
    assert.equal(patched.status, 200, JSON.stringify(patched.body));
    const expected = { model: params.model, rpm: 5, api_key: "****WXYZ", extra_headers: { "X-Key": "****ests" } };
    assert.deepEqual(patched.body.litellm_params, expected);
    const updated = await stage.http("POST", "/model/update", {
      model_name: "renamed",
      litellm_params: { api_key: "sk-another-secret-of-the-tests-1234" },
      model_info: { id, base_model: "gpt-4o" },
    });
    assert.equal(updated.status, 200, JSON.stringify(updated.body));
    assert.equal(updated.body.model_name, "renamed");
    assert.deepEqual(updated.body.litellm_params, { ...expected, api_key: "****1234" });
    assert.equal(updated.body.model_info.base_model, "gpt-4o");
    assertError(
      await stage.http("PATCH", `/model/${id}/update`, { litellm_params: { api_key: "****WXYZ" } }),
      400,
      /shown in a secret's place/,
      "litellm_params.api_key",
    );
  });

  it("do not take for the operator's word what they have told themselves", async () => {
    const id = newId();
    await newModel(id);
    const { model_info: shown } = await infoOf(id);
    await stage.http("PATCH", `/model/${id}/update`, { model_info: { ...shown, description: "cheap" } });
    const [row] = await stage.sql<{ info: JsonObject }>("SELECT info FROM models WHERE model_id = $1", [id]);
    assert.deepEqual(row?.info, { description: "cheap" });
  });

  it("refuse a change that would make a model wrong, and keep it as it was", async () => {
    const id = newId();
    await newModel(id);
    const before = await infoOf(id);
    assertError(
      await stage.http("PATCH", `/model/${id}/update`, { litellm_params: { timeout: -1 } }),
      400,
      /litellm_params.timeout: found -1; write a number of seconds over 0/,
      "litellm_params.timeout",
    );
    assertError(await stage.http("PATCH", `/model/${id}/update`, { litellm_params: { model: null } }), 400, /missing/);
    assert.deepEqual(await infoOf(id), before);
  });

  it("delete a model once, and say which they do not know", async () => {
    const id = newId();
    await newModel(id);
    const deleted = await stage.http("POST", "/model/delete", { id });
    assert.deepEqual([deleted.status, deleted.body], [200, { message: `Model: ${id} deleted successfully` }]);
    const gone = new RegExp(`Model with id=${id} not found in db`);
    assertError(await stage.http("POST", "/model/delete", { id }), 400, gone);
    assertError(await stage.http("GET", `/model/info?litellm_model_id=${id}`), 400, gone);
    assertError(await stage.http("POST", "/model/update", { model_info: { id } }), 400, gone);
    assertError(await stage.http("PATCH", `/model/${id}/update`, {}), 404, gone);
    assertError(await stage.http("POST", "/model/update", { litellm_params: params }), 400, /says which model/);
  });

  it("show the file's models beside the others, and do not change them", async () => {
    const { body } = await stage.http("GET", "/v1/model/info");
    const [ofFile] = body.data;
    assert.equal(ofFile.model_name, "of-file");
    assert.deepEqual(ofFile.litellm_params, { model: "openai/gpt-4o", rpm: 7, api_key: "****WXYZ" });
    assert.deepEqual([ofFile.model_info.id, ofFile.model_info.db_model], ["f1", false]);
    const edit = /Can't edit model. Model in config/;
    assertError(await stage.http("POST", "/model/delete", { id: "f1" }), 400, edit);
    assertError(await stage.http("PATCH", "/model/f1/update", { model_name: "x" }), 400, edit);
    assertError(await stage.http("POST", "/model/update", { model_info: { id: "f1" } }), 400, edit);
  });

  it("list models a page at a time, filtered and sorted", async () => {
    const name = `paged-${randomUUID()}`;
    for (const index of [2, 0, 1]) await made({ model_name: `${name}-${index}`, litellm_params: params });
    const page = async (query: string) =>
      (await stage.http("GET", `/v2/model/info?search=${name.toUpperCase()}${query}`)).body;
    const namesIn = (body: JsonObject) =>
      (body.data as JsonObject[]).map((row) => String(row.model_name).slice(name.length));
    assert.deepEqual(namesIn(await page("")), ["-2", "-0", "-1"]);
    const second = await page("&size=2&page=2&sortBy=model_name");
    assert.deepEqual(namesIn(second), ["-2"]);
    const { total_count, current_page, total_pages, size } = second;
    assert.deepEqual(
      { total_count, current_page, total_pages, size },
      { total_count: 3, current_page: 2, total_pages: 2, size: 2 },
    );
    assert.deepEqual(namesIn(await page("&sortBy=model_name&sortOrder=desc")), ["-2", "-1", "-0"]);
    assertError(await stage.http("GET", "/v2/model/info?sortBy=secret"), 400, /must be one of/);
    assertError(await stage.http("GET", "/v2/model/info?page=0"), 400, /whole number/);
  });

  it("sum groups up: figures added, prices at their dearest", async () => {
    const name = `group-${randomUUID()}`;
    const both = [
      { ...params, input_cost_per_token: 0.000002 },
      { ...params, model: "openai/gpt-4o", rpm: 11, tpm: 5 },
    ];
    for (const litellm_params of both) {
      await made({ model_name: name, litellm_params, model_info: { max_input_tokens: 1000 + litellm_params.rpm } });
    }
    const { body } = await stage.http("GET", `/model_group/info?model_group=${name}`);
    const [group] = body.data;
    assert.equal(body.data.length, 1);
    assert.deepEqual([group.rpm, group.tpm, group.max_input_tokens, group.providers], [111, 5, 1100, ["openai"]]);
    assert.equal(group.input_cost_per_token, 0.0000025);
    assert.equal(group.supports_vision, false);
    const all = (await stage.http("GET", "/model_group/info")).body.data;
    assert.equal(all.find((row: JsonObject) => row.model_group === "of-file").supports_vision, true);
  });

  it("show a virtual key the models it may use, without where they are", async () => {
    const base = { api_base: "http://inside.example", api_key: "sk-provider-0123456789", input_cost_per_token: 0.5 };
    for (const model_name of ["seen-1", "hidden-1", "seen-2"]) {
      const { status } = await stage.http("POST", "/model/new", {
        model_name,
        litellm_params: { model: "openai/gpt-4o", ...base },
      });
      assert.equal(status, 200);
    }
    const { body: team } = await stage.http("POST", "/team/new", { models: ["seen-1", "hidden-1"] });
    const { body: key } = await stage.http("POST", "/key/generate", { models: ["seen-*"], team_id: team.team_id });
    const as = { authorization: `Bearer ${key.key}` };
    for (const path of ["/model/info", "/v1/model/info", "/v2/model/info"]) {
      const { status, body } = await stage.http("GET", path, undefined, as);
      assert.deepEqual([status, body.data.map((row: JsonObject) => row.model_name)], [200, ["seen-1"]], path);
      assert.deepEqual(body.data[0].litellm_params, { model: "openai/gpt-4o", input_cost_per_token: 0.5 });
      assert.equal(body.data[0].model_info.input_cost_per_token, 0.5);
    }
    const groups = (await stage.http("GET", "/model_group/info", undefined, as)).body.data;
    assert.deepEqual(
      groups.map((row: JsonObject) => row.model_group),
      ["seen-1"],
    );
    const all = (await stage.http("GET", "/model/info")).body.data as { model_name: string; model_info: JsonObject }[];
    const hidden = all.find((row) => row.model_name === "hidden-1")?.model_info.id;
    assert.equal((await stage.http("GET", `/model/info?litellm_model_id=${hidden}`, undefined, as)).status, 400);
  });

  it("answer administrators alone", async () => {
    const { body: key } = await stage.http("POST", "/key/generate", {});
    for (const [method, path] of [
      ["POST", "/model/new"],
      ["POST", "/model/update"],
      ["PATCH", "/model/x/update"],
      ["POST", "/model/delete"],
      ["GET", "/credentials"],
      ["DELETE", "/credentials/x"],
    ] as const) {
      const body = method === "GET" ? undefined : {};
      const answer = await stage.http(method, path, body, { authorization: `Bearer ${key.key}` });
      assert.equal(answer.status, 403, path);
    }
  });
});

describe("LiteLLM's credential endpoints", () => {
  before(async () => {
    stage = await Stage.open();
  });
  after(async () => {
    await stage.close();
    assert.deepEqual(stage.bugs, []);
  });

  const values = { api_key: secret, api_base: "https://api.example.com/v1" };
  const shown = { api_key: "****WXYZ", api_base: "https://api.example.com/v1" };

  it("make, show, list, change, rename and delete a credential, whatever its name", async () => {
    const name = "team a/Ä?#%";
    const path = encodeURIComponent(name);
    const made = await stage.http("POST", "/credentials", {
      credential_name: name,
      credential_values: values,
      credential_info: { description: "of team a" },
    });
    assert.deepEqual([made.status, made.body], [200, { success: true, message: "Credential created successfully" }]);
    const row = { credential_name: name, credential_values: shown, credential_info: { description: "of team a" } };
    assert.deepEqual((await stage.http("GET", `/credentials/by_name/${path}`)).body, row);
    assert.deepEqual((await stage.http("GET", "/credentials")).body, { success: true, credentials: [row] });
    const changed = await stage.http("PATCH", `/credentials/${path}`, {
      credential_name: "renamed",
      credential_values: { ...shown, api_base: null, organization: "org-1" },
      credential_info: { more: 1 },
    });
    assert.deepEqual(changed.body, { success: true, message: "Credential updated successfully" });
    assert.deepEqual((await stage.http("GET", "/credentials/renamed")).body, {
      credential_name: "renamed",
      credential_values: { api_key: "****WXYZ", organization: "org-1" },
      credential_info: { description: "of team a", more: 1 },
    });
    const gone = await stage.http("DELETE", "/credentials/renamed");
    assert.deepEqual(gone.body, { success: true, message: "Credential deleted successfully" });
    for (const method of ["GET", "DELETE"] as const) {
      assertError(
        await stage.http(method, "/credentials/renamed"),
        404,
        /Credential not found. Got credential name: renamed/,
      );
    }
    assertError(await stage.http("PATCH", "/credentials/renamed", { credential_info: {} }), 404, /not found/);
  });

  it("take a credential from a model, and show what could be taken", async () => {
    const id = newId();
    await newModel(id, { api_base: "https://api.example.com/v1" });
    const made = await stage.http("POST", "/credentials", {
      credential_name: "of model",
      model_id: id,
      credential_info: {},
    });
    assert.equal(made.status, 200, JSON.stringify(made.body));
    assert.deepEqual((await stage.http("GET", "/credentials/by_name/of%20model")).body.credential_values, shown);
    const byModel = await stage.http("GET", `/credentials/by_model/${id}`);
    assert.deepEqual(byModel.body, {
      credential_name: `group of ${id}-credential-${id}`,
      credential_values: shown,
      credential_info: {},
    });
    assertError(await stage.http("GET", "/credentials/by_model/none"), 404, /not found/);
  });

  it("refuse what is no credential, and a name that is taken", async () => {
    await stage.http("POST", "/credentials", { credential_name: "taken", credential_values: values });
    await stage.http("POST", "/credentials", { credential_name: "other", credential_values: values });
    const cases: [JsonObject, RegExp][] = [
      [{ credential_values: values }, /`credential_name` is missing/],
      [{ credential_name: "a" }, /`credential_values` is missing/],
      [{ credential_name: "a", credential_values: {} }, /must have a value/],
      [{ credential_name: "a", credential_values: "sk" }, /must be a JSON object/],
      [{ credential_name: "a", credential_values: shown }, /shown in a secret's place/],
      [{ credential_name: "a", credential_values: { k: "\u0000" } }, /NUL/],
      [
        { credential_name: "a", credential_values: { api_base: "nowhere" } },
        /credential_values.api_base: found "nowhere"; write the http/,
      ],
      [{ credential_name: "taken", credential_values: values }, /already/],
    ];
    for (const [body, message] of cases) assertError(await stage.http("POST", "/credentials", body), 400, message);
    assertError(await stage.http("PUT", "/credentials/other", { credential_name: "taken" }), 400, /already/);
    assertError(
      await stage.http("PATCH", "/credentials/other", { credential_values: { timeout: "soon" } }),
      400,
      /credential_values.timeout: found "soon"/,
    );
    assertError(
      await stage.http("PATCH", "/credentials/other", { credential_values: { api_key: null, api_base: null } }),
      400,
      /must have a value/,
    );
    const { status, headers } = await stage.http("POST", "/credentials/other", {});
    assert.deepEqual([status, headers.get("allow")], [405, "GET, PATCH, PUT, DELETE"]);
  });

  it("tell of a model whose credential is not there", async () => {
    const missing = await made({
      model_name: "w",
      litellm_params: { model: "openai/x", litellm_credential_name: "none" },
    });
    assert.match(String(missing.notices), /there is no credential "none"/);
  });
});

describe("the gRPC face of models and credentials", () => {
  before(async () => {
    stage = await Stage.open({ fileModels });
  });
  after(async () => {
    await stage.close();
    assert.deepEqual(stage.bugs, []);
  });

  const rejection = async (work: Promise<unknown>): Promise<ConnectError> => {
    const error = await work.then(
      () => assert.fail("it was not refused"),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof ConnectError);
    assert.equal(JSON.stringify(error).includes(secret), false);
    return error;
  };

  it("makes a model that the HTTP face shows, and shows one that HTTP has made", async () => {
    const { model, notices } = await stage.modelAdmin.createModel({
      model: { modelName: "grpc", litellmParams: params, modelInfo: { description: "d" } },
    });
    assert.ok(model?.id);
    assert.deepEqual(notices, []);
    assert.deepEqual(model.litellmParams, { ...params, api_key: "****WXYZ" });
    assert.deepEqual(
      [model.inputCostPerTokenUsd, model.provider, model.providerModel],
      ["0.00000015", "openai", "gpt-4o-mini"],
    );
    const { model_name, litellm_params } = await infoOf(model.id);
    assert.deepEqual({ model_name, litellm_params }, { model_name: "grpc", litellm_params: model.litellmParams });
    const id = newId();
    await newModel(id);
    const got = await stage.modelAdmin.getModel({ id });
    assert.deepEqual([got.model?.stored, got.model?.litellmParams?.api_key], [true, "****WXYZ"]);
  });

  it("makes one model of a repeated request, also of two at the same time", async () => {
    const requestId = randomUUID();
    const request = { model: { modelName: "once", litellmParams: params }, requestId };
    const made = await Promise.all([stage.modelAdmin.createModel(request), stage.modelAdmin.createModel(request)]);
    const again = await stage.modelAdmin.createModel(request);
    assert.equal(new Set([...made, again].map(({ model }) => model?.id)).size, 1);
    assert.equal((await stage.modelAdmin.listModels({ modelName: "once" })).totalCount, 1n);
    const credential = { credential: { name: "once", values: { api_key: secret } }, requestId };
    await stage.credentialAdmin.createCredential(credential);
    assert.equal((await stage.credentialAdmin.createCredential(credential)).credential?.name, "once");
    assert.equal(
      (await rejection(stage.modelAdmin.createModel({ ...request, requestId: "x" }))).code,
      Code.InvalidArgument,
    );
  });

  it("changes the fields or the single keys that the mask names, and no others", async () => {
    const id = newId();
    await newModel(id, { weight: 1 });
    const update = async (model: object, paths: string[]) =>
      (await stage.modelAdmin.updateModel({ model: { id, ...model }, updateMask: { paths } })).model;
    const one = await update({ modelName: "not meant", litellmParams: { rpm: 5 } }, [
      "litellm_params.rpm",
      "litellm_params.weight",
    ]);
    assert.equal(one?.modelName, `group of ${id}`);
    assert.deepEqual(one?.litellmParams, { model: params.model, api_key: "****WXYZ", rpm: 5 });
    const whole = await update({ litellmParams: { model: params.model, api_key: "****WXYZ" } }, ["litellm_params"]);
    assert.deepEqual(whole?.litellmParams, { model: params.model, api_key: "****WXYZ" });
    const [row] = await stage.sql<{ sealed: boolean }>(
      "SELECT secret_params IS NOT NULL AS sealed FROM models WHERE model_id = $1",
      [id],
    );
    assert.equal(row?.sealed, true);
    const named = await update({ modelName: "renamed", modelInfo: { mode: "chat" } }, []);
    assert.deepEqual([named?.modelName, named?.modelInfo], ["renamed", { mode: "chat" }]);
    assert.deepEqual(named?.litellmParams, whole?.litellmParams);
    for (const paths of [["nothing"], ["litellm_params", "model_info.mode"]]) {
      const { code } = await rejection(update({ litellmParams: params }, paths));
      assert.equal(code, Code.InvalidArgument, paths.join());
    }
  });

  it("refuses a change of what has changed meanwhile", async () => {
    const id = newId();
    await newModel(id);
    const { model } = await stage.modelAdmin.getModel({ id });
    const change = { model: { id, modelName: "first", etag: model?.etag ?? "" } };
    await stage.modelAdmin.updateModel(change);
    assert.equal((await rejection(stage.modelAdmin.updateModel(change))).code, Code.Aborted);
    await stage.credentialAdmin.createCredential({ credential: { name: "etag", values: { api_key: secret } } });
    const { credential } = await stage.credentialAdmin.getCredential({ name: "etag" });
    const other = { name: "etag", credential: { info: { a: 1 }, etag: credential?.etag ?? "" } };
    await stage.credentialAdmin.updateCredential(other);
    assert.equal((await rejection(stage.credentialAdmin.updateCredential(other))).code, Code.Aborted);
  });

  it("says what is wrong in the configuration's words, and what does not exist", async () => {
    const error = await rejection(
      stage.modelAdmin.createModel({ model: { modelName: "w", litellmParams: { ...params, rpm: "many" } } }),
    );
    assert.equal(error.code, Code.InvalidArgument);
    assert.match(error.message, /model.litellm_params.rpm: found "many"; write a whole number of at least 0/);
    assert.equal((await rejection(stage.modelAdmin.getModel({ id: "none" }))).code, Code.NotFound);
    assert.equal((await rejection(stage.modelAdmin.deleteModel({ id: "none" }))).code, Code.NotFound);
    assert.equal((await rejection(stage.modelAdmin.deleteModel({ id: "f1" }))).code, Code.InvalidArgument);
    assert.equal((await rejection(stage.credentialAdmin.getCredential({ name: "none" }))).code, Code.NotFound);
    stage.rpcKey = "sk-not-the-master-key";
    assert.equal((await rejection(stage.modelAdmin.listModels({}))).code, Code.Unauthenticated);
    assert.equal((await rejection(stage.credentialAdmin.listCredentials({}))).code, Code.Unauthenticated);
    stage.rpcKey = "sk-master-0123456789abcdef";
  });

  it("lists page by page, the file's first, and knows credentials by name", async () => {
    const names: string[] = [];
    let pageToken = "";
    do {
      const page = await stage.modelAdmin.listModels({ pageSize: 2, pageToken });
      names.push(...page.models.map(({ id }) => id));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    assert.equal(names[0], "f1");
    assert.equal(new Set(names).size, names.length);
    assert.equal(BigInt(names.length), (await stage.modelAdmin.listModels({})).totalCount);
    await stage.credentialAdmin.createCredential({ credential: { name: "a first", values: { api_key: secret } } });
    const page = await stage.credentialAdmin.listCredentials({ pageSize: 1 });
    assert.equal(page.credentials[0]?.name, "a first");
    assert.deepEqual(page.credentials[0]?.values, { api_key: "****WXYZ" });
    const changed = await stage.credentialAdmin.updateCredential({
      name: "a first",
      credential: { values: { organization: "o" } },
      updateMask: { paths: ["values.organization"] },
    });
    assert.deepEqual(changed.credential?.values, { api_key: "****WXYZ", organization: "o" });
    await stage.credentialAdmin.deleteCredential({ name: "a first" });
  });
});

describe("where store_model_in_db is off", () => {
  before(async () => {
    stage = await Stage.open({ fileModels, storesModels: false });
  });
  after(async () => {
    await stage.close();
    assert.deepEqual(stage.bugs, []);
  });

  it("models are neither made nor changed, LiteLLM's message says how to turn it on, and the file's are shown", async () => {
    const message = /^Set `'STORE_MODEL_IN_DB='True'` in your env to enable this feature\.$/;
    const model = { model_name: "m", litellm_params: params };
    assertError(await stage.http("POST", "/model/new", model), 500, message);
    assertError(await stage.http("POST", "/model/delete", { id: "f1" }), 500, message);
    assertError(await stage.http("PATCH", "/model/f1/update", {}), 500, message);
    await assert.rejects(stage.modelAdmin.createModel({ model: { modelName: "m", litellmParams: params } }), {
      code: Code.FailedPrecondition,
    });
    assert.deepEqual(
      (await stage.http("GET", "/model/info")).body.data.map((row: JsonObject) => row.model_name),
      ["of-file"],
    );
    stage.logged.length = 0;
  });
});
