import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { assertFails, masterKey, Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

test("CreateKey stores every field and shows the secret once", async () => {
  await stage.teams("t");
  const expireTime = timestampFromMs(Date.UTC(2040, 0, 1));
  const fields = {
    alias: "every rpc field",
    models: ["gpt-4o", "claude-*"],
    aliases: { fast: "gpt-4o-mini" },
    maxBudgetUsd: "25.000000001",
    budgetDuration: "1mo",
    rpmLimit: 60n,
    tpmLimit: 9_007_199_254_740_991n,
    maxParallelRequests: 0n,
    userId: "u",
    teamId: "t",
    metadata: { nested: { list: [1, "x", null, true] } },
    tags: ["a"],
  };
  const made = await stage.keyAdmin.createKey({
    key: { ...fields, expireTime, id: "ignored", blocked: true, spentUsd: "9" },
  });
  assert.match(made.secret, /^sk-[0-9A-Za-z]{43}$/);
  const { key } = await stage.keyAdmin.getKey({ key: made.secret });
  assert.ok(key !== undefined);
  for (const [name, value] of Object.entries(fields)) assert.deepEqual(key[name as keyof typeof fields], value, name);
  assert.equal(timestampMs(key.expireTime ?? expireTime), Date.UTC(2040, 0, 1));
  assert.deepEqual([key.blocked, key.spentUsd, key.reservedUsd], [false, "0", "0"]);
  assert.match(key.id, /^key_/);
  assert.equal(key.masked, `sk-...${made.secret.slice(-4)}`);
  assert.ok(key.etag !== "" && key.createTime !== undefined && key.updateTime !== undefined);
  for (const name of [key.id, "every rpc field"])
    assert.equal((await stage.keyAdmin.getKey({ key: name })).key?.id, key.id);
});

test("CreateKey with nothing makes a key without limits", async () => {
  const { key } = await stage.keyAdmin.createKey({});
  assert.ok(key !== undefined);
  assert.deepEqual(
    [key.alias, key.maxBudgetUsd, key.rpmLimit, key.expireTime, key.models],
    [undefined, undefined, undefined, undefined, []],
  );
});

test("a repeated CreateKey returns the first one's key, without secret, also when both come at once", async () => {
  const requestId = randomUUID();
  const first = await stage.keyAdmin.createKey({ key: { alias: "once" }, requestId });
  const second = await stage.keyAdmin.createKey({ key: { alias: "once" }, requestId });
  assert.deepEqual([second.key?.id, second.secret], [first.key?.id, ""]);
  const sameTime = randomUUID();
  const answers = await Promise.all(Array.from({ length: 8 }, () => stage.keyAdmin.createKey({ requestId: sameTime })));
  assert.equal(new Set(answers.map(({ key }) => key?.id)).size, 1);
  assert.equal(answers.filter(({ secret }) => secret !== "").length, 1);
  const rows = await stage.sql("SELECT 1 FROM keys WHERE create_request_id = $1", [sameTime]);
  assert.equal(rows.length, 1);
});

test("CreateKey refuses what is taken and what is wrong", async () => {
  await stage.keyAdmin.createKey({ key: { alias: "taken" }, secret: "sk-taken-0123456789abcdef" });
  const create = stage.keyAdmin.createKey;
  await assertFails(create({ key: { alias: "taken" } }), Code.AlreadyExists, "ALREADY_EXISTS");
  await assertFails(create({ secret: "sk-taken-0123456789abcdef" }), Code.AlreadyExists, "ALREADY_EXISTS");
  const expireTime = { seconds: 9_999_999_999_999n, nanos: 0 };
  for (const wrong of [
    { secret: "sk-short" },
    { requestId: "not-a-uuid" },
    { duration: "forever" },
    { duration: "1d", key: { expireTime: timestampFromMs(1) } },
    { key: { maxBudgetUsd: "-1" } },
    { key: { maxBudgetUsd: "1e3" } },
    { key: { budgetDuration: "0s" } },
    { key: { alias: "" } },
    { key: { alias: "sk-0123456789abcdef" } },
    { key: { alias: "a\u0000" } },
    { key: { alias: "x".repeat(257) } },
    { key: { rpmLimit: -1n } },
    { key: { rpmLimit: 9_007_199_254_740_993n } },
    { key: { expireTime } },
    { key: { metadata: { a: "\u0000" } } },
  ]) {
    await assertFails(create(wrong), Code.InvalidArgument, "INVALID_REQUEST");
  }
});

test("UpdateKey changes what the mask names and clears what is unset there", async () => {
  const { key: made } = await stage.keyAdmin.createKey({
    key: { alias: "masked", maxBudgetUsd: "5", rpmLimit: 10n, tpmLimit: 20n, models: ["m"], metadata: { a: 1 } },
  });
  assert.ok(made !== undefined);
  const { key: updated } = await stage.keyAdmin.updateKey({
    key: { id: "masked", rpmLimit: 11n, tpmLimit: 99n, maxBudgetUsd: "1" },
    updateMask: { paths: ["rpm_limit", "maxBudgetUsd", "models", "spent_usd", "blocked"] },
  });
  assert.ok(updated !== undefined);
  assert.deepEqual([updated.rpmLimit, updated.tpmLimit, updated.maxBudgetUsd, updated.models], [11n, 20n, "1", []]);
  assert.deepEqual([updated.metadata, updated.alias, updated.blocked], [{ a: 1 }, "masked", false]);
  const { key: cleared } = await stage.keyAdmin.updateKey({
    key: { id: made.id },
    updateMask: { paths: ["max_budget_usd", "metadata"] },
  });
  assert.deepEqual([cleared?.maxBudgetUsd, cleared?.metadata, cleared?.rpmLimit], [undefined, {}, 11n]);
  const { key: unmasked } = await stage.keyAdmin.updateKey({ key: { id: made.id, tpmLimit: 0n } });
  assert.deepEqual([unmasked?.tpmLimit, unmasked?.rpmLimit], [0n, 11n]);
  const { key: whole } = await stage.keyAdmin.updateKey({
    key: { id: made.id, tags: ["t"] },
    updateMask: { paths: ["*"] },
  });
  assert.deepEqual([whole?.alias, whole?.rpmLimit, whole?.tags], [undefined, undefined, ["t"]]);
  for (const path of ["nonsense", "metadata.a", "", "key.alias"]) {
    const call = stage.keyAdmin.updateKey({ key: { id: made.id }, updateMask: { paths: [path] } });
    await assertFails(call, Code.InvalidArgument, "INVALID_REQUEST");
  }
});

test("what GetKey returns can be sent to UpdateKey as it is", async () => {
  const { key } = await stage.keyAdmin.createKey({
    key: { alias: "round", maxBudgetUsd: "2", budgetDuration: "7d", tags: ["x"] },
  });
  assert.ok(key !== undefined);
  const { key: same } = await stage.keyAdmin.updateKey({ key });
  assert.deepEqual({ ...same, etag: "", updateTime: undefined }, { ...key, etag: "", updateTime: undefined });
});

test("fields that do not act are the same over gRPC and HTTP, and hide none that does", async () => {
  const extra = { guardrails: ["pii"], permissions: { a: true }, allowed_cache_controls: ["no-cache"] };
  const { key } = await stage.keyAdmin.createKey({
    key: { rpmLimit: 7n, extra: { ...extra, rpm_limit: 1, token: "x" } },
  });
  const id = key?.id ?? "";
  const { info } = (await stage.http("GET", `/key/info?key=${id}`)).body;
  for (const [name, value] of Object.entries(extra)) assert.deepEqual(info[name], value, name);
  assert.equal(info.rpm_limit, 7);
  const row = (await stage.http("POST", "/key/update", { key: id, policies: ["p"] })).body;
  assert.deepEqual([row.key, row.token], [id, id]);
  const updated = await stage.keyAdmin.updateKey({ key: { id, extra: { guardrails: null } } });
  assert.deepEqual(updated.key?.extra?.permissions, { a: true });
  assert.deepEqual([updated.key?.extra?.guardrails, updated.key?.extra?.policies], [null, ["p"]]);
  await assertFails(
    stage.keyAdmin.updateKey({ key: { id, extra: { auto_rotate: true } } }),
    Code.InvalidArgument,
    "INVALID_REQUEST",
  );
});

test("UpdateKey with an old etag is aborted", async () => {
  const { key } = await stage.keyAdmin.createKey({ key: { rpmLimit: 1n } });
  assert.ok(key !== undefined);
  const { key: second } = await stage.keyAdmin.updateKey({ key: { id: key.id, etag: key.etag, rpmLimit: 2n } });
  assert.notEqual(second?.etag, key.etag);
  await assertFails(
    stage.keyAdmin.updateKey({ key: { id: key.id, etag: key.etag, rpmLimit: 3n } }),
    Code.Aborted,
    "CONFLICT",
  );
  assert.equal((await stage.keyAdmin.getKey({ key: key.id })).key?.rpmLimit, 2n);
  const racers = Array.from({ length: 6 }, (_, index) =>
    stage.keyAdmin.updateKey({ key: { id: key.id, etag: second?.etag ?? "", rpmLimit: BigInt(10 + index) } }),
  );
  const outcomes = await Promise.allSettled(racers);
  assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
});

test("BlockKey, UnblockKey and DeleteKey do so", async () => {
  const { key, secret } = await stage.keyAdmin.createKey({ key: { alias: "to end" } });
  assert.ok(key !== undefined);
  assert.equal((await stage.keyAdmin.blockKey({ key: "to end" })).key?.blocked, true);
  assert.equal((await stage.keyAdmin.blockKey({ key: "to end" })).key?.blocked, true);
  assert.equal((await stage.keyAdmin.unblockKey({ key: secret })).key?.blocked, false);
  await stage.keyAdmin.deleteKey({ key: key.id });
  for (const name of [key.id, "to end", secret]) {
    await assertFails(stage.keyAdmin.getKey({ key: name }), Code.NotFound, "NOT_FOUND");
    await assertFails(stage.keyAdmin.deleteKey({ key: name }), Code.NotFound, "NOT_FOUND");
    await assertFails(stage.keyAdmin.updateKey({ key: { id: name } }), Code.NotFound, "NOT_FOUND");
  }
  await assertFails(stage.keyAdmin.getKey({ key: "key_master" }), Code.NotFound, "NOT_FOUND");
  await assertFails(stage.keyAdmin.getKey({ key: "" }), Code.InvalidArgument, "INVALID_REQUEST");
});

test("pages hold every key once, although keys are made meanwhile", async () => {
  const team = { teamId: "paged" };
  await stage.teams("paged");
  const made = await Promise.all(Array.from({ length: 7 }, () => stage.keyAdmin.createKey({ key: team })));
  // Some of the same moment, and some only microseconds apart.
  await stage.sql(
    `UPDATE keys SET created_at = '2026-01-01T00:00:00Z'::timestamptz + (ascii(right(key_id, 1)) % 3) * interval '1 microsecond'
     WHERE team_id = 'paged'`,
  );
  const seen: string[] = [];
  let pageToken = "";
  do {
    const page = await stage.keyAdmin.listKeys({ ...team, pageSize: 2, pageToken });
    seen.push(...page.keys.map((key) => key.id));
    pageToken = page.nextPageToken;
    await stage.keyAdmin.createKey({ key: team });
    assert.ok(seen.length <= 7, "a key came twice");
  } while (pageToken !== "");
  assert.deepEqual([...seen].sort(), made.map(({ key }) => key?.id ?? "").sort());
});

test("a list counts, and cuts pages to size", async () => {
  const user = { userId: "counted" };
  for (let count = 0; count < 3; count++) await stage.keyAdmin.createKey({ key: user });
  const all = await stage.keyAdmin.listKeys(user);
  assert.deepEqual([all.keys.length, all.totalCount, all.nextPageToken], [3, 3n, ""]);
  const exact = await stage.keyAdmin.listKeys({ ...user, pageSize: 3 });
  assert.deepEqual([exact.keys.length, exact.nextPageToken], [3, ""]);
  assert.equal((await stage.keyAdmin.listKeys({ ...user, pageSize: 1_000_000 })).keys.length, 3);
  assert.equal((await stage.keyAdmin.listKeys({ userId: "x\u0000" })).keys.length, 0);
  await assertFails(stage.keyAdmin.listKeys({ pageSize: -1 }), Code.InvalidArgument, "INVALID_REQUEST");
});

test("a page token fits only the list it was made for", async () => {
  await stage.keyAdmin.createKey({});
  await stage.keyAdmin.createKey({});
  const { nextPageToken } = await stage.keyAdmin.listKeys({ pageSize: 1 });
  assert.ok(nextPageToken !== "");
  const forge = (place: unknown[]) => Buffer.from(JSON.stringify(place)).toString("base64url");
  const [digest] = JSON.parse(Buffer.from(nextPageToken, "base64url").toString());
  const tokens = ["x", forge([]), forge([digest, "1"]), forge([digest, "x", "key_1"]), forge([digest, "1", "'\u0000"])];
  for (const pageToken of tokens) {
    await assertFails(stage.keyAdmin.listKeys({ pageSize: 1, pageToken }), Code.InvalidArgument, "INVALID_REQUEST");
  }
  const other = stage.keyAdmin.listKeys({ pageSize: 1, pageToken: nextPageToken, teamId: "t" });
  await assertFails(other, Code.InvalidArgument, "INVALID_REQUEST");
});

test("without an administrator's key every method is refused", async () => {
  const { secret } = await stage.keyAdmin.createKey({});
  for (const key of ["", "sk-wrong", `${masterKey}x`]) {
    stage.rpcKey = key;
    const reason = key === "" ? "MISSING_API_KEY" : "INVALID_API_KEY";
    const calls = [
      () => stage.keyAdmin.createKey({}),
      () => stage.keyAdmin.getKey({ key: secret }),
      () => stage.keyAdmin.updateKey({ key: { id: "x" } }),
      () => stage.keyAdmin.rotateKey({ key: secret }),
      () => stage.keyAdmin.resetKeyBudget({ key: secret }),
      () => stage.keyAdmin.deleteKey({ key: secret }),
      () => stage.keyAdmin.listKeys({}),
      () => stage.keyAdmin.blockKey({ key: secret }),
      () => stage.keyAdmin.unblockKey({ key: secret }),
      () => stage.spendAdmin.listSpend({}),
    ];
    for (const call of calls) await assertFails(call(), Code.Unauthenticated, reason);
  }
  stage.rpcKey = masterKey;
});
