import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, it } from "node:test";
import { dayMs } from "../../src/duration.ts";
import { SpendLogParts } from "../../src/keyservice/spend-log-parts.ts";
import { BooksStage, spend } from "./books-stage.ts";

/** A call id made at a moment: UUID version 7. */
function callIdAt(time: string): string {
  const hex = Date.parse(time).toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7${randomUUID().slice(15)}`;
}

describe("the spend log in parts", () => {
  let stage: BooksStage;
  beforeEach(async () => {
    stage = await BooksStage.open();
  });
  afterEach(() => stage.close());

  function parts(retentionMs?: number): SpendLogParts {
    return new SpendLogParts({ postgres: stage.postgres, clock: stage.clock, retentionMs });
  }

  /** How many rows each part has. */
  async function rows(): Promise<Record<string, number>> {
    const found = await stage.postgres.query<{ part: string; count: bigint }>(
      "SELECT tableoid::regclass::text AS part, count(*) AS count FROM spend_log GROUP BY 1",
    );
    return Object.fromEntries(found.map(({ part, count }) => [part, Number(count)]));
  }

  async function names(): Promise<string[]> {
    const found = await stage.postgres.query<{ name: string }>(
      "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'spend_log'::regclass ORDER BY 1",
    );
    return found.map(({ name }) => name);
  }

  it("are made for this month and two ahead, over the year's end, once by many at a time", async () => {
    stage.nowMs = Date.parse("2026-11-26T10:00:00Z");
    await Promise.all(Array.from({ length: 6 }, () => parts().make()));
    await parts().make();
    assert.deepEqual(await names(), [
      "spend_log_2026_11",
      "spend_log_2026_12",
      "spend_log_2027_01",
      "spend_log_default",
    ]);
  });

  it("each row is in the part of the month its call was made in, and stays unique over all of them", async () => {
    stage.nowMs = Date.parse("2026-11-26T10:00:00Z");
    const keyId = await stage.key(undefined);
    const early = spend(keyId, 3n, { callId: callIdAt("2026-12-01T00:00:00.000Z") });
    await stage.settle(early);
    assert.deepEqual(await rows(), { spend_log_default: 1 });
    await parts().make();
    assert.deepEqual(await rows(), { spend_log_2026_12: 1 }, "what was there moves to where it belongs");
    const records = [
      spend(keyId, 1n, { callId: callIdAt("2026-11-30T23:59:59.999Z") }),
      spend(keyId, 2n, { callId: callIdAt("2026-11-01T00:00:00.000Z") }),
      spend(keyId, 4n, { callId: callIdAt("2026-10-31T23:59:59.999Z") }),
      spend(keyId, 5n),
    ];
    assert.equal(await stage.settle(...records, early), 1);
    assert.equal(await stage.settle(...records, early), 5, "all of them are known");
    assert.deepEqual(await rows(), { spend_log_2026_11: 2, spend_log_2026_12: 1, spend_log_default: 2 });
    await stage.check();
  });

  it("go when all of their rows are older than the retention; sums and budgets stay", async () => {
    stage.nowMs = Date.parse("2026-09-15T10:00:00Z");
    const keyId = await stage.key(undefined);
    const keeping = parts(30 * dayMs);
    await keeping.make();
    const callIds = ["2026-09-15T00:00:00Z", "2026-10-31T00:00:00Z"].map(callIdAt);
    for (const callId of [...callIds, randomUUID()]) await stage.settle(spend(keyId, 10n, { callId }));
    stage.nowMs = Date.parse("2026-10-30T23:59:59Z");
    await keeping.drop();
    assert.deepEqual(await rows(), { spend_log_2026_09: 1, spend_log_2026_10: 1 }, "the default part is told by age");
    stage.nowMs = Date.parse("2026-10-31T00:00:00Z");
    await parts(undefined).drop();
    assert.equal((await names()).includes("spend_log_2026_09"), true, "without retention everything stays");
    await keeping.drop();
    assert.deepEqual(await rows(), { spend_log_2026_10: 1 });
    assert.deepEqual(await stage.standing(keyId), { spent: 30n, reserved: 0n });
    const [sum] = await stage.postgres.query("SELECT sum(cost_nanos)::bigint AS cost FROM daily_spend");
    assert.deepEqual(sum, { cost: 30n });
  });

  it("rows are booked while parts are made, without an error", async () => {
    stage.nowMs = Date.parse("2026-11-26T10:00:00Z");
    const keyId = await stage.key(undefined);
    const booking = Array.from({ length: 40 }, () => {
      return stage.settle(spend(keyId, 1n, { callId: callIdAt("2026-11-26T10:00:00Z") }));
    });
    await Promise.all([parts().make(), ...booking]);
    assert.deepEqual(await rows(), { spend_log_2026_11: 40 });
    await stage.check();
  });
});
