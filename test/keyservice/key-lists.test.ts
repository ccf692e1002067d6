import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
  await stage.teams("ended");
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const make = async (fields: Record<string, string | number>) =>
  (await stage.http("POST", "/key/generate", fields)).body;

test("the list is sorted by what is asked, either way, and keys without it come last", async () => {
  const team_id = "sorted";
  await stage.teams(team_id);
  await make({ team_id, key_alias: "b", max_budget: 3 });
  await make({ team_id, key_alias: "c", max_budget: 1 });
  await make({ team_id, key_alias: "a" });
  const aliasesBy = async (query: string) => {
    const { body } = await stage.http("GET", `/key/list?team_id=sorted&return_full_object=true&${query}`);
    return body.keys.map((key: { key_alias: string }) => key.key_alias).join("");
  };
  assert.equal(await aliasesBy(""), "acb");
  assert.equal(await aliasesBy("sort_by=key_alias&sort_order=asc"), "abc");
  assert.equal(await aliasesBy("sort_by=key_alias"), "cba");
  assert.equal(await aliasesBy("sort_by=max_budget&sort_order=asc"), "cba");
  assert.equal(await aliasesBy("sort_by=max_budget&sort_order=DESC"), "bca");
  assert.equal(await aliasesBy("sort_order=asc"), "bca");
  assert.equal(await aliasesBy("sort_by=key_alias&sort_order=asc&size=1&page=2"), "b");
  for (const [query, param] of [
    ["sort_by=alias;DROP TABLE keys", "sort_by"],
    ["sort_by=toString", "sort_by"],
    ["sort_by=", "sort_by"],
    ["sort_order=up", "sort_order"],
  ]) {
    const answer = await stage.http("GET", `/key/list?${query}`);
    assert.deepEqual([answer.status, answer.body.error.param], [400, param]);
  }
  const orders = "created_at updated_at expires key_alias key_name token user_id team_id organization_id max_budget";
  for (const by of orders.split(" ")) assert.equal((await aliasesBy(`sort_by=${by}`)).length, 3, by);
});

test("aliases are those of living keys, by the alphabet, under the list's filters", async () => {
  const team_id = "aliases";
  await stage.teams(team_id);
  const gone = await make({ team_id, key_alias: "gone" });
  for (const key_alias of ["zebra", "ape"]) await make({ team_id, key_alias });
  await make({ team_id });
  await stage.http("POST", "/key/delete", { keys: [gone.key] });
  const { body } = await stage.http("GET", "/key/aliases?team_id=aliases");
  assert.deepEqual(body, { aliases: ["ape", "zebra"] });
  const all = await stage.http("GET", "/key/aliases");
  assert.ok(all.body.aliases.includes("zebra"));
});

test("information on many keys is that of each, and unknown ones are passed over", async () => {
  const [one, two] = [await make({ rpm_limit: 1 }), await make({ rpm_limit: 2 })];
  const keys = [one.key, "sk-nobody-knows-this-one", two.token, one.key];
  const { status, body } = await stage.http("POST", "/v2/key/info", { keys });
  assert.deepEqual([status, body.key], [200, keys]);
  assert.deepEqual(
    body.info.map((info: { rpm_limit: number; token: string }) => [info.rpm_limit, info.token]),
    [
      [1, one.key_id],
      [2, two.key_id],
    ],
  );
  for (const bad of [{}, { keys: [] }, { keys: "sk-x" }, { keys: [1] }, { keys: [""] }]) {
    const answer = await stage.http("POST", "/v2/key/info", bad as { keys: string[] });
    assert.deepEqual([answer.status, answer.body.error.param], [400, "keys"], JSON.stringify(bad));
  }
});

test("of many changes each is made or refused for itself", async () => {
  const [one, two] = [await make({ rpm_limit: 1 }), await make({ rpm_limit: 2 })];
  const { status, body } = await stage.http("POST", "/key/bulk_update", {
    keys: [
      { key: one.key, rpm_limit: 10 },
      { key: "sk-nobody-knows-this-one", rpm_limit: 10 },
      { key: two.key, rpm_limit: -1 },
      { rpm_limit: 3 },
      { key: two.token, max_budget: 4 },
    ],
  });
  assert.equal(status, 200);
  assert.equal(body.total_requested, 5);
  const names = (updates: { key: string | null }[]) => updates.map(({ key }) => key);
  assert.deepEqual(names(body.successful_updates), [one.key, two.token]);
  assert.deepEqual(names(body.failed_updates), ["sk-nobody-knows-this-one", two.key, null]);
  assert.match(body.failed_updates[1].failed_reason, /rpm_limit/);
  const info = async (key: string) => (await stage.http("GET", `/key/info?key=${key}`)).body.info;
  assert.equal((await info(one.key)).rpm_limit, 10);
  assert.deepEqual([(await info(two.key)).rpm_limit, (await info(two.key)).max_budget], [2, 4]);
  for (const bad of ['{"keys":[]}', '{"keys":[1]}', "{}", '{"keys":{}}']) {
    assert.equal((await stage.http("POST", "/key/bulk_update", bad)).status, 400, bad);
  }
});

test("a deleted key is shown as deleted, opens nothing, and is in its own list", async () => {
  const made = await make({ key_alias: "ended", team_id: "ended" });
  await stage.http("POST", "/key/delete", { keys: [made.key] });
  for (const name of [made.key, made.token, made.key_id]) {
    const { status, body } = await stage.http("GET", `/key/info?key=${name}`);
    assert.deepEqual([status, body.info.status, body.info.key_alias], [200, "deleted", "ended"]);
    assert.ok(Date.parse(body.info.deleted_at) > 0);
  }
  assert.equal((await stage.http("GET", "/key/info?key=sk-nobody-knows-this-one")).status, 404);
  const as = { authorization: `Bearer ${made.key}` };
  assert.equal((await stage.http("GET", "/key/info", undefined, as)).status, 401);
  const living = await stage.keyAdmin.listKeys({ teamId: "ended" });
  const deleted = await stage.keyAdmin.listKeys({ alias: "ended", showDeleted: true });
  assert.deepEqual([living.keys.length, deleted.keys[0]?.id], [0, made.key_id]);
  assert.ok(deleted.keys[0]?.deleteTime !== undefined);
});
