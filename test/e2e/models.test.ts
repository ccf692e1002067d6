import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ModelAdminService } from "../../src/gen/tollgate/admin/v1/models_pb.ts";
import { masterKey, Stack } from "./stack.ts";

const secrets = [
  "sk-canary-of-http-0001",
  "sk-canary-of-grpc-0002",
  "sk-canary-rotated-0003",
  "canary-of-a-credential-0004",
];
const [ofHttp = "", ofGrpc = "", rotated = "", ofCredential = ""] = secrets;
const [firstKey, secondKey] = ["the-first-encryption-key", "the-second-encryption-key"];
const prices = { input_cost_per_token: 0.000001, output_cost_per_token: 0.000002 };

describe("models in the database, over two sidecars", () => {
  let stack: Stack;
  let key: string;
  let models: Client<typeof ModelAdminService>;
  /** Everything administration has answered. */
  const answers: string[] = [];

  before(async () => {
    stack = await Stack.start({
      sidecars: 2,
      config: "general_settings: {store_model_in_db: true}\ntollgate: {stored_models_private_hosts: [127.0.0.1]}",
      env: { TOLLGATE_ENCRYPTION_KEYS: firstKey },
    });
    key = await stack.generateKey({ max_budget: 100 });
    models = createClient(
      ModelAdminService,
      createGrpcTransport({
        baseUrl: stack.keyServiceUrl,
        interceptors: [
          (next) => (request) => {
            request.header.set("authorization", `Bearer ${masterKey}`);
            return next(request);
          },
        ],
      }),
    );
  });
  after(() => stack.close());

  async function admin(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
    const answer = await stack.admin(method, path, body);
    answers.push(JSON.stringify(answer.body));
    assert.equal(answer.status, 200, `${path}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  const paramsAt = (model: string, more: object = {}) => ({
    model: `openai/${model}`,
    api_base: stack.upstream.baseUrl,
    ...prices,
    ...more,
  });

  const status = async (pod: number, model: string, token = key) => (await stack.chat(pod, token, { model })).status;

  /** Both sidecars come to this within a second, or the time given. */
  async function soon(what: string, isSo: (pod: number) => Promise<boolean>, withinMs = 1_000): Promise<void> {
    const startMs = performance.now();
    for (const pod of [0, 1]) {
      while (!(await isSo(pod))) assert.ok(performance.now() - startMs < withinMs, `sidecar ${pod}: ${what}`);
    }
  }

  const served = (model: string) => soon(`${model} is served`, async (pod) => (await status(pod, model)) === 200);

  /** What the next call with this model shows to its provider. */
  async function keyShown(pod: number, model: string): Promise<string | undefined> {
    const before = stack.upstream.calls.length;
    const answer = await stack.chat(pod, key, { model });
    assert.equal(answer.status, 200, await answer.text());
    return stack.upstream.calls[before]?.headers.authorization;
  }

  test("one made over HTTP is served by both within a second, called with its key, listed, and booked at its price", async () => {
    assert.deepEqual([await status(0, "by-http"), await status(1, "by-http")], [404, 404]);
    await admin("POST", "/model/new", {
      model_name: "by-http",
      litellm_params: paramsAt("ok", { api_key: ofHttp, max_tokens: 100 }),
      model_info: { id: "http-1" },
    });
    await served("by-http");
    for (const pod of [0, 1]) assert.equal(await keyShown(pod, "by-http"), `Bearer ${ofHttp}`);
    const list = await fetch(`${stack.sidecars[1]?.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
    assert.match(await list.text(), /"by-http"/);
    const own = await stack.generateKey({ max_budget: 1 });
    await (await stack.chat(0, own, { model: "by-http" })).text();
    const [row] = await stack.booked(own, 1);
    assert.deepEqual([row?.deployment_id, row?.price_version, row?.model_group], ["http-1", "config", "by-http"]);
    assert.ok(Number(row?.cost_nanos) > 0);
  });

  test("one made over gRPC joins the file's models of its name", async () => {
    const made = await models.createModel({
      model: { modelName: "ok", litellmParams: paramsAt("ok", { api_key: ofGrpc }) },
    });
    answers.push(JSON.stringify([made.model?.litellmParams, made.notices]));
    const shown = async (pod: number) => {
      const keys = new Set<string | undefined>();
      for (let call = 0; call < 40 && keys.size < 2; call++) keys.add(await keyShown(pod, "ok"));
      return [...keys].sort();
    };
    await served("ok");
    for (const pod of [0, 1]) assert.deepEqual(await shown(pod), [`Bearer ${ofGrpc}`, "Bearer sk-upstream-secret"]);
    await models.deleteModel({ id: made.model?.id ?? "" });
  });

  test("a change is called with by both within a second; a call under way ends as it began", async () => {
    const streams = [0, 1].map((pod) => stack.chat(pod, key, { model: "slow-stored", stream: true }));
    assert.deepEqual(
      (await Promise.all(streams)).map((answer) => answer.status),
      [404, 404],
    );
    await admin("POST", "/model/new", {
      model_name: "slow-stored",
      litellm_params: paramsAt("slow", { api_key: ofHttp }),
      model_info: { id: "slow-1" },
    });
    await served("slow-stored");
    const before = stack.upstream.calls.length;
    const begun = await stack.chat(0, key, { model: "slow-stored", stream: true });
    await admin("PATCH", "/model/slow-1/update", { litellm_params: { model: "openai/ok", api_key: rotated } });
    await soon("the new key is shown", async (pod) => (await keyShown(pod, "slow-stored")) === `Bearer ${rotated}`);
    await admin("POST", "/model/delete", { id: "slow-1" });
    await soon("it is gone", async (pod) => (await status(pod, "slow-stored")) === 404);
    assert.match(await begun.text(), /\[DONE\]\s*$/);
    assert.equal(stack.upstream.calls[before]?.headers.authorization, `Bearer ${ofHttp}`);
    assert.equal(stack.upstream.calls[before]?.aborted, false);
  });

  test("a hundred changes under traffic: no call fails, and the last one is in force", async () => {
    await admin("POST", "/model/new", {
      model_name: "busy",
      litellm_params: paramsAt("ok", { api_key: ofHttp }),
      model_info: { id: "busy-1" },
    });
    await served("busy");
    let changing = true;
    const traffic = [0, 1].map(async (pod) => {
      const statuses = new Set<number>();
      while (changing) statuses.add(await status(pod, "busy"));
      return [...statuses];
    });
    for (let rpm = 1_001; rpm <= 1_100; rpm++)
      await admin("PATCH", "/model/busy-1/update", { litellm_params: { rpm } });
    await admin("PATCH", "/model/busy-1/update", { litellm_params: { api_key: rotated } });
    await soon("the last change is in force", async (pod) => (await keyShown(pod, "busy")) === `Bearer ${rotated}`);
    changing = false;
    assert.deepEqual(await Promise.all(traffic), [[200], [200]]);
  });

  test("a credential's new value is shown by all that name it within a second, and without it they are not called", async () => {
    await admin("POST", "/credentials", {
      credential_name: "shared",
      credential_values: { api_key: ofCredential },
      credential_info: {},
    });
    const litellm_params = paramsAt("ok", { litellm_credential_name: "shared" });
    await admin("POST", "/model/new", { model_name: "borrower", litellm_params });
    await served("borrower");
    for (const pod of [0, 1]) assert.equal(await keyShown(pod, "borrower"), `Bearer ${ofCredential}`);
    await admin("PATCH", "/credentials/shared", { credential_values: { api_key: rotated } });
    await soon("the new key is shown", async (pod) => (await keyShown(pod, "borrower")) === `Bearer ${rotated}`);
    await admin("DELETE", "/credentials/shared");
    await soon("it is gone", async (pod) => (await status(pod, "borrower")) === 404);
  });

  test("a wrong one is refused in the configuration's words, and nothing of it is stored or pushed", async () => {
    const litellm_params = paramsAt("ok", { api_key: ofHttp, api_base: "http://169.254.169.254/latest" });
    const { status: refused, body } = await stack.admin("POST", "/model/new", { model_name: "wrong", litellm_params });
    answers.push(JSON.stringify(body));
    assert.equal(refused, 400);
    assert.match(
      JSON.stringify(body),
      /litellm_params.api_base: found .* write the http or https address of a provider/,
    );
    const { rows } = await stack.database.query("SELECT FROM models WHERE model_name = 'wrong'");
    assert.equal(rows.length, 0);
  });

  test("what one sidecar cannot use it leaves out and says so, and serves all else", async () => {
    await admin("POST", "/model/new", {
      model_name: "needs-variable",
      litellm_params: paramsAt("ok", {
        api_key: ofHttp,
        rpm: "os.environ/NOT_SET_HERE_TOO",
        model: "os.environ/NOT_SET_HERE",
      }),
      model_info: { id: "needs-1" },
    });
    await admin("POST", "/model/new", { model_name: "after-it", litellm_params: paramsAt("ok", { api_key: ofHttp }) });
    await served("after-it");
    const metrics = await (await fetch(`${stack.sidecars[0]?.adminUrl}/metrics`)).text();
    assert.match(metrics, /^tollgate_config_last_reload_successful 0$/m);
    assert.match(
      stack.sidecars[0]?.process.output ?? "",
      /the database's model needs-1: litellm_params.model: neither NOT_SET_HERE nor/,
    );
    assert.equal(await status(0, "needs-variable"), 404);
    await admin("POST", "/model/delete", { id: "needs-1" });
    await served("after-it");
    await soon("all is well again", async (pod) => {
      const text = await (await fetch(`${stack.sidecars[pod]?.adminUrl}/metrics`)).text();
      return /^tollgate_config_last_reload_successful 1$/m.test(text);
    });
  });

  test("a sidecar that starts without the KeyService serves the file's models, and the others once it is back", async () => {
    const [sidecar] = stack.sidecars;
    assert.ok(sidecar);
    await Promise.all([stack.keyService.kill("SIGKILL"), sidecar.process.kill("SIGTERM")]);
    sidecar.process.restart();
    // The operator's own key is known without the KeyService.
    const startMs = performance.now();
    while ((await status(0, "ok", masterKey).catch(() => 0)) !== 200) assert.ok(performance.now() - startMs < 20_000);
    assert.equal(await status(0, "by-http", masterKey), 404);
    assert.equal(await status(1, "by-http", masterKey), 200, "one that was connected goes on with what it knows");
    stack.keyService.restart();
    await stack.keyServiceReady();
    await sidecar.ready();
    assert.equal(await status(0, "by-http"), 200, "it is not ready before it knows the database's models");
    await admin("PATCH", "/model/http-1/update", { litellm_params: { api_key: rotated } });
    const deadlineMs = performance.now() + 10_000;
    for (const pod of [0, 1]) {
      while ((await keyShown(pod, "by-http")) !== `Bearer ${rotated}`) assert.ok(performance.now() < deadlineMs);
    }
  });

  test("a KeyService without the key says what to do, goes on with the rest, and sidecars with what they have", async () => {
    await stack.keyService.kill("SIGTERM");
    stack.keyService.restart({ TOLLGATE_ENCRYPTION_KEYS: "a-key-of-something-else" });
    await stack.keyServiceReady();
    const { data } = await admin("GET", "/model/info?litellm_model_id=http-1");
    assert.match(
      JSON.stringify(data),
      /"unreadable":"Stored secrets are encrypted with the key [0-9a-f]{8}, .* Add it to/,
    );
    const patch = { litellm_params: { rpm: 5 } };
    const refused = await stack.admin("PATCH", "/model/http-1/update", patch);
    assert.equal(refused.status, 500);
    assert.match(JSON.stringify(refused.body), /Add it to TOLLGATE_ENCRYPTION_KEYS/);
    await admin("POST", "/model/new", {
      model_name: "other-key",
      litellm_params: paramsAt("ok", { api_key: ofGrpc }),
      model_info: { id: "other-1" },
    });
    // The sidecars look for the KeyService again in their own time.
    await soon("the new one is served", async (pod) => (await status(pod, "other-key")) === 200, 15_000);
    const isFlagged = async (pod: number) => {
      const text = await (await fetch(`${stack.sidecars[pod]?.adminUrl}/metrics`)).text();
      return /^tollgate_config_last_reload_successful 0$/m.test(text);
    };
    for (const pod of [0, 1]) {
      assert.equal(await keyShown(pod, "by-http"), `Bearer ${rotated}`);
      assert.ok(await isFlagged(pod));
      assert.match(
        stack.sidecars[pod]?.process.output ?? "",
        /the database's model http-1: the KeyService cannot decrypt it/,
      );
    }
    assert.match(stack.keyService.output, /A model of the database is left out: its secrets cannot be read/);
    await admin("POST", "/model/delete", { id: "other-1" });
    await stack.keyService.kill("SIGTERM");
    stack.keyService.restart({ TOLLGATE_ENCRYPTION_KEYS: firstKey });
    await stack.keyServiceReady();
    await soon("nothing is flagged any more", async (pod) => !(await isFlagged(pod)), 15_000);
    for (const pod of [0, 1]) assert.equal(await keyShown(pod, "by-http"), `Bearer ${rotated}`);
  });

  test("after a rotation the KeyService works with the new key alone", async () => {
    const { connectionString } = stack.database.options;
    const program = fileURLToPath(new URL("../../sidecar/main.ts", import.meta.url));
    const child = spawn(process.execPath, [program, "reencrypt"], {
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: connectionString ?? "",
        LITELLM_MASTER_KEY: masterKey,
        TOLLGATE_ENCRYPTION_KEYS: `${secondKey}\n${firstKey}`,
      },
      stdio: ["ignore", "pipe", "inherit"],
    });
    child.stdout.on("data", (text) => void answers.push(String(text)));
    assert.deepEqual(await once(child, "close"), [0, null]);
    assert.match(answers.at(-1) ?? "", /^\d+ rows re-encrypted; the newest key is [0-9a-f]{8}\.$/m);
    await stack.keyService.kill("SIGTERM");
    stack.keyService.restart({ TOLLGATE_ENCRYPTION_KEYS: secondKey });
    await stack.keyServiceReady();
    const info = await admin("GET", "/model/info?litellm_model_id=http-1");
    assert.match(JSON.stringify(info), /"api_key":"\*\*\*\*0003"/);
    await admin("PATCH", "/model/http-1/update", { litellm_params: { weight: 1 } });
    assert.equal(await keyShown(0, "by-http"), `Bearer ${rotated}`);
  });

  test("no secret is in an answer, a log, a metric, or the database", async () => {
    const { rows: tables } = await stack.database.query(
      "SELECT format('%I', tablename) AS name FROM pg_tables WHERE schemaname = 'public'",
    );
    const dumped = await Promise.all(
      tables.map(async ({ name }) => {
        const { rows } = await stack.database.query(`SELECT t::text AS row FROM ${name} t`);
        return rows.map(({ row }) => String(row)).join("\n");
      }),
    );
    const told = await Promise.all(
      stack.sidecars.flatMap(({ adminUrl }) =>
        ["/metrics", "/readyz?verbose"].map(async (path) => (await fetch(adminUrl + path)).text()),
      ),
    );
    await admin("GET", "/model/info");
    await admin("GET", "/credentials");
    const logs = [stack.keyService, ...stack.sidecars.map(({ process }) => process)].map(({ output }) => output);
    const everything = [...answers, ...dumped, ...told, ...logs].join("\n");
    assert.match(everything, /http-1/);
    for (const secret of [...secrets, firstKey, secondKey]) {
      const bytes = Buffer.from(secret);
      for (const form of [secret, bytes.toString("hex"), bytes.toString("base64").slice(0, -2)]) {
        assert.equal(everything.includes(form), false, form);
      }
    }
  });
});
