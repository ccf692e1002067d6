import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { JsonObject } from "../../src/completion.ts";
import { EntityKind } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { findGrant, findParties } from "../../src/keyservice/grants.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import { pepper, Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const post = async (path: string, body: JsonObject, status = 200) => {
  const answer = await stage.http("POST", path, body);
  assert.equal(answer.status, status, JSON.stringify(answer.body));
  return answer.body;
};
const get = async (path: string, status = 200) => {
  const answer = await stage.http("GET", path);
  assert.equal(answer.status, status, JSON.stringify(answer.body));
  return answer.body;
};
const grantOf = async (secret: string) => {
  const grant = await findGrant(stage.postgres, digestSecret(secret), pepper);
  assert.ok(grant);
  return grant;
};

/** Each kind: where it is made, what names it, and how it is read back. */
const kinds = [
  {
    kind: "team",
    path: "/team",
    id: "team_id",
    alias: "team_alias",
    read: async (id: string) => (await get(`/team/info?team_id=${id}`)).team_info,
  },
  {
    kind: "user",
    path: "/user",
    id: "user_id",
    alias: "user_alias",
    read: async (id: string) => (await get(`/user/info?user_id=${id}`)).user_info,
  },
  {
    kind: "organization",
    path: "/organization",
    id: "organization_id",
    alias: "organization_alias",
    read: (id: string) => get(`/organization/info?organization_id=${id}`),
  },
  {
    kind: "customer",
    path: "/customer",
    id: "user_id",
    alias: "alias",
    read: (id: string) => get(`/customer/info?end_user_id=${id}`),
  },
  {
    kind: "end user",
    path: "/end_user",
    id: "user_id",
    alias: "alias",
    read: (id: string) => get(`/end_user/info?end_user_id=${id}`),
  },
  {
    kind: "tag",
    path: "/tag",
    id: "name",
    alias: "description",
    read: async (id: string) => (await post("/tag/info", { names: [id] }))[id],
  },
] as const;

for (const { kind, path, id, alias, read } of kinds) {
  describe(`a ${kind} over HTTP`, () => {
    const fields = {
      max_budget: 12.5,
      soft_budget: 0.5,
      budget_duration: "30d",
      budget_limits: [{ budget_duration: "1d", max_budget: 2 }],
      models: ["gpt-*"],
      rpm_limit: 10,
      tpm_limit: 2_000,
      max_parallel_requests: 3,
      metadata: { centre: [1, "two", null] },
      something_new: { kept: true },
    };

    test("shows live standings, and leaves alone what an update does not send", async () => {
      const name = randomUUID();
      await post(`${path}/new`, { [id]: name, [alias]: "its name", ...fields });
      const row = await read(name);
      assert.deepEqual([row.spend, row.reserved, row.blocked], [0, 0, false]);
      const [window] = row.budget_limits;
      assert.deepEqual([window.budget_duration, window.max_budget, window.spent], ["1d", 2, 0]);
      assert.match(row.budget_reset_at, /-01T00:00:00.000Z$/);
      await post(`${path}/update`, { [id]: name, rpm_limit: 99, budget_limits: null });
      const changed = await read(name);
      assert.deepEqual([changed.rpm_limit, changed.budget_limits], [99, null]);
      for (const field of [id, alias, "max_budget", "tpm_limit", "models", "metadata", "something_new"]) {
        assert.deepEqual(changed[field], row[field], field);
      }
    });

    test("is there once, is gone when deleted, and comes back with what it had spent", async () => {
      const name = randomUUID();
      await post(`${path}/new`, { [id]: name, [alias]: "x", max_budget: 1 });
      const twice = await stage.http("POST", `${path}/new`, { [id]: name, [alias]: "x" });
      assert.deepEqual([twice.status, twice.body.error.param], [400, id]);
      const gone: JsonObject =
        kind === "tag"
          ? { name }
          : { [kind === "team" ? "team_ids" : kind === "organization" ? "organization_ids" : "user_ids"]: [name] };
      await post(`${path}/delete`, gone);
      const missing = await stage.http("POST", `${path}/update`, { [id]: name, max_budget: 3 });
      assert.equal(missing.status, 404);
      await post(`${path}/new`, { [id]: name, [alias]: "again" });
      assert.equal((await read(name)).max_budget, null);
    });

    const wrong: readonly [JsonObject, string][] = [
      [{ max_budget: -1 }, "max_budget"],
      [{ max_budget: "many" }, "max_budget"],
      [{ budget_duration: "soon" }, "budget_duration"],
      [{ rpm_limit: 1.5 }, "rpm_limit"],
      [{ models: "gpt" }, "models"],
      [{ metadata: [] }, "metadata"],
      [{ budget_id: "no such budget" }, "budget_id"],
      [{ budget_limits: [{ budget_duration: "1d" }] }, "budget_limits"],
    ];
    for (const [body, param] of wrong) {
      test(`${JSON.stringify(body)} is a 400 that names ${param}`, async () => {
        const answer = await stage.http("POST", `${path}/new`, { [id]: randomUUID(), [alias]: "x", ...body });
        assert.deepEqual([answer.status, answer.body.error.param], [400, param], JSON.stringify(answer.body));
      });
    }
  });
}

describe("teams", () => {
  test("LiteLLM's guide: a team with limits, and a key inside it bounded by both", async () => {
    const team = await post("/team/new", {
      team_alias: "engineering",
      max_budget: 100,
      budget_duration: "30d",
      tpm_limit: 100_000,
      rpm_limit: 1_000,
      models: ["gpt-4o"],
    });
    const { key } = await post("/key/generate", { team_id: team.team_id, max_budget: 10, rpm_limit: 5 });
    const grant = await grantOf(key);
    assert.deepEqual(grant.budgets.map(({ scope, max }) => [scope, max]).sort(), [
      ["key", 10_000_000_000n],
      ["team", 100_000_000_000n],
    ]);
    assert.deepEqual(grant.limits.map(({ scope, kind, ceiling }) => [scope, kind, ceiling]).sort(), [
      ["key", "requests", 5n],
      ["team", "requests", 1_000n],
      ["team", "tokens", 100_000n],
    ]);
    assert.deepEqual(grant.rules, [{ scope: "team", scopeId: team.team_id, models: ["gpt-4o"], blocked: false }]);
    const info = await get(`/team/info?team_id=${team.team_id}`);
    assert.equal(info.keys.length, 1);
  });

  test("members have roles, budgets and limits of their own", async () => {
    const { team_id, members_with_roles } = await post("/team/new", {
      team_alias: "with members",
      team_member_budget: 3,
      budget_duration: "1d",
      members_with_roles: [{ user_id: "ada", role: "admin" }],
    });
    assert.deepEqual(members_with_roles, [{ user_id: "ada", user_email: null, role: "admin" }]);
    const added = await post("/team/member_add", {
      team_id,
      member: [{ user_id: "bob", role: "user" }, { user_email: "c@example.com" }],
      max_budget_in_team: 7,
      rpm_limit: 4,
    });
    assert.deepEqual(added.members.toSorted(), ["ada", "bob", "c@example.com"]);
    assert.equal(added.updated_team_memberships.length, 2);
    const { key } = await post("/key/generate", { team_id, user_id: "bob" });
    const grant = await grantOf(key);
    const member = grant.budgets.find(({ scope }) => scope === "team_member");
    assert.deepEqual([member?.scopeId, member?.max], [`bob:${team_id}`, 7_000_000_000n]);
    assert.ok(
      grant.limits.some(({ scope, kind, ceiling }) => scope === "team_member" && kind === "requests" && ceiling === 4n),
    );
    const ada = await post("/key/generate", { team_id, user_id: "ada" });
    assert.equal((await grantOf(ada.key)).budgets.find(({ scope }) => scope === "team_member")?.max, 3_000_000_000n);
    const changed = await post("/team/member_update", {
      team_id,
      user_id: "bob",
      max_budget_in_team: 1,
      role: "admin",
    });
    assert.deepEqual([changed.max_budget_in_team, changed.role], [1, "admin"]);
    const rest = await post("/team/member_delete", { team_id, user_id: "bob" });
    assert.equal(rest.members.includes("bob"), false);
    assert.equal(
      (await grantOf(key)).budgets.some(({ scope }) => scope === "team_member"),
      false,
    );
    await post("/team/member_delete", { team_id, user_id: "bob" }, 404);
    await post("/team/member_add", { team_id: "none", member: { user_id: "x" } }, 404);
    await post("/team/member_add", { team_id, member: {} }, 400);
  });

  test("a blocked team's keys say so; a deleted team's keys are gone", async () => {
    const { team_id } = await post("/team/new", { team_alias: "short-lived" });
    const { key } = await post("/key/generate", { team_id });
    assert.equal((await post("/team/block", { team_id })).blocked, true);
    assert.deepEqual(
      (await grantOf(key)).rules.map(({ blocked }) => blocked),
      [true],
    );
    await post("/team/unblock", { team_id });
    assert.deepEqual((await grantOf(key)).rules, []);
    await post("/team/delete", { team_ids: [team_id] });
    assert.equal(await findGrant(stage.postgres, digestSecret(key), pepper), undefined);
  });

  test("are listed in pages, by organization and by member", async () => {
    const { organization_id } = await post("/organization/new", { organization_alias: "lists" });
    for (const name of ["one", "two", "three"]) {
      await post("/team/new", { team_alias: name, organization_id, members_with_roles: [{ user_id: `${name}-user` }] });
    }
    const page = await get(`/v2/team/list?organization_id=${organization_id}&page_size=2`);
    assert.deepEqual([page.teams.length, page.total, page.total_pages], [2, 3, 2]);
    const rest = await get(`/v2/team/list?organization_id=${organization_id}&page_size=2&page=2`);
    assert.equal(rest.teams.length, 1);
    const own = await get("/team/list?user_id=two-user");
    assert.deepEqual(
      own.map(({ team_alias }: JsonObject) => team_alias),
      ["two"],
    );
    assert.equal((await get(`/organization/info?organization_id=${organization_id}`)).teams.length, 3);
  });
});

describe("users, organizations, customers and shared budgets", () => {
  test("a new user gets a key of their own, unless that is declined", async () => {
    const made = await post("/user/new", { user_email: "dora@example.com", user_role: "internal_user", max_budget: 5 });
    assert.match(made.key, /^sk-/);
    const grant = await grantOf(made.key);
    assert.equal(grant.userId, made.user_id);
    assert.deepEqual(grant.budgets.map(({ scope, max }) => [scope, max]).sort(), [
      ["key", undefined],
      ["user", 5_000_000_000n],
    ]);
    const info = await get(`/user/info?user_id=${made.user_id}`);
    assert.deepEqual([info.user_info.user_email, info.keys.length], ["dora@example.com", 1]);
    assert.equal((await post("/user/new", { user_id: "no-key", auto_create_key: false })).key, "");
    assert.equal((await get("/user/list?user_email=dora@example.com")).total, 1);
    await post("/user/new", { user_role: "emperor" }, 400);
  });

  test("an organization bounds the keys of its teams", async () => {
    const { organization_id } = await post("/organization/new", {
      organization_alias: "acme",
      max_budget: 50,
      models: ["gpt-*"],
    });
    const { team_id } = await post("/team/new", { team_alias: "acme team", organization_id });
    const { key } = await post("/key/generate", { team_id });
    const grant = await grantOf(key);
    assert.equal(grant.organizationId, organization_id);
    assert.equal(grant.budgets.find(({ scope }) => scope === "organization")?.max, 50_000_000_000n);
    const patched = await stage.http("PATCH", "/organization/update", { organization_id, max_budget: 60 });
    assert.deepEqual([patched.status, patched.body.max_budget], [200, 60]);
    await post("/organization/member_add", { organization_id, member: { user_id: "eve", role: "org_admin" } });
    assert.deepEqual(
      (await get(`/organization/info?organization_id=${organization_id}`)).members.map(
        ({ user_id }: JsonObject) => user_id,
      ),
      ["eve"],
    );
    assert.equal(
      (await stage.http("DELETE", "/organization/delete", { organization_ids: [organization_id] })).status,
      200,
    );
    assert.equal(
      (await grantOf(key)).budgets.some(({ scope }) => scope === "organization"),
      false,
    );
    await post("/organization/new", {}, 400);
  });

  test("a customer is found by sidecars, blocked though nobody made it, and told from others", async () => {
    const customer = randomUUID();
    await post("/customer/new", { user_id: customer, max_budget: 2, budget_duration: "1d" });
    const strangers = [randomUUID(), randomUUID()];
    await post("/customer/block", { user_ids: strangers });
    const { parties } = await findParties(
      stage.postgres,
      [customer, strangers[0] ?? ""].map((id) => ({ scope: "end_user" as const, id })),
    );
    assert.deepEqual(
      parties.map(({ blocked, budgets }) => [blocked, budgets[0]?.max]),
      [
        [false, 2_000_000_000n],
        [true, undefined],
      ],
    );
    await post("/customer/unblock", { user_ids: [strangers[0] ?? ""] });
    assert.equal((await get(`/customer/info?end_user_id=${strangers[0]}`)).blocked, false);
    await post("/customer/new", { user_id: randomUUID(), max_budget: 2, budget_id: "x" }, 400);
    assert.ok((await get("/customer/list")).length >= 3);
  });

  test("a shared budget's limits hold for all who name it, and change for all of them", async () => {
    const { budget_id } = await post("/budget/new", { max_budget: 4, budget_duration: "1d", rpm_limit: 8 });
    const { key } = await post("/key/generate", { budget_id });
    const customer = randomUUID();
    await post("/customer/new", { user_id: customer, budget_id });
    const maxOf = async () => {
      const { parties } = await findParties(stage.postgres, [{ scope: "end_user", id: customer }]);
      const grant = await grantOf(key);
      return [
        grant.budgets[0]?.max,
        parties[0]?.budgets[0]?.max,
        parties[0]?.limits[0]?.ceiling,
        grant.limits[0]?.ceiling,
      ];
    };
    assert.deepEqual(await maxOf(), [4_000_000_000n, 4_000_000_000n, 8n, 8n]);
    await post("/budget/update", { budget_id, max_budget: 6 });
    assert.deepEqual(await maxOf(), [6_000_000_000n, 6_000_000_000n, 8n, 8n]);
    const [row] = await post("/budget/info", { budgets: [budget_id] });
    assert.deepEqual([row.max_budget, row.budget_duration, row.rpm_limit], [6, "1d", 8]);
    assert.equal((await get(`/key/info?key=${key}`)).info.litellm_budget_table.max_budget, 6);
    await post("/budget/delete", { id: budget_id }, 409);
    await post("/key/update", { key, budget_id: null });
    await post("/customer/delete", { user_ids: [customer] });
    await post("/budget/delete", { id: budget_id });
    await post("/budget/new", { budget_id: "twice" });
    await post("/budget/new", { budget_id: "twice" }, 400);
    assert.ok((await get("/budget/list")).length >= 1);
    assert.equal((await get("/budget/settings?budget_id=twice"))[0].field_name, "max_budget");
  });

  test("a key's budgets of models come back, change, and go", async () => {
    const model_max_budget = {
      "gpt-4o": { budget_limit: 1, time_period: "1d" },
      "claude-*": { max_budget: "0.5", budget_duration: "30d" },
    };
    const { key } = await post("/key/generate", { model_max_budget });
    const models = async () =>
      (await grantOf(key)).budgets
        .flatMap(({ model, max, duration }) => (model === null ? [] : [[model, max, duration]]))
        .sort();
    assert.deepEqual(await models(), [
      ["claude-*", 500_000_000n, "30d"],
      ["gpt-4o", 1_000_000_000n, "1d"],
    ]);
    const { info } = await get(`/key/info?key=${key}`);
    assert.deepEqual(info.model_max_budget, {
      "gpt-4o": { budget_limit: 1, time_period: "1d" },
      "claude-*": { budget_limit: 0.5, time_period: "30d" },
    });
    await post("/key/update", { key, model_max_budget: { "gpt-4o": { budget_limit: 3 } } });
    assert.deepEqual(await models(), [["gpt-4o", 3_000_000_000n, null]]);
    await post("/key/update", { key, model_max_budget: null });
    assert.deepEqual(await models(), []);
    for (const wrong of [
      { a: {} },
      { a: { budget_limit: -1 } },
      { a: { budget_limit: 1, time_period: "x" } },
      { "": { budget_limit: 1 } },
    ]) {
      const answer = await stage.http("POST", "/key/generate", { model_max_budget: wrong });
      assert.deepEqual(
        [answer.status, answer.body.error.param],
        [400, "model_max_budget"],
        JSON.stringify(answer.body),
      );
    }
  });
});

describe("the same by gRPC", () => {
  const codeOf = async (call: Promise<unknown>) => {
    try {
      await call;
    } catch (error) {
      return ConnectError.from(error).code;
    }
    return undefined;
  };

  test("an entity is made once for a request, changed by mask and etag, listed and deleted", async () => {
    const { entityAdmin } = stage;
    const requestId = randomUUID();
    const entity = { kind: EntityKind.TEAM, alias: "rpc", maxBudgetUsd: "12.5", models: ["a"], rpmLimit: 3n };
    const { entity: made } = await entityAdmin.createEntity({ entity, requestId });
    const { entity: again } = await entityAdmin.createEntity({ entity, requestId });
    assert.ok(made && again);
    assert.equal(again.id, made.id);
    const { entity: changed } = await entityAdmin.updateEntity({
      entity: { kind: EntityKind.TEAM, id: made.id, rpmLimit: 9n, etag: made.etag },
      updateMask: { paths: ["rpm_limit", "max_budget_usd"] },
    });
    assert.deepEqual(
      [changed?.rpmLimit, changed?.maxBudgetUsd, changed?.alias, changed?.models],
      [9n, undefined, "rpc", ["a"]],
    );
    const stale = entityAdmin.updateEntity({
      entity: { kind: EntityKind.TEAM, id: made.id, etag: made.etag, alias: "x" },
    });
    assert.equal(await codeOf(stale), Code.Aborted);
    const { entity: blocked } = await entityAdmin.blockEntity({ kind: EntityKind.TEAM, id: made.id });
    assert.equal(blocked?.blocked, true);
    const { members } = await entityAdmin.addMembers({
      members: [{ kind: EntityKind.TEAM, entityId: made.id, userId: "u", role: "admin", maxBudgetUsd: "3" }],
    });
    assert.deepEqual(
      members.map(({ userId, role, maxBudgetUsd }) => [userId, role, maxBudgetUsd]),
      [["u", "admin", "3"]],
    );
    const { members: listed } = await entityAdmin.listMembers({ kind: EntityKind.TEAM, userId: "u" });
    assert.equal(listed.length, 1);
    await entityAdmin.removeMember({ kind: EntityKind.TEAM, entityId: made.id, userId: "u" });
    const info = await get(`/team/info?team_id=${made.id}`);
    assert.deepEqual([info.team_info.team_alias, info.team_info.rpm_limit, info.team_info.blocked], ["rpc", 9, true]);
    await entityAdmin.deleteEntity({ kind: EntityKind.TEAM, id: made.id });
    assert.equal(await codeOf(entityAdmin.getEntity({ kind: EntityKind.TEAM, id: made.id })), Code.NotFound);
  });

  test("lists go in pages whose tokens fit their own filter only", async () => {
    const { entityAdmin } = stage;
    for (let index = 0; index < 3; index++)
      await entityAdmin.createEntity({ entity: { kind: EntityKind.TAG, id: `page-${randomUUID()}` } });
    const first = await entityAdmin.listEntities({ kind: EntityKind.TAG, pageSize: 2 });
    assert.equal(first.entities.length, 2);
    const second = await entityAdmin.listEntities({
      kind: EntityKind.TAG,
      pageSize: 2,
      pageToken: first.nextPageToken,
    });
    const ids = [...first.entities, ...second.entities].map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    const foreign = entityAdmin.listEntities({ kind: EntityKind.TEAM, pageSize: 2, pageToken: first.nextPageToken });
    assert.equal(await codeOf(foreign), Code.InvalidArgument);
  });

  test("both faces leave the same rows", async () => {
    const [one, other] = [randomUUID(), randomUUID()];
    await post("/team/new", {
      team_id: one,
      team_alias: "same",
      max_budget: 1.5,
      budget_duration: "7d",
      rpm_limit: 2,
      models: ["m"],
      metadata: { a: 1 },
    });
    await stage.entityAdmin.createEntity({
      entity: {
        kind: EntityKind.TEAM,
        id: other,
        alias: "same",
        maxBudgetUsd: "1.5",
        budgetDuration: "7d",
        rpmLimit: 2n,
        models: ["m"],
        metadata: { a: 1 },
      },
    });
    const rows = await stage.sql(
      `SELECT alias, models, rpm_limit, tpm_limit, metadata, extra, blocked, created_by, max_nanos, soft_nanos, duration
       FROM entities e JOIN budgets b ON b.scope = e.scope AND b.scope_id = e.entity_id WHERE entity_id = ANY ($1)`,
      [[one, other]],
    );
    assert.deepEqual(rows[0], rows[1]);
  });

  test("shared budgets, and what is wrong", async () => {
    const { budgetAdmin, entityAdmin } = stage;
    const { budget } = await budgetAdmin.createBudget({ budget: { maxBudgetUsd: "3", budgetDuration: "1mo" } });
    const id = budget?.id ?? "";
    const updated = await budgetAdmin.updateBudget({ budget: { id, maxBudgetUsd: "4" } });
    assert.deepEqual([updated.budget?.maxBudgetUsd, updated.budget?.budgetDuration], ["4", "1mo"]);
    assert.equal((await budgetAdmin.listBudgets({ ids: [id] })).budgets.length, 1);
    await budgetAdmin.deleteBudget({ id });
    assert.equal(await codeOf(budgetAdmin.deleteBudget({ id })), Code.NotFound);
    assert.equal(
      await codeOf(entityAdmin.createEntity({ entity: { kind: EntityKind.CUSTOMER } })),
      Code.InvalidArgument,
    );
    assert.equal(await codeOf(entityAdmin.createEntity({ entity: {} })), Code.InvalidArgument);
    assert.equal(
      await codeOf(entityAdmin.createEntity({ entity: { kind: EntityKind.TEAM, id: "a:b" } })),
      Code.InvalidArgument,
    );
    const user = { kind: EntityKind.TEAM, entityId: "none", userId: "u" };
    assert.equal(await codeOf(entityAdmin.addMembers({ members: [user] })), Code.NotFound);
    stage.rpcKey = "sk-somebody-else";
    try {
      for (const call of [entityAdmin.listEntities({ kind: EntityKind.TEAM }), budgetAdmin.listBudgets({})]) {
        assert.equal(await codeOf(call), Code.Unauthenticated);
      }
    } finally {
      stage.rpcKey = "sk-master-0123456789abcdef";
    }
  });
});
