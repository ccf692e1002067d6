import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { KeyAdminService } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { inputTokens, words } from "../upstream.ts";
import { masterKey, Stack } from "./stack.ts";

const costNanos = BigInt(inputTokens) * 1_000n + BigInt(words.length) * 2_000n;

describe("three sidecars, one Redis, one KeyService", () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ sidecars: 3 });
  });
  after(() => stack.close());

  const calls = (key: string, count: number, fields: object = {}): Promise<Response[]> =>
    Promise.all(Array.from({ length: count }, (_, index) => stack.chat(index % 3, key, fields)));

  test("a key with rpm_limit 100 gets exactly 100 calls in a minute over all three", async () => {
    const key = await stack.generateKey({ rpm_limit: 100 });
    const before = stack.upstream.calls.length;
    const answers = await calls(key, 150);
    assert.equal(answers.filter(({ status }) => status === 200).length, 100);
    assert.equal(stack.upstream.calls.length - before, 100);
    const refused = answers.find(({ status }) => status === 429);
    const retryAfterS = Number(refused?.headers.get("retry-after"));
    assert.ok(retryAfterS >= 1 && retryAfterS <= 60, `retry-after ${retryAfterS}`);
    assert.ok(refused);
    const { error } = (await refused.json()) as { error: { code: string; message: string } };
    assert.equal(error.code, "rate_limit_exceeded");
    assert.match(error.message, /Rate limit exceeded for api_key: key_\w+\. Limit type: requests\. Current limit: 100/);
  });

  test("parallel slots hold over all three", async () => {
    const key = await stack.generateKey({ max_parallel_requests: 5 });
    const answers = await calls(key, 30, { model: "slow", stream: true });
    assert.equal(answers.filter(({ status }) => status === 200).length, 5);
    await Promise.all(answers.map((answer) => answer.text()));
    assert.equal((await stack.chat(0, key)).status, 200, "slots are free again");
  });

  test("300 parallel calls against a budget for 40 make at most 40 upstream calls, and spend equals the log", async () => {
    const body = JSON.stringify({ model: "ok", messages: [{ role: "user", content: "Hello" }], max_tokens: 100 });
    // What one call reserves: a token a byte in, the cap out. Forty of them fit, not forty-one.
    const reserveNanos = BigInt(body.length) * 1_000n + 100n * 2_000n;
    const budgetNanos = reserveNanos * 40n + reserveNanos / 2n;
    const key = await stack.generateKey({ max_budget: Number(budgetNanos) / 1e9 });
    const before = stack.upstream.calls.length;
    // Slow upstream answers keep every reservation open while all calls are decided.
    const answers = await calls(key, 300, { max_tokens: 100, model: "slow", stream: true });
    const upstreamCalls = stack.upstream.calls.length - before;
    assert.ok(upstreamCalls <= 40, `${upstreamCalls} upstream calls`);
    const served = answers.filter(({ status }) => status === 200);
    assert.equal(served.length, upstreamCalls);
    const refused = answers.filter(({ status }) => status === 429);
    assert.equal(served.length + refused.length, 300);
    assert.ok(served.length >= 30, `only ${served.length} served`);
    const [first] = refused;
    assert.ok(first);
    assert.equal(first.headers.get("x-should-retry"), "false");
    assert.equal(first.headers.get("retry-after"), null);
    const { error } = (await first.json()) as { error: { type: string; message: string } };
    assert.equal(error.type, "budget_exceeded");
    assert.match(error.message, /Key=key_\w+ Current cost: \$[\d.]+.*Max budget: \$[\d.]+/);
    await Promise.all(answers.map((answer) => answer.bodyUsed || answer.text()));

    const rows = await stack.booked(key, upstreamCalls);
    assert.equal(rows.length, upstreamCalls, "every upstream call is in the books, once");
    const sum = rows.reduce((total, row) => total + BigInt(row.cost_nanos), 0n);
    assert.equal(sum, BigInt(upstreamCalls) * costNanos);
    assert.ok(sum <= budgetNanos);
    assert.equal((await stack.spent(key)).spent, sum);
    await eventually(async () => (await stack.spent(key)).reserved === 0n, "reserved money comes back");
    assert.equal((await stack.chat(1, key, { max_tokens: 100 })).status, 200, "the rest of the budget can be used");
  });

  test("a key made over gRPC is used, and blocked within a second on every sidecar", async () => {
    const admin = createClient(KeyAdminService, createGrpcTransport({ baseUrl: stack.keyServiceUrl }));
    const headers = { authorization: `Bearer ${masterKey}` };
    const { key, secret } = await admin.createKey(
      { key: { alias: "blocked-soon", models: ["ok"], maxBudgetUsd: "1", budgetDuration: "30d", rpmLimit: 1000n } },
      { headers },
    );
    for (const answer of await calls(secret, 3)) assert.equal(answer.status, 200);
    await admin.blockKey({ key: key?.id ?? "" }, { headers });
    const blockedAt = performance.now();
    await eventually(
      async () => (await calls(secret, 3)).every(({ status }) => status === 403),
      "all three refuse",
      1_000,
    );
    assert.ok(performance.now() - blockedAt < 1_000);
    await admin.unblockKey({ key: key?.id ?? "" }, { headers });
    await eventually(
      async () => (await calls(secret, 3)).every(({ status }) => status === 200),
      "all three serve",
      1_000,
    );
  });

  test("a deleted key and an unknown one are refused alike", async () => {
    const key = await stack.generateKey();
    assert.equal((await stack.chat(2, key)).status, 200);
    await stack.admin("POST", "/key/delete", { keys: [key] });
    await eventually(async () => (await stack.chat(2, key)).status === 401, "the deleted key is refused", 1_000);
    const deleted = await (await stack.chat(2, key)).json();
    const unknown = await (await stack.chat(2, "sk-never-was-a-key-at-all")).json();
    assert.deepEqual(deleted, unknown);
  });
});

async function eventually(check: () => Promise<boolean>, what: string, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (performance.now() < deadline) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`not within ${withinMs} ms: ${what}`);
}
