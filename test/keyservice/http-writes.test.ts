import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import type { JsonObject } from "../../src/completion.ts";
import { EntityKind } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { assertFails, masterKey, Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open({
    keyRules: {
      ...{ defaults: {}, bounds: {}, joinableTeams: ["open"] },
      teamDefaults: { maxBudget: 50_000_000_000n, budgetDuration: "30d", memberPermissions: ["/key/generate"] },
      userDefaults: { maxBudget: 5_000_000_000n, models: ["small"], role: "internal_user_viewer" },
    },
  });
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const authorization = `Bearer ${masterKey}`;
const post = (path: string, body: JsonObject, headers: Record<string, string> = {}) =>
  stage.http("POST", path, body, { authorization, ...headers });
const count = async (table: "keys" | "entities" | "members") =>
  Number((await stage.sql<{ n: bigint }>(`SELECT count(*) AS n FROM ${table}`))[0]?.n);

describe("Idempotency-Key", () => {
  const makers: readonly [path: string, body: JsonObject, id: string][] = [
    ["/key/generate", {}, "key_id"],
    ["/team/new", { members_with_roles: [{ user_id: "u", role: "user" }] }, "team_id"],
    ["/user/new", {}, "user_id"],
    ["/organization/new", { organization_alias: "o" }, "organization_id"],
    ["/budget/new", { max_budget: 1 }, "budget_id"],
  ];
  for (const [path, body, id] of makers) {
    test(`${path} made twice makes one thing`, async () => {
      const headers = { "idempotency-key": randomUUID() };
      const first = await post(path, body, headers);
      assert.equal(first.status, 200);
      const [keys, entities] = [await count("keys"), await count("entities")];
      const second = await post(path, body, headers);
      assert.deepEqual([second.status, second.body[id]], [200, first.body[id]]);
      assert.deepEqual([await count("keys"), await count("entities")], [keys, entities]);
      assert.notEqual((await post(path, body)).body[id], first.body[id]);
    });
  }

  test("the secret of a key is told once", async () => {
    const headers = { "idempotency-key": "deploy-42" };
    const first = await post("/key/generate", {}, headers);
    assert.match(first.body.key, /^sk-/);
    const { body } = await post("/key/generate", {}, headers);
    assert.deepEqual([body.key_id, body.key, body.token], [first.body.key_id, null, null]);
  });

  test("any text will do, for each route apart; what no header can be is refused", async () => {
    const headers = { "idempotency-key": "same text" };
    assert.equal((await post("/team/new", {}, headers)).status, 400);
    headers["idempotency-key"] = "same-text";
    const team = await post("/team/new", {}, headers);
    assert.equal((await post("/user/new", {}, headers)).status, 200);
    assert.equal((await post("/team/new", {}, headers)).body.team_id, team.body.team_id);
  });

  test("what was made and is gone is not made again", async () => {
    const requestId = randomUUID();
    const headers = { "idempotency-key": requestId };
    const { body } = await post("/team/new", {}, headers);
    await post("/team/delete", { team_ids: [body.team_id] });
    const again = await post("/team/new", {}, headers);
    assert.deepEqual([again.status, again.body.error.param], [409, "request_id"]);
    const wish = { entity: { kind: EntityKind.TEAM }, requestId };
    await assertFails(stage.entityAdmin.createEntity(wish), Code.Aborted, "CONFLICT");
  });
});

describe("If-Match", () => {
  const things: readonly [
    what: string,
    make: string,
    body: JsonObject,
    update: string,
    change: (made: JsonObject) => JsonObject,
  ][] = [
    ["a key", "/key/generate", {}, "/key/update", ({ key = "" }) => ({ key, rpm_limit: 1 })],
    ["a team", "/team/new", {}, "/team/update", ({ team_id = "" }) => ({ team_id, rpm_limit: 1 })],
    ["a user", "/user/new", {}, "/user/update", ({ user_id = "" }) => ({ user_id, rpm_limit: 1 })],
    ["a customer", "/customer/new", { user_id: "c" }, "/customer/update", () => ({ user_id: "c", max_budget: 1 })],
    ["a budget", "/budget/new", {}, "/budget/update", ({ budget_id = "" }) => ({ budget_id, max_budget: 1 })],
  ];
  for (const [what, make, body, update, change] of things) {
    test(`${what} is not changed over what somebody else has done`, async () => {
      const made = await post(make, body);
      const etag = made.headers.get("etag") ?? "";
      assert.match(etag, /^"v\d+"$/);
      const changed = await post(update, change(made.body), { "if-match": etag });
      assert.equal(changed.status, 200, JSON.stringify(changed.body));
      assert.notEqual(changed.headers.get("etag"), etag);
      const stale = await post(update, change(made.body), { "if-match": etag });
      assert.deepEqual([stale.status, stale.body.error.type], [409, "conflict_error"]);
      assert.equal((await post(update, change(made.body), { "if-match": "*" })).status, 200);
    });
  }

  test("is refused where it would be passed over, or is none of ours", async () => {
    const { body } = await post("/key/generate", {});
    for (const [path, value] of [
      ["/key/block", '"v1"'],
      ["/key/update", "W/something"],
    ] as const) {
      const answer = await post(path, { key: body.key }, { "if-match": value });
      assert.deepEqual([answer.status, answer.body.error.param], [400, "if-match"]);
    }
  });
});

describe("what is made together", () => {
  test("is made whole or not at all, by both faces", async () => {
    const before = [await count("entities"), await count("members"), await count("keys")];
    const { status, body } = await post("/user/new", { user_id: "half", teams: ["nowhere"] });
    assert.deepEqual([status, body.error.type], [404, "not_found_error"]);
    const alias = { key_alias: "sk-no-alias-0123456789" };
    assert.equal((await post("/user/new", { user_id: "half", ...alias })).status, 400);
    const members = [{ user_id: "u", role: "user" }];
    const named = { team_id: "half", members_with_roles: members, members: ["x".repeat(300)] };
    assert.equal((await post("/team/new", named)).status, 400);
    const wish = { entity: { kind: EntityKind.USER, id: "half" }, members: [{ id: "nowhere" }], key: {} };
    await assertFails(stage.entityAdmin.createEntity(wish), Code.NotFound, "NOT_FOUND");
    assert.deepEqual([await count("entities"), await count("members"), await count("keys")], before);
  });

  test("a user comes with his key, which works for him", async () => {
    await stage.teams("first");
    const wish = { entity: { kind: EntityKind.USER, id: "whole" }, members: [{ id: "first", role: "admin" }], key: {} };
    const made = await stage.entityAdmin.createEntity(wish);
    assert.equal(made.key?.userId, "whole");
    const mine = await stage.http("GET", "/team/list", undefined, { authorization: `Bearer ${made.secret}` });
    assert.deepEqual(
      mine.body.map(({ team_id }: { team_id: string }) => team_id),
      ["first"],
    );
  });

  test("a key is put into no team that there is not", async () => {
    const { status, body } = await post("/key/generate", { team_id: "nowhere" });
    assert.deepEqual([status, body.error.param], [400, "team_id"]);
    const { body: made } = await post("/key/generate", {});
    assert.equal((await post("/key/update", { key: made.key, team_id: "nowhere" })).status, 400);
    const wish = { key: { id: made.key_id, teamId: "nowhere" } };
    await assertFails(stage.keyAdmin.updateKey(wish), Code.InvalidArgument, "INVALID_REQUEST");
  });
});

describe("the configuration's defaults", () => {
  test("fill what the makers of teams and users leave out", async () => {
    const team = (await post("/team/new", {})).body;
    assert.deepEqual([team.max_budget, team.budget_duration], [50, "30d"]);
    assert.deepEqual(team.team_member_permissions, ["/key/generate"]);
    const user = (await post("/user/new", { max_budget: null })).body;
    assert.deepEqual([user.max_budget, user.models, user.user_role], [5, ["small"], "internal_user_viewer"]);
    const { entity } = await stage.entityAdmin.createEntity({ entity: { kind: EntityKind.USER } });
    assert.deepEqual([entity?.maxBudgetUsd, entity?.models, entity?.role], ["5", ["small"], "internal_user_viewer"]);
  });

  test("leave alone what is said, and who names a budget", async () => {
    const said = { max_budget: 0, team_member_permissions: ["/key/info"] };
    const team = (await post("/team/new", said)).body;
    assert.deepEqual([team.max_budget, team.team_member_permissions], [0, ["/key/info"]]);
    await post("/budget/new", { budget_id: "named", max_budget: 2 });
    const user = (await post("/user/new", { budget_id: "named", models: ["m"] })).body;
    assert.deepEqual([user.max_budget, user.budget_id, user.models], [null, "named", ["m"]]);
    assert.equal((await post("/organization/new", { organization_alias: "o" })).body.max_budget, null);
  });

  test("let every user join a team, as no more than a member", async () => {
    await stage.teams("open", "shut");
    const { key } = (await post("/user/new", { user_id: "joiner", user_role: "internal_user" })).body;
    const as = { authorization: `Bearer ${key}` };
    const joinable = async () => (await stage.http("GET", "/team/available", undefined, as)).body;
    assert.deepEqual(
      (await joinable()).map(({ team_id }: JsonObject) => team_id),
      ["open"],
    );
    const join = (team_id: string, member: JsonObject, more: JsonObject = {}) =>
      stage.http("POST", "/team/member_add", { team_id, member, ...more }, as);
    assert.equal((await join("shut", { user_id: "joiner", role: "user" })).status, 403);
    assert.equal((await join("open", { user_id: "joiner", role: "admin" })).status, 403);
    assert.equal((await join("open", { user_id: "u" })).status, 403);
    assert.equal((await join("open", { user_id: "joiner" }, { max_budget_in_team: 100 })).status, 403);
    const { status, body } = await join("open", { user_id: "joiner" });
    assert.deepEqual([status, body.members], [200, ["joiner"]]);
    assert.deepEqual(await joinable(), []);
  });
});

test("all users are changed at once, and each says whether it was", async () => {
  const { body } = await post("/user/bulk_update", { all_users: true, user_updates: { tpm_limit: 77 } });
  const [users] = await stage.sql<{ n: bigint; set: bigint }>(
    "SELECT count(*) AS n, count(*) FILTER (WHERE tpm_limit = 77) AS set FROM entities WHERE scope = 'user' AND deleted_at IS NULL",
  );
  assert.ok(users !== undefined && users.n > 3n);
  assert.deepEqual(
    [BigInt(body.total_requested), BigInt(body.successful_updates), users.set],
    [users.n, users.n, users.n],
  );
  for (const wrong of [{ all_users: true }, {}, { all_users: true, user_updates: {}, users: [{ user_id: "u" }] }]) {
    assert.equal((await post("/user/bulk_update", wrong)).status, 400);
  }
});

test("messages are priced by their length, in both faces alike", async () => {
  const messages = [{ role: "user", content: "x".repeat(4_000) }];
  const { body } = await post("/spend/calculate", { model: "openai/gpt-4o", messages });
  const { costUsd, outputCostUsd } = await stage.spendAdmin.estimateCost({ model: "openai/gpt-4o", messages });
  assert.deepEqual([body.cost, outputCostUsd], [Number(costUsd), "0"]);
  const tokens = Math.ceil(JSON.stringify(messages).length / 4);
  const { body: counted } = await post("/cost/estimate", {
    model: "openai/gpt-4o",
    input_tokens: tokens,
    output_tokens: 0,
  });
  assert.equal(body.cost, counted.cost_per_request);
  assert.equal((await post("/spend/calculate", { model: "openai/gpt-4o" })).status, 400);
  assert.deepEqual((await stage.http("GET", "/provider/budgets")).body, { providers: {} });
});

test("how long a token of each provider's model takes is told by days", async () => {
  const sums = (day: string, model: string, tokens: number, ms: number) =>
    stage.sql(
      `INSERT INTO daily_spend (day, key_id, team_id, user_id, organization_id, model_group, model, provider, cost_nanos, input_tokens,
         output_tokens, cache_read_input_tokens, cache_write_input_tokens, successes, failures, answer_ms)
       VALUES ($1, $3, '', '', '', 'gpt', $2, 'openai', 0, 1, $4, 0, 0, 1, 0, $5)`,
      [day, model, `key_${tokens}`, tokens, ms],
    );
  await sums("2026-03-01", "gpt-4", 100, 2_000);
  await sums("2026-03-01", "gpt-4", 300, 4_000);
  await sums("2026-03-02", "gpt-4-mini", 50, 100);
  await sums("2026-03-02", "embedding", 0, 0);
  const ask = (query: string) => stage.http("GET", `/model/metrics?startTime=2026-03-01&endTime=2026-03-31${query}`);
  const { body } = await ask("&_selected_model_group=gpt");
  assert.deepEqual(body, {
    data: [
      { date: "2026-03-01", "openai/gpt-4": 0.015 },
      { date: "2026-03-02", "openai/gpt-4-mini": 0.002 },
    ],
    all_api_bases: ["openai/gpt-4-mini", "openai/gpt-4"],
  });
  assert.deepEqual((await ask("&_selected_model_group=other")).body, { data: [], all_api_bases: [] });
  const { sums: byModel } = await stage.spendAdmin.getSpendReport({ startDay: "2026-03-01", endDay: "2026-03-01" });
  assert.equal(byModel[0]?.answerMs, 6_000n);
});
