import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { buffer } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { systemClock, systemRandom } from "../../src/clock.ts";
import type { JsonObject } from "../../src/completion.ts";
import { noPrivateHosts } from "../../src/config/private-hosts.ts";
import { createAdministration } from "../../src/keyservice/administration.ts";
import { createManagementHandler, isManagementPath } from "../../src/keyservice/http.ts";
import { noKeyRules } from "../../src/keyservice/key-rules.ts";
import { Postgres } from "../../src/keyservice/postgres.ts";
import { Vault } from "../../src/keyservice/vault.ts";
import { Secret } from "../../src/secret.ts";
import { type Answer, encryptionKeys, masterKey, pepper, Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

/** Every error has LiteLLM's envelope, with the status as a string. */
function assertError({ status, body, headers }: Answer, expected: { status: number; param?: string | null }): void {
  assert.equal(status, expected.status, JSON.stringify(body));
  assert.deepEqual(Object.keys(body), ["error", "detail"]);
  assert.deepEqual(Object.keys(body.error).sort(), ["code", "message", "param", "type"]);
  assert.equal(body.error.code, String(expected.status));
  assert.ok(typeof body.error.message === "string" && body.error.message.length > 10);
  if (expected.param !== undefined) assert.equal(body.error.param, expected.param);
  assert.match(headers.get("x-request-id") ?? "", /^[\w.-]{1,128}$/);
}

const wrongFields: readonly [JsonObject, string][] = [
  [{ key_alias: 5 }, "key_alias"],
  [{ key_alias: "" }, "key_alias"],
  [{ key_alias: "x".repeat(257) }, "key_alias"],
  [{ key_alias: "nul \u0000 inside" }, "key_alias"],
  [{ key_alias: "lone \ud800 surrogate" }, "key_alias"],
  [{ key_alias: "sk-0123456789abcdef" }, "key_alias"],
  [{ key_alias: "key_0123456789abcdefghij" }, "key_alias"],
  [{ key_alias: "a".repeat(64) }, "key_alias"],
  [{ team_id: "a\u0000" }, "team_id"],
  [{ user_id: ["u"] }, "user_id"],
  [{ models: "gpt-4o" }, "models"],
  [{ models: [1] }, "models"],
  [{ models: [""] }, "models"],
  [{ models: ["\u0000"] }, "models"],
  [{ models: Array.from({ length: 1001 }, () => "m") }, "models"],
  [{ aliases: ["a"] }, "aliases"],
  [{ aliases: { a: 1 } }, "aliases"],
  [{ aliases: { a: "\u0000" } }, "aliases"],
  [{ tags: [null] }, "tags"],
  [{ max_budget: -0.01 }, "max_budget"],
  [{ max_budget: "ten" }, "max_budget"],
  [{ max_budget: true }, "max_budget"],
  [{ max_budget: 1e300 }, "max_budget"],
  [{ max_budget: 1_000_000_001 }, "max_budget"],
  [{ soft_budget: -1 }, "soft_budget"],
  [{ budget_duration: "soon" }, "budget_duration"],
  [{ budget_duration: "0d" }, "budget_duration"],
  [{ budget_duration: "-1" }, "budget_duration"],
  [{ budget_duration: 30 }, "budget_duration"],
  [{ duration: "1y" }, "duration"],
  [{ duration: "" }, "duration"],
  [{ duration: "9999999999mo" }, "duration"],
  [{ rpm_limit: -1 }, "rpm_limit"],
  [{ rpm_limit: 1.5 }, "rpm_limit"],
  [{ rpm_limit: "many" }, "rpm_limit"],
  [{ tpm_limit: 1e20 }, "tpm_limit"],
  [{ max_parallel_requests: {} }, "max_parallel_requests"],
  [{ metadata: [] }, "metadata"],
  [{ metadata: { a: "\u0000" } }, "metadata"],
  [{ metadata: { "\ud800": 1 } }, "metadata"],
  [{ unknown: { deep: ["\u0000"] } }, "body"],
  [{ blocked: "yes" }, "blocked"],
  [{ spend: 5 }, "spend"],
];

test("a wrong field is a 400 that names it, in generate and in update", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {});
  const [before] = await stage.sql("SELECT count(*) FROM keys");
  for (const [fields, param] of wrongFields) {
    assertError(await stage.http("POST", "/key/generate", fields), { status: 400, param });
    assertError(await stage.http("POST", "/key/update", { ...fields, key: made.key }), { status: 400, param });
  }
  assert.deepEqual(await stage.sql("SELECT count(*) FROM keys"), [before]);
});

test("numbers may come as strings, as they do from shells", async () => {
  const { status, body } = await stage.http("POST", "/key/generate", { max_budget: "0.1", rpm_limit: "60" });
  assert.deepEqual([status, body.max_budget, body.rpm_limit], [200, 0.1, 60]);
});

test("metadata nested too deep is refused", async () => {
  const nested = (levels: number) => `{"metadata":${'{"a":'.repeat(levels)}1${"}".repeat(levels)}}`;
  assert.equal((await stage.http("POST", "/key/generate", nested(30))).status, 200);
  for (const levels of [40, 100_000]) {
    assertError(await stage.http("POST", "/key/generate", nested(levels)), { status: 400, param: "metadata" });
  }
});

test("a body that is no JSON object is refused", async () => {
  for (const body of ["", "{", "{'a':1}", '{"a":1}x', "[]", "null", "7", '"text"', Buffer.from([0x7b, 0xff, 0x7d])]) {
    for (const path of ["/key/generate", "/key/update", "/key/delete", "/key/block", "/key/unblock"]) {
      assertError(await stage.http("POST", path, body), { status: 400 });
    }
  }
});

test("a body of another type, or too large, is refused", async () => {
  const authorization = `Bearer ${masterKey}`;
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]) {
    const answer = await stage.http("POST", "/key/generate", "{}", { authorization, "content-type": type });
    assertError(answer, { status: 415 });
  }
  const vendor = { authorization, "content-type": "application/vnd.api+json; charset=utf-8" };
  assert.equal((await stage.http("POST", "/key/generate", "{}", vendor)).status, 200);
  for (const bytes of [1024 * 1024 + 1, 20 * 1024 * 1024]) {
    assertError(await stage.http("POST", "/key/generate", Buffer.alloc(bytes, " ")), { status: 413 });
  }
  const largest = Buffer.alloc(1024 * 1024, " ");
  largest.write("{}");
  assert.equal((await stage.http("POST", "/key/generate", largest)).status, 200);
});

test("without the master key nothing is managed", async () => {
  const paths = ["/key/generate", "/key/update", "/key/delete", "/key/block", "/key/unblock"] as const;
  const wrong: Record<string, string>[] = [
    {},
    { authorization: masterKey },
    { authorization: "Basic c2stbWFzdGVy" },
    { authorization: "Bearer " },
    { authorization: "Bearer sk-wrong" },
    { authorization: `Bearer ${masterKey}x` },
    { authorization: `Bearer ' OR '1'='1` },
    { authorization: `Bearer ${"x".repeat(8_000)}` },
    { "x-api-key": "sk-wrong" },
    { "x-litellm-api-key": "sk-wrong", authorization: `Bearer ${masterKey}` },
  ];
  for (const headers of wrong) {
    for (const path of paths) assertError(await stage.http("POST", path, { key: "x" }, headers), { status: 401 });
    for (const path of ["/key/info", "/key/list", "/spend/logs"]) {
      const answer = await stage.http("GET", path, undefined, headers);
      assertError(answer, { status: 401 });
      assert.equal(answer.headers.get("www-authenticate"), "Bearer");
    }
  }
});

test("the master key is taken from each of its headers", async () => {
  for (const [name, value] of [
    ["Authorization", `Bearer ${masterKey}`],
    ["authorization", `bearer   ${masterKey}`],
    ["x-litellm-api-key", masterKey],
    ["x-litellm-api-key", `Bearer ${masterKey}`],
    ["x-api-key", masterKey],
    ["API-Key", masterKey],
  ] as const) {
    assert.equal((await stage.http("GET", "/key/list", undefined, { [name]: value })).status, 200, name);
  }
});

test("an unknown key is a 404, whatever it is called", async () => {
  const names = ["sk-unknown-0123456789", "f".repeat(64), "key_00000000000000000000", "no such alias", "key_master"];
  for (const key of [...names, "'; DROP TABLE keys; --", "\u0000", "\ud800", "x".repeat(5_000)]) {
    for (const path of ["/key/update", "/key/block", "/key/unblock"]) {
      assertError(await stage.http("POST", path, { key }), { status: 404, param: "key" });
    }
    assertError(await stage.http("POST", "/key/delete", { keys: [key] }), { status: 404 });
    assertError(await stage.http("POST", "/key/delete", { key_aliases: [key] }), { status: 404 });
    assertError(await stage.http("GET", `/key/info?key=${encodeURIComponent(key.toWellFormed())}`), { status: 404 });
  }
  assertError(await stage.http("POST", "/key/update", { key: masterKey }), { status: 404 });
});

test("a body that does not say which key is a 400", async () => {
  for (const path of ["/key/update", "/key/block", "/key/unblock"]) {
    for (const body of [{}, { key: "" }, { key: 5 }, { key: null }, { key: [] }]) {
      assertError(await stage.http("POST", path, body), { status: 400, param: "key" });
    }
  }
  for (const body of [
    {},
    { keys: [] },
    { keys: "sk-1" },
    { keys: [5] },
    { keys: Array.from({ length: 1001 }, () => "sk-1") },
  ]) {
    assertError(await stage.http("POST", "/key/delete", body), { status: 400, param: "keys" });
  }
  assertError(await stage.http("GET", "/key/info"), { status: 400, param: "key" });
});

test("odd queries are a 400 that names the parameter", async () => {
  const queries = {
    page: ["0", "-1", "1.5", "x", "", "1e3", "99999999999999999999", "1;DROP TABLE keys"],
    size: ["0", "101", "%00", "ten"],
    status: ["active", ""],
    sort_by: ["spend"],
  };
  for (const [name, values] of Object.entries(queries)) {
    for (const value of values) {
      assertError(await stage.http("GET", `/key/list?${name}=${value}`), { status: 400, param: name });
    }
  }
  assertError(await stage.http("GET", "/spend/logs?limit=0"), { status: 400, param: "limit" });
  assertError(await stage.http("GET", "/spend/logs?start_date=2026-01-01"), { status: 400, param: "end_date" });
  for (const query of [
    "team_id=%00",
    "user_id=%FF%FE",
    "key_alias='%20OR%201=1--",
    "key_hash=%00",
    "organization_id=%00",
    "%",
    "&&==&",
  ]) {
    const { status } = await stage.http("GET", `/key/list?${query}`);
    assert.equal(status, 200, query);
  }
});

test("other paths are a 404 and other methods a 405, in JSON", async () => {
  for (const path of [
    "/",
    "//",
    "/key",
    "/key/",
    "/key/generate/",
    "/KEY/generate",
    "/team/none",
    "/key/info%00",
    "/__proto__",
  ]) {
    assertError(await stage.http("GET", path), { status: 404 });
  }
  const answer = await stage.http("GET", "/key/generate");
  assertError(answer, { status: 405 });
  assert.equal(answer.headers.get("allow"), "POST");
  assertError(await stage.http("POST", "/key/info", {}), { status: 405 });
});

test("health needs no key", async () => {
  for (const path of ["/health/liveliness", "/health/liveness"]) {
    const { status, body } = await stage.http("GET", path, undefined, {});
    assert.deepEqual([status, body], [200, "I'm alive!"]);
  }
  const { status, body } = await stage.http("GET", "/health/readiness", undefined, {});
  assert.deepEqual([status, body.status, body.db], [200, "connected", "connected"]);
});

test("a caller's request id is echoed if it is fit for a header, else one is made", async () => {
  const fit = await stage.http("GET", "/nothing", undefined, { "x-request-id": "mine-1.2_3" });
  assert.equal(fit.headers.get("x-request-id"), "mine-1.2_3");
  const unfit = await stage.http("GET", "/nothing", undefined, { "x-request-id": "a b" });
  assert.match(unfit.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
});

test("a caller that goes away in the middle of a body does no harm", async () => {
  const { port } = new URL(stage.origin);
  const socket = connect(Number(port), "127.0.0.1");
  await new Promise<void>((resolve) => socket.on("connect", resolve));
  const head = `POST /key/generate HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${masterKey}\r\n`;
  socket.write(`${head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{"key_alias":`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal((await stage.http("GET", "/key/list")).status, 200);
});

test("no answer to wrong input blames the server, and none shows a digest or SQL", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {});
  const answers = await Promise.all([
    stage.http("POST", "/key/generate", { key: made.key }),
    stage.http("POST", "/key/generate", { key_alias: "'\"; SELECT 1 --", max_budget: "'" }),
    stage.http("POST", "/key/update", { key: "sk-unknown-0123456789" }),
    stage.http("GET", `/key/info?key=${"0".repeat(64)}`),
  ]);
  for (const { status, body } of answers) {
    assert.ok(status >= 400 && status < 500);
    const text = JSON.stringify(body);
    assert.doesNotMatch(text, /[0-9a-f]{32}|select |insert |update keys|hmac|pg_|constraint/i);
    assert.ok(!text.includes(made.key));
  }
});

test("the master key cannot become a virtual key", async () => {
  assertError(await stage.http("POST", "/key/generate", { key: masterKey }), { status: 400, param: "key" });
});

test("the same answers come over HTTP/2", async () => {
  const session = connectHttp2(stage.origin);
  const ask = async (headers: Record<string, string>, body?: string) => {
    const stream = session.request({ authorization: `Bearer ${masterKey}`, ...headers });
    const response = new Promise<Record<string, unknown>>((resolve) => stream.on("response", resolve));
    if (body !== undefined) stream.end(body);
    const [head, bytes] = await Promise.all([response, buffer(stream)]);
    return { status: head[":status"], id: head["x-request-id"], body: JSON.parse(bytes.toString()) };
  };
  const json = { "content-type": "application/json" };
  const made = await ask({ ":method": "POST", ":path": "/key/generate", ...json }, '{"rpm_limit":3}');
  assert.deepEqual([made.status, made.body.rpm_limit], [200, 3]);
  const info = await ask({ ":path": `/key/info?key=${made.body.key}` });
  assert.deepEqual([info.status, info.body.info.rpm_limit], [200, 3]);
  const bad = await ask({ ":method": "POST", ":path": "/key/generate", "x-request-id": "over-2", ...json }, "{");
  assert.deepEqual([bad.status, bad.id, bad.body.error.code], [400, "over-2", "400"]);
  session.close();
});

test("without its database it answers 503, and says only that", async () => {
  const databaseUrl = new Secret("postgres://user:password@127.0.0.1:1/books");
  const postgres = new Postgres({ databaseUrl, clock: systemClock, random: systemRandom, onConnectionLost: () => {} });
  const logged: unknown[] = [];
  const telemetry = { log: (...line: unknown[]) => logged.push(line) };
  const administration = createAdministration({
    ...{ postgres, pepper, clock: systemClock, timeZone: "UTC" },
    rules: () => ({ keyRules: noKeyRules, privateHosts: noPrivateHosts, fileModels: undefined }),
    ...{
      masterKey: new Secret(masterKey),
      vault: new Vault(encryptionKeys),
      storesModels: true,
    },
  });
  const server = createServer(createManagementHandler({ administration, telemetry })).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const headers = { authorization: `Bearer ${masterKey}` };
  for (const path of ["/key/list", "/key/info?key=sk-unknown-0123456789", "/spend/logs", "/health/readiness"]) {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers });
    assert.equal(response.status, 503, path);
    assert.equal(response.headers.get("x-should-retry"), "true");
    const { error } = (await response.json()) as { error: { code: string; message: string } };
    assert.deepEqual([error.code, error.message], ["503", "The KeyService cannot reach its books."]);
  }
  assert.equal(logged.length, 4);
  server.close();
  server.closeAllConnections();
  await postgres.close();
});

test("the sidecar can tell which paths to pass on", () => {
  for (const path of [
    "/key/generate",
    "/key/info",
    "/key/list",
    "/spend/logs",
    "/model/a%2Fb/update",
    "/credentials/x",
  ])
    assert.ok(isManagementPath(path));
  for (const path of ["/v1/models", "/health/readiness", "/key", "/model/a/b/update", "constructor"])
    assert.ok(!isManagementPath(path));
});
