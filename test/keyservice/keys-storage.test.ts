import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { masterKey, Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
  await stage.teams("many");
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

/** Everything the database holds, every column as text; bytes in hex. */
async function dump(): Promise<string> {
  const tables = await stage.sql<{ name: string }>(
    "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'public'",
  );
  const contents: string[] = [];
  for (const { name } of tables) {
    const rows = await stage.sql<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
    contents.push(...rows.map(({ row }) => row));
  }
  return contents.join("\n");
}

test("no secret is anywhere in the database, nor its plain digest", async () => {
  const chosen = "sk-chosen-by-hand-0123456789";
  const made = await stage.http("POST", "/key/generate", { key: chosen });
  const other = await stage.keyAdmin.createKey({});
  await stage.http("POST", "/key/update", { key: chosen, rpm_limit: 1 });
  await stage.http("POST", "/key/block", { key: other.secret });
  const text = await dump();
  assert.ok(text.includes(made.body.key_id), "the dump must hold the keys' rows");
  for (const secret of [chosen, other.secret, masterKey]) {
    const digest = createHash("sha256").update(secret).digest();
    for (const trace of [secret, secret.slice(3), secret.slice(3, 15), Buffer.from(secret).toString("hex")]) {
      assert.ok(!text.includes(trace), "a secret is in the database");
    }
    for (const encoding of ["hex", "base64", "base64url"] as const) {
      assert.ok(!text.includes(digest.toString(encoding)), "a plain digest is in the database");
    }
  }
});

const hostile = [
  "'; DROP TABLE keys; --",
  "' OR '1'='1",
  '"; DELETE FROM budgets; --',
  "$1 $$ \\' \\x00 \\",
  "{}\"',[]()",
  `%s%n$${"{jndi:ldap://x}"}{{7*7}}`,
  "\u202e\ufeff\u200b \t\r\n end",
  "日本語 🦊 é",
  "<script>alert(1)</script>",
  "__proto__",
];

test("hostile strings are stored as they are, in every field, by either face", async () => {
  for (const [index, text] of hostile.entries()) {
    const own = `${text} ${index}`;
    // A team is named when it is made, by its own rules.
    const team_id = `hostile-${index}`;
    await stage.teams(team_id);
    const fields = {
      user_id: own,
      team_id,
      models: [own],
      aliases: { [own]: own },
      metadata: { [own]: [own] },
      tags: [own],
      permissions: { [own]: own },
      [`unknown ${text}`]: own,
    };
    const { status, body } = await stage.http("POST", "/key/generate", { ...fields, key_alias: `${own} http` });
    assert.equal(status, 200, text);
    const { info } = (await stage.http("GET", `/key/info?key=${body.key}`)).body;
    assert.equal(info.key_alias, `${own} http`);
    for (const [name, value] of Object.entries(fields)) assert.deepEqual(info[name], value, name);
    assert.equal((await stage.http("GET", `/key/list?team_id=${team_id}`)).body.total_count, 1);

    const message = { userId: own, models: [own], aliases: { [own]: own }, metadata: { [own]: own }, tags: [own] };
    await stage.keyAdmin.createKey({ key: { ...message, alias: `${own} rpc` } });
    const { key } = await stage.keyAdmin.getKey({ key: `${own} rpc` });
    for (const [name, value] of Object.entries(message)) {
      assert.deepEqual(key?.[name as keyof typeof message], value, name);
    }
  }
});

test("both faces leave the same rows", async () => {
  await stage.teams("same");
  const rows = () =>
    stage.sql(
      `SELECT k.alias, k.user_id, k.team_id, k.models, k.aliases, k.rpm_limit, k.tpm_limit, k.max_parallel_requests, k.metadata,
         k.tags, k.extra, k.blocked, k.created_by, k.pepper_id, extract(epoch FROM k.expires_at - k.created_at)::int AS life_s,
         k.deleted_at IS NOT NULL AS deleted, b.scope, b.max_nanos, b.soft_nanos, b.duration,
         (SELECT count(*) FROM changes c WHERE c.entity_id = k.key_id) AS changes
       FROM keys k JOIN budgets b ON b.scope_id = k.key_id WHERE k.team_id = 'same' ORDER BY k.created_at`,
    );
  const { body } = await stage.http("POST", "/key/generate", {
    key_alias: "same",
    team_id: "same",
    user_id: "u",
    models: ["a", "b*"],
    aliases: { x: "a" },
    max_budget: 0.3,
    budget_duration: "1d",
    rpm_limit: 5,
    metadata: { a: [1] },
    tags: ["t"],
    duration: "2h",
  });
  await stage.http("POST", "/key/update", { key: body.key, rpm_limit: null, tpm_limit: 7, max_budget: 0.4 });
  await stage.http("POST", "/key/block", { key: body.key });
  await stage.http("POST", "/key/delete", { keys: [body.key] });
  const { secret } = await stage.keyAdmin.createKey({
    key: {
      alias: "same",
      teamId: "same",
      userId: "u",
      models: ["a", "b*"],
      aliases: { x: "a" },
      maxBudgetUsd: "0.3",
      budgetDuration: "1d",
      rpmLimit: 5n,
      metadata: { a: [1] },
      tags: ["t"],
    },
    duration: "2h",
  });
  await stage.keyAdmin.updateKey({
    key: { id: "same", tpmLimit: 7n, maxBudgetUsd: "0.4" },
    updateMask: { paths: ["rpm_limit", "tpm_limit", "max_budget_usd"] },
  });
  await stage.keyAdmin.blockKey({ key: secret });
  await stage.keyAdmin.deleteKey({ key: secret });
  const [http, rpc, ...more] = await rows();
  assert.ok(http !== undefined && more.length === 0);
  assert.equal(http.max_nanos, 400_000_000n);
  assert.equal(http.life_s, 7200);
  assert.deepEqual(http, rpc);
});

test("versions grow with every change, one change a version", async () => {
  const makers = Array.from({ length: 10 }, (_, index) =>
    stage.http("POST", "/key/generate", { team_id: "many", rpm_limit: index }),
  );
  await Promise.all(makers);
  const [books] = await stage.sql<{ version: bigint }>("SELECT version FROM revision");
  const changes = await stage.sql<{ version: bigint }>("SELECT version FROM changes ORDER BY version");
  assert.equal(changes.at(-1)?.version, books?.version);
  const [newest] = await stage.sql<{ version: bigint }>("SELECT max(version) AS version FROM keys");
  assert.equal(newest?.version, books?.version);
});
