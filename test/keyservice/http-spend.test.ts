import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { Stage } from "./admin-stage.ts";

let stage: Stage;
let payer: { key: string; key_id: string; token: string };
let deleted: { key: string; key_id: string };
const calls = Array.from({ length: 5 }, () => randomUUID());

before(async () => {
  stage = await Stage.open();
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
       price_version, end_user, tags, provider_response_id, trace_id)
     VALUES ($1, $2, $3, 'pod-1', $4, 0, $6, 'chat', 'group', 'model', 'openai', 'dep', 10, 5, 4, $5::timestamptz,
       $5::timestamptz + interval '1 second', $5, 'v1', 'end user', '{tag}', 'chatcmpl-1', 'trace')`,
    [callId, attempt, keyId, cost, at, status],
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
    [calls[3], payer.key_id, 3.000000003, "t", "u", "end user", "success"],
  );
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
  for (const id of ["chatcmpl-unknown", "%00", "'", randomUUID()]) {
    assert.deepEqual((await logs(`?request_id=${id}`)).body, []);
  }
  assert.equal((await logs("?api_key=sk-unknown-0123456789")).status, 404);
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
