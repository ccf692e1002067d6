import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { findGrant } from "../../src/keyservice/grants.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import { masterKey, pepper, Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const grantOf = (secret: string) => findGrant(stage.postgres, digestSecret(secret), pepper);

test("generate with an empty body makes a key without limits", async () => {
  const { status, body } = await stage.http("POST", "/key/generate", {});
  assert.equal(status, 200);
  assert.match(body.key, /^sk-[0-9A-Za-z]{43}$/);
  assert.equal(body.token, sha256(body.key));
  assert.equal(body.token_id, sha256(body.key));
  assert.equal(body.key_name, `sk-...${body.key.slice(-4)}`);
  assert.match(body.key_id, /^key_[0-9A-Za-z]{20}$/);
  for (const name of ["max_budget", "budget_duration", "rpm_limit", "tpm_limit", "expires", "key_alias", "team_id"]) {
    assert.equal(body[name], null, name);
  }
  assert.deepEqual([body.models, body.aliases, body.metadata, body.spend], [[], {}, {}, 0]);
  assert.equal(body.litellm_budget_table, null);
  assert.equal(body.created_by, "master_key");
  const [budget] = await stage.sql("SELECT scope, max_nanos, duration FROM budgets WHERE scope_id = $1", [body.key_id]);
  assert.deepEqual(budget, { scope: "key", max_nanos: null, duration: null });
});

test("generate and info tell when a key ends and when its budget begins anew, and info has no token", async () => {
  const fields = { key_alias: "with ends", max_budget: 12.5, budget_duration: "30d", duration: "24h" };
  const made = await stage.http("POST", "/key/generate", fields);
  assert.equal(made.status, 200);
  const info = await stage.http("GET", `/key/info?key=${made.body.key}`);
  assert.deepEqual([info.status, info.body.key], [200, made.body.key]);
  assert.equal(made.body.duration, "24h");
  const lifeMs = Date.parse(made.body.expires) - Date.parse(made.body.created_at);
  assert.ok(Math.abs(lifeMs - 86_400_000) < 5_000, `${lifeMs}`);
  const now = new Date(made.body.created_at);
  const nextMonth = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1));
  assert.equal(made.body.budget_reset_at, nextMonth.toISOString());
  assert.equal("token" in info.body.info, false);
});

test("a key is found by itself, by its token and by its id, never by its alias", async () => {
  const { body } = await stage.http("POST", "/key/generate", { key_alias: "by name" });
  for (const name of [body.key, body.token, body.key_id]) {
    const info = await stage.http("GET", `/key/info?key=${name}`);
    assert.equal(info.body.info?.key_id, body.key_id);
  }
  assert.equal((await stage.http("GET", "/key/info?key=by%20name")).status, 404);
});

test("a secret of one's own is taken, once, and again after the key is deleted", async () => {
  const key = "sk-chosen-by-the-operator";
  const made = await stage.http("POST", "/key/generate", { key });
  assert.equal(made.body.key, key);
  const again = await stage.http("POST", "/key/generate", { key });
  assert.equal(again.status, 400);
  assert.deepEqual([again.body.error.type, again.body.error.param], ["bad_request_error", "key"]);
  assert.deepEqual((await stage.http("POST", "/key/delete", { keys: [key] })).body, { deleted_keys: [key] });
  assert.equal((await stage.http("POST", "/key/generate", { key })).status, 200);
});

test("secrets of a bad form are refused and not repeated", async () => {
  for (const key of [
    "",
    "sk-short",
    "pk-0123456789abcdef0",
    "sk-with space 0123456789",
    `sk-${"x".repeat(600)}`,
    "sk-ümläut0123456789ab",
  ]) {
    const { status, body } = await stage.http("POST", "/key/generate", { key });
    assert.equal(status, 400, key);
    assert.equal(body.error.param, "key");
    assert.ok(key === "" || !JSON.stringify(body).includes(key));
  }
});

test("an alias belongs to one living key", async () => {
  const first = await stage.http("POST", "/key/generate", { key_alias: "unique" });
  const second = await stage.http("POST", "/key/generate", { key_alias: "unique" });
  assert.equal(second.status, 400);
  assert.deepEqual(
    { type: second.body.error.type, param: second.body.error.param, code: second.body.error.code },
    { type: "bad_request_error", param: "key_alias", code: "400" },
  );
  const other = await stage.http("POST", "/key/generate", {});
  const renamed = await stage.http("POST", "/key/update", { key: other.body.key, key_alias: "unique" });
  assert.deepEqual([renamed.status, renamed.body.error.param], [400, "key_alias"]);
  const deleted = await stage.http("POST", "/key/delete", { key_aliases: ["unique"] });
  assert.deepEqual(deleted.body, { deleted_keys: ["unique"] });
  assert.equal((await stage.http("GET", `/key/info?key=${first.body.key}`)).body.info.status, "deleted");
  assert.equal((await stage.http("POST", "/key/generate", { key_alias: "unique" })).status, 200);
});

test("update changes what is sent, clears what is null, and leaves the rest", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {
    key_alias: "to change",
    max_budget: 5,
    budget_duration: "1d",
    rpm_limit: 10,
    tpm_limit: 20,
    models: ["m"],
    metadata: { a: 1 },
    duration: "1h",
    permissions: { a: true },
    guardrails: ["g"],
  });
  const updated = await stage.http("POST", "/key/update", {
    key: made.key,
    rpm_limit: null,
    max_budget: 7.25,
    models: null,
    duration: "-1",
    permissions: null,
  });
  assert.equal(updated.status, 200);
  const row = updated.body;
  assert.deepEqual([row.key, row.token], [made.key, made.key_id]);
  assert.deepEqual([row.rpm_limit, row.tpm_limit, row.max_budget, row.budget_duration], [null, 20, 7.25, "1d"]);
  assert.deepEqual([row.models, row.metadata, row.expires, row.key_alias], [[], { a: 1 }, null, "to change"]);
  assert.deepEqual([row.permissions, row.guardrails], [null, ["g"]]);
  const cleared = await stage.http("POST", "/key/update", {
    key: made.key_id,
    max_budget: null,
    budget_duration: null,
  });
  assert.deepEqual(
    [cleared.body.max_budget, cleared.body.budget_duration, cleared.body.budget_reset_at],
    [null, null, null],
  );
  const [budget] = await stage.sql("SELECT max_nanos, duration FROM budgets WHERE scope_id = $1", [made.key_id]);
  assert.deepEqual(budget, { max_nanos: null, duration: null });
});

test("a row that is sent back as it came changes nothing but its time", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {
    max_budget: 3,
    budget_duration: "7d",
    tags: ["x"],
  });
  const { info } = (await stage.http("GET", `/key/info?key=${made.key}`)).body;
  const updated = await stage.http("POST", "/key/update", { ...info, key: made.key });
  assert.equal(updated.status, 200);
  const after = (await stage.http("GET", `/key/info?key=${made.key}`)).body.info;
  assert.deepEqual({ ...after, updated_at: "" }, { ...info, updated_at: "" });
});

test("what was spent is shown for the current period, and a new period starts from nothing", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", { max_budget: 3 });
  const [budget] = await stage.sql<{ budget_id: string }>("SELECT budget_id FROM budgets WHERE scope_id = $1", [
    made.key_id,
  ]);
  await stage.sql(
    "INSERT INTO budget_periods (budget_id, period_start, spent_nanos) VALUES ($1, 'epoch', 1250000001)",
    [budget?.budget_id],
  );
  const spendOf = async () => (await stage.http("GET", `/key/info?key=${made.key}`)).body.info.spend;
  assert.equal(await spendOf(), 1.250000001);
  await stage.http("POST", "/key/update", { key: made.key, budget_duration: "1d" });
  assert.equal(await spendOf(), 0);
  await stage.http("POST", "/key/update", { key: made.key, budget_duration: null });
  assert.equal(await spendOf(), 1.250000001);
});

test("block and unblock are seen by what sidecars resolve, and push a change", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", { models: ["m"] });
  const before = await grantOf(made.key);
  assert.deepEqual([before?.blocked, before?.models], [false, ["m"]]);
  const blocked = await stage.http("POST", "/key/block", { key: made.token });
  assert.deepEqual([blocked.body.blocked, blocked.body.token], [true, made.key_id]);
  const grant = await grantOf(made.key);
  assert.equal(grant?.blocked, true);
  assert.ok((grant?.version ?? 0n) > (before?.version ?? 0n));
  const changes = await stage.sql("SELECT 1 FROM changes WHERE entity_id = $1", [made.key_id]);
  assert.equal(changes.length, 2);
  assert.equal((await stage.http("POST", "/key/unblock", { key: made.key })).body.blocked, false);
  assert.equal((await grantOf(made.key))?.blocked, false);
});

test("a deleted key resolves no more, and its row stays", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {});
  const { body: other } = await stage.http("POST", "/key/generate", {});
  const answer = await stage.http("POST", "/key/delete", {
    keys: [made.key, "sk-nobody-knows-this-one", other.key_id],
  });
  assert.deepEqual(answer.body, { deleted_keys: [made.key, other.key_id] });
  assert.equal(await grantOf(made.key), undefined);
  const [row] = await stage.sql<{ deleted: boolean }>(
    "SELECT deleted_at IS NOT NULL AS deleted FROM keys WHERE key_id = $1",
    [made.key_id],
  );
  assert.equal(row?.deleted, true);
  for (const path of ["/key/update", "/key/block", "/key/unblock"]) {
    assert.equal((await stage.http("POST", path, { key: made.key })).status, 404, path);
  }
  assert.equal((await stage.http("POST", "/key/delete", { keys: [made.key] })).status, 404);
  const deleted = await stage.http("GET", `/key/list?status=deleted&size=100&return_full_object=true`);
  assert.ok(deleted.body.keys.some((key: { token: string }) => key.token === made.key_id));
});

test("allowed_routes and enforced_params are kept, checked, and hold for /key/info; key_type is short for routes", async () => {
  const fields = { allowed_routes: ["llm_api_routes", "/v1/*"], enforced_params: ["user", "metadata.project"] };
  const { body: made, headers } = await stage.http("POST", "/key/generate", fields);
  assert.equal(headers.get("x-tollgate-inactive-fields"), null);
  const { info } = (await stage.http("GET", `/key/info?key=${made.key}`)).body;
  assert.deepEqual([info.allowed_routes, info.enforced_params], [fields.allowed_routes, fields.enforced_params]);
  const { key } = await stage.keyAdmin.getKey({ key: made.key });
  assert.deepEqual([key?.allowedRoutes, key?.enforcedParams], [fields.allowed_routes, fields.enforced_params]);
  const grant = await grantOf(made.key);
  assert.deepEqual([grant?.allowedRoutes, grant?.enforcedParams], [fields.allowed_routes, fields.enforced_params]);
  const own = await stage.http("GET", "/key/info", undefined, { authorization: `Bearer ${made.key}` });
  assert.deepEqual([own.status, own.body.error.type], [403, "auth_error"]);
  for (const [key_type, routes] of [
    ["llm_api", ["llm_api_routes"]],
    ["management", ["management_routes"]],
    ["read_only", ["info_routes"]],
    ["default", []],
  ]) {
    const { body } = await stage.http("POST", "/key/generate", { key_type: String(key_type) });
    assert.deepEqual(body.allowed_routes, routes);
  }
  const { body: reader } = await stage.http("POST", "/key/generate", { key_type: "read_only" });
  assert.equal(
    (await stage.http("GET", "/key/info", undefined, { authorization: `Bearer ${reader.key}` })).status,
    200,
  );
  for (const [field, value] of [
    ["allowed_routes", ["chat"]],
    ["allowed_routes", [""]],
    ["allowed_routes", "llm_api_routes"],
    ["enforced_params", [1]],
    ["key_type", "other"],
  ]) {
    const answer = await stage.http("POST", "/key/generate", { [String(field)]: value ?? null });
    assert.deepEqual([answer.status, answer.body.error.param], [400, field], JSON.stringify(value));
  }
});

test("a virtual key may ask for itself only", async () => {
  const { body: own } = await stage.http("POST", "/key/generate", { key_alias: "own" });
  const { body: other } = await stage.http("POST", "/key/generate", {});
  const as = { authorization: `Bearer ${own.key}` };
  const self = await stage.http("GET", "/key/info", undefined, as);
  assert.deepEqual([self.status, self.body.key, self.body.info.key_alias], [200, own.key_id, "own"]);
  assert.equal((await stage.http("GET", `/key/info?key=${own.token}`, undefined, as)).status, 200);
  for (const [key, status] of [
    ...[[other.key, 403] as const, [other.key_id, 403] as const],
    ...[["sk-0123456789abcdefxyz", 404] as const, [masterKey, 404] as const],
  ]) {
    assert.equal((await stage.http("GET", `/key/info?key=${key}`, undefined, as)).status, status);
  }
  for (const token of [own.token, own.key_id, "sk-unknown-0123456789", "own"]) {
    const stranger = await stage.http("GET", "/key/info", undefined, { authorization: `Bearer ${token}` });
    assert.deepEqual([stranger.status, stranger.body.error.type], [401, "auth_error"], token);
  }
  for (const path of ["/key/generate", "/key/update", "/key/delete", "/key/block", "/key/unblock"]) {
    const body = path === "/key/delete" ? { keys: [own.key] } : path === "/key/generate" ? {} : { key: own.key };
    assert.equal((await stage.http("POST", path, body, as)).status, 403, path);
  }
  assert.equal((await stage.http("GET", "/global/spend", undefined, as)).status, 403);
  assert.deepEqual((await stage.http("GET", "/spend/logs", undefined, as)).body, []);
  assert.deepEqual((await stage.http("GET", "/key/list", undefined, as)).body.keys, [own.key_id]);
  await stage.http("POST", "/key/block", { key: own.key });
  assert.equal((await stage.http("GET", "/key/info", undefined, as)).status, 403);
  const { body: brief } = await stage.http("POST", "/key/generate", { duration: "1s" });
  stage.aheadMs = 2_000;
  const late = await stage.http("GET", "/key/info", undefined, { "x-api-key": brief.key });
  stage.aheadMs = 0;
  assert.deepEqual([late.status, late.body.error.type], [401, "expired_key"]);
});

test("the list has pages and filters", async () => {
  await stage.teams("pages");
  const ids: string[] = [];
  for (let made = 0; made < 5; made++) {
    const { body } = await stage.http("POST", "/key/generate", {
      team_id: "pages",
      user_id: `u${made % 2}`,
      organization_id: "org",
    });
    ids.unshift(body.key_id);
  }
  const first = await stage.http("GET", "/key/list?team_id=pages&size=2");
  assert.equal(first.body.keys.length, 2);
  assert.deepEqual({ ...first.body, keys: [] }, { keys: [], total_count: 5, current_page: 1, total_pages: 3 });
  const pages = await Promise.all(
    [1, 2, 3, 4].map((page) => stage.http("GET", `/key/list?team_id=pages&size=2&page=${page}`)),
  );
  assert.deepEqual(pages.flatMap(({ body }) => body.keys).sort(), [...ids].sort());
  assert.equal((await stage.http("GET", "/key/list?team_id=pages&user_id=u1")).body.total_count, 2);
  assert.equal((await stage.http("GET", "/key/list?organization_id=org")).body.total_count, 5);
  const one = await stage.http("GET", `/key/list?key_hash=${ids[0]}&return_full_object=true`);
  assert.deepEqual([one.body.keys[0].token, one.body.keys[0].team_id], [ids[0], "pages"]);
  assert.equal((await stage.http("GET", "/key/list?key_alias=with%20ends")).body.total_count, 1);
  assert.equal((await stage.http("GET", "/key/list?team_id=nobody")).body.total_pages, 0);
  const everything = await stage.http("GET", "/key/list?size=100");
  assert.ok(!everything.body.keys.includes("key_master"));
});
