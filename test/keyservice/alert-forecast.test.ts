import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { AlertForecast } from "../../src/keyservice/alerts/forecast.ts";
import { BooksStage, spend } from "./books-stage.ts";

describe("budgets that will not last", () => {
  let stage: BooksStage;
  let forecast: AlertForecast;
  before(async () => {
    stage = await BooksStage.open();
    forecast = new AlertForecast({ books: stage.postgres, clock: stage.clock, timeZone: "UTC" });
  });
  after(() => stage.close());

  /** Settles `cost` at `at` under a new key with a budget of $10, and looks. @returns what is noted of it. */
  async function noted(at: string, duration: string | undefined, cost: bigint) {
    const keyId = await stage.key(10_000_000_000n, duration);
    stage.nowMs = Date.parse(at);
    await stage.settle(spend(keyId, cost));
    await forecast.look();
    return read(keyId);
  }

  function read(keyId: string) {
    return stage.postgres.query<{ facts: Record<string, string>; period_start: Date }>(
      "SELECT facts, period_start FROM alerts WHERE scope_id = $1 AND kind = 'projected_limit'",
      [keyId],
    );
  }

  it("one that is spent too fast is noted, with when it will be over and what would be spent", async () => {
    // Half of it in a quarter of April.
    const [alert] = await noted("2027-04-08T12:00:00Z", "1mo", 5_000_000_000n);
    assert.deepEqual(alert?.facts, { projected_spend_usd: "20.00", projected_exceeded_date: "2027-04-16T00:00Z" });
    assert.equal(alert?.period_start.toISOString(), "2027-04-01T00:00:00.000Z");
  });

  it("one that lasts is not", async () => {
    assert.deepEqual(await noted("2027-04-16T00:00:00Z", "1mo", 4_999_000_000n), []);
    assert.equal((await noted("2027-04-16T00:00:00Z", "1mo", 5_001_000_000n)).length, 1);
  });

  it("nor one whose period has only begun, of which little is spent, or that is spent already", async () => {
    assert.deepEqual(await noted("2027-05-02T00:00:00Z", "1mo", 9_000_000_000n), [], "a thirtieth of the period");
    assert.deepEqual(await noted("2027-05-04T04:00:00Z", "1mo", 2_400_000_000n), [], "less than a quarter is spent");
    assert.deepEqual(await noted("2027-05-16T00:00:00Z", "1mo", 10_000_000_000n), [], "budget_100 says so");
  });

  it("nor one without an end, or with one that is too near for anybody to act", async () => {
    assert.deepEqual(await noted("2027-06-16T00:00:00Z", undefined, 9_000_000_000n), []);
    assert.deepEqual(await noted("2027-06-16T00:30:00Z", "1h", 9_000_000_000n), []);
    assert.equal((await noted("2027-06-16T06:00:00Z", "1d", 9_000_000_000n)).length, 1);
  });

  it("each is noted once a period, whoever looks and however often", async () => {
    const keyId = await stage.key(10_000_000_000n, "1d");
    for (const day of ["2027-07-01", "2027-07-02"]) {
      stage.nowMs = Date.parse(`${day}T06:00:00Z`);
      await stage.settle(spend(keyId, 8_000_000_000n));
      await Promise.all(Array.from({ length: 5 }, () => forecast.look()));
      stage.nowMs = Date.parse(`${day}T07:00:00Z`);
      await forecast.look();
    }
    assert.equal((await read(keyId)).length, 2);
  });

  it("a window beside the main budget counts as well, and a removed one does not", async () => {
    const keyId = await stage.key(undefined);
    await stage.windows(keyId, { duration: "1d", max: 10_000_000_000n });
    stage.nowMs = Date.parse("2027-08-01T06:00:00Z");
    await stage.settle(spend(keyId, 8_000_000_000n));
    await stage.windows(keyId);
    await forecast.look();
    assert.deepEqual(await read(keyId), []);
    await stage.windows(keyId, { duration: "1d", max: 10_000_000_000n });
    await forecast.look();
    assert.equal((await read(keyId)).length, 1);
  });
});
