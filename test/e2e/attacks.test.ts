import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { sendJson } from "../upstream.ts";
import { masterKey, Stack } from "./stack.ts";

/** What the upstream answers a call with whose key it does not like. */
const leakyError = "Incorrect API key provided: sk-upstream-secret. You can find your API key at https://example.com";

let stack: Stack;
let key: string;
/** Somebody who waits for credentials to be sent to him. */
let attacker: Server;
let lured = 0;

before(async () => {
  attacker = createServer((_, res) => {
    lured++;
    res.end("{}");
  });
  attacker.listen(0, "127.0.0.1");
  await once(attacker, "listening");
  stack = await Stack.start({
    sidecars: 1,
    models: `
  - model_name: redirecting
    litellm_params: {model: openai/redirecting, api_base: ${attackerUrl()}, api_key: sk-upstream-secret, max_tokens: 5, input_cost_per_token: 0, output_cost_per_token: 0}`,
    config: `
general_settings: {store_model_in_db: true}
tollgate: {stored_models_private_hosts: [os.environ/ALLOWED_HERE]}`,
    // As if the sidecar were in another network than the KeyService.
    env: { ALLOWED_HERE: "127.0.0.1" },
    sidecarEnv: () => ({ ALLOWED_HERE: "10.255.0.0/24" }),
  });
  const { scripts } = stack.upstream;
  scripts.set("leaky", (_, res) => sendJson(res, 401, { error: { message: leakyError, code: "invalid_api_key" } }));
  key = await stack.generateKey({ max_budget: 10 });
});
after(async () => {
  await stack.close();
  attacker.closeAllConnections();
  attacker.close();
});

const attackerUrl = () => `http://127.0.0.1:${(attacker.address() as AddressInfo).port}`;
const messages = [{ role: "user", content: "Hello" }];

/** Sends bytes as they are, and gives everything that comes back until the connection ends. */
async function raw(bytes: string): Promise<string> {
  const { hostname, port } = new URL(stack.sidecars[0]?.url ?? "");
  const socket = connect(Number(port), hostname);
  let answer = "";
  socket.on("error", () => {});
  socket.on("data", (piece) => {
    answer += piece;
  });
  socket.write(bytes);
  const timer = setTimeout(() => socket.destroy(), 3_000);
  await once(socket, "close");
  clearTimeout(timer);
  return answer;
}

const post = (path: string, body: string, headers: readonly string[] = [], host = "127.0.0.1") =>
  raw(
    [
      ...[`POST ${path} HTTP/1.1`, `host: ${host}`, `authorization: Bearer ${key}`, "content-type: application/json"],
      ...[`content-length: ${Buffer.byteLength(body)}`, "connection: close", ...headers, "", body],
    ].join("\r\n"),
  );
const chat = (fields: object = {}) => JSON.stringify({ model: "ok", messages, ...fields });

describe("a request that wants to be sent elsewhere, or with other credentials", () => {
  const fields = ["api_base", "base_url", "api_key", "user_config", "extra_headers", "extra_body", "organization"];
  for (const field of [
    ...fields,
    "aws_bedrock_runtime_endpoint",
    "vertex_credentials",
    "litellm_params",
    "model_list",
  ]) {
    test(`by ${field} is refused by the field's name`, async () => {
      const url = attackerUrl();
      const value = field === "user_config" ? { model_list: [{ litellm_params: { api_base: url } }] } : url;
      const answer = await stack.chat(0, key, { [field]: value });
      const { error } = (await answer.json()) as { error: { code: string; param: string } };
      assert.deepEqual([answer.status, error.code, error.param], [400, "invalid_request", field]);
    });
  }

  test("by what is nested in its metadata goes where it always does", async () => {
    const before = stack.upstream.calls.length;
    const nested = {
      api_base: attackerUrl(),
      user_config: { api_base: attackerUrl() },
      model_config: { base_url: attackerUrl() },
    };
    const answer = await stack.chat(0, key, { metadata: nested });
    assert.equal(answer.status, 200);
    assert.equal(stack.upstream.calls.length, before + 1);
  });

  test("by headers goes where it always does, and these headers go nowhere", async () => {
    const headers = [
      `x-api-base: ${attackerUrl()}`,
      "openai-organization: evil",
      `x-forwarded-host: evil`,
      "cookie: a=b",
    ];
    assert.match(await post("/v1/chat/completions", chat(), [...headers, "te: trailers"]), /^HTTP\/1.1 200 /);
    const sent = stack.upstream.calls.at(-1)?.headers ?? {};
    for (const name of ["x-api-base", "openai-organization", "x-forwarded-host", "cookie", "te", "x-api-key"]) {
      assert.equal(sent[name], undefined, name);
    }
    assert.equal(sent.authorization, "Bearer sk-upstream-secret");
  });

  test("by a model whose address is where machines keep credentials is not taken into the configuration", async () => {
    const places = [
      "169.254.169.254",
      "[::ffff:169.254.169.254]",
      "2852039166",
      "0xa9fea9fe",
      "[fe80::1]",
      "metadata.google.internal",
    ];
    for (const host of places) {
      const litellm_params = { model: "openai/x", api_base: `http://${host}/v1`, api_key: "sk-x" };
      const answer = await stack.admin("POST", "/model/new", { model_name: "evil", litellm_params });
      assert.equal(answer.status, 400, host);
    }
  });

  test("by a model of the database into the private network is refused when it is written", async () => {
    const places = ["127.0.0.2", "10.0.0.1", "192.168.0.1", "100.64.0.1", "[::1]", "[fd00::1]", "[::ffff:10.0.0.1]"];
    for (const host of [...places, "[64:ff9b::10.0.0.1]", "167772161", "0xa000001", "012.0.0.1"]) {
      const litellm_params = { model: "openai/x", api_base: `http://${host}/v1`, api_key: "sk-x" };
      const answer = await stack.admin("POST", "/model/new", { model_name: "evil", litellm_params });
      assert.equal(answer.status, 400, host);
      assert.match(JSON.stringify(answer.body), /is a private host/, host);
    }
  });

  test("by a model of the database that was written all the same is not taken, and not called where its name leads", async () => {
    const port = new URL(attackerUrl()).port;
    const write = async (model_name: string, litellm_params: object) => {
      const { status, body } = await stack.admin("POST", "/model/new", { model_name, litellm_params });
      assert.equal(status, 200, JSON.stringify(body));
    };
    const free = { input_cost_per_token: 0, output_cost_per_token: 0 };
    const openai = { model: "openai/x", api_key: "sk-x", ...free };
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const vertex_credentials = JSON.stringify({
      ...{ type: "service_account", client_email: "a@b.example", project_id: "p" },
      private_key: privateKey.export({ type: "pkcs8", format: "pem" }),
      token_uri: `http://localhost:${port}/token`,
    });
    await write("literal", { ...openai, api_base: attackerUrl() });
    await write("tokens", { model: "vertex_ai/gemini-2.5-pro", vertex_credentials, ...free });
    await write("rebound", { ...openai, api_base: `http://localhost:${port}` });
    const statusOf = async (model: string) => (await stack.chat(0, key, { model })).status;
    for (let tries = 0; (await statusOf("rebound")) === 404; tries++) assert.ok(tries < 500, "it never came");
    assert.equal(await statusOf("rebound"), 503);
    assert.equal(await statusOf("tokens"), 503);
    assert.equal(await statusOf("literal"), 404);
    const { output } = stack.sidecars[0]?.process ?? { output: "" };
    assert.match(output, /localhost leads to a private address/);
    assert.match(output, /the database's model [^:]+: litellm_params.api_base: 127\.0\.0\.1 is a private host/);
  });

  after(() => assert.equal(lured, 0, "the attacker was asked"));
});

test("a provider that answers with a redirect is not followed", async () => {
  const elsewhere = createServer(() => assert.fail("followed"));
  elsewhere.listen(0, "127.0.0.1");
  await once(elsewhere, "listening");
  const target = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/steal`;
  attacker.removeAllListeners("request");
  attacker.on("request", (_, res) => res.writeHead(307, { location: target }).end());
  const answer = await stack.chat(0, key, { model: "redirecting" });
  assert.equal(answer.status, 502, await answer.text());
  elsewhere.close();
});

describe("a browser", () => {
  test("is told by no header that a page may read answers", async () => {
    const preflight = await fetch(`${stack.sidecars[0]?.url}/v1/chat/completions`, {
      method: "OPTIONS",
      headers: { origin: "https://evil.example", "access-control-request-method": "POST" },
    });
    const models = await fetch(`${stack.sidecars[0]?.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
    for (const answer of [preflight, models]) {
      const names = [...answer.headers.keys()].filter((name) => name.startsWith("access-control-"));
      assert.deepEqual(names, []);
    }
  });

  test("whose page had its own name lead here is refused by that name", async () => {
    for (const host of ["evil.example", "evil.example:4000", "localhost.evil.example", "127.0.0.1.evil.example"]) {
      const answer = await post("/v1/chat/completions", chat(), [], host);
      assert.match(answer, /^HTTP\/1.1 403 [\s\S]*"code":"host_not_allowed"/, host);
      assert.match(
        await raw(`GET /health/liveness HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`),
        /^HTTP\/1.1 403 /,
      );
    }
    for (const host of ["localhost:4000", "127.0.0.1", "[::1]:4000", "app.localhost"]) {
      assert.match(await post("/v1/chat/completions", chat(), [], host), /^HTTP\/1.1 200 /, host);
    }
  });
});

describe("a request that means different things to different readers", () => {
  const head = () => [
    "POST /v1/chat/completions HTTP/1.1",
    "host: 127.0.0.1",
    `authorization: Bearer ${key}`,
    "content-type: application/json",
  ];
  const cases: readonly (readonly [string, () => string])[] = [
    [
      "with a length and chunks",
      () => [...head(), "content-length: 5", "transfer-encoding: chunked", "", "0", "", ""].join("\r\n"),
    ],
    ["with two lengths", () => [...head(), "content-length: 5", "content-length: 6", "", "hello"].join("\r\n")],
    ["with an odd transfer-encoding", () => [...head(), "transfer-encoding: xchunked", "", "hello"].join("\r\n")],
    ["with a space before the colon", () => [...head(), "content-length : 5", "", "hello"].join("\r\n")],
    [
      "with a bare line feed in a header",
      () => [...head(), "x-a: b\nx-c: d", "content-length: 0", "", ""].join("\r\n"),
    ],
    ["with a NUL in a header", () => [...head(), "x-a: b\0c", "content-length: 0", "", ""].join("\r\n")],
  ];
  for (const [name, bytes] of cases) {
    test(`${name} is refused before it is read`, async () => {
      const before = stack.upstream.calls.length;
      assert.match(await raw(bytes()), /^HTTP\/1.1 (?:400|501) /);
      assert.equal(stack.upstream.calls.length, before);
    });
  }

  test("by a field that is given twice is refused", async () => {
    const body = `{"model":"ok","model":"other","max_tokens":1,"messages":[]}`;
    assert.match(await post("/v1/chat/completions", body), /^HTTP\/1.1 400 [\s\S]*more than once/);
  });

  test("by two caps reaches the provider with one, and not the larger", async () => {
    const answer = await stack.chat(0, key, { max_tokens: 1, max_completion_tokens: 4_000_000 });
    if (answer.status !== 400) {
      const sent = JSON.parse(stack.upstream.calls.at(-1)?.body ?? "{}") as Record<string, number>;
      const caps = [sent.max_tokens, sent.max_completion_tokens].filter((cap) => cap !== undefined);
      assert.equal(caps.length, 1);
      assert.ok((caps[0] ?? 0) <= 100, `${caps}`);
    }
  });
});

describe("what is too much", () => {
  test("of JSON's depth is refused at every door before anything walks it, and nobody is called", async () => {
    const before = stack.upstream.calls.length;
    const nested = (levels: number) =>
      `{"model":"ok","messages":${"[".repeat(levels)}${"]".repeat(levels)},"input":"x","max_tokens":5}`;
    for (const path of ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"]) {
      for (const levels of [128, 100_000]) {
        const answer = await post(path, nested(levels));
        assert.match(answer, /^HTTP\/1.1 400 [\s\S]*nested deeper than 128 levels/, `${path}, ${levels}`);
      }
    }
    assert.equal(stack.upstream.calls.length, before);
    assert.doesNotMatch(await post("/v1/chat/completions", nested(127)), /nested deeper/);
  });

  test("of names that objects have by birth harms nobody", async () => {
    const born = `{"model":"ok","messages":[{"role":"user","content":"x"}],"metadata":{"__proto__":{"polluted":"yes"},"constructor":{"prototype":{"polluted":"yes"}}}}`;
    assert.match(await post("/v1/chat/completions", born), /^HTTP\/1.1 (?:200|400) /);
    const next = await stack.chat(0, key);
    assert.equal(next.status, 200);
    assert.doesNotMatch(stack.upstream.calls.at(-1)?.body ?? "", /polluted/);
  });

  test("of choices is paid for or refused, never unlimited", async () => {
    const poor = await stack.generateKey({ max_budget: 0.001 });
    const answer = await stack.chat(0, poor, { n: 128, max_tokens: 100 });
    const { error } = (await answer.json()) as { error: { code: string } };
    assert.deepEqual([answer.status, error.code], [429, "budget_exceeded"]);
  });

  test("of guesses lets nobody in, and known keys notice nothing", async () => {
    const guesses = Array.from({ length: 200 }, (_, index) => stack.chat(0, `sk-guess-${index}`));
    const known = Array.from({ length: 20 }, () => stack.chat(0, key));
    // A KeyService that is not quick enough has said nothing about a key.
    const statuses = (await Promise.all(guesses)).map(({ status }) => status);
    assert.ok(statuses.every((status) => status === 401 || status === 503) && statuses.includes(401), `${statuses}`);
    assert.ok((await Promise.all(known)).every(({ status }) => status === 200));
    // The same guesses again are answered from memory: an answer without the KeyService, which is stopped meanwhile.
    process.kill(stack.keyService.pid, "SIGSTOP");
    try {
      const again = await Promise.all(
        Array.from({ length: 50 }, (_, index) => stack.chat(0, `sk-guess-${150 + index}`)),
      );
      assert.ok(again.every(({ status }) => status === 401 || status === 503));
      assert.ok(again.filter(({ status }) => status === 401).length > 0);
    } finally {
      process.kill(stack.keyService.pid, "SIGCONT");
    }
  });
});

describe("a key", () => {
  test("of any form is looked up as a digest or refused: no text of it is ever part of a statement or of a log", async () => {
    const hostile = [
      "'; DROP TABLE keys;--",
      "sk-' OR '1'='1",
      "sk-\u00e9\u00fc",
      `sk-${"x".repeat(600)}`,
      "sk-%00",
      "null",
      "[object Object]",
    ];
    for (const secret of hostile) {
      const headers = { authorization: `Bearer ${encodeURI(secret)}`, "content-type": "application/json" };
      const answer = await fetch(`${stack.sidecars[0]?.url}/v1/chat/completions`, {
        method: "POST",
        headers,
        body: chat(),
      });
      assert.equal(answer.status, 401, secret);
      const managed = await fetch(`${stack.keyServiceUrl}/key/info`, { headers });
      assert.ok([400, 401].includes(managed.status), `${secret}: ${managed.status}`);
      assert.doesNotMatch(await managed.text(), /DROP TABLE|SELECT|syntax/);
    }
    const output = stack.keyService.output + (stack.sidecars[0]?.process.output ?? "");
    assert.doesNotMatch(output, /DROP TABLE|OR '1'/);
  });

  test("that nobody has is refused in the same words as every other one that nobody has", async () => {
    const answers = await Promise.all(
      ["sk-nobody-has-this-key", "sk-nobody-has-that-key"].map((secret) => stack.chat(0, secret)),
    );
    const texts = await Promise.all(answers.map((answer) => answer.text()));
    assert.equal(texts[0]?.replace(/[0-9a-f-]{36}/g, ""), texts[1]?.replace(/[0-9a-f-]{36}/g, ""));
  });

  test("of the gateway at a provider is never told, though the provider tells it", async () => {
    const answer = await stack.chat(0, key, { model: "ok" });
    assert.equal(answer.status, 200);
    stack.upstream.scripts.set("ok", stack.upstream.scripts.get("leaky") as never);
    const refused = await stack.chat(0, key, { model: "ok" });
    assert.equal(refused.status, 502);
    assert.doesNotMatch(await refused.text(), /sk-upstream/);
    const output = stack.keyService.output + (stack.sidecars[0]?.process.output ?? "");
    for (const secret of ["sk-upstream-secret", masterKey, key]) assert.ok(!output.includes(secret), "in a log");
    const metrics = await (await fetch(`${stack.sidecars[0]?.adminUrl}/metrics`)).text();
    for (const secret of ["sk-upstream-secret", masterKey, key]) assert.ok(!metrics.includes(secret), "in the metrics");
  });
});
