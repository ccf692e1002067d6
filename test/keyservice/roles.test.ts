import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { JsonObject } from "../../src/completion.ts";
import { AuditAction } from "../../src/gen/tollgate/admin/v1/audit_pb.ts";
import { EntityKind } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { SpendDimension } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { noKeyRules } from "../../src/keyservice/key-rules.ts";
import { masterKey, Stage } from "./admin-stage.ts";

const days = "start_date=2026-11-01&end_date=2026-11-30";

/** Everybody there is in the world of these tests, by the key he calls with. */
type Who = "master" | "admin" | "viewer" | "org" | "lead" | "helper" | "member" | "other" | "reader" | "service";

describe("roles", () => {
  let stage: Stage;
  const keys = {} as Record<Who, string>;
  /** Ids of keys things are done to. */
  const victims = {} as Record<"blocked" | "nobodys" | "ofTeam1" | "ofTeam2" | "ofMember", string>;

  const post = async (path: string, body: JsonObject, who: Who = "master") => {
    const answer = await stage.http("POST", path, body, { authorization: `Bearer ${keys[who]}` });
    return answer;
  };
  const made = async (path: string, body: JsonObject) => {
    const answer = await post(path, body);
    assert.equal(answer.status, 200, `${path} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };

  before(async () => {
    stage = await Stage.open({ keyRules: { ...noKeyRules, joinableTeams: ["t3"] } });
    keys.master = masterKey;
    await made("/organization/new", { organization_id: "o1", organization_alias: "one" });
    await made("/organization/new", { organization_id: "o2", organization_alias: "two" });
    await made("/team/new", { team_id: "t1", organization_id: "o1" });
    await made("/team/new", {
      team_id: "t2",
      organization_id: "o2",
      team_member_permissions: ["/key/generate", "/key/update"],
    });
    await made("/team/new", { team_id: "t3" });
    const users = [
      ["admin", "proxy_admin"],
      ["viewer", "proxy_admin_viewer"],
      ["org", "internal_user"],
      ["lead", "internal_user"],
      ["helper", "internal_user"],
      ["member", null],
      ["other", "internal_user"],
      ["reader", "internal_user_viewer"],
    ] as const;
    for (const [user_id, user_role] of users) {
      const { key } = await made("/user/new", { user_id, ...(user_role && { user_role }) });
      keys[user_id] = key;
    }
    await made("/organization/member_add", { organization_id: "o1", member: { user_id: "org", role: "org_admin" } });
    await made("/team/member_add", {
      team_id: "t1",
      member: [
        { user_id: "lead", role: "admin" },
        { user_id: "member", role: "user" },
        { user_id: "reader", role: "admin" },
      ],
    });
    await made("/team/member_add", { team_id: "t2", member: [{ user_id: "helper", role: "user" }] });
    keys.service = (await made("/key/generate", { team_id: "t1" })).key;
    for (const [name, fields] of [
      ["nobodys", {}],
      ["blocked", { user_id: "member", blocked: true }],
      ["ofTeam1", { team_id: "t1" }],
      ["ofTeam2", { team_id: "t2" }],
      ["ofMember", { user_id: "member" }],
    ] as const) {
      victims[name] = (await made("/key/generate", fields)).key;
    }
  });
  after(async () => {
    await stage.close();
    assert.deepEqual(stage.bugs, []);
  });

  const everybody: readonly Who[] = [
    ...(["master", "admin", "viewer", "org", "lead", "helper", "member", "other", "reader", "service"] as const),
  ];

  /** What is tried, over HTTP, and whom it is not refused to. */
  type Line = readonly [
    what: string,
    method: "GET" | "POST",
    path: string,
    body: JsonObject | undefined,
    allowed: readonly Who[],
  ];
  const admins = ["master", "admin"] as const;
  const seers = ["master", "admin", "viewer"] as const;
  const table: () => readonly Line[] = () => [
    [
      "make a key of nobody in particular",
      "POST",
      "/key/generate",
      {},
      [...admins, "org", "lead", "helper", "member", "other"],
    ],
    ["make a key for somebody else", "POST", "/key/generate", { user_id: "viewer" }, admins],
    ["make a key in team 1", "POST", "/key/generate", { team_id: "t1" }, [...admins, "org", "lead"]],
    ["make a key in team 2", "POST", "/key/generate", { team_id: "t2" }, [...admins, "helper"]],
    ["make a key of another in team 2", "POST", "/key/generate", { team_id: "t2", user_id: "other" }, admins],
    ["make a key in organization 1", "POST", "/key/generate", { organization_id: "o1" }, [...admins, "org"]],
    ["change a key of nobody", "POST", "/key/update", { key: victims.nobodys, metadata: {} }, admins],
    [
      "change a key of team 1",
      "POST",
      "/key/update",
      { key: victims.ofTeam1, metadata: {} },
      [...admins, "org", "lead"],
    ],
    ["change a key of team 2", "POST", "/key/update", { key: victims.ofTeam2, metadata: {} }, [...admins, "helper"]],
    [
      "change a member's own key",
      "POST",
      "/key/update",
      { key: victims.ofMember, metadata: {} },
      [...admins, "member"],
    ],
    ["move a member's key to an administrator", "POST", "/key/update", { key: victims.ofMember, user_id: "admin" }, []],
    ["move a key of team 1 out of it", "POST", "/key/update", { key: victims.ofTeam1, team_id: "t2" }, []],
    ["look at a key of nobody", "GET", `/key/info?key=${victims.nobodys}`, undefined, seers],
    [
      "look at a key of team 1",
      "GET",
      `/key/info?key=${victims.ofTeam1}`,
      undefined,
      [...seers, "org", "lead", "member", "reader"],
    ],
    ["look at a key of team 2", "GET", `/key/info?key=${victims.ofTeam2}`, undefined, seers],
    ["look at a member's key", "GET", `/key/info?key=${victims.ofMember}`, undefined, [...seers, "member"]],
    ["look at one's own key", "GET", "/key/info", undefined, everybody],
    ["list keys", "GET", "/key/list", undefined, everybody],
    ["block a key", "POST", "/key/block", { key: victims.ofTeam1 }, admins],
    ["unblock one's own key by changing it", "POST", "/key/update", { key: victims.blocked, blocked: false }, []],
    ["unblock a key", "POST", "/key/unblock", { key: victims.ofTeam1 }, admins],
    [
      "reset the spend of a key of team 1",
      "POST",
      `/key/${victims.ofTeam1}/reset_spend`,
      { reset_to: 0 },
      [...admins, "org", "lead"],
    ],
    ["reset the spend of one's own key", "POST", `/key/${victims.ofMember}/reset_spend`, { reset_to: 0 }, admins],
    ["make a team", "POST", "/team/new", {}, admins],
    ["make a team in organization 1", "POST", "/team/new", { organization_id: "o1" }, [...admins, "org"]],
    ["make a team in organization 2", "POST", "/team/new", { organization_id: "o2" }, admins],
    ["change team 1", "POST", "/team/update", { team_id: "t1", metadata: {} }, [...admins, "org"]],
    ["change team 2", "POST", "/team/update", { team_id: "t2", metadata: {} }, admins],
    ["move team 1 to organization 2", "POST", "/team/update", { team_id: "t1", organization_id: "o2" }, []],
    ["block team 1", "POST", "/team/block", { team_id: "t1" }, [...admins, "org"]],
    ["unblock team 1", "POST", "/team/unblock", { team_id: "t1" }, [...admins, "org"]],
    ["look at team 1", "GET", "/team/info?team_id=t1", undefined, [...seers, "org", "lead", "member", "reader"]],
    ["look at team 2", "GET", "/team/info?team_id=t2", undefined, [...seers, "helper"]],
    ["list teams", "GET", "/team/list", undefined, everybody],
    [
      "add a member to team 1",
      "POST",
      "/team/member_add",
      { team_id: "t1", member: { user_id: "u9", role: "user" } },
      [...admins, "org", "lead"],
    ],
    [
      "change a member of team 1",
      "POST",
      "/team/member_update",
      { team_id: "t1", user_id: "member", max_budget_in_team: 5 },
      [...admins, "org", "lead"],
    ],
    [
      "add a member to team 2",
      "POST",
      "/team/member_add",
      { team_id: "t2", member: { user_id: "u9", role: "user" } },
      admins,
    ],
    [
      "look at what members of team 1 may do",
      "GET",
      "/team/permissions_list?team_id=t1",
      undefined,
      [...seers, "org", "lead", "member", "reader"],
    ],
    [
      "say what members of team 1 may do",
      "POST",
      "/team/permissions_update",
      { team_id: "t1", team_member_permissions: ["/key/info", "/key/health"] },
      [...admins, "org", "lead"],
    ],
    [
      "say what members of team 2 may do",
      "POST",
      "/team/permissions_update",
      { team_id: "t2", team_member_permissions: [] },
      [],
    ],
    [
      "make a key for a service of team 1",
      "POST",
      "/key/service-account/generate",
      { team_id: "t1" },
      [...admins, "org", "lead"],
    ],
    [
      "make a key for a service of team 2",
      "POST",
      "/key/service-account/generate",
      { team_id: "t2" },
      [...admins, "helper"],
    ],
    ["ask whether one's key is well", "POST", "/key/health", {}, everybody],
    ["change users", "POST", "/user/bulk_update", { users: [{ user_id: "member", metadata: {} }] }, admins],
    ["change all users", "POST", "/user/bulk_update", { all_users: true, user_updates: { metadata: {} } }, admins],
    [
      "set back what a member of team 1 has used",
      "POST",
      "/team/t1/member/member/reset_spend",
      { reset_to: 0 },
      [...admins, "org", "lead"],
    ],
    ["let team 1 use a model", "POST", "/team/model/add", { team_id: "t1", models: ["m"] }, [...admins, "org"]],
    ["let team 1 use it no more", "POST", "/team/model/delete", { team_id: "t1", models: ["m"] }, [...admins, "org"]],
    ["list teams to join", "GET", "/team/available", undefined, everybody],
    [
      "make oneself a member of a team that is open to every user",
      "POST",
      "/team/member_add",
      { team_id: "t3", member: { user_id: "other" } },
      [...admins, "other"],
    ],
    ["set back what all have used", "POST", "/global/spend/reset", {}, ["master"]],
    ["sum reports up anew", "POST", "/global/spend/refresh", {}, admins],
    ["the budgets of providers", "GET", "/provider/budgets", undefined, seers],
    ["how long models take", "GET", "/model/metrics", undefined, seers],
    ["list the aliases of keys", "GET", "/key/aliases", undefined, everybody],
    ["list groups of models", "GET", "/model_group/info", undefined, everybody],
    ["a credential of a model", "GET", "/credentials/by_model/none", undefined, admins],
    [
      "what messages would cost",
      "POST",
      "/spend/calculate",
      { model: "openai/gpt-4o", messages: [{ role: "user", content: "Hello" }] },
      seers,
    ],
    ["make a user", "POST", "/user/new", { auto_create_key: false }, admins],
    ["change a user", "POST", "/user/update", { user_id: "member", user_role: "proxy_admin" }, []],
    ["look at a user", "GET", "/user/info?user_id=member", undefined, [...seers, "member"]],
    ["list users", "GET", "/user/list", undefined, seers],
    ["make an organization", "POST", "/organization/new", { organization_alias: "x" }, admins],
    ["look at organization 1", "GET", "/organization/info?organization_id=o1", undefined, [...seers, "org"]],
    [
      "add a member to organization 1",
      "POST",
      "/organization/member_add",
      { organization_id: "o1", member: { user_id: "u8", role: "internal_user" } },
      [...admins, "org"],
    ],
    ["make a customer", "POST", "/customer/new", { user_id: "c1" }, []],
    ["look at a customer", "GET", "/customer/info?end_user_id=c1", undefined, []],
    ["make a tag", "POST", "/tag/new", { name: "x" }, []],
    ["list budgets", "GET", "/budget/list", undefined, seers],
    ["make a budget", "POST", "/budget/new", { max_budget: 1 }, admins],
    ["list models", "GET", "/model/info", undefined, everybody],
    ["make a model", "POST", "/model/new", {}, []],
    ["list credentials", "GET", "/credentials", undefined, admins],
    ["report on all teams", "GET", `/global/spend/report?${days}&group_by=team`, undefined, seers],
    ["look at what spend he sees", "GET", "/spend/logs", undefined, everybody],
    ["look at a member's spend", "GET", "/spend/logs?user_id=member", undefined, [...seers, "member"]],
    ["look at the spend of a key of nobody", "GET", `/spend/logs?api_key=${victims.nobodys}`, undefined, seers],
    ["a summary of tags", "GET", `/tag/summary?${days}`, undefined, seers],
    ["a user's days", "GET", `/user/daily/activity?${days}&user_id=member`, undefined, [...seers, "member"]],
    ["one's own days", "GET", `/user/daily/activity?${days}`, undefined, everybody],
    [
      "a team's days",
      "GET",
      `/team/daily/activity?${days}&team_ids=t1`,
      undefined,
      [...seers, "org", "lead", "member", "reader"],
    ],
    [
      "an organization's days",
      "GET",
      `/organization/daily/activity?${days}&organization_ids=o1`,
      undefined,
      [...seers, "org"],
    ],
    [
      "what an answer cost",
      "POST",
      "/spend/calculate",
      { completion_response: { model: "openai/gpt-4o", usage: { prompt_tokens: 1, completion_tokens: 1 } } },
      seers,
    ],
    [
      "what a call would cost",
      "POST",
      "/cost/estimate",
      { model: "openai/gpt-4o", input_tokens: 1, output_tokens: 1 },
      seers,
    ],
    ["the audit log", "GET", "/audit", undefined, seers],
  ];

  test("each may do over HTTP exactly what the table says", async () => {
    const wrong: string[] = [];
    for (const [what, method, path, body, allowed] of table()) {
      // Lines for nobody are refused to all but administrators, to whom they may fail otherwise, and are not done.
      for (const who of allowed.length === 0
        ? everybody.filter((each) => !seers.includes(each as "master"))
        : everybody) {
        const { status, body: answer } = await stage.http(method, path, body, { authorization: `Bearer ${keys[who]}` });
        const isRefused = status === 401 || status === 403;
        if (isRefused === allowed.includes(who) || (!isRefused && status >= 500))
          wrong.push(`${who}: ${what}: ${status} ${JSON.stringify(answer).slice(0, 200)}`);
      }
    }
    assert.deepEqual(wrong, []);
  });

  test("without a key nothing is done", async () => {
    for (const [what, method, path, body] of table()) {
      const { status } = await stage.http(method, path, body, { authorization: "" });
      assert.equal(status, 401, what);
    }
  });

  test("a member without the permission is told so, in LiteLLM's words", async () => {
    const { status, body } = await post("/key/generate", { team_id: "t1" }, "member");
    assert.deepEqual([status, body.error.type], [401, "team_member_permission_error"]);
    assert.match(body.error.message, /t1.*\/key\/generate.*team_member_permissions/);
  });

  test("what an internal user makes is his own, and in lists he sees nothing else", async () => {
    const { body } = await post("/key/generate", { key_alias: "mine" }, "other");
    assert.deepEqual([body.user_id, body.created_by], ["other", "other"]);
    const list = await stage.http("GET", "/key/list?return_full_object=true&size=100", undefined, {
      authorization: `Bearer ${keys.other}`,
    });
    assert.ok(list.body.keys.length > 0);
    assert.deepEqual([...new Set(list.body.keys.map((key: { user_id: string }) => key.user_id))], ["other"]);
    const teams = await stage.http("GET", "/team/list", undefined, { authorization: `Bearer ${keys.helper}` });
    assert.deepEqual(
      teams.body.map((team: { team_id: string }) => team.team_id),
      ["t2"],
    );
  });

  test("whoever makes a team administers it", async () => {
    const { body } = await post("/team/new", { organization_id: "o1", team_alias: "new" }, "org");
    assert.deepEqual(
      body.members_with_roles.map((member: { user_id: string; role: string }) => [member.user_id, member.role]),
      [["org", "admin"]],
    );
    const { status } = await post("/key/generate", { team_id: body.team_id }, "org");
    assert.equal(status, 200);
  });

  test("a key in a team gives its holder no power beyond the team, whoever's it is", async () => {
    const { key } = await made("/key/generate", { team_id: "t1", user_id: "admin" });
    const as = { authorization: `Bearer ${key}` };
    assert.equal((await stage.http("POST", "/user/new", {}, as)).status, 403);
    assert.equal((await stage.http("GET", `/key/info?key=${victims.nobodys}`, undefined, as)).status, 403);
    assert.equal((await stage.http("GET", "/key/info", undefined, as)).status, 200);
  });

  test("a blocked user, an expired key and one whose allowed_routes lack the path administer nothing", async () => {
    const { key } = await made("/user/new", { user_id: "gone", user_role: "proxy_admin" });
    await made("/user/update", { user_id: "gone", blocked: true });
    assert.equal((await stage.http("GET", "/user/list", undefined, { authorization: `Bearer ${key}` })).status, 403);
    const narrow = await made("/key/generate", { user_id: "admin", allowed_routes: ["info_routes"] });
    const as = { authorization: `Bearer ${narrow.key}` };
    assert.equal((await stage.http("GET", "/user/list", undefined, as)).status, 200);
    assert.equal((await stage.http("POST", "/user/new", { auto_create_key: false }, as)).status, 403);
    const llm = await made("/key/generate", { user_id: "admin", allowed_routes: ["llm_api_routes"] });
    assert.equal(
      (await stage.http("GET", "/user/list", undefined, { authorization: `Bearer ${llm.key}` })).status,
      403,
    );
  });

  test("over gRPC the same is refused, and the same is not", async () => {
    const allUsers = { entity: { kind: EntityKind.USER, metadata: {} }, updateMask: { paths: ["metadata"] } };
    const roleModel = "model-of-roles";
    await made("/model/new", {
      ...{ model_name: "m", model_info: { id: roleModel } },
      litellm_params: { model: "openai/gpt-4o", api_key: "sk-provider-secret-41" },
    });
    const cases: [string, () => Promise<unknown>, readonly Who[]][] = [
      ["make a key in team 1", () => stage.keyAdmin.createKey({ key: { teamId: "t1" } }), [...admins, "org", "lead"]],
      [
        "look at a key of team 1",
        () => stage.keyAdmin.getKey({ key: victims.ofTeam1 }),
        [...seers, "org", "lead", "member", "reader"],
      ],
      ["block a key", () => stage.keyAdmin.blockKey({ key: victims.ofTeam2 }), admins],
      ["list keys", () => stage.keyAdmin.listKeys({}), everybody],
      ["set back what all have used", () => stage.spendAdmin.resetSpend({}), ["master"]],
      ["the budgets of providers", () => stage.spendAdmin.listProviderBudgets({}), seers],
      ["change all users", () => stage.entityAdmin.batchUpdateEntities({ all: allUsers }), admins],
      [
        "let team 1 use a model",
        () => stage.entityAdmin.changeEntityModels({ kind: EntityKind.TEAM, id: "t1", add: ["m"] }),
        [...admins, "org"],
      ],
      [
        "set back what a member of team 1 has used",
        () => stage.entityAdmin.resetMemberBudget({ teamId: "t1", userId: "member" }),
        [...admins, "org", "lead"],
      ],
      [
        "list teams to join",
        () => stage.entityAdmin.listEntities({ kind: EntityKind.TEAM, joinable: true }),
        everybody,
      ],
      ["list the aliases of keys", () => stage.keyAdmin.listKeyAliases({}), everybody],
      ["list groups of models", () => stage.modelAdmin.listModelGroups({}), everybody],
      ["a credential of a model", () => stage.credentialAdmin.getModelCredential({ modelId: roleModel }), admins],
      ["ask for a price", () => stage.spendAdmin.estimateCost({ model: "openai/gpt-4o" }), seers],
      [
        "say what members of team 1 may do",
        () =>
          stage.entityAdmin.updateEntity({
            entity: { kind: EntityKind.TEAM, id: "t1", extra: { team_member_permissions: ["/key/info"] } },
          }),
        [...admins, "org", "lead"],
      ],
      [
        "keep something else with team 1",
        () => stage.entityAdmin.updateEntity({ entity: { kind: EntityKind.TEAM, id: "t1", extra: { a: 1 } } }),
        [...admins, "org"],
      ],
      ["make a team", () => stage.entityAdmin.createEntity({ entity: { kind: EntityKind.TEAM } }), admins],
      ["look at team 2", () => stage.entityAdmin.getEntity({ kind: EntityKind.TEAM, id: "t2" }), [...seers, "helper"]],
      [
        "add a member to team 1",
        () => stage.entityAdmin.addMembers({ members: [{ kind: EntityKind.TEAM, entityId: "t1", userId: "u7" }] }),
        [...admins, "org", "lead"],
      ],
      ["list budgets", () => stage.budgetAdmin.listBudgets({}), seers],
      ["spend", () => stage.spendAdmin.listSpend({}), everybody],
      ["a member's spend", () => stage.spendAdmin.listSpend({ userId: "member" }), [...seers, "member"]],
      [
        "a team's days",
        () =>
          stage.spendAdmin.listDailyActivity({
            dimension: SpendDimension.TEAM,
            ids: ["t1"],
            startDay: "2026-11-01",
            endDay: "2026-11-30",
          }),
        [...seers, "org", "lead", "member", "reader"],
      ],
      ["the audit log", () => stage.auditAdmin.listAuditLog({}), seers],
    ];
    const wrong: string[] = [];
    for (const [what, call, allowed] of cases) {
      for (const who of everybody) {
        stage.rpcKey = keys[who];
        const code = await call().then(
          () => undefined,
          (error) => ConnectError.from(error),
        );
        const isRefused = code?.code === Code.PermissionDenied || code?.code === Code.Unauthenticated;
        if (isRefused === allowed.includes(who) || (code !== undefined && !isRefused))
          wrong.push(`${who}: ${what}: ${code?.message}`);
      }
    }
    stage.rpcKey = masterKey;
    assert.deepEqual(wrong, []);
  });

  test("every change is in the audit log: who, what, before, after and when", async () => {
    const { key, key_id } = await made("/key/generate", { key_alias: "audited", max_budget: 5 });
    await post("/key/update", { key, max_budget: 7, rpm_limit: 9 }, "admin");
    await stage.http(
      "POST",
      "/key/block",
      { key },
      { authorization: `Bearer ${masterKey}`, "litellm-changed-by": "anna" },
    );
    await made("/key/regenerate", { key });
    await stage.http("POST", "/key/delete", { keys: [key_id] });
    const { body } = await stage.http("GET", `/audit?object_id=${key_id}&table_name=LiteLLM_VerificationToken`);
    assert.equal(body.total, 5);
    const [deleted, rotated, blocked, updated, created] = body.audit_logs;
    assert.deepEqual([created.action, created.changed_by, created.before_value], ["created", "master_key", null]);
    assert.equal(created.updated_values.alias, "audited");
    assert.equal(created.updated_values.budget.max_nanos, 5e9);
    assert.deepEqual([updated.action, updated.changed_by], ["updated", "admin"]);
    assert.ok(updated.changed_by_api_key.startsWith("key_"));
    assert.deepEqual(
      [updated.before_value.rpm_limit, updated.updated_values.rpm_limit, Object.keys(updated.updated_values).sort()],
      [null, 9, ["budget", "rpm_limit"]],
    );
    assert.deepEqual([updated.before_value.budget.max_nanos, updated.updated_values.budget.max_nanos], [5e9, 7e9]);
    assert.deepEqual(
      [blocked.changed_by, blocked.before_value, blocked.updated_values],
      ["anna", { blocked: false }, { blocked: true }],
    );
    assert.equal(rotated.updated_values.secret_hmac, "(secret, changed)");
    assert.deepEqual(
      [deleted.action, deleted.before_value.alias, deleted.updated_values],
      ["deleted", "audited", null],
    );
    assert.ok(Math.abs(Date.parse(deleted.updated_at) - Date.now()) < 60_000);
    const [one] = (await stage.auditAdmin.listAuditLog({ objectId: key_id, action: AuditAction.DELETED })).records;
    assert.equal(String(one?.id), deleted.id);
    assert.deepEqual((await stage.http("GET", `/audit/${created.id}`)).body, created);
    assert.equal((await stage.http("GET", "/audit/999999999")).status, 404);
    assert.equal((await stage.http("GET", "/audit?action=x")).status, 400);
  });

  test("members, budgets, models and credentials are in it too, and no secret is", async () => {
    const since = (await stage.http("GET", "/audit")).body.audit_logs[0].id;
    await made("/team/member_add", { team_id: "t1", member: { user_id: "seen", role: "user" }, max_budget_in_team: 3 });
    await made("/budget/new", { budget_id: "b-audit", max_budget: 2 });
    await made("/tag/new", { name: "tag-audit" });
    await made("/credentials", {
      credential_name: "c-audit",
      credential_values: { api_key: "sk-provider-secret-42" },
      credential_info: {},
    });
    await made("/model/new", {
      model_name: "m-audit",
      litellm_params: { model: "openai/gpt-4o", api_key: "sk-provider-secret-43" },
    });
    const { body } = await stage.http("GET", "/audit?page_size=100");
    const seen = body.audit_logs.filter((row: { id: string }) => Number(row.id) > Number(since));
    const tables = new Set(seen.map((row: { table_name: string }) => row.table_name));
    for (const table of ["TeamMembership", "BudgetTable", "TagTable", "CredentialsTable", "ProxyModelTable"]) {
      assert.ok(tables.has(`LiteLLM_${table}`), `${table} is missing: ${[...tables]}`);
    }
    const all = await stage.sql<{ text: string }>("SELECT audit_log::text AS text FROM audit_log");
    const text = all.map((row) => row.text).join("\n");
    for (const secret of ["sk-provider-secret", ...Object.values(keys)]) assert.ok(!text.includes(secret));
    assert.ok(!/secret_hmac": "\\\\/.test(text));
    assert.ok(
      !seen.some((row: { before_value: object; action: string }) => row.action === "created" && row.before_value),
    );
  });

  test("with a user end his keys and his memberships, and what they were is in the audit log", async () => {
    const { key } = await made("/user/new", { user_id: "leaver", user_role: "internal_user" });
    await made("/team/member_add", {
      team_id: "t1",
      member: { user_id: "leaver", role: "admin" },
      max_budget_in_team: 4,
    });
    await made("/organization/member_add", { organization_id: "o1", member: { user_id: "leaver", role: "org_admin" } });
    assert.equal((await post("/user/delete", { user_ids: ["leaver"] })).status, 200);
    const as = { authorization: `Bearer ${key}` };
    assert.equal((await stage.http("GET", "/key/info", undefined, as)).status, 401);
    assert.deepEqual(await stage.sql("SELECT FROM members WHERE user_id = 'leaver'"), []);
    assert.deepEqual(await stage.sql("SELECT FROM budgets WHERE scope_id LIKE 'leaver%' AND removed_at IS NULL"), []);
    const { body } = await stage.http("GET", "/audit?action=deleted&page_size=4");
    assert.deepEqual(
      new Set(body.audit_logs.map((row: { table_name: string }) => row.table_name.replace("LiteLLM_", ""))),
      new Set(["VerificationToken", "TeamMembership", "OrganizationMembership", "UserTable"]),
    );
    // Somebody who later gets the same id has none of it.
    await made("/user/new", { user_id: "leaver", auto_create_key: false });
    const { body: again } = await stage.http("GET", "/user/info?user_id=leaver");
    assert.deepEqual([again.keys, again.teams], [[], []]);
  });

  test("what is refused leaves no row", async () => {
    const count = async () => (await stage.http("GET", "/audit")).body.total;
    const before = await count();
    await post("/key/update", { key: victims.nobodys, rpm_limit: 1 }, "other");
    await post("/key/generate", { key_alias: "", max_budget: -1 });
    assert.equal(await count(), before);
  });
});
