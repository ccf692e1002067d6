import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, before, test } from "node:test";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { updateKey } from "../../src/keyservice/key-writes.ts";
import { assertFails, Stage } from "./admin-stage.ts";
import { BooksStage, spend } from "./books-stage.ts";

let books: BooksStage;
let stage: Stage;
before(async () => {
  [books, stage] = await Promise.all([BooksStage.open(), Stage.open()]);
});
afterEach(async () => {
  await books.check();
  books.nowMs = undefined;
});
after(async () => {
  await Promise.all([books.close(), stage.close()]);
  assert.deepEqual(stage.bugs, []);
});

const give = (keyId: string, increase: bigint, untilMs: number) =>
  books.postgres.transaction((client) =>
    updateKey(client, {
      keyId,
      fields: { tempBudget: { increase, untilMs } },
      nowMs: books.clock.nowMs(),
      version: 1n,
    }),
  );

test("until its time a budget lends the increase too, and not a moment longer", async () => {
  const keyId = await books.key(100n);
  const nowMs = Date.UTC(2026, 5, 1);
  books.nowMs = nowMs;
  await give(keyId, 50n, nowMs + 10_000);
  const refused = await books.acquire(keyId, 151n);
  assert.ok(refused.outcome === "refused");
  assert.equal(refused.budget.max_nanos, 150n);
  books.nowMs = nowMs + 9_999;
  assert.equal((await books.acquire(keyId, 120n)).outcome, "granted");
  books.nowMs = nowMs + 10_000;
  const over = await books.acquire(keyId, 1n);
  assert.ok(over.outcome === "refused");
  assert.equal(over.budget.max_nanos, 100n);
});

test("money that was lent of an increase ends with it", async () => {
  const keyId = await books.key(100n, "1d");
  const nowMs = Date.UTC(2026, 5, 1, 12);
  books.nowMs = nowMs;
  const before = await books.lease(keyId, 10n);
  await give(keyId, 50n, nowMs + 10_000);
  // One from before takes none of it: it would outlive it.
  assert.deepEqual(await books.acquire(keyId, 10n, 10n, { leaseId: before }), { outcome: "ended" });
  const leaseId = randomUUID();
  const granted = await books.acquire(keyId, 140n, 140n, { leaseId });
  assert.ok(granted.outcome === "granted");
  assert.equal(granted.periodEndsMs, 10_000);
  books.nowMs = nowMs + 10_000;
  assert.deepEqual((await books.leases.renew([leaseId])).ended, [leaseId]);
  assert.deepEqual(await books.acquire(keyId, 1n, 1n, { leaseId }), { outcome: "ended" });
  // A call that was in flight is settled all the same.
  await books.settle(spend(keyId, 120n, { leaseId }));
  await books.giveBack(leaseId, 0n, true);
  assert.equal((await books.acquire(keyId, 1n)).outcome, "refused");
});

test("an increase of a budget without limit changes nothing", async () => {
  const keyId = await books.key(undefined);
  await give(keyId, 50n, books.clock.nowMs() + 10_000);
  assert.equal((await books.acquire(keyId, 1_000_000n)).outcome, "granted");
});

test("update takes an increase and its end, shows both, and clears both", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", { max_budget: 5 });
  assert.deepEqual([made.temp_budget_increase, made.temp_budget_expiry], [null, null]);
  const set = { temp_budget_increase: 2.5, temp_budget_expiry: "2040-01-31" };
  const { body } = await stage.http("POST", "/key/update", { key: made.key, ...set });
  assert.deepEqual(
    [body.max_budget, body.temp_budget_increase, body.temp_budget_expiry],
    [5, 2.5, "2040-01-31T00:00:00.000Z"],
  );
  for (const [sent, kept] of [
    ["2040-01-31T10:00:00Z", "2040-01-31T10:00:00.000Z"],
    ["2040-01-31 10:00:00", "2040-01-31T10:00:00.000Z"],
    ["2040-01-31T10:00:00+02:00", "2040-01-31T08:00:00.000Z"],
  ]) {
    const again = await stage.http("POST", "/key/update", { ...set, key: made.key, temp_budget_expiry: sent ?? "" });
    assert.equal(again.body.temp_budget_expiry, kept);
  }
  const { key } = await stage.keyAdmin.getKey({ key: made.key });
  assert.equal(key?.tempBudgetIncreaseUsd, "2.5");
  assert.ok(key?.tempBudgetExpireTime !== undefined);
  assert.equal(timestampMs(key.tempBudgetExpireTime), Date.UTC(2040, 0, 31, 8));
  const bad: [Record<string, string | number | null>, string][] = [
    [{ temp_budget_increase: 1 }, "temp_budget_expiry"],
    [{ temp_budget_expiry: "2040-01-01" }, "temp_budget_increase"],
    [{ ...set, temp_budget_expiry: "soon" }, "temp_budget_expiry"],
    [{ ...set, temp_budget_expiry: "2040-13-01" }, "temp_budget_expiry"],
    [{ ...set, temp_budget_increase: 0 }, "temp_budget_increase"],
    [{ ...set, temp_budget_increase: -1 }, "temp_budget_increase"],
    [{ ...set, temp_budget_increase: "much" }, "temp_budget_increase"],
  ];
  for (const [fields, param] of bad) {
    const answer = await stage.http("POST", "/key/update", { key: made.key, ...fields });
    assert.deepEqual([answer.status, answer.body.error.param], [400, param], JSON.stringify(fields));
  }
  const cleared = { temp_budget_increase: null, temp_budget_expiry: null };
  const after = await stage.http("POST", "/key/update", { key: made.key, ...cleared });
  assert.deepEqual([after.body.temp_budget_increase, after.body.temp_budget_expiry], [null, null]);
});

test("UpdateKey does the same", async () => {
  const { key } = await stage.keyAdmin.createKey({ key: { maxBudgetUsd: "1" } });
  const id = key?.id ?? "";
  const tempBudgetExpireTime = timestampFromMs(Date.UTC(2040, 0, 1));
  const set = await stage.keyAdmin.updateKey({ key: { id, tempBudgetIncreaseUsd: "0.5", tempBudgetExpireTime } });
  assert.deepEqual([set.key?.tempBudgetIncreaseUsd, set.key?.maxBudgetUsd], ["0.5", "1"]);
  await assertFails(
    stage.keyAdmin.updateKey({ key: { id, tempBudgetIncreaseUsd: "1" } }),
    Code.InvalidArgument,
    "INVALID_REQUEST",
  );
  const updateMask = { paths: ["temp_budget_increase_usd", "temp_budget_expire_time"] };
  const cleared = await stage.keyAdmin.updateKey({ key: { id }, updateMask });
  assert.equal(cleared.key?.tempBudgetIncreaseUsd, undefined);
});
