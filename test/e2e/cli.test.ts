import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { masterKey, Stack } from "./stack.ts";

const main = new URL("../../sidecar/main.ts", import.meta.url).pathname;

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function run(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env: { PATH: process.env.PATH, ...env } }, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}

describe("tollgate keys, teams and spend", () => {
  let stack: Stack;
  let directory: string;
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "tollgate-cli-"));
    stack = await Stack.start({ sidecars: 1 });
  });
  after(async () => {
    await stack?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const cli = (...args: string[]) =>
    run(args, { KEYSERVICE_URL: stack.keyServiceUrl, TOLLGATE_ADMIN_TOKEN: masterKey });

  // biome-ignore lint/suspicious/noExplicitAny: tests look into documents of every shape, and assert what is there.
  async function json(...args: string[]): Promise<any> {
    const { code, out, err } = await cli(...args, "--json");
    assert.equal(code, 0, err);
    return JSON.parse(out);
  }

  const fields = [
    ...[
      "--alias",
      "ci",
      "--models",
      "ok,gpt-*",
      "--max-budget",
      "25.5",
      "--soft-budget",
      "20",
      "--budget-duration",
      "30d",
    ],
    ...[
      "--window",
      "1d=5",
      "--window",
      "7d=10",
      "--model-budget",
      "gpt-4o=1.5/1d",
      "--rpm-limit",
      "100",
      "--tpm-limit",
      "5000",
    ],
    ...["--max-parallel-requests", "4", "--user", "ann", "--tags", "a, b", "--metadata", '{"cost":{"centre":7}}'],
    ...["--model-alias", "best=ok", "--expires", "2099-01-31T00:00:00Z"],
  ];

  it("a key is made with every field, shown, and works; its secret is printed this once", async () => {
    const made = await json("keys", "create", ...fields);
    assert.match(made.secret, /^sk-/);
    assert.equal((await stack.chat(0, made.secret, { model: "best" })).status, 200);
    const { out } = await cli("keys", "info", "ci", "--json");
    assert.ok(!out.includes(made.secret));
    const { create_time, update_time, etag, spent_usd, reserved_usd, budget_reset_time, masked, ...shown } =
      JSON.parse(out);
    assert.deepEqual(
      {
        ...shown,
        budget_windows: shown.budget_windows.map((w: Record<string, string>) => [w.budget_duration, w.max_budget_usd]),
      },
      {
        ...{ id: made.id, alias: "ci", models: ["ok", "gpt-*"], aliases: { best: "ok" }, max_budget_usd: "25.5" },
        ...{ soft_budget_usd: "20", budget_duration: "30d", rpm_limit: "100", tpm_limit: "5000" },
        ...{ max_parallel_requests: "4", expire_time: "2099-01-31T00:00:00Z", blocked: false, user_id: "ann" },
        ...{ metadata: { cost: { centre: 7 } }, tags: ["a", "b"], extra: {}, rotation_count: 0 },
        ...{ allowed_routes: [], enforced_params: [] },
        budget_windows: [
          ["1d", "5"],
          ["7d", "10"],
        ],
        model_budgets: [{ model: "gpt-4o", budget_duration: "1d", max_budget_usd: "1.5" }],
        ...{ rotation_count: 0, allowed_routes: [], enforced_params: [], extra: {} },
      },
    );
    const text = await cli("keys", "info", made.id);
    assert.match(text.out, /^id +key_\w+\nalias +ci\nmasked +sk-/);
    assert.match(text.out, /^max_budget_usd +25\.5$/m);
  });

  it("rotates a key, sets its spend back, and shows who did it", async () => {
    const made = await json("keys", "create", "--alias", "turning");
    const rotated = await json("keys", "rotate", "turning", "--grace-period", "1h");
    assert.notEqual(rotated.secret, made.secret);
    assert.equal(rotated.rotation_count, 1);
    for (const secret of [made.secret, rotated.secret]) {
      assert.equal((await stack.chat(0, secret, { model: "ok" })).status, 200);
    }
    assert.equal((await json("keys", "reset-spend", "turning", "--to", "0")).id, made.id);
    const changes = await json("audit", "list", "--id", made.id, "--action", "updated");
    assert.deepEqual([changes[0].changed_by, changes.at(-1).after.rotation_count], ["master_key", 1]);
    const table = await cli("audit", "list", "--type", "key", "--limit", "3");
    assert.match(table.out, /^WHEN +WHO +ACTION +WHAT +ID/);
    assert.match((await cli("audit", "list", "--action", "x")).err, /none of created, updated, deleted/);
  });

  it("an update changes what its flags name, clears what it is told to, and nothing else", async () => {
    const { etag } = await json("keys", "info", "ci");
    const updated = await json(
      "keys",
      "update",
      "ci",
      "--rpm-limit",
      "7",
      "--clear",
      "tpm-limit",
      "--clear",
      "user",
      "--etag",
      etag,
    );
    assert.deepEqual([updated.rpm_limit, updated.tpm_limit, updated.user_id], ["7", undefined, undefined]);
    assert.deepEqual([updated.alias, updated.max_budget_usd, updated.max_parallel_requests], ["ci", "25.5", "4"]);
    const stale = await cli("keys", "update", "ci", "--rpm-limit", "8", "--etag", etag);
    assert.equal(stale.code, 1);
    assert.match(stale.err, /\(conflict\)\n.*tollgate keys info/);
    assert.equal((await json("keys", "info", "ci")).rpm_limit, "7");
  });

  it("a blocked key is refused, an unblocked one works, a deleted one is gone", async () => {
    const { secret } = await json("keys", "create", "--alias", "door");
    assert.equal((await stack.chat(0, secret)).status, 200);
    const status = async (wanted: number) => {
      for (let tries = 0; tries < 50; tries++) {
        if ((await stack.chat(0, secret)).status === wanted) return true;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return false;
    };
    assert.match((await cli("keys", "block", "door")).out, /^blocked +yes$/m);
    assert.ok(await status(403));
    assert.equal((await json("keys", "unblock", "door")).blocked, false);
    assert.ok(await status(200));
    assert.equal((await cli("keys", "delete", "door")).out, "The key is deleted.\n");
    const gone = await cli("keys", "info", "door");
    assert.equal(gone.code, 1);
    assert.match(gone.err, /^tollgate: .*\(not_found\)\n.*tollgate keys list/);
  });

  it("a list follows pages up to --limit, and says when there are more", async () => {
    const team = ["--team", "crowd"];
    await json("teams", "create", "crowd");
    for (const index of Array.from({ length: 7 }, (_, each) => each)) {
      await stack.generateKey({ key_alias: `member-${index}`, team_id: "crowd" });
    }
    const all = await json("keys", "list", ...team);
    assert.deepEqual(
      all.map(({ alias }: { alias: string }) => alias),
      [6, 5, 4, 3, 2, 1, 0].map((index) => `member-${index}`),
    );
    const some = await cli("keys", "list", ...team, "--limit", "3");
    assert.equal(some.out.split("\n").length, 5, "a head, three rows and the end");
    assert.match(some.out, /^ID +ALIAS +KEY +TEAM +USER +SPENT \$/);
    assert.match(some.err, /There are more; --limit/);
    const exact = await cli("keys", "list", ...team, "--limit", "7");
    assert.equal(exact.err, "", "all of them are there");
    assert.equal((await cli("keys", "list", "--team", "nobody")).out, "None.\n");
    assert.deepEqual(await json("keys", "list", "--team", "nobody"), []);
  });

  it("a list of more than a page of the service's is whole", async () => {
    await stack.database.query(
      `INSERT INTO entities (scope, entity_id, created_by, updated_by, version)
       SELECT 'tag', 'many-' || n, 'test', 'test', 1 FROM generate_series(1, 2300) n`,
    );
    const all: { id: string }[] = await json("tags", "list", "--limit", "5000");
    assert.equal(new Set(all.map(({ id }) => id).filter((id) => id.startsWith("many-"))).size, 2300);
    assert.equal((await json("tags", "list", "--limit", "2200")).length, 2200);
    assert.equal((await json("tags", "list")).length, 100);
  });

  it("teams and users are made, changed, blocked and deleted", async () => {
    const made = await json(
      "teams",
      "create",
      "search",
      "--alias",
      "Search",
      "--max-budget",
      "100",
      "--window",
      "1d=10",
    );
    assert.deepEqual(
      [made.id, made.kind, made.alias, made.max_budget_usd],
      ["search", "ENTITY_KIND_TEAM", "Search", "100"],
    );
    const updated = await json("teams", "update", "search", "--models", "ok", "--clear", "alias");
    assert.deepEqual([updated.models, updated.alias, updated.max_budget_usd], [["ok"], undefined, "100"]);
    assert.equal((await json("teams", "block", "search")).blocked, true);
    assert.equal((await json("teams", "info", "search")).blocked, true);
    assert.equal((await json("teams", "unblock", "search")).blocked, false);
    assert.deepEqual(await json("teams", "delete", "search"), { deleted: true });
    assert.equal((await cli("teams", "info", "search")).code, 1);
    const user = await json("users", "create", "--email", "ann@example.com", "--role", "internal_user");
    assert.deepEqual([user.email, user.role], ["ann@example.com", "internal_user"]);
    assert.notEqual(user.id, "");
  });

  it("members come and go, with budgets, and users with keys", async () => {
    await json("teams", "create", "crew", "--member", "lead=admin");
    const added = await json(
      "teams",
      "add-members",
      "crew",
      "ann",
      "bob",
      "--max-budget",
      "5",
      "--budget-duration",
      "1d",
    );
    assert.deepEqual(
      added.map((one: Record<string, string>) => [one.user_id, one.role, one.max_budget_usd]),
      [
        ["ann", "user", "5"],
        ["bob", "user", "5"],
      ],
    );
    const changed = await json("teams", "update-member", "crew", "ann", "--role", "admin", "--clear", "max-budget");
    assert.deepEqual([changed.role, changed.max_budget_usd, changed.budget_duration], ["admin", undefined, "1d"]);
    assert.equal((await json("teams", "reset-member-spend", "crew", "bob")).spent_usd, "0");
    assert.deepEqual(await json("teams", "remove-member", "crew", "bob"), { removed: true });
    assert.match((await cli("teams", "members", "crew")).out, /^USER +ROLE.*\nlead +admin.*\nann +admin/);
    const user = await json("users", "create", "eve", "--team", "crew", "--key");
    assert.equal((await stack.chat(0, user.secret, { model: "ok" })).status, 200);
    assert.equal((await json("teams", "list", "--user", "eve"))[0].id, "crew");
    assert.deepEqual((await json("teams", "add-models", "crew", "ok", "gpt")).models, ["ok", "gpt"]);
    assert.deepEqual((await json("teams", "remove-models", "crew", "gpt")).models, ["ok"]);
  });

  it("of several changes each is told of, and one that is refused fails the command", async () => {
    for (const alias of ["first", "second"]) await json("keys", "create", "--alias", alias);
    const good = await json("keys", "update-many", "first", "second", "--rpm-limit", "3");
    assert.deepEqual(
      good.map((row: { done: boolean; now: { rpm_limit: string } }) => [row.done, row.now.rpm_limit]),
      [
        [true, "3"],
        [true, "3"],
      ],
    );
    const { code, out } = await cli("keys", "update-many", "first", "nowhere", "--rpm-limit", "4");
    assert.equal(code, 1);
    assert.match(out, /^first +yes.*\nnowhere +no +There is no such key/m);
    const aliases = (await json("keys", "aliases")).map(({ alias }: { alias: string }) => alias);
    assert.deepEqual([aliases.includes("first"), aliases], [true, aliases.toSorted()]);
    assert.match((await cli("users", "update-many", "--rpm-limit", "1")).err, /either ids of users, or --all/);
  });

  it("a command that is repeated with its request id makes nothing new", async () => {
    const requestId = ["--request-id", "0f8fad5b-d9cb-469f-a165-70867728950e"];
    const made = await json("keys", "create", ...requestId);
    const again = await json("keys", "create", ...requestId);
    assert.deepEqual([again.id, again.secret], [made.id, ""]);
  });

  it("shared budgets, models and credentials are made, changed and deleted; secrets come from files", async () => {
    await json("budgets", "create", "shared", "--max-budget", "3", "--rpm-limit", "5");
    const { etag } = (await json("budgets", "list", "shared"))[0];
    assert.equal((await json("budgets", "update", "shared", "--max-budget", "4", "--etag", etag)).max_budget_usd, "4");
    assert.equal((await cli("budgets", "update", "shared", "--max-budget", "5", "--etag", etag)).code, 1);
    assert.deepEqual(await json("budgets", "delete", "shared"), { deleted: true });

    const file = join(directory, "values.json");
    writeFileSync(file, '{"api_key":"sk-provider-secret-0123456789"}');
    const made = await cli("credentials", "create", "lent", "--values-file", file, "--json");
    assert.equal(made.code, 0, made.err);
    assert.doesNotMatch(made.out, /provider-secret-0123456789/);
    const info = await json("credentials", "update", "lent", "--info", '{"owner":"ann"}');
    assert.deepEqual(info.info, { owner: "ann" });
    assert.equal((await cli("credentials", "list")).out.split("\n")[1]?.startsWith("lent"), true);
    assert.deepEqual(await json("credentials", "delete", "lent"), { deleted: true });
    const both = await cli("credentials", "create", "x", "--values", "{}", "--values-file", file);
    assert.deepEqual([both.code, /as well/.test(both.err)], [64, true]);
    const wrong = await cli("credentials", "create", "x", "--values", "[1]");
    assert.match(wrong.err, /--values: it is not a JSON object/);

    const off = await cli("models", "create", "--name", "m", "--params", '{"model":"openai/gpt-4o"}');
    assert.match(off.err, /\(model_storage_off\)/);
    assert.ok((await json("models", "list", "--limit", "1000")).every(({ stored }: { stored: boolean }) => !stored));
    assert.ok(Array.isArray(await json("models", "groups")));
  });

  it("what calls would cost is estimated, and all that was used is set back only when that is really wanted", async () => {
    const known = await json("spend", "estimate", "openai/gpt-4o", "--input-tokens", "1000", "--output-tokens", "10");
    assert.ok(Number(known.cost_usd) > 0);
    const messages = JSON.stringify({ messages: [{ role: "user", content: "x".repeat(3_000) }] });
    assert.ok(Number((await json("spend", "estimate", "openai/gpt-4o", "--request", messages)).cost_usd) > 0);
    assert.equal((await cli("spend", "reset")).code, 64);
    assert.match((await cli("spend", "reset", "--yes")).out, /^\d+ budgets were set back\.$/m);
    assert.deepEqual(await json("spend", "providers"), []);
    const days = await json("spend", "daily", "--of", "key", "--from", "2026-01-01", "--to", "2099-01-01");
    assert.ok(days.every(({ parts }: { parts: unknown[] }) => parts.length > 0));
  });

  it("spend is listed and reported, and the sums are those of the log", async () => {
    const { id, secret } = await json("keys", "create", "--alias", "payer");
    for (let calls = 0; calls < 3; calls++) assert.equal((await stack.chat(0, secret)).status, 200);
    await stack.booked(secret, 3);
    const rows: { cost_usd: string; key_id: string; status: string }[] = await json("spend", "list", "--key", "payer");
    assert.deepEqual(
      rows.map(({ key_id, status }) => [key_id, status]),
      Array(3).fill([id, "success"]),
    );
    const total = rows.reduce((sum, { cost_usd }) => sum + Math.round(Number(cost_usd) * 1e9), 0);
    const [sum, ...others] = await json("spend", "report", "--by", "key,model-group", "--only", `key=${id}`);
    assert.deepEqual(others, []);
    assert.deepEqual([sum.key_id, sum.model_group, sum.successes], [id, "ok", "3"]);
    assert.equal(Math.round(Number(sum.cost_usd) * 1e9), total);
    assert.match((await cli("spend", "report", "--by", "key")).out, /^KEY +IN +OUT +ANSWERED +FAILED +COST \$\n/);
    assert.deepEqual(await json("spend", "report", "--only", `key=${id}`, "--by", "day", "--to", "2020-01-01"), []);
  });

  it("HTTP and the command line end in the same row", async () => {
    await stack.generateKey({
      key_alias: "by-http",
      max_budget: 3,
      budget_duration: "7d",
      rpm_limit: 9,
      models: ["ok"],
      tags: ["x"],
    });
    await json(
      "keys",
      "create",
      "--alias",
      "by-cli",
      "--max-budget",
      "3",
      "--budget-duration",
      "7d",
      "--rpm-limit",
      "9",
      "--models",
      "ok",
      "--tags",
      "x",
    );
    const { rows } = await stack.database.query(
      `SELECT models, rpm_limit, tpm_limit, metadata, k.tags, blocked, max_nanos, duration
       FROM keys k JOIN budgets b ON b.scope_id = k.key_id WHERE alias IN ('by-http', 'by-cli')`,
    );
    assert.equal(rows.length, 2);
    assert.deepEqual(rows[0], rows[1]);
  });

  it("the program itself knows every resource, and a wrong word is told of with 64", async () => {
    const { out } = await run(["--help"], {});
    const [names = ""] = /keys(\|\w+)+/.exec(out) ?? [];
    const resources = [...names.split("|"), "spend"];
    assert.equal(resources.length, 10);
    const answers = await Promise.all(resources.map((resource) => run([resource, "--help"], {})));
    for (const { code, err } of answers) assert.deepEqual([code, err], [0, ""]);
    const { code, err } = await cli("keys", "explode");
    assert.equal(code, 64);
    assert.match(err, /"explode" is none of create/);
  });

  it("what the KeyService finds wrong is told with the field", async () => {
    const { code, err } = await cli("keys", "create", "--budget-duration", "a while", "--max-budget", "1");
    assert.equal(code, 64);
    assert.match(err, /^tollgate: .*budget_duration.*\(invalid_request\)\n/);
    await json("keys", "create", "--alias", "twin");
    const twin = await cli("keys", "create", "--alias", "twin", "--json");
    assert.deepEqual([twin.code, twin.out], [1, ""]);
    const { error } = JSON.parse(twin.err);
    assert.equal(error.code, "already_exists");
    assert.match(error.hint, /tollgate keys update/);
  });

  it("the token comes from a file, from TOLLGATE_ADMIN_TOKEN or is the master key; a wrong one is told of with 77, and never shown", async () => {
    const where = { KEYSERVICE_URL: stack.keyServiceUrl };
    const file = join(directory, "token");
    writeFileSync(file, `${masterKey}\n`);
    assert.equal(
      (await run(["keys", "list", "--token-file", file], { ...where, TOLLGATE_ADMIN_TOKEN: "sk-wrong" })).code,
      0,
    );
    assert.equal((await run(["keys", "list"], { ...where, TOLLGATE_ADMIN_TOKEN_FILE: file })).code, 0);
    assert.equal((await run(["keys", "list"], { ...where, LITELLM_MASTER_KEY: masterKey })).code, 0);
    const wrong = await run(["keys", "list"], { ...where, TOLLGATE_ADMIN_TOKEN: "sk-wrong-0123456789" });
    assert.equal(wrong.code, 77);
    assert.match(wrong.err, /\(invalid_api_key\)\nSet TOLLGATE_ADMIN_TOKEN/);
    assert.doesNotMatch(wrong.err, /sk-wrong/);
    const none = await run(["keys", "list"], where);
    assert.equal(none.code, 64);
    assert.match(none.err, /no token: set TOLLGATE_ADMIN_TOKEN/);
    const missing = await run(["keys", "list", "--token-file", join(directory, "none")], where);
    assert.deepEqual([missing.code, /cannot read .*ENOENT/.test(missing.err)], [64, true]);
    writeFileSync(file, "sk-two\nlines");
    const broken = await run(["keys", "list", "--token-file", file], where);
    assert.equal(broken.code, 64);
    assert.doesNotMatch(broken.err, /sk-two/);
  });

  it("a KeyService that is not there is told of with 69, and something else that is, too", async () => {
    const away = await run(["keys", "list"], { KEYSERVICE_URL: "http://127.0.0.1:1", TOLLGATE_ADMIN_TOKEN: masterKey });
    assert.equal(away.code, 69);
    assert.match(away.err, /\(unavailable\)\nIs a KeyService running at http:\/\/127\.0\.0\.1:1\?/);
    const other = createServer((_, res) => res.end("hello"));
    await new Promise<void>((resolve) => void other.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    const { code, out, err } = await run(["keys", "list"], { KEYSERVICE_URL: url, TOLLGATE_ADMIN_TOKEN: masterKey });
    other.closeAllConnections();
    other.close();
    assert.notEqual(code, 0);
    assert.equal(out, "");
    assert.match(err, /^tollgate: .+\n.*KeyService/);
  });

  it("what somebody put into a name moves no cursor", async () => {
    await stack.generateKey({ key_alias: "evil\u001b[2J\u202ename" });
    const { out } = await cli("keys", "list", "--limit", "1");
    assert.ok(!out.includes("\u001b") && !out.includes("\u202e"));
    assert.match(out, /evil\?\[2J\?name/);
    const [key] = await json("keys", "list", "--limit", "1");
    assert.equal(key.alias, "evil\u001b[2J\u202ename");
  });
});
