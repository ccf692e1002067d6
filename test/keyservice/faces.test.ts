import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { administer } from "../../sidecar/cli/administer.ts";
import { readSettings } from "../../sidecar/settings.ts";
import type { JsonObject } from "../../src/completion.ts";
import { EntityKind, type EntitySchema, type MemberSchema } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { adminServices } from "../../src/keyservice/administration.ts";
import { routes } from "../../src/keyservice/http.ts";
import { masterKey, Stage } from "./admin-stage.ts";

/** The faces of administration, each with books of its own. */
const faces = ["http", "rpc", "cli"] as const;
type Face = (typeof faces)[number];
const stages = {} as Record<Face, Stage>;

before(async () => {
  const opened = await Promise.all(faces.map(() => Stage.open()));
  for (const [index, face] of faces.entries()) stages[face] = opened[index] as Stage;
});
after(async () => {
  for (const face of faces) await stages[face]?.close();
  for (const face of faces) assert.deepEqual(stages[face]?.bugs, []);
});

/** What one operation is by each face. */
interface Operation {
  readonly what: string;
  /** What has to be there already. */
  before?(stage: Stage): Promise<void>;
  http(post: (path: string, body: JsonObject, method?: "PATCH" | "DELETE") => Promise<void>): Promise<void>;
  rpc(stage: Stage): Promise<unknown>;
  readonly cli: readonly string[] | readonly (readonly string[])[];
}

/** Columns that differ between any two runs: ids that are made up, secrets and what is made of them, and moments. */
const ownColumns = new Set([
  ...["secret_hmac", "masked", "budget_id", "create_request_id", "credential_id", "secret_params", "secret_values"],
  ...[
    "created_at",
    "updated_at",
    "deleted_at",
    "added_at",
    "rotated_at",
    "ends_at",
    "removed_at",
    "changed_at",
    "transaction_id",
  ],
  ...["temp_set_at", "audit_id"],
]);
/** The rows as they were after the last operation. */
const seen = new Map<Stage, Record<string, readonly string[]>>();
const tables = [
  ...[
    "keys",
    "entities",
    "members",
    "budgets",
    "budget_periods",
    "budget_templates",
    "models",
    "credentials",
    "former_secrets",
  ],
  ...["changes", "audit_log"],
];

/** All rows of the books, with the names of keys for their ids, sorted. */
async function rowsOf(stage: Stage): Promise<Record<string, readonly string[]>> {
  const keys = await stage.sql<{ key_id: string; alias: string }>("SELECT key_id, alias FROM keys");
  const named = (text: string) => keys.reduce((rest, { key_id, alias }) => rest.replaceAll(key_id, `(${alias})`), text);
  const found: Record<string, readonly string[]> = {};
  for (const table of tables) {
    const rows = await stage.sql<Record<string, unknown>>(`SELECT * FROM ${table}`);
    found[table] = rows
      .map((row) => {
        const own = Object.entries(row)
          .filter(([column]) => !ownColumns.has(column))
          .map(([column, value]) => [
            column,
            table === "audit_log" && /before|after/.test(column) ? fieldsOf(value) : value,
          ]);
        const isAlive = (row.deleted_at ?? row.removed_at ?? null) === null;
        const text = JSON.stringify({ ...Object.fromEntries(own), isAlive }, (_, value) =>
          typeof value === "bigint" ? String(value) : value,
        );
        return named(text);
      })
      .sort();
  }
  return found;
}

/** What an operation has done to the rows. */
async function newsOf(stage: Stage): Promise<Record<string, unknown>> {
  const [before, now] = [seen.get(stage) ?? {}, await rowsOf(stage)];
  seen.set(stage, now);
  const news: Record<string, unknown> = {};
  for (const table of tables) {
    const [old = [], rows = []] = [before[table], now[table]];
    const gone = old.filter((row) => !rows.includes(row));
    const come = rows.filter((row) => !old.includes(row));
    if (gone.length + come.length > 0) news[table] = { gone, come };
  }
  return news;
}

/** Which fields an image in the audit log has. */
const fieldsOf = (image: unknown) => (image === null ? null : Object.keys(image as object).sort());

async function runCli(stage: Stage, args: readonly string[]): Promise<void> {
  let told = "";
  const write = (text: string) => {
    told += text;
  };
  const env = { KEYSERVICE_URL: stage.origin, TOLLGATE_ADMIN_TOKEN: masterKey };
  const io = { stdout: { write }, stderr: { write }, settings: () => readSettings(env, "host-1") };
  assert.equal(await administer(args, io), 0, `tollgate ${args.join(" ")}: ${told}`);
}

const { TEAM, USER, ORGANIZATION, CUSTOMER, TAG } = EntityKind;
const expires = "2099-01-31T00:00:00Z";

type EntityFields = MessageInitShape<typeof EntitySchema>;
type MemberFields = MessageInitShape<typeof MemberSchema>;
const created = (entity: EntityFields) => (stage: Stage) => stage.entityAdmin.createEntity({ entity });
const updated = (entity: EntityFields, paths: string[]) => (stage: Stage) =>
  stage.entityAdmin.updateEntity({ entity, updateMask: { paths } });
const deleted = (kind: EntityKind, id: string) => (stage: Stage) => stage.entityAdmin.deleteEntity({ kind, id });
const keyIdOf = async (stage: Stage, alias: string) => (await stage.keyAdmin.getKey({ key: alias })).key?.id ?? "";
const member = (fields: MemberFields): MemberFields => ({ kind: TEAM, entityId: "search", ...fields });

/** What a key and a team have spent, as if it had been booked. */
async function book(stage: Stage): Promise<void> {
  await stage.sql(
    `INSERT INTO budget_periods (budget_id, period_start, spent_nanos)
     SELECT budget_id, 'epoch', 7 FROM budgets
     WHERE place = 0 AND (scope = 'team' AND scope_id = 'crew' OR scope = 'key' AND scope_id IN (SELECT key_id FROM keys WHERE user_id = 'eve'))`,
  );
}

const operations: readonly Operation[] = [
  {
    what: "an organization is made",
    http: (post) =>
      post("/organization/new", {
        ...{ organization_id: "acme", organization_alias: "Acme", max_budget: 1000, budget_duration: "1mo" },
        ...{ models: ["gpt-*"], metadata: { floor: 3 }, tpm_limit: 100_000 },
      }),
    rpc: created({
      ...{ kind: ORGANIZATION, id: "acme", alias: "Acme", maxBudgetUsd: "1000", budgetDuration: "1mo" },
      ...{ models: ["gpt-*"], metadata: { floor: 3 }, tpmLimit: 100_000n },
    }),
    cli: [
      ...["organizations", "create", "acme", "--alias", "Acme", "--max-budget", "1000", "--budget-duration", "1mo"],
      ...["--models", "gpt-*", "--metadata", '{"floor":3}', "--tpm-limit", "100000"],
    ],
  },
  {
    what: "an organization is changed",
    http: (post) => post("/organization/update", { organization_id: "acme", models: [], tpm_limit: null }, "PATCH"),
    rpc: updated({ kind: ORGANIZATION, id: "acme" }, ["models", "tpm_limit"]),
    cli: ["organizations", "update", "acme", "--clear", "models", "--clear", "tpm-limit"],
  },
  {
    what: "a budget template is made",
    http: (post) =>
      post("/budget/new", {
        ...{ budget_id: "shared", max_budget: 3, soft_budget: 2.5, budget_duration: "1d" },
        ...{ rpm_limit: 5, tpm_limit: 50, max_parallel_requests: 2 },
      }),
    rpc: ({ budgetAdmin }) =>
      budgetAdmin.createBudget({
        budget: {
          ...{ id: "shared", maxBudgetUsd: "3", softBudgetUsd: "2.5", budgetDuration: "1d" },
          ...{ rpmLimit: 5n, tpmLimit: 50n, maxParallelRequests: 2n },
        },
      }),
    cli: [
      ...["budgets", "create", "shared", "--max-budget", "3", "--soft-budget", "2.5", "--budget-duration", "1d"],
      ...["--rpm-limit", "5", "--tpm-limit", "50", "--max-parallel-requests", "2"],
    ],
  },
  {
    what: "a budget template is changed",
    http: (post) => post("/budget/update", { budget_id: "shared", max_budget: 4, rpm_limit: null }),
    rpc: ({ budgetAdmin }) =>
      budgetAdmin.updateBudget({
        budget: { id: "shared", maxBudgetUsd: "4" },
        updateMask: { paths: ["max_budget_usd", "rpm_limit"] },
      }),
    cli: ["budgets", "update", "shared", "--max-budget", "4", "--clear", "rpm-limit"],
  },
  ...["spare"].flatMap((id): Operation[] => [
    {
      what: "a budget template that nobody uses is made",
      http: (post) => post("/budget/new", { budget_id: id, max_budget: 1 }),
      rpc: ({ budgetAdmin }) => budgetAdmin.createBudget({ budget: { id, maxBudgetUsd: "1" } }),
      cli: ["budgets", "create", id, "--max-budget", "1"],
    },
    {
      what: "and deleted",
      http: (post) => post("/budget/delete", { id }),
      rpc: ({ budgetAdmin }) => budgetAdmin.deleteBudget({ id }),
      cli: ["budgets", "delete", id],
    },
  ]),
  {
    what: "a team is made, with budgets of several windows",
    http: (post) =>
      post("/team/new", {
        ...{ team_id: "search", team_alias: "Search", organization_id: "acme", max_budget: 100, soft_budget: 80 },
        ...{ budget_duration: "30d", budget_limits: [{ budget_duration: "1d", max_budget: 5 }], tpm_limit: 200_000 },
        ...{ rpm_limit: 600, max_parallel_requests: 9, models: ["a", "b"], model_aliases: { fast: "a" } },
        ...{ tags: ["x", "y"], metadata: { monthly_budget: 50 } },
      }),
    rpc: created({
      ...{
        kind: TEAM,
        id: "search",
        alias: "Search",
        organizationId: "acme",
        maxBudgetUsd: "100",
        softBudgetUsd: "80",
      },
      ...{ budgetDuration: "30d", budgetWindows: [{ budgetDuration: "1d", maxBudgetUsd: "5" }], tpmLimit: 200_000n },
      ...{ rpmLimit: 600n, maxParallelRequests: 9n, models: ["a", "b"], aliases: { fast: "a" } },
      ...{ tags: ["x", "y"], metadata: { monthly_budget: 50 } },
    }),
    cli: [
      ...["teams", "create", "search", "--alias", "Search", "--organization", "acme", "--max-budget", "100"],
      ...["--soft-budget", "80", "--budget-duration", "30d", "--window", "1d=5", "--tpm-limit", "200000"],
      ...["--rpm-limit", "600", "--max-parallel-requests", "9", "--models", "a,b", "--model-alias", "fast=a"],
      ...["--tags", "x,y", "--metadata", '{"monthly_budget":50}'],
    ],
  },
  {
    what: "a team is changed",
    http: (post) => post("/team/update", { team_id: "search", max_budget: 120, soft_budget: null, budget_limits: [] }),
    rpc: updated({ kind: TEAM, id: "search", maxBudgetUsd: "120" }, [
      "max_budget_usd",
      "soft_budget_usd",
      "budget_windows",
    ]),
    cli: ["teams", "update", "search", "--max-budget", "120", "--clear", "soft-budget", "--clear", "window"],
  },
  {
    what: "a team is blocked",
    http: (post) => post("/team/block", { team_id: "search" }),
    rpc: ({ entityAdmin }) => entityAdmin.blockEntity({ kind: TEAM, id: "search" }),
    cli: ["teams", "block", "search"],
  },
  {
    what: "a team is unblocked",
    http: (post) => post("/team/unblock", { team_id: "search" }),
    rpc: ({ entityAdmin }) => entityAdmin.unblockEntity({ kind: TEAM, id: "search" }),
    cli: ["teams", "unblock", "search"],
  },
  ...["ada", "bob"].map(
    (id): Operation => ({
      what: `the user ${id} is made`,
      http: (post) =>
        post("/user/new", {
          ...{ user_id: id, user_email: `${id}@acme.example`, user_role: "internal_user", budget_id: "shared" },
          auto_create_key: false,
        }),
      rpc: created({ kind: USER, id, email: `${id}@acme.example`, role: "internal_user", budgetId: "shared" }),
      cli: ["users", "create", id, "--email", `${id}@acme.example`, "--role", "internal_user", "--budget-id", "shared"],
    }),
  ),
  {
    what: "a user is changed",
    http: (post) => post("/user/update", { user_id: "ada", user_role: "internal_user_viewer", max_budget: 7 }),
    rpc: updated({ kind: USER, id: "ada", role: "internal_user_viewer", maxBudgetUsd: "7" }, [
      "role",
      "max_budget_usd",
    ]),
    cli: ["users", "update", "ada", "--role", "internal_user_viewer", "--max-budget", "7"],
  },
  {
    what: "a user is blocked",
    http: (post) => post("/user/update", { user_id: "bob", blocked: true }),
    rpc: ({ entityAdmin }) => entityAdmin.blockEntity({ kind: USER, id: "bob" }),
    cli: ["users", "block", "bob"],
  },
  {
    what: "members with budgets are added to a team",
    http: (post) =>
      post("/team/member_add", {
        ...{ team_id: "search", max_budget_in_team: 11, budget_duration: "7d", rpm_limit: 3, tpm_limit: 30 },
        member: [
          { user_id: "ada", role: "admin" },
          { user_id: "bob", role: "admin" },
        ],
      }),
    rpc: ({ entityAdmin }) => {
      const fields = { maxBudgetUsd: "11", budgetDuration: "7d", rpmLimit: 3n, tpmLimit: 30n };
      const members = ["ada", "bob"].map((userId) => member({ ...fields, userId, role: "admin" }));
      return entityAdmin.addMembers({ members });
    },
    cli: [
      ...["teams", "add-members", "search", "ada", "bob", "--role", "admin", "--max-budget", "11"],
      ...["--budget-duration", "7d", "--rpm-limit", "3", "--tpm-limit", "30"],
    ],
  },
  {
    what: "a member's budget is changed",
    http: (post) =>
      post("/team/member_update", { team_id: "search", user_id: "bob", max_budget_in_team: 12, rpm_limit: null }),
    rpc: ({ entityAdmin }) =>
      entityAdmin.updateMember({
        member: member({ userId: "bob", maxBudgetUsd: "12" }),
        updateMask: { paths: ["max_budget_usd", "rpm_limit"] },
      }),
    cli: ["teams", "update-member", "search", "bob", "--max-budget", "12", "--clear", "rpm-limit"],
  },
  {
    what: "a member's budget is set back",
    http: (post) => post("/team/search/member/bob/reset_spend", { reset_to: 0 }),
    rpc: ({ entityAdmin }) => entityAdmin.resetMemberBudget({ teamId: "search", userId: "bob" }),
    cli: ["teams", "reset-member-spend", "search", "bob"],
  },
  {
    what: "models are added to what a team may use",
    http: (post) => post("/team/model/add", { team_id: "search", models: ["b", "c"] }),
    rpc: ({ entityAdmin }) => entityAdmin.changeEntityModels({ kind: TEAM, id: "search", add: ["b", "c"] }),
    cli: ["teams", "add-models", "search", "b", "c"],
  },
  {
    what: "and taken away",
    http: (post) => post("/team/model/delete", { team_id: "search", models: ["a", "c"] }),
    rpc: ({ entityAdmin }) => entityAdmin.changeEntityModels({ kind: TEAM, id: "search", remove: ["a", "c"] }),
    cli: ["teams", "remove-models", "search", "a", "c"],
  },
  {
    what: "a member is removed",
    http: (post) => post("/team/member_delete", { team_id: "search", user_id: "bob" }),
    rpc: ({ entityAdmin }) => entityAdmin.removeMember({ kind: TEAM, entityId: "search", userId: "bob" }),
    cli: ["teams", "remove-member", "search", "bob"],
  },
  {
    what: "a member is added to an organization",
    http: (post) =>
      post("/organization/member_add", { organization_id: "acme", member: { user_id: "bob", role: "internal_user" } }),
    rpc: ({ entityAdmin }) =>
      entityAdmin.addMembers({
        members: [{ kind: ORGANIZATION, entityId: "acme", userId: "bob", role: "internal_user" }],
      }),
    cli: ["organizations", "add-members", "acme", "bob", "--role", "internal_user"],
  },
  {
    what: "gets another role there",
    http: (post) =>
      post("/organization/member_update", { organization_id: "acme", user_id: "bob", role: "org_admin" }, "PATCH"),
    rpc: ({ entityAdmin }) =>
      entityAdmin.updateMember({
        member: { kind: ORGANIZATION, entityId: "acme", userId: "bob", role: "org_admin" },
        updateMask: { paths: ["role"] },
      }),
    cli: ["organizations", "update-member", "acme", "bob", "--role", "org_admin"],
  },
  {
    what: "and is removed",
    http: (post) => post("/organization/member_delete", { organization_id: "acme", user_id: "bob" }, "DELETE"),
    rpc: ({ entityAdmin }) => entityAdmin.removeMember({ kind: ORGANIZATION, entityId: "acme", userId: "bob" }),
    cli: ["organizations", "remove-member", "acme", "bob"],
  },
  {
    what: "an administrator is added to an organization",
    http: (post) =>
      post("/organization/member_add", { organization_id: "acme", member: { user_id: "ada", role: "org_admin" } }),
    rpc: ({ entityAdmin }) =>
      entityAdmin.addMembers({ members: [{ kind: ORGANIZATION, entityId: "acme", userId: "ada", role: "org_admin" }] }),
    cli: ["organizations", "add-members", "acme", "ada", "--role", "org_admin"],
  },
  {
    what: "a team gives its new members budgets, and says what they may do",
    http: async (post) => {
      const team_member_permissions = ["/key/generate"];
      await post("/team/update", { team_id: "search", team_member_budget: 2, team_member_permissions });
      await post("/team/member_add", { team_id: "search", member: { user_id: "bob", role: "user" } });
    },
    rpc: async ({ entityAdmin }) => {
      const extra = { team_member_budget: 2, team_member_permissions: ["/key/generate"] };
      await entityAdmin.updateEntity({ entity: { kind: TEAM, id: "search", extra }, updateMask: { paths: ["extra"] } });
      await entityAdmin.addMembers({ members: [member({ userId: "bob" })] });
    },
    cli: [
      [
        ...["teams", "update", "search", "--extra"],
        '{"team_member_budget":2,"team_member_permissions":["/key/generate"]}',
      ],
      ["teams", "add-members", "search", "bob"],
    ],
  },
  {
    what: "users are changed, each for itself",
    http: (post) =>
      post("/user/bulk_update", {
        users: [
          { user_id: "ada", rpm_limit: 6 },
          { user_id: "nobody", rpm_limit: 6 },
        ],
      }),
    rpc: ({ entityAdmin }) =>
      entityAdmin.batchUpdateEntities({
        requests: ["ada", "nobody"].map((id) => ({
          entity: { kind: USER, id, rpmLimit: 6n },
          updateMask: { paths: ["rpm_limit"] },
        })),
      }),
    cli: ["users", "update-many", "ada", "--rpm-limit", "6"],
  },
  {
    what: "all users are changed",
    http: (post) => post("/user/bulk_update", { all_users: true, user_updates: { tpm_limit: 60 } }),
    rpc: ({ entityAdmin }) =>
      entityAdmin.batchUpdateEntities({
        all: { entity: { kind: USER, tpmLimit: 60n }, updateMask: { paths: ["tpm_limit"] } },
      }),
    cli: ["users", "update-many", "--all", "--tpm-limit", "60"],
  },
  {
    what: "a team is made with members, and a user with teams and a key",
    http: async (post) => {
      await post("/team/new", { team_id: "crew", members_with_roles: [{ user_id: "ada", role: "admin" }] });
      await post("/user/new", { user_id: "eve", teams: ["crew"] });
    },
    rpc: async ({ entityAdmin }) => {
      const members = [{ id: "ada", role: "admin" }];
      await entityAdmin.createEntity({ entity: { kind: TEAM, id: "crew" }, members });
      await entityAdmin.createEntity({ entity: { kind: USER, id: "eve" }, members: [{ id: "crew" }], key: {} });
    },
    cli: [
      ["teams", "create", "crew", "--member", "ada=admin"],
      ["users", "create", "eve", "--team", "crew", "--key"],
    ],
  },
  {
    what: "a key is made with every field",
    http: (post) =>
      post("/key/generate", {
        ...{ key_alias: "ci", models: ["ok", "gpt-*"], aliases: { best: "ok" }, max_budget: 25.5, soft_budget: 20 },
        ...{ budget_duration: "30d", budget_limits: [{ budget_duration: "1d", max_budget: 5 }], rpm_limit: 100 },
        ...{ model_max_budget: { "gpt-4o": { budget_limit: 1.5, time_period: "1d" } }, tpm_limit: 5000 },
        ...{ max_parallel_requests: 4, user_id: "ada", team_id: "search", organization_id: "acme" },
        ...{ metadata: { cost: { centre: 7 } }, tags: ["a", "b"], budget_id: "shared" },
      }),
    rpc: ({ keyAdmin }) =>
      keyAdmin.createKey({
        key: {
          ...{
            alias: "ci",
            models: ["ok", "gpt-*"],
            aliases: { best: "ok" },
            maxBudgetUsd: "25.5",
            softBudgetUsd: "20",
          },
          ...{ budgetDuration: "30d", budgetWindows: [{ budgetDuration: "1d", maxBudgetUsd: "5" }], rpmLimit: 100n },
          ...{ modelBudgets: [{ model: "gpt-4o", maxBudgetUsd: "1.5", budgetDuration: "1d" }], tpmLimit: 5000n },
          ...{ maxParallelRequests: 4n, userId: "ada", teamId: "search", organizationId: "acme" },
          ...{ metadata: { cost: { centre: 7 } }, tags: ["a", "b"], budgetId: "shared" },
        },
      }),
    cli: [
      ...[
        "keys",
        "create",
        "--alias",
        "ci",
        "--models",
        "ok,gpt-*",
        "--model-alias",
        "best=ok",
        "--max-budget",
        "25.5",
      ],
      ...["--soft-budget", "20", "--budget-duration", "30d", "--window", "1d=5", "--rpm-limit", "100"],
      ...["--model-budget", "gpt-4o=1.5/1d", "--tpm-limit", "5000", "--max-parallel-requests", "4", "--user", "ada"],
      ...["--team", "search", "--organization", "acme", "--metadata", '{"cost":{"centre":7}}', "--tags", "a,b"],
      ...["--budget-id", "shared"],
    ],
  },
  {
    what: "a key is changed, and what its calls may be",
    http: (post) =>
      post("/key/update", {
        ...{ key: "ci", rpm_limit: 7, tpm_limit: null, user_id: null, max_budget: 30 },
        ...{ allowed_routes: ["llm_api_routes"], enforced_params: ["user"] },
      }),
    rpc: async (stage) =>
      stage.keyAdmin.updateKey({
        key: {
          ...{ id: await keyIdOf(stage, "ci"), rpmLimit: 7n, maxBudgetUsd: "30" },
          ...{ allowedRoutes: ["llm_api_routes"], enforcedParams: ["user"] },
        },
        updateMask: {
          paths: ["rpm_limit", "tpm_limit", "user_id", "max_budget_usd", "allowed_routes", "enforced_params"],
        },
      }),
    cli: [
      ...["keys", "update", "ci", "--rpm-limit", "7", "--clear", "tpm-limit", "--clear", "user", "--max-budget", "30"],
      ...["--allowed-routes", "llm_api_routes", "--enforced-params", "user"],
    ],
  },
  {
    what: "a key gets more budget for a time",
    http: (post) => post("/key/update", { key: "ci", temp_budget_increase: 9, temp_budget_expiry: expires }),
    rpc: async (stage) =>
      stage.keyAdmin.updateKey({
        key: {
          id: await keyIdOf(stage, "ci"),
          ...{ tempBudgetIncreaseUsd: "9", tempBudgetExpireTime: timestampFromDate(new Date(expires)) },
        },
        updateMask: { paths: ["temp_budget_increase_usd", "temp_budget_expire_time"] },
      }),
    cli: ["keys", "update", "ci", "--temp-budget-increase", "9", "--temp-budget-expires", expires],
  },
  {
    what: "a key keeps fields that do not act",
    http: (post) => post("/key/update", { key: "ci", guardrails: ["g"] }),
    rpc: async (stage) =>
      stage.keyAdmin.updateKey({
        key: { id: await keyIdOf(stage, "ci"), extra: { guardrails: ["g"] } },
        updateMask: { paths: ["extra"] },
      }),
    cli: ["keys", "update", "ci", "--extra", '{"guardrails":["g"]}'],
  },
  {
    what: "keys are changed, each for itself",
    http: (post) => post("/key/bulk_update", { keys: [{ key: "ci", rpm_limit: 8 }] }),
    rpc: async ({ keyAdmin }) => {
      const { results } = await keyAdmin.batchUpdateKeys({
        requests: ["nothing", "ci"].map((id) => ({ key: { id, rpmLimit: 8n } })),
      });
      assert.deepEqual(
        results.map(({ refusal }) => refusal?.reason),
        ["NOT_FOUND", undefined],
      );
    },
    cli: ["keys", "update-many", "ci", "--rpm-limit", "8"],
  },
  {
    what: "a key is blocked",
    http: (post) => post("/key/block", { key: "ci" }),
    rpc: ({ keyAdmin }) => keyAdmin.blockKey({ key: "ci" }),
    cli: ["keys", "block", "ci"],
  },
  {
    what: "a key is unblocked",
    http: (post) => post("/key/unblock", { key: "ci" }),
    rpc: ({ keyAdmin }) => keyAdmin.unblockKey({ key: "ci" }),
    cli: ["keys", "unblock", "ci"],
  },
  {
    what: "a key's secret is replaced, the old one going on for a day",
    http: (post) => post("/key/regenerate", { key: "ci", grace_period: "24h" }),
    rpc: ({ keyAdmin }) => keyAdmin.rotateKey({ key: "ci", gracePeriod: "24h" }),
    cli: ["keys", "rotate", "ci", "--grace-period", "24h"],
  },
  {
    what: "a key's budget is set back",
    http: (post) => post("/key/ci/reset_spend", { reset_to: 0 }),
    rpc: ({ keyAdmin }) => keyAdmin.resetKeyBudget({ key: "ci", resetToUsd: "0" }),
    cli: ["keys", "reset-spend", "ci"],
  },
  {
    what: "a second key is made",
    http: (post) => post("/key/generate", { key_alias: "old", duration: null }),
    rpc: ({ keyAdmin }) => keyAdmin.createKey({ key: { alias: "old" } }),
    cli: ["keys", "create", "--alias", "old"],
  },
  {
    what: "and deleted",
    http: (post) => post("/key/delete", { key_aliases: ["old"] }),
    rpc: ({ keyAdmin }) => keyAdmin.deleteKey({ key: "old" }),
    cli: ["keys", "delete", "old"],
  },
  ...["cust", "gone"].map(
    (id): Operation => ({
      what: `the customer ${id} is made`,
      http: (post) => post("/customer/new", { user_id: id, alias: "Customer", max_budget: 1.25, models: ["m"] }),
      rpc: created({ kind: CUSTOMER, id, alias: "Customer", maxBudgetUsd: "1.25", models: ["m"] }),
      cli: ["customers", "create", id, "--alias", "Customer", "--max-budget", "1.25", "--models", "m"],
    }),
  ),
  {
    what: "a customer is changed",
    http: (post) => post("/customer/update", { user_id: "cust", max_budget: 2, models: [] }),
    rpc: updated({ kind: CUSTOMER, id: "cust", maxBudgetUsd: "2" }, ["max_budget_usd", "models"]),
    cli: ["customers", "update", "cust", "--max-budget", "2", "--clear", "models"],
  },
  {
    what: "a customer is blocked",
    http: (post) => post("/customer/block", { user_ids: ["cust"] }),
    rpc: ({ entityAdmin }) => entityAdmin.blockEntity({ kind: CUSTOMER, id: "cust" }),
    cli: ["customers", "block", "cust"],
  },
  {
    what: "a customer is unblocked",
    http: (post) => post("/customer/unblock", { user_ids: ["cust"] }),
    rpc: ({ entityAdmin }) => entityAdmin.unblockEntity({ kind: CUSTOMER, id: "cust" }),
    cli: ["customers", "unblock", "cust"],
  },
  {
    what: "a customer is deleted",
    http: (post) => post("/customer/delete", { user_ids: ["gone"] }),
    rpc: deleted(CUSTOMER, "gone"),
    cli: ["customers", "delete", "gone"],
  },
  {
    what: "a tag is made",
    http: (post) => post("/tag/new", { name: "red", description: "Red", max_budget: 3, budget_duration: "1d" }),
    rpc: created({ kind: TAG, id: "red", alias: "Red", maxBudgetUsd: "3", budgetDuration: "1d" }),
    cli: ["tags", "create", "red", "--alias", "Red", "--max-budget", "3", "--budget-duration", "1d"],
  },
  {
    what: "a tag is changed",
    http: (post) => post("/tag/update", { name: "red", max_budget: 4 }),
    rpc: updated({ kind: TAG, id: "red", maxBudgetUsd: "4" }, ["max_budget_usd"]),
    cli: ["tags", "update", "red", "--max-budget", "4"],
  },
  {
    what: "a tag is deleted",
    http: (post) => post("/tag/delete", { name: "red" }),
    rpc: deleted(TAG, "red"),
    cli: ["tags", "delete", "red"],
  },
  {
    what: "a credential is made",
    http: (post) =>
      post("/credentials", { credential_name: "c", credential_values: { api_key: "k" }, credential_info: { a: 1 } }),
    rpc: ({ credentialAdmin }) =>
      credentialAdmin.createCredential({ credential: { name: "c", values: { api_key: "k" }, info: { a: 1 } } }),
    cli: ["credentials", "create", "c", "--values", '{"api_key":"k"}', "--info", '{"a":1}'],
  },
  {
    what: "a credential is changed",
    http: (post) => post("/credentials/c", { credential_values: { api_base: "https://x.example" } }, "PATCH"),
    rpc: ({ credentialAdmin }) =>
      credentialAdmin.updateCredential({
        ...{ name: "c", credential: { values: { api_base: "https://x.example" } } },
        updateMask: { paths: ["values.api_base"] },
      }),
    cli: ["credentials", "update", "c", "--values", '{"api_base":"https://x.example"}'],
  },
  {
    what: "a model is made",
    http: (post) =>
      post("/model/new", {
        ...{ model_name: "m", litellm_params: { model: "openai/gpt-4o-mini", litellm_credential_name: "c", rpm: 5 } },
        model_info: { id: "m-1", base_model: "gpt-4o-mini" },
      }),
    rpc: ({ modelAdmin }) =>
      modelAdmin.createModel({
        model: {
          ...{ id: "m-1", modelName: "m", modelInfo: { base_model: "gpt-4o-mini" } },
          litellmParams: { model: "openai/gpt-4o-mini", litellm_credential_name: "c", rpm: 5 },
        },
      }),
    cli: [
      ...["models", "create", "m-1", "--name", "m", "--info", '{"base_model":"gpt-4o-mini"}', "--params"],
      '{"model":"openai/gpt-4o-mini","litellm_credential_name":"c","rpm":5}',
    ],
  },
  {
    what: "a model is changed",
    http: (post) => post("/model/m-1/update", { litellm_params: { rpm: null, weight: 2 } }, "PATCH"),
    rpc: ({ modelAdmin }) =>
      modelAdmin.updateModel({
        model: { id: "m-1", litellmParams: { weight: 2 } },
        updateMask: { paths: ["litellm_params.weight", "litellm_params.rpm"] },
      }),
    cli: ["models", "update", "m-1", "--params", '{"rpm":null,"weight":2}'],
  },
  {
    what: "a model is deleted",
    http: (post) => post("/model/delete", { id: "m-1" }),
    rpc: ({ modelAdmin }) => modelAdmin.deleteModel({ id: "m-1" }),
    cli: ["models", "delete", "m-1"],
  },
  {
    what: "a credential is deleted",
    http: (post) => post("/credentials/c", {}, "DELETE"),
    rpc: ({ credentialAdmin }) => credentialAdmin.deleteCredential({ name: "c" }),
    cli: ["credentials", "delete", "c"],
  },
  {
    what: "the spend of all keys and teams is set back",
    before: book,
    http: (post) => post("/global/spend/reset", {}),
    rpc: async (stage) => {
      assert.equal((await stage.spendAdmin.resetSpend({})).budgets, 2n);
    },
    cli: ["spend", "reset", "--yes"],
  },
  {
    what: "a user is deleted",
    http: (post) => post("/user/delete", { user_ids: ["bob"] }),
    rpc: deleted(USER, "bob"),
    cli: ["users", "delete", "bob"],
  },
  {
    what: "a team is deleted, and its keys with it",
    http: (post) => post("/team/delete", { team_ids: ["search"] }),
    rpc: deleted(TEAM, "search"),
    cli: ["teams", "delete", "search"],
  },
  {
    what: "an organization is deleted",
    http: (post) => post("/organization/delete", { organization_ids: ["acme"] }, "DELETE"),
    rpc: deleted(ORGANIZATION, "acme"),
    cli: ["organizations", "delete", "acme"],
  },
];

/** Routes that are a shorter or an older way for others, or that only read. */
const otherWays = new Set([
  ...["/key/{key}/regenerate", "/team/bulk_member_add"],
  ...["/end_user/new", "/end_user/update", "/end_user/delete", "/end_user/block", "/end_user/unblock", "/model/update"],
  ...["/key/service-account/generate", "/key/health", "/team/permissions_update"],
  ...["/spend/calculate", "/cost/estimate", "/global/spend/refresh"],
  ...["/v2/key/info", "/tag/info", "/budget/info", "/global/spend/end_users", "/credentials/by_name/{credential_name}"],
]);

test("the same sequence of operations by HTTP, by gRPC and from the command line ends in the same rows", async (t) => {
  const used = new Set<string>();
  for (const { what, before: prepare, http, rpc, cli } of operations) {
    await t.test(what, async () => {
      for (const face of faces) await prepare?.(stages[face]);
      await http(async (path, body, method) => {
        // Where a key is named LiteLLM takes no alias.
        const [key] = await stages.http.sql<{ key_id: string }>("SELECT key_id FROM keys WHERE alias = 'ci'");
        const filled = JSON.parse(JSON.stringify(body).replace('"key":"ci"', `"key":"${key?.key_id}"`));
        const form = [...routes.keys()].find((each) => new RegExp(`^${each.replace(/\{\w+\}/g, "[^/]+")}$`).test(path));
        used.add(form ?? path);
        const answer = await stages.http.http(method ?? "POST", path.replace("/ci/", `/${key?.key_id}/`), filled);
        assert.equal(answer.status, 200, `${path}: ${JSON.stringify(answer.body)}`);
      });
      await rpc(stages.rpc);
      for (const args of typeof cli[0] === "string" ? [cli as readonly string[]] : (cli as readonly string[][])) {
        await runCli(stages.cli, args);
      }
      const [byHttp, byRpc, byCli] = [await newsOf(stages.http), await newsOf(stages.rpc), await newsOf(stages.cli)];
      assert.ok(Object.keys(byRpc).length > 0, "it did nothing");
      assert.deepEqual(byHttp, byRpc, "HTTP and gRPC");
      assert.deepEqual(byCli, byRpc, "command line and gRPC");
    });
  }
  await t.test("and leaves out no route and no method that changes anything", () => {
    const writing = [...routes].filter(([, { method }]) => [method].flat().some((each) => each !== "GET"));
    const unused = writing.map(([path]) => path).filter((path) => !used.has(path) && !otherWays.has(path));
    assert.deepEqual(unused, []);
    const code = operations.map(({ rpc }) => String(rpc)).join("\n") + [created, updated, deleted].join("\n");
    const methods = adminServices.flatMap((service) => service.methods.map(({ localName }) => localName));
    const unasked = methods.filter((name) => !/^(?:get|list|estimate)/.test(name) && !code.includes(`.${name}(`));
    assert.deepEqual(unasked, []);
  });
});
