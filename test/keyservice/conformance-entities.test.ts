/** LiteLLM's documented fields of teams, users, organizations, customers, tags, budgets and members, by both faces, one by one. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Json, JsonObject } from "../../src/completion.ts";
import { type Budget, type Entity, EntityKind, type Member } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
  await post("/budget/new", { budget_id: "shared", max_budget: 3 });
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const post = async (path: string, body: JsonObject) => {
  const answer = await stage.http("POST", path, body);
  assert.equal(answer.status, 200, `${path} ${JSON.stringify(answer.body)}`);
  return answer.body;
};
const get = async (path: string) => {
  const answer = await stage.http("GET", path);
  assert.equal(answer.status, 200, `${path} ${JSON.stringify(answer.body)}`);
  return answer.body;
};

/** A field of LiteLLM's: a value, what null leaves, and the same two in a message. */
type Field<Message> = readonly [
  name: string,
  value: Json,
  cleared: Json,
  field: keyof Message,
  written: unknown,
  nothing: unknown,
];

const money: readonly Field<Entity>[] = [
  ["max_budget", 12.5, null, "maxBudgetUsd", "12.5", undefined],
  ["soft_budget", 0.25, null, "softBudgetUsd", "0.25", undefined],
  ["budget_duration", "30d", null, "budgetDuration", "30d", undefined],
  ["budget_id", "shared", null, "budgetId", "shared", undefined],
];
const limits: readonly Field<Entity>[] = [
  ["rpm_limit", 10, null, "rpmLimit", 10n, undefined],
  ["tpm_limit", 0, null, "tpmLimit", 0n, undefined],
  ["max_parallel_requests", 3, null, "maxParallelRequests", 3n, undefined],
  ["models", ["gpt-*"], [], "models", ["gpt-*"], []],
  ["metadata", { a: [1, null] }, {}, "metadata", { a: [1, null] }, {}],
  ["blocked", true, false, "blocked", true, false],
];
const alias = (name: string): Field<Entity> => [name, "a name", null, "alias", "a name", undefined];

interface Kind {
  readonly path: string;
  readonly kind: EntityKind;
  readonly id: string;
  /** What a new one needs besides. */
  readonly needs?: JsonObject;
  read(id: string): Promise<JsonObject>;
  readonly fields: readonly Field<Entity>[];
  /** Fields without a place of their own in a message: they are in its `extra`. */
  readonly further: JsonObject;
}

const kinds: readonly Kind[] = [
  {
    path: "/team",
    kind: EntityKind.TEAM,
    id: "team_id",
    read: async (id) => (await get(`/team/info?team_id=${id}`)).team_info,
    fields: [
      ...money,
      ...limits,
      alias("team_alias"),
      ["organization_id", "o1", null, "organizationId", "o1", undefined],
      ["model_aliases", { fast: "mini" }, {}, "aliases", { fast: "mini" }, {}],
      ["tags", ["a"], [], "tags", ["a"], []],
    ],
    further: {
      team_member_budget: 3,
      team_member_budget_duration: "1d",
      team_member_rpm_limit: 4,
      team_member_tpm_limit: 5,
      team_member_key_duration: "30d",
      team_member_permissions: ["/key/info", "/key/generate"],
      guardrails: ["pii"],
      model_rpm_limit: { m: 1 },
      model_tpm_limit: { m: 1 },
      router_settings: { num_retries: 1 },
      object_permission: { vector_stores: [] },
    },
  },
  {
    path: "/user",
    kind: EntityKind.USER,
    id: "user_id",
    needs: { auto_create_key: false },
    read: async (id) => (await get(`/user/info?user_id=${id}`)).user_info,
    fields: [
      ...money,
      ...limits,
      alias("user_alias"),
      ["user_email", "a@example.com", null, "email", "a@example.com", undefined],
      ["user_role", "internal_user", null, "role", "internal_user", undefined],
      ["organization_id", "o1", null, "organizationId", "o1", undefined],
    ],
    further: { model_max_budget: { m: 1 }, sso_user_id: "s", guardrails: ["pii"], permissions: { a: true } },
  },
  {
    path: "/organization",
    kind: EntityKind.ORGANIZATION,
    id: "organization_id",
    needs: { organization_alias: "needed" },
    read: (id) => get(`/organization/info?organization_id=${id}`),
    fields: [...money, ...limits],
    further: { model_rpm_limit: { m: 1 }, object_permission: { mcp_servers: [] } },
  },
  ...["/customer", "/end_user"].map(
    (path): Kind => ({
      path,
      kind: EntityKind.CUSTOMER,
      id: "user_id",
      read: (id) => get(`${path}/info?end_user_id=${id}`),
      fields: [...money, ...limits, alias("alias")],
      further: { allowed_model_region: "eu", default_model: "gpt-4o" },
    }),
  ),
  {
    path: "/tag",
    kind: EntityKind.TAG,
    id: "name",
    read: async (id) => (await post("/tag/info", { names: [id] }))[id],
    fields: [...money, ...limits, alias("description")],
    further: { model_info: { a: 1 } },
  },
];

let made = 0;
const nextId = () => `entity-${made++}`;

for (const { path, kind, id, needs, read, fields, further } of kinds) {
  describe(`each field of ${path}`, () => {
    for (const [name, value, cleared, field, written, nothing] of fields) {
      test(`${name}: is what info and gRPC say, update sets it, and null clears it`, async () => {
        const named = { [id]: nextId() };
        const key = String(named[id]);
        const messageOf = async () => (await stage.entityAdmin.getEntity({ kind, id: key })).entity;
        await post(`${path}/new`, { ...needs, ...named, [name]: value });
        assert.deepEqual((await read(key))[name], value);
        assert.deepEqual((await messageOf())?.[field], written);
        await post(`${path}/update`, { ...named, [name]: null });
        assert.deepEqual((await read(key))[name], cleared);
        assert.deepEqual((await messageOf())?.[field], nothing);
        await post(`${path}/update`, { ...named, [name]: value });
        assert.deepEqual((await read(key))[name], value);
      });
    }

    test("gRPC sets what HTTP shows, and an update_mask clears it", async () => {
      for (const [name, value, cleared, field, written, nothing] of fields.filter(([each]) => each !== "blocked")) {
        const key = nextId();
        await stage.entityAdmin.createEntity({ entity: { kind, id: key, [field]: written } });
        assert.deepEqual((await read(key))[name], value, name);
        const { entity } = await stage.entityAdmin.updateEntity({
          entity: { kind, id: key },
          updateMask: { paths: [String(field)] },
        });
        assert.deepEqual(entity?.[field], nothing, name);
        assert.deepEqual((await read(key))[name], cleared, name);
      }
    });

    test("further fields come back by both faces, and null clears them", async () => {
      const key = nextId();
      await post(`${path}/new`, { ...needs, [id]: key, ...further });
      const row = await read(key);
      const { entity } = await stage.entityAdmin.getEntity({ kind, id: key });
      for (const [name, value] of Object.entries(further)) {
        assert.deepEqual([row[name], entity?.extra?.[name]], [value, value], name);
      }
      await post(`${path}/update`, {
        [id]: key,
        ...Object.fromEntries(Object.keys(further).map((name) => [name, null])),
      });
      const after = await read(key);
      for (const name of Object.keys(further)) assert.equal(after[name], null, name);
      await stage.entityAdmin.updateEntity({ entity: { kind, id: key, extra: { something: [1] } } });
      assert.deepEqual((await read(key)).something, [1]);
    });
  });
}

describe("each field of /budget", () => {
  const fields: readonly Field<Budget>[] = [
    ["max_budget", 12.5, null, "maxBudgetUsd", "12.5", undefined],
    ["soft_budget", 0.25, null, "softBudgetUsd", "0.25", undefined],
    ["budget_duration", "30d", null, "budgetDuration", "30d", undefined],
    ["rpm_limit", 10, null, "rpmLimit", 10n, undefined],
    ["tpm_limit", 0, null, "tpmLimit", 0n, undefined],
    ["max_parallel_requests", 3, null, "maxParallelRequests", 3n, undefined],
  ];
  const read = async (id: string) => (await post("/budget/info", { budgets: [id] }))[0];
  const messageOf = async (id: string) => (await stage.budgetAdmin.listBudgets({ ids: [id] })).budgets[0];

  for (const [name, value, cleared, field, written, nothing] of fields) {
    test(`${name}: is what info, settings and gRPC say, update sets it, and null clears it`, async () => {
      const budget_id = nextId();
      await post("/budget/new", { budget_id, [name]: value });
      assert.deepEqual((await read(budget_id))[name], value);
      const settings: JsonObject[] = await get(`/budget/settings?budget_id=${budget_id}`);
      assert.deepEqual(settings.find(({ field_name }) => field_name === name)?.field_value, value);
      assert.deepEqual((await messageOf(budget_id))?.[field], written);
      await post("/budget/update", { budget_id, [name]: null });
      assert.deepEqual((await read(budget_id))[name], cleared);
      assert.deepEqual((await messageOf(budget_id))?.[field], nothing);
      const paths = [String(field)];
      await stage.budgetAdmin.updateBudget({ budget: { id: budget_id, [field]: written }, updateMask: { paths } });
      assert.deepEqual((await read(budget_id))[name], value);
    });
  }

  test("further fields come back by both faces", async () => {
    const budget_id = nextId();
    await post("/budget/new", { budget_id, model_max_budget: { m: { budget_limit: 1 } } });
    const shown = [(await read(budget_id)).model_max_budget, (await messageOf(budget_id))?.extra?.model_max_budget];
    assert.deepEqual(shown, [{ m: { budget_limit: 1 } }, { m: { budget_limit: 1 } }]);
    await stage.budgetAdmin.updateBudget({ budget: { id: budget_id, extra: { note: "n" } } });
    assert.equal((await read(budget_id)).note, "n");
  });
});

describe("each field of a team's member", () => {
  const team_id = "with-members";
  before(async () => {
    await post("/team/new", { team_id, admins: ["ada"], members: ["bob"] });
  });
  const fields: readonly Field<Member>[] = [
    ["max_budget_in_team", 7, null, "maxBudgetUsd", "7", undefined],
    ["budget_duration", "1d", null, "budgetDuration", "1d", undefined],
    ["budget_id", "shared", null, "budgetId", "shared", undefined],
    ["rpm_limit", 4, null, "rpmLimit", 4n, undefined],
    ["tpm_limit", 5, null, "tpmLimit", 5n, undefined],
  ];
  const shownAs = (name: string) => (name === "max_budget_in_team" ? "max_budget" : name);
  const read = async (user_id: string, name: string) => {
    const { team_memberships } = await get(`/team/info?team_id=${team_id}`);
    const row = team_memberships.find((each: JsonObject) => each.user_id === user_id);
    return name === "budget_id" ? row.budget_id : row.litellm_budget_table[shownAs(name)];
  };
  const messageOf = async (userId: string) =>
    (await stage.entityAdmin.listMembers({ kind: EntityKind.TEAM, entityId: team_id, userId })).members[0];

  for (const [name, value, cleared, field, written, nothing] of fields) {
    test(`${name}: is what info and gRPC say, member_update sets it, and null clears it`, async () => {
      const user_id = nextId();
      await post("/team/member_add", { team_id, member: { user_id, role: "user" }, [name]: value });
      assert.deepEqual(await read(user_id, name), value);
      assert.deepEqual((await messageOf(user_id))?.[field], written);
      await post("/team/member_update", { team_id, user_id, [name]: null });
      assert.deepEqual(await read(user_id, name), cleared);
      assert.deepEqual((await messageOf(user_id))?.[field], nothing);
      await post("/team/member_update", { team_id, user_id, [name]: value });
      assert.deepEqual(await read(user_id, name), value);
    });
  }

  test("admins, members and roles are what they were made with, by both faces", async () => {
    const { team_info } = await get(`/team/info?team_id=${team_id}`);
    assert.ok(team_info.admins.includes("ada") && !team_info.admins.includes("bob"));
    assert.ok(team_info.members.includes("bob"));
    assert.deepEqual([(await messageOf("ada"))?.role, (await messageOf("bob"))?.role], ["admin", "user"]);
    await post("/team/member_update", { team_id, user_id: "bob", role: "admin" });
    assert.equal((await messageOf("bob"))?.role, "admin");
  });

  test("what members may do is listed and changed, over gRPC too", async () => {
    const list = async () => (await get(`/team/permissions_list?team_id=${team_id}`)).team_member_permissions;
    assert.deepEqual(await list(), ["/key/info", "/key/health"]);
    const team_member_permissions = ["/key/info", "/key/update"];
    const updated = await post("/team/permissions_update", { team_id, team_member_permissions });
    assert.deepEqual([updated.team_id, updated.team_member_permissions], [team_id, team_member_permissions]);
    assert.ok(updated.all_available_permissions.includes("/key/generate"));
    const extra = { team_member_permissions: ["/key/delete"] };
    await stage.entityAdmin.updateEntity({ entity: { kind: EntityKind.TEAM, id: team_id, extra } });
    assert.deepEqual(await list(), ["/key/delete"]);
    for (const wrong of ["/key/info", ["info"], [1]]) {
      const path = "/team/permissions_update";
      const { status, body } = await stage.http("POST", path, { team_id, team_member_permissions: wrong });
      assert.deepEqual([status, body.error.param], [400, "team_member_permissions"], JSON.stringify(wrong));
    }
    assert.equal((await stage.http("GET", "/team/permissions_list?team_id=nowhere")).status, 404);
  });
});

test("/user/bulk_update makes each change or refuses it for itself", async () => {
  await post("/user/new", { user_id: "bulk", user_email: "bulk@example.com", auto_create_key: false });
  const { results, ...counts } = await post("/user/bulk_update", {
    users: [
      { user_id: "bulk", max_budget: 5 },
      { user_email: "bulk@example.com", rpm_limit: 6 },
      { user_id: "nobody", max_budget: 5 },
      { user_id: "bulk", max_budget: -1 },
      { max_budget: 1 },
    ],
  });
  assert.deepEqual(counts, { total_requested: 5, successful_updates: 2, failed_updates: 3 });
  assert.deepEqual(
    results.map(({ user_id, success }: JsonObject) => [user_id, success]),
    [
      ["bulk", true],
      ["bulk", true],
      ["nobody", false],
      ["bulk", false],
      [null, false],
    ],
  );
  assert.deepEqual([results[1].updated_user.max_budget, results[1].updated_user.rpm_limit], [5, 6]);
  assert.match(results[3].error, /`max_budget` must not be negative/);
  for (const users of [[], "all", [1]]) {
    assert.equal((await stage.http("POST", "/user/bulk_update", { users })).status, 400);
  }
});
