import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { Settlements } from "../../src/keyservice/settlements.ts";
import { BooksStage, spend } from "./books-stage.ts";

describe("settling", () => {
  let stage: BooksStage;
  before(async () => {
    stage = await BooksStage.open();
  });
  afterEach(async () => {
    await stage.check();
    stage.nowMs = undefined;
  });
  after(() => stage.close());

  it("books every attempt of a call once, however often and together with whatever it is sent", async () => {
    const keyId = await stage.key(1_000n);
    const leaseId = await stage.lease(keyId, 500n);
    const first = spend(keyId, 10n, { leaseId });
    const second = { ...first, attempt: 2, cost: 20n };
    assert.equal(await stage.settle(first), 0);
    assert.equal(await stage.settle(first, second), 1);
    assert.equal(await stage.settle(second, { ...first, cost: 999n }), 2);
    assert.deepEqual(await stage.standing(keyId), { spent: 30n, reserved: 470n });
  });

  it("books a record that is in one batch several times once", async () => {
    const keyId = await stage.key(1_000n);
    const record = spend(keyId, 10n);
    assert.equal(await stage.settle(record, spend(keyId, 1n), record, record), 2);
    assert.deepEqual(await stage.standing(keyId), { spent: 11n, reserved: 0n });
  });

  it("books batches that share records in any order at once, without blocking each other", async () => {
    const keys = await Promise.all(Array.from({ length: 6 }, () => stage.key(100_000n, "1d")));
    const leases = await Promise.all(keys.map((keyId) => stage.lease(keyId, 500n)));
    const records = Array.from({ length: 120 }, (_, n) => {
      const place = n % keys.length;
      return spend(keys[place] ?? "", 3n, { leaseId: n % 4 === 0 ? undefined : leases[place] });
    });
    const shuffled = () => records.toSorted(() => Math.random() - 0.5).slice(0, 100);
    const replicas = Array.from(
      { length: 10 },
      () => new Settlements({ postgres: stage.postgres, clock: stage.clock, timeZone: "UTC" }),
    );
    const duplicates = await Promise.all(
      Array.from({ length: 30 }, (_, n) => replicas[n % replicas.length]?.settle("pod-1", shuffled()) ?? 0),
    );
    const last = await stage.settle(...records);
    const sent = 30 * 100 + 120;
    assert.equal(sent - last - duplicates.reduce((sum, count) => sum + count), 120);
    for (const keyId of keys) assert.equal((await stage.standing(keyId)).spent, 60n);
  });

  it("charges keys that were never charged, by many pods in any order at once, without blocking each other", async () => {
    const keys = await Promise.all(Array.from({ length: 40 }, () => stage.key(100_000n, "1d")));
    const parts = { postgres: stage.postgres, clock: stage.clock, timeZone: "UTC" };
    const pods = Array.from({ length: 8 }, () => keys.toSorted(() => Math.random() - 0.5).slice(0, 30));
    await Promise.all(
      pods.map((charged, n) =>
        new Settlements(parts).settle(
          `pod-${n}`,
          charged.map((keyId) => spend(keyId, 3n)),
        ),
      ),
    );
    for (const keyId of keys) {
      const count = pods.filter((charged) => charged.includes(keyId)).length;
      assert.equal((await stage.standing(keyId)).spent, BigInt(3 * count));
    }
    const [database] = await stage.postgres.query<{ deadlocks: bigint }>(
      "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    );
    assert.equal(database?.deadlocks, 0n);
  });

  it("books for pods that settle at once what each has sent, and says to each what was there before", async () => {
    const keyId = await stage.key(1_000n);
    const records = Array.from({ length: 8 }, (_, n) => spend(keyId, BigInt(n + 1)));
    const [first = spend(keyId, 0n)] = records;
    const pods = records.map((record, n) => stage.settlements.settle(`pod-${n}`, [record, first]));
    const repeated = await Promise.all(pods);
    // Whose of the equal records is booked is left to chance; the others are told that it was there.
    assert.equal(
      repeated.reduce((sum, count) => sum + count, 0),
      8,
    );
    const rows = await stage.postgres.query<{ pod_id: string; call_id: string }>(
      "SELECT pod_id, call_id FROM spend_log WHERE key_id = $1 ORDER BY cost_nanos",
      [keyId],
    );
    const [shared, ...others] = rows;
    assert.equal(shared?.call_id, first.callId);
    assert.deepEqual(
      others,
      records.slice(1).map(({ callId }, n) => ({ pod_id: `pod-${n + 1}`, call_id: callId })),
    );
    assert.equal((await stage.standing(keyId)).spent, 36n);
  });

  it("books for all pods that settle at once but for the one whose records cannot be booked", async () => {
    const keyId = await stage.key(1_000n);
    const pods = Array.from({ length: 8 }, (_, n) =>
      stage.settlements.settle(`pod-${n}`, [spend(keyId, 1n), spend(keyId, 1n, n === 5 ? { model: "a\0b" } : {})]),
    );
    const outcomes = (await Promise.allSettled(pods)).map(({ status }) => status);
    assert.deepEqual(
      outcomes,
      pods.map((_, n) => (n === 5 ? "rejected" : "fulfilled")),
    );
    assert.equal((await stage.standing(keyId)).spent, 14n);
  });

  it("charges a key without a limit in the period of now", async () => {
    stage.nowMs = Date.UTC(2026, 2, 4, 12);
    const keyId = await stage.key(undefined, "1d");
    await stage.settle(spend(keyId, 10n));
    assert.deepEqual(await stage.standing(keyId, "2026-03-04T00:00:00Z"), { spent: 10n, reserved: 0n });
  });

  it("charges spend whose lease nobody knows, or is another key's, in the period of now", async () => {
    const keyId = await stage.key(100n);
    const others = await stage.lease(await stage.key(100n), 50n);
    await stage.settle(spend(keyId, 10n, { leaseId: randomUUID() }), spend(keyId, 7n, { leaseId: others }));
    assert.deepEqual(await stage.standing(keyId), { spent: 17n, reserved: 0n });
  });

  it("charges budgets a key got after the lease as well", async () => {
    const keyId = await stage.key(100n);
    const leaseId = await stage.lease(keyId, 50n);
    await stage.windows(keyId, { duration: "1d", max: 100n });
    await stage.settle(spend(keyId, 10n, { leaseId }));
    const rows = await stage.postgres.query(
      "SELECT DISTINCT spent_nanos AS n FROM budget_periods JOIN budgets USING (budget_id) WHERE scope_id = $1",
      [keyId],
    );
    assert.deepEqual(rows, [{ n: 10n }]);
    await stage.giveBack(leaseId, 0n, true);
  });

  it("charges more than was lent, because it was spent", async () => {
    const keyId = await stage.key(100n);
    const leaseId = await stage.lease(keyId, 50n);
    await stage.settle(spend(keyId, 130n, { leaseId }));
    assert.deepEqual(await stage.standing(keyId), { spent: 130n, reserved: 0n });
    assert.equal((await stage.acquire(keyId, 1n)).outcome, "refused");
  });

  it("books what a deleted or never known key has spent", async () => {
    const keyId = await stage.key(100n);
    await stage.postgres.query("UPDATE keys SET deleted_at = now() WHERE key_id = $1", [keyId]);
    await stage.settle(spend(keyId, 10n), spend("key_of_another_database", 5n));
    assert.equal((await stage.standing(keyId)).spent, 10n);
    assert.equal((await stage.log("key_of_another_database")).length, 1);
  });

  it("keeps every field as it came", async () => {
    const keyId = await stage.key(undefined);
    const record = spend(keyId, 10n, {
      ...{ reserved: 12n, status: "cancelled", usageEstimated: true, modelGroup: "g", model: "m", provider: "p" },
      ...{ deploymentId: "d", inputTokens: 1n, outputTokens: 2n, cacheReadInputTokens: 3n, cacheWriteInputTokens: 4n },
      ...{ reasoningOutputTokens: 5n, firstOutputAt: new Date("2026-01-01T00:00:00.123Z"), priceVersion: "v" },
      ...{ endUser: `it's "me" {,}\\ \n NULL`, tags: ['a"b', "c\\d", "e,f", "", "NULL", "{}", "ü😀"] },
      ...{ providerResponseId: "r", traceId: "t", budgetIds: ["budget_no_longer_there"], cacheHit: true },
    });
    const plain = spend(keyId, 1n, { endedAt: undefined });
    await stage.settle(record, plain);
    const [row] = await stage.postgres.query("SELECT * FROM spend_log WHERE call_id = $1", [record.callId]);
    assert.ok(row !== undefined && row.booked_at instanceof Date);
    delete row.booked_at;
    assert.deepEqual(row, {
      ...{ call_id: record.callId, attempt: 1, key_id: keyId, lease_id: null, pod_id: "pod", cost_nanos: 10n },
      ...{ reserved_nanos: 12n, status: "cancelled", usage_estimated: true, operation: "chat", model_group: "g" },
      ...{ model: "m", provider: "p", deployment_id: "d", input_tokens: 1n, output_tokens: 2n },
      ...{ cache_read_input_tokens: 3n, cache_write_input_tokens: 4n, reasoning_output_tokens: 5n },
      ...{ team_id: "", user_id: "", organization_id: "", budget_ids: ["budget_no_longer_there"], cache_hit: true },
      ...{ started_at: record.startedAt, ended_at: record.endedAt, first_output_at: record.firstOutputAt },
      ...{ price_version: "v", end_user: record.endUser, tags: record.tags, provider_response_id: "r", trace_id: "t" },
    });
    const [other] = await stage.postgres.query("SELECT * FROM spend_log WHERE call_id = $1", [plain.callId]);
    assert.deepEqual([other?.ended_at, other?.tags], [null, []]);
  });
});
