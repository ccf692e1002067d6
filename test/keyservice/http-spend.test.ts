import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { systemClock } from "../../src/clock.ts";
import { Settlements } from "../../src/keyservice/settlements.ts";
import { readSpend } from "../../src/keyservice/spend-reader.ts";
import { Stage } from "./admin-stage.ts";
import { spend } from "./books-stage.ts";

let stage: Stage;
let payer: { key: string; key_id: string; token: string };
let deleted: { key: string; key_id: string };
const calls = Array.from({ length: 5 }, () => randomUUID());

before(async () => {
  stage = await Stage.open();
  await stage.teams("t");
  payer = (await stage.http("POST", "/key/generate", { key_alias: "payer", team_id: "t", user_id: "u" })).body;
  deleted = (await stage.http("POST", "/key/generate", {})).body;
  for (const [index, callId] of calls.entries()) {
    // All of one moment to the second, apart by microseconds only: pages must tell them apart.
    await book(callId, 1, payer.key_id, 1_000_000_001n * BigInt(index), `2026-05-05T05:05:05.00000${index % 3}Z`);
  }
  await book(calls[0] ?? "", 2, payer.key_id, -5n, "2026-05-05T05:05:06Z", "correction");
  await book(randomUUID(), 1, deleted.key_id, 7n, "2026-05-05T05:05:07Z", "failure");
  await book(randomUUID(), 1, "key_master", 8n, "2026-05-05T05:05:08Z");
  await stage.http("POST", "/key/delete", { keys: [deleted.key] });
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

async function book(callId: string, attempt: number, keyId: string, cost: bigint, at: string, status = "success") {
  await stage.sql(
    `INSERT INTO spend_log (call_id, attempt, key_id, pod_id, cost_nanos, reserved_nanos, status, operation, model_group, model,
       provider, deployment_id, input_tokens, output_tokens, cache_read_input_tokens, started_at, ended_at, booked_at,
       price_version, end_user, tags, provider_response_id, trace_id, team_id, user_id, organization_id)
     VALUES ($1, $2, $3, 'pod-1', $4, 0, $6, 'chat', 'group', 'model', 'openai', 'dep', 10, 5, 4, $5::timestamptz,
       $5::timestamptz + interval '1 second', $5, 'v1', 'end user', '{tag}', 'chatcmpl-1', 'trace', 'then', $7, 'org')`,
    [callId, attempt, keyId, cost, at, status, keyId === payer.key_id ? "ada" : ""],
  );
}

const logs = (query: string) => stage.http("GET", `/spend/logs${query}`);

test("a row has LiteLLM's names and keeps the rest in metadata", async () => {
  const { status, body } = await logs(`?request_id=${calls[3]}`);
  assert.equal(status, 200);
  const [row, ...more] = body;
  assert.deepEqual(more, []);
  const { metadata, ...columns } = row;
  assert.deepEqual(
    [
      columns.request_id,
      columns.api_key,
      columns.spend,
      columns.team_id,
      columns.user,
      columns.end_user,
      columns.status,
    ],
    [calls[3], payer.key_id, 3.000000003, "then", "ada", "end user", "success"],
    "whom it was booked for, not whose its key is now",
  );
  assert.equal(columns.organization_id, "org");
  assert.deepEqual([columns.total_tokens, columns.prompt_tokens, columns.completion_tokens], [15, 10, 5]);
  assert.deepEqual(
    [columns.model, columns.model_group, columns.model_id, columns.custom_llm_provider],
    ["model", "group", "dep", "openai"],
  );
  assert.equal(columns.startTime, "2026-05-05T05:05:05.000Z");
  assert.deepEqual([columns.request_tags, columns.session_id, columns.cache_hit], [["tag"], "trace", "False"]);
  assert.deepEqual(
    [metadata.user_api_key_alias, metadata.attempt, metadata.usage_object.cache_read_input_tokens],
    ["payer", 1, 4],
  );
});

test("rows are found by key in each of its forms, by call, or newest first", async () => {
  for (const name of [payer.key, payer.token, payer.key_id, "payer"]) {
    assert.equal((await logs(`?api_key=${name}`)).body.length, 6, name);
  }
  assert.deepEqual(
    (await logs(`?api_key=${deleted.key_id}`)).body.map((row: { status: string }) => row.status),
    ["failure"],
  );
  assert.deepEqual(
    (await logs("?api_key=key_master")).body.map((row: { spend: number }) => row.spend),
    [8e-9],
  );
  const both = (await logs(`?request_id=${calls[0]}`)).body;
  assert.deepEqual(
    both.map((row: { metadata: { status: string } }) => row.metadata.status),
    ["correction", "success"],
  );
  const newest = (await logs("?limit=2")).body;
  assert.deepEqual(
    newest.map((row: { api_key: string }) => row.api_key),
    ["key_master", deleted.key_id],
  );
  assert.equal((await logs("")).body.length, 8);
  for (const id of ["chatcmpl-unknown", "'", randomUUID()]) {
    assert.deepEqual((await logs(`?request_id=${id}`)).body, []);
  }
  assert.equal((await logs("?api_key=sk-unknown-0123456789")).status, 404);
});

test("rows are found by the user they were booked for, and by days", async () => {
  const found = async (query: string) => (await logs(`?${query}`)).body.length;
  assert.equal(await found("user_id=ada"), 6);
  assert.equal(await found("user_id=u"), 0, "the key's user, who did not have it then");
  const day = "start_date=2026-05-05&end_date=2026-05-05&summarize=false";
  assert.equal(await found(day), 8);
  assert.equal(await found(`${day}&user_id=ada&api_key=payer`), 6);
  assert.equal(await found("start_date=2026-05-01&end_date=2026-05-04&summarize=false"), 0);
  assert.equal(
    await found(`start_date=2026-05-01&end_date=2026-05-05&request_id=${calls[0]}`),
    2,
    "a call has no summary",
  );
});

test("days of the spend log are those of the time zone", async () => {
  const { postgres } = stage;
  const read = (timeZone: string) =>
    readSpend(postgres, { days: { from: "2026-05-04", to: "2026-05-04", timeZone } }, { limit: 100 });
  assert.equal((await read("UTC")).length, 0);
  assert.equal((await read("America/Los_Angeles")).length, 8, "05:05 UTC is 22:05 of the day before");
});

test("with both dates the answer is LiteLLM's summary, unless it is not wanted", async () => {
  const settlements = new Settlements({ postgres: stage.postgres, clock: systemClock, timeZone: "UTC" });
  const at = (day: string) => ({ startedAt: new Date(`${day}T12:00:00Z`) });
  const { key_id: keyId } = payer;
  await settlements.settle("pod", [
    spend(keyId, 1_000_000_000n, at("2025-02-01")),
    spend(keyId, 250_000_000n, { ...at("2025-02-01"), model: "claude" }),
    spend("key_master", 3n, at("2025-02-02")),
  ]);
  const { body } = await logs("?start_date=2025-02-01&end_date=2025-02-28");
  assert.deepEqual(body, [
    { startTime: "2025-02-01", spend: 1.25, [keyId]: 1.25, users: { u: 1.25 }, models: { "gpt-4": 1, claude: 0.25 } },
    { startTime: "2025-02-02", spend: 3e-9, key_master: 3e-9, users: { "": 3e-9 }, models: { "gpt-4": 3e-9 } },
  ]);
  const own = (await logs("?start_date=2025-02-01&end_date=2025-02-28&api_key=payer&user_id=u")).body;
  assert.equal(own.length, 1);
  const rows = (await logs("?start_date=2025-02-01&end_date=2025-02-28&summarize=false")).body;
  assert.equal(rows.length, 3);
  await stage.sql("DELETE FROM spend_log WHERE started_at < '2026-01-01'");
  await stage.sql("DELETE FROM daily_spend WHERE day < '2026-01-01'");
});

test("/spend/logs/v2 has numbered pages that hold every row once, and a total", async () => {
  const seen: string[] = [];
  for (const page of [1, 2, 3]) {
    const path = `/spend/logs/v2?start_date=2026-05-01&end_date=2026-05-31&user_id=ada&page_size=2&page=${page}`;
    const { status, body } = await stage.http("GET", path);
    assert.deepEqual([status, body.total, body.total_pages, body.page, body.page_size], [200, 6, 3, page, 2]);
    seen.push(
      ...body.data.map((row: Record<string, { attempt: number }>) => `${row.request_id} ${row.metadata?.attempt}`),
    );
  }
  assert.equal(new Set(seen).size, 6);
});

test("the total of very many rows is told from the sums, corrections included, and is right", async () => {
  const rows = (from: number, to: number, attempt: string, day: string) =>
    stage.sql(
      `INSERT INTO spend_log (call_id, attempt, key_id, pod_id, cost_nanos, reserved_nanos, status, started_at, user_id)
       SELECT gen_random_uuid(), ${attempt}, $1, 'p', 0, 0, 'success', $2::timestamptz + n * interval '1 second', 'many'
       FROM generate_series(${from}, ${to}) n`,
      [payer.key_id, day],
    );
  const days = ["2024-02-01", "2024-02-02"];
  for (const day of days) {
    await rows(1, 6_000, "1", day);
    await stage.sql(`INSERT INTO daily_spend VALUES ($1, $2, '', 'many', '', '', '', '', 0, 0, 0, 0, 0, 5900, 100)`, [
      day,
      payer.key_id,
    ]);
  }
  await rows(1, 7, "-n", days[0] ?? "");
  const total = async (query: string) => (await logs(`/v2?${query}&user_id=many&page_size=100`)).body.total;
  assert.equal(await total("start_date=2024-02-01&end_date=2024-02-02"), 12_007);
  assert.equal(await total("start_date=2024-02-01&end_date=2024-02-01"), 6_007);
  const keyed = `start_date=2024-01-01&end_date=2024-12-31&api_key=${payer.key_id}`;
  assert.equal(await total(keyed), 12_007);
  await stage.sql("DELETE FROM spend_log WHERE user_id = 'many'");
  await stage.sql("DELETE FROM daily_spend WHERE user_id = 'many'");
});

test("an accountant gets the rows of the spend log as CSV, with exact amounts", async () => {
  const { headers, body } = await stage.http("GET", `/spend/logs?request_id=${calls[3]}&format=csv`);
  assert.match(headers.get("content-type") ?? "", /^text\/csv/);
  const [columns = "", row = "", ...more] = String(body).split("\r\n");
  assert.deepEqual(more, [""]);
  const cells = Object.fromEntries(columns.split(",").map((name, index) => [name, row.split(",")[index]]));
  assert.deepEqual(
    [cells.request_id, cells.spend_usd, cells.team_id, cells.user_id, cells.organization_id, cells.key_alias],
    [calls[3], "3.000000003", "then", "ada", "org", "payer"],
  );
  const all = String(
    (await stage.http("GET", "/spend/logs/v2?start_date=2026-05-05&end_date=2026-05-05&format=csv")).body,
  );
  assert.equal(all.trimEnd().split("\r\n").length, 1 + 8);
});

test("what is wrong with a question to the spend log is a 400 that names it", async () => {
  for (const [query, param] of [
    ["?request_id=%00", "request_id"],
    ["?user_id=a%00", "user_id"],
    ["?start_date=2026-01-01", "end_date"],
    ["?end_date=2026-01-01", "start_date"],
    ["?start_date=2026-01-02&end_date=2026-01-01", "start_date"],
    ["?start_date=2026-01-01&end_date=2026-01-01&summarize=maybe", "summarize"],
    ["?team_id=t", "team_id"],
    ["/v2", "start_date"],
    ["/v2?start_date=2026-01-01&end_date=2026-01-01&page=-1", "page"],
    ["/v2?start_date=2026-01-01&end_date=2026-01-01&page=100000", "page"],
  ] as const) {
    const { status, body } = await logs(query);
    assert.deepEqual([status, body.error?.param], [400, param], query);
  }
});

test("ListSpend finds rows by user and days, in pages, and says whom they were booked for", async () => {
  const seen: string[] = [];
  let pageToken = "";
  do {
    const asked = { userId: "ada", startDay: "2026-05-05", endDay: "2026-05-05", pageSize: 2, pageToken };
    const page = await stage.spendAdmin.listSpend(asked);
    for (const { callId, attempt, teamId, userId, organizationId } of page.spend) {
      assert.deepEqual([teamId, userId, organizationId], ["then", "ada", "org"]);
      seen.push(`${callId} ${attempt}`);
    }
    pageToken = page.nextPageToken;
    assert.ok(seen.length <= 6, "a row came twice");
  } while (pageToken !== "");
  assert.equal(new Set(seen).size, 6);
  for (const wrong of [{ startDay: "2026-05-05" }, { startDay: "x", endDay: "2026-05-05" }, { userId: "a\0" }]) {
    await assert.rejects(
      stage.spendAdmin.listSpend(wrong),
      (error) => error instanceof ConnectError && error.code === Code.InvalidArgument,
    );
  }
});

test("questions to the spend log go by an index of each of its parts", async () => {
  const conditions = {
    spend_log_started:
      "started_at >= '2026-05-01' AND started_at < '2026-06-01' ORDER BY started_at DESC, call_id, attempt",
    spend_log_user: "user_id = 'ada' ORDER BY started_at DESC, call_id, attempt",
  };
  for (const [index, condition] of Object.entries(conditions)) {
    const plan = await stage.postgres.transaction(async (client) => {
      await client.query("SET LOCAL enable_seqscan = off");
      return client.query(`EXPLAIN SELECT * FROM spend_log WHERE ${condition} LIMIT 10`);
    });
    const text = JSON.stringify(plan);
    assert.doesNotMatch(text, /Seq Scan/, text);
    assert.match(text, /Index Scan/, `${index}: ${text}`);
  }
});

test("ListSpend has pages that hold every row once", async () => {
  const seen: string[] = [];
  let pageToken = "";
  do {
    const page = await stage.spendAdmin.listSpend({ key: "payer", pageSize: 2, pageToken });
    seen.push(...page.spend.map(({ callId, attempt }) => `${callId} ${attempt}`));
    pageToken = page.nextPageToken;
    await book(randomUUID(), 1, payer.key_id, 0n, "2030-01-01T00:00:00Z");
    assert.ok(seen.length <= 6, "a row came twice");
  } while (pageToken !== "");
  const expected = [...calls.map((call) => `${call} 1`), `${calls[0]} 2`];
  assert.deepEqual([...seen].sort(), expected.sort());
});

test("ListSpend writes amounts as decimals", async () => {
  const { spend } = await stage.spendAdmin.listSpend({ callId: calls[0] ?? "" });
  assert.deepEqual(
    spend.map(({ costUsd, status, attempt }) => [costUsd, status, attempt]),
    [
      ["-0.000000005", "correction", 2],
      ["0", "success", 1],
    ],
  );
  assert.deepEqual((await stage.spendAdmin.listSpend({ callId: "no uuid" })).spend, []);
  const { nextPageToken } = await stage.spendAdmin.listSpend({ pageSize: 1 });
  const other = stage.spendAdmin.listSpend({ pageSize: 1, pageToken: nextPageToken, callId: calls[0] ?? "" });
  await assert.rejects(other, (error) => error instanceof ConnectError && error.code === Code.InvalidArgument);
});
