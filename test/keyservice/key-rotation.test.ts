import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { findGrant } from "../../src/keyservice/grants.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import { assertFails, masterKey, pepper, Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const hourMs = 3_600_000;
const grantOf = (secret: string) => findGrant(stage.postgres, digestSecret(secret), pepper);
const versionsOf = (keyId: string) => stage.sql("SELECT version FROM changes WHERE entity_id = $1", [keyId]);

test("regenerate gives a key another secret, ends the old one at once, and leaves everything else", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {
    key_alias: "to rotate",
    max_budget: 5,
    budget_limits: [{ budget_duration: "1d", max_budget: 1 }],
    metadata: { a: 1 },
  });
  await stage.sql(
    "INSERT INTO budget_periods (budget_id, period_start, spent_nanos) SELECT budget_id, 'epoch', 7000000000 FROM budgets WHERE scope_id = $1 AND place = 0",
    [made.key_id],
  );
  const before = (await stage.http("GET", `/key/info?key=${made.key}`)).body.info;
  const { status, body } = await stage.http("POST", `/key/${made.key}/regenerate`, {});
  assert.equal(status, 200);
  assert.match(body.key, /^sk-[0-9A-Za-z]{43}$/);
  assert.notEqual(body.key, made.key);
  assert.deepEqual([body.key_id, body.key_alias, body.spend, body.max_budget], [made.key_id, "to rotate", 7, 5]);
  assert.equal(body.token, digestSecret(body.key).toString("hex"));
  assert.equal(await grantOf(made.key), undefined);
  assert.equal((await grantOf(body.key))?.keyId, made.key_id);
  assert.equal((await stage.http("GET", `/key/info?key=${made.key}`)).status, 404);
  const after = (await stage.http("GET", `/key/info?key=${body.key}`)).body.info;
  const changed = ["key_name", "rotation_count", "last_rotation_at", "updated_at"];
  for (const [name, value] of Object.entries(before)) {
    if (changed.includes(name)) assert.notDeepEqual(after[name], value, name);
    else assert.deepEqual(after[name], value, name);
  }
  assert.equal(after.rotation_count, 1);
  // Making it and rotating it: sidecars are told of both.
  assert.equal((await versionsOf(made.key_id)).length, 2);
});

test("within the grace both secrets open the key, and the old one carries its end with it", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {});
  const { body } = await stage.http("POST", "/key/regenerate", { key: made.key, grace_period: "2h" });
  const [fresh, old] = [await grantOf(body.key), await grantOf(made.key)];
  assert.deepEqual([fresh?.keyId, old?.keyId], [made.key_id, made.key_id]);
  assert.equal(fresh?.expiresAt, undefined);
  const leftMs = (old?.expiresAt?.getTime() ?? 0) - Date.now();
  assert.ok(Math.abs(leftMs - 2 * hourMs) < 10_000, `${leftMs}`);
  const asOld = { authorization: `Bearer ${made.key}` };
  assert.equal((await stage.http("GET", "/key/info", undefined, asOld)).body.info.key_id, made.key_id);
  stage.aheadMs = 2 * hourMs + 1_000;
  assert.equal((await stage.http("GET", "/key/info", undefined, asOld)).status, 401);
  assert.equal((await stage.http("GET", "/key/info", undefined, { authorization: `Bearer ${body.key}` })).status, 200);
  stage.aheadMs = 0;
});

test("the old secret ends with its key where that is sooner", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", { duration: "1h" });
  await stage.http("POST", "/key/regenerate", { key: made.key, grace_period: "24h" });
  const endsInMs = ((await grantOf(made.key))?.expiresAt?.getTime() ?? 0) - Date.now();
  assert.ok(Math.abs(endsInMs - hourMs) < 10_000, `${endsInMs}`);
});

test("a second rotation with grace keeps both old secrets; one without ends all", async () => {
  const { body: first } = await stage.http("POST", "/key/generate", {});
  const { body: second } = await stage.http("POST", "/key/regenerate", { key: first.key, grace_period: "1h" });
  const { body: third } = await stage.http("POST", "/key/regenerate", { key: second.key, grace_period: "1h" });
  for (const { key } of [first, second, third]) assert.equal((await grantOf(key))?.keyId, first.key_id);
  const { body: fourth } = await stage.http("POST", "/key/regenerate", { key: third.key, grace_period: "0s" });
  for (const { key } of [first, second, third]) assert.equal(await grantOf(key), undefined);
  assert.equal((await grantOf(fourth.key))?.keyId, first.key_id);
});

test("deleting a key ends its old secrets, and a secret in its grace belongs to nobody else", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {});
  await stage.http("POST", "/key/regenerate", { key: made.key, grace_period: "1h" });
  const taken = await stage.http("POST", "/key/generate", { key: made.key });
  assert.deepEqual([taken.status, taken.body.error.type, taken.body.error.param], [400, "bad_request_error", "key"]);
  const { body: other } = await stage.http("POST", "/key/generate", {});
  const stolen = await stage.http("POST", "/key/regenerate", { key: other.key, new_key: made.key });
  assert.deepEqual([stolen.status, stolen.body.error.param], [400, "new_key"]);
  assert.equal((await grantOf(other.key))?.keyId, other.key_id, "a refused rotation leaves the secret");
  stage.aheadMs = 2 * hourMs;
  assert.equal((await stage.http("POST", "/key/generate", { key: made.key })).status, 200);
  stage.aheadMs = 0;
  const { body: third } = await stage.http("POST", "/key/generate", {});
  await stage.http("POST", "/key/regenerate", { key: third.key, grace_period: "1h" });
  await stage.http("POST", "/key/delete", { keys: [third.key_id] });
  assert.equal(await grantOf(third.key), undefined);
});

test("regenerate takes new fields, and a secret of the operator's", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", { rpm_limit: 5, tpm_limit: 6 });
  const own = "sk-chosen-by-the-operator-2";
  const { body } = await stage.http("POST", `/key/${made.key_id}/regenerate`, {
    new_key: own,
    rpm_limit: 50,
    tpm_limit: null,
    duration: "1h",
  });
  assert.deepEqual([body.key, body.rpm_limit, body.tpm_limit, body.duration], [own, 50, null, "1h"]);
  assert.ok(Math.abs(Date.parse(body.expires) - Date.now() - hourMs) < 10_000);
  assert.equal((await grantOf(own))?.limits[0]?.ceiling, 50n);
});

test("what cannot be rotated is refused, with what to do", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", { key_alias: "stays" });
  const cases: [string, Record<string, string>, number, string | null][] = [
    ["/key/regenerate", {}, 400, "key"],
    ["/key/regenerate", { key: "sk-nobody-knows-this-one" }, 404, "key"],
    ["/key/regenerate", { key: "stays" }, 404, "key"],
    ["/key/regenerate", { key: masterKey }, 403, "key"],
    ["/key/regenerate", { key: made.key, new_key: masterKey }, 400, "new_key"],
    ["/key/regenerate", { key: made.key, new_key: "short" }, 400, "new_key"],
    ["/key/regenerate", { key: made.key, new_master_key: "sk-other" }, 400, "new_master_key"],
    ["/key/regenerate", { key: made.key, grace_period: "soon" }, 400, "grace_period"],
    ["/key/regenerate", { key: made.key, grace_period: "-1" }, 400, "grace_period"],
    [`/key/${made.key}/regenerate`, { duration: "x" }, 400, "duration"],
  ];
  for (const [path, body, status, param] of cases) {
    const answer = await stage.http("POST", path, body);
    assert.deepEqual([answer.status, answer.body.error.param], [status, param], JSON.stringify(body));
    assert.ok(!JSON.stringify(answer.body).includes(made.key));
  }
  const as = { authorization: `Bearer ${made.key}` };
  assert.equal((await stage.http("POST", "/key/regenerate", { key: made.key }, as)).status, 403);
  assert.equal((await grantOf(made.key))?.keyId, made.key_id);
});

test("a key that is to rotate by itself is refused, for nobody would receive the secret", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", { auto_rotate: false, rotation_interval: "30d" });
  assert.deepEqual([made.auto_rotate, made.rotation_interval], [false, "30d"]);
  for (const auto_rotate of [true, "true", 1]) {
    for (const [path, fields] of [
      ["/key/generate", { auto_rotate }],
      ["/key/update", { key: made.key, auto_rotate }],
      ["/key/regenerate", { key: made.key, auto_rotate }],
    ] as const) {
      const answer = await stage.http("POST", path, fields);
      assert.deepEqual([answer.status, answer.body.error.param], [400, "auto_rotate"], path);
      assert.match(answer.body.error.message, auto_rotate === true ? /regenerate/ : /true or false/);
    }
  }
  assert.equal((await grantOf(made.key))?.keyId, made.key_id);
});

test("RotateKey does the same, and refuses what has changed meanwhile", async () => {
  const { key, secret } = await stage.keyAdmin.createKey({ key: { alias: "rpc rotation", rpmLimit: 1n } });
  const rotated = await stage.keyAdmin.rotateKey({ key: "rpc rotation", gracePeriod: "1h", changes: { rpmLimit: 9n } });
  assert.deepEqual([rotated.key?.id, rotated.key?.rpmLimit, rotated.key?.rotationCount], [key?.id, 9n, 1]);
  assert.ok(
    rotated.key?.rotateTime !== undefined && Math.abs(timestampMs(rotated.key.rotateTime) - Date.now()) < 10_000,
  );
  assert.equal((await grantOf(rotated.secret))?.keyId, key?.id);
  assert.equal((await grantOf(secret))?.keyId, key?.id);
  const stale = stage.keyAdmin.rotateKey({ key: "rpc rotation", changes: { etag: key?.etag ?? "" } });
  await assertFails(stale, Code.Aborted, "CONFLICT");
  assert.equal((await grantOf(rotated.secret))?.keyId, key?.id);
  await assertFails(stage.keyAdmin.rotateKey({ key: "nobody" }), Code.NotFound, "NOT_FOUND");
  await assertFails(stage.keyAdmin.rotateKey({ key: secret, secret: "sk-x" }), Code.InvalidArgument, "INVALID_REQUEST");
});

test("of rotations at the same time each gives a secret of its own, and the last one's works", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {});
  const answers = await Promise.all(
    Array.from({ length: 6 }, () => stage.http("POST", "/key/regenerate", { key: made.key_id })),
  );
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
  const working = await Promise.all(answers.map(({ body }) => grantOf(body.key)));
  assert.equal(working.filter((grant) => grant !== undefined).length, 1);
  const { info } = (await stage.http("GET", `/key/info?key=${made.key_id}`)).body;
  assert.equal(info.rotation_count, 6);
});
