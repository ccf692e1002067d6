import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import pg from "pg";
import { testDatabaseUrl } from "../postgres.ts";
import { masterKey, Process, Stack } from "./stack.ts";

/** The tables and columns of LiteLLM's that are read, of its types and defaults. */
const litellmTables = `
  CREATE TABLE "LiteLLM_BudgetTable" (budget_id text PRIMARY KEY, max_budget float8, soft_budget float8, budget_duration text,
    tpm_limit bigint, rpm_limit bigint, max_parallel_requests int);
  CREATE TABLE "LiteLLM_OrganizationTable" (organization_id text PRIMARY KEY, organization_alias text, budget_id text,
    models text[], metadata jsonb DEFAULT '{}');
  CREATE TABLE "LiteLLM_OrganizationMembership" (user_id text, organization_id text, user_role text);
  CREATE TABLE "LiteLLM_UserTable" (user_id text PRIMARY KEY, user_alias text, user_email text, user_role text, models text[] DEFAULT '{}',
    metadata jsonb DEFAULT '{}', max_budget float8, budget_duration text, tpm_limit bigint, rpm_limit bigint, max_parallel_requests int);
  CREATE TABLE "LiteLLM_TeamTable" (team_id text PRIMARY KEY, team_alias text, organization_id text, models text[] DEFAULT '{}',
    metadata jsonb DEFAULT '{}', blocked bool DEFAULT false, team_member_permissions text[] DEFAULT '{}', members_with_roles jsonb DEFAULT '{}',
    max_budget float8, soft_budget float8, budget_duration text, tpm_limit bigint, rpm_limit bigint, max_parallel_requests int);
  CREATE TABLE "LiteLLM_TeamMembership" (user_id text, team_id text, budget_id text);
  CREATE TABLE "LiteLLM_EndUserTable" (user_id text PRIMARY KEY, alias text, blocked bool DEFAULT false, budget_id text, default_model text,
    allowed_model_region text);
  CREATE TABLE "LiteLLM_TagTable" (tag_name text PRIMARY KEY, models text[] DEFAULT '{}', budget_id text);
  CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY, key_alias text, user_id text, team_id text, organization_id text,
    budget_id text, models text[] DEFAULT '{}', aliases jsonb DEFAULT '{}', metadata jsonb DEFAULT '{}', blocked bool, allowed_routes text[] DEFAULT '{}',
    allowed_cache_controls text[] DEFAULT '{}', max_budget float8, budget_duration text, model_max_budget jsonb DEFAULT '{}',
    tpm_limit bigint, rpm_limit bigint, max_parallel_requests int, expires timestamp(3));`;

const secrets = {
  app: "sk-of-the-app-for-years-now",
  blocked: "sk-that-was-blocked-there",
  over: "sk-that-was-over-long-ago",
};
const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

let stack: Stack;
let litellm: { url: string; drop(): Promise<void> };
before(async () => {
  [stack, litellm] = await Promise.all([Stack.start({ sidecars: 1 }), testDatabaseUrl()]);
  const client = new pg.Client({ connectionString: litellm.url });
  await client.connect();
  await client.query(litellmTables);
  await client.query(`
    INSERT INTO "LiteLLM_BudgetTable" VALUES ('tier-1', 5, NULL, '30d', NULL, 60, NULL);
    INSERT INTO "LiteLLM_OrganizationTable" VALUES ('org', 'Organization', 'tier-1', '{}');
    INSERT INTO "LiteLLM_UserTable" (user_id, user_email, user_role) VALUES ('ann', 'ann@example.com', 'internal_user'), ('bob', NULL, 'customer');
    INSERT INTO "LiteLLM_OrganizationMembership" VALUES ('ann', 'org', 'org_admin');
    INSERT INTO "LiteLLM_TeamTable" (team_id, team_alias, organization_id, max_budget, budget_duration, members_with_roles)
      VALUES ('search', 'Search', 'org', 100, '30d', '[{"user_id": "ann", "role": "admin"}, {"user_id": "bob", "role": "user"}]');
    INSERT INTO "LiteLLM_TeamMembership" VALUES ('bob', 'search', 'tier-1');
    INSERT INTO "LiteLLM_EndUserTable" (user_id, blocked, budget_id) VALUES ('end-user', true, 'tier-1');
    INSERT INTO "LiteLLM_TagTable" VALUES ('batch', '{}', 'tier-1');`);
  await client.query(
    `INSERT INTO "LiteLLM_VerificationToken" (token, key_alias, user_id, team_id, models, max_budget, budget_duration, rpm_limit, metadata, blocked, expires)
     VALUES ($1, 'app', 'ann', 'search', '{ok}', 2.5, '7d', 100, '{"owner": "search"}', NULL, timezone('UTC', now()) + interval '2 days'),
            ($2, 'blocked', NULL, NULL, '{}', NULL, NULL, NULL, '{}', true, NULL),
            ($3, 'over', NULL, NULL, '{}', NULL, NULL, NULL, '{}', NULL, timezone('UTC', now()) - interval '1 day'),
            ($4, NULL, NULL, 'litellm-dashboard', '{}', NULL, NULL, NULL, '{}', NULL, NULL)`,
    [sha256(secrets.app), sha256(secrets.blocked), sha256(secrets.over), sha256("sk-of-the-dashboard")],
  );
  await client.end();
});
after(async () => {
  await stack.close();
  await litellm.drop();
});

test("LiteLLM's keys go on working with what they may and have, without anybody knowing them", async () => {
  const listed = await importLitellm("--dry-run");
  assert.equal(listed.code, 0);
  assert.equal(listed.output.trim().split("\n").length, 12, listed.output);
  assert.equal((await stack.admin("GET", "/team/list")).status, 200);
  assert.deepEqual((await stack.admin("GET", "/team/list")).body, [], "a dry run makes nothing");

  const first = await importLitellm();
  assert.equal(first.output, "12 made, 0 were there already, 0 refused\n");
  assert.equal(first.code, 0);

  const client = new OpenAI({ apiKey: secrets.app, baseURL: `${stack.sidecars[0]?.url}/v1`, maxRetries: 0 });
  const ask = (model: string) => client.chat.completions.create({ model, messages: [{ role: "user", content: "Hi" }] });
  assert.ok((await ask("ok")).choices[0]?.message.content);
  await assert.rejects(ask("slow"), { status: 403 });
  const { info } = (await stack.admin("GET", `/key/info?key=${secrets.app}`)).body as { info: Record<string, unknown> };
  const { key_alias, team_id, user_id, max_budget, budget_duration, rpm_limit, metadata } = info;
  assert.deepEqual(
    { key_alias, team_id, user_id, max_budget, budget_duration, rpm_limit, metadata },
    {
      key_alias: "app",
      team_id: "search",
      user_id: "ann",
      max_budget: 2.5,
      budget_duration: "7d",
      rpm_limit: 100,
      metadata: { owner: "search" },
    },
  );
  const leftMs = Date.parse(String(info.expires)) - Date.now();
  assert.ok(leftMs > 47 * 3_600_000 && leftMs <= 48 * 3_600_000 + 1_000, String(info.expires));

  for (const [secret, status] of [
    [secrets.blocked, 403],
    [secrets.over, 401],
    ["sk-of-the-dashboard", 401],
    [sha256(secrets.app), 401],
  ] as const) {
    const answer = await fetch(`${stack.sidecars[0]?.url}/v1/models`, {
      headers: { authorization: `Bearer ${secret}` },
    });
    assert.equal(answer.status, status, secret);
  }
});

test("LiteLLM's teams, members, organizations, customers and tags come along", async () => {
  const { team_info: team } = (await stack.admin("GET", "/team/info?team_id=search")).body as {
    team_info: Record<string, unknown>;
  };
  assert.equal(team.team_alias, "Search");
  assert.equal(team.max_budget, 100);
  assert.equal(team.organization_id, "org");
  const members = (team.members_with_roles as { user_id: string; role: string }[]).map(
    ({ user_id, role }) => `${user_id} ${role}`,
  );
  assert.deepEqual(members.sort(), ["ann admin", "bob user"]);
  assert.equal((await stack.admin("GET", "/customer/info?end_user_id=end-user")).body.blocked, true);
});

test("an import that is repeated changes nothing, and says so", async () => {
  const second = await importLitellm();
  // Members are written once more as they are.
  assert.match(second.output, /^3 made, 9 were there already, 0 refused\n$/);
  assert.equal(second.code, 0);
});

test("what is refused is told with its reason, and no other key stands for it", async () => {
  const client = new pg.Client({ connectionString: litellm.url });
  await client.connect();
  await client.query(`INSERT INTO "LiteLLM_VerificationToken" (token, key_alias) VALUES ($1, 'app')`, [
    sha256("sk-another-app-s-key"),
  ]);
  await client.end();
  const { code, output } = await importLitellm();
  assert.equal(code, 1);
  assert.match(output, /\/key\/generate app: Another key has this `key_alias`/);
  assert.match(output, /, 1 refused\n$/);
  assert.ok(!output.includes(sha256("sk-another-app-s-key")));
});

test("only administrators may name a key by its digest: others might take another's", async () => {
  const { key } = (await stack.admin("POST", "/user/new", { user_id: "eve" })).body;
  const generate = async (body: object) => {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const url = `${stack.keyServiceUrl}/key/generate`;
    return (await fetch(url, { method: "POST", headers, body: JSON.stringify(body) })).status;
  };
  assert.equal(await generate({}), 200);
  assert.equal(await generate({ key: sha256("sk-whose-ever-this-is") }), 403);
});

test("the digest of the master key is refused as a key, as the master key is", async () => {
  const { status } = await stack.admin("POST", "/key/generate", { key: sha256(masterKey) });
  assert.equal(status, 400);
});

async function importLitellm(...flags: string[]): Promise<{ code: number | null; output: string }> {
  const program = new Process(["import", "litellm", ...flags], {
    LITELLM_DATABASE_URL: litellm.url,
    LITELLM_MASTER_KEY: masterKey,
    KEYSERVICE_URL: stack.keyServiceUrl,
  });
  const code = await program.exited();
  return { code, output: program.output };
}
