import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { systemRandom } from "../../src/clock.ts";
import { AlertCourier } from "../../src/keyservice/alerts/courier.ts";
import { LogSink } from "../../src/keyservice/alerts/log.ts";
import { BooksStage, spend } from "./books-stage.ts";

describe("what operators are to be told of budgets", () => {
  let stage: BooksStage;
  before(async () => {
    stage = await BooksStage.open();
  });
  after(() => stage.close());

  async function told(keyId: string): Promise<string[]> {
    const rows = await stage.postgres.query<{ kind: string }>(
      "SELECT kind FROM alerts WHERE scope_id = $1 ORDER BY alert_id",
      [keyId],
    );
    return rows.map(({ kind }) => kind);
  }

  const soften = (keyId: string, soft: bigint) =>
    stage.postgres.query("UPDATE budgets SET soft_nanos = $2 WHERE scope_id = $1", [keyId, soft]);

  it("is noted as spend passes the soft budget, 80, 95 and 100 percent, each once a period", async () => {
    const keyId = await stage.key(1_000n, "1d");
    await soften(keyId, 500n);
    stage.nowMs = Date.parse("2027-03-01T10:00:00Z");
    const steps: [bigint, string[]][] = [
      [499n, []],
      [1n, ["soft_budget"]],
      [299n, []],
      [1n, ["budget_80"]],
      [150n, ["budget_95"]],
      [49n, []],
      [1n, ["budget_100"]],
      [10n, []],
    ];
    const all: string[] = [];
    for (const [cost, expected] of steps) {
      await stage.settle(spend(keyId, cost));
      all.push(...expected);
      assert.deepEqual(await told(keyId), all, `after ${cost}`);
    }
    stage.nowMs = Date.parse("2027-03-02T00:00:00Z");
    await stage.settle(spend(keyId, 900n));
    assert.deepEqual(await told(keyId), [...all, "soft_budget", "budget_80"], "a new period begins anew");
    stage.nowMs = undefined;
  });

  it("a soft budget warns and refuses nothing, also where there is no limit", async () => {
    const keyId = await stage.key(undefined);
    await soften(keyId, 10n);
    await stage.settle(spend(keyId, 11n));
    assert.deepEqual(await told(keyId), ["soft_budget"]);
    assert.equal((await stage.acquire(keyId, 1_000n)).outcome, "granted");
  });

  it("is noted once when many settle at the same time, and of a team's budget by whichever key", async () => {
    const team = "team-of-alerts";
    await stage.budget("team", team, 1_000n, null);
    const keys = await Promise.all(Array.from({ length: 5 }, () => stage.key(undefined)));
    await stage.postgres.query("UPDATE keys SET team_id = $1 WHERE key_id = ANY ($2)", [team, keys]);
    await Promise.all(Array.from({ length: 100 }, (_, index) => stage.settle(spend(keys[index % 5] ?? "", 10n))));
    assert.deepEqual((await told(team)).toSorted(), ["budget_100", "budget_80", "budget_95"]);
  });

  it("is logged once, by whichever of several replicas comes first", async () => {
    const lines: [level: string, message: string, facts: unknown][] = [];
    const sink = new LogSink((level, message, facts) => lines.push([level, message, facts]));
    const { postgres: books, clock } = stage;
    const replicas = Array.from(
      { length: 5 },
      () =>
        new AlertCourier({
          ...{ books, clock, sinks: [sink], random: systemRandom, log: () => {} },
          watches: [],
        }),
    );
    await replicas[0]?.deliverDue();
    lines.length = 0;
    const keys = await Promise.all(Array.from({ length: 60 }, () => stage.key(1_000_000_000n, "1d")));
    stage.nowMs = Date.parse("2027-04-01T10:00:00Z");
    await stage.settle(...keys.map((keyId) => spend(keyId, 960_000_000n)));
    stage.nowMs = undefined;
    await Promise.all(replicas.map((replica) => replica.deliverDue()));
    await replicas[0]?.deliverDue();
    assert.equal(lines.length, 120);
    const [first = ""] = keys;
    const ofFirst = lines.filter(([, , facts]) => (facts as { scope_id: string }).scope_id === first);
    const [budget] = await stage.postgres.query<{ budget_id: string }>(
      "SELECT budget_id FROM budgets WHERE scope_id = $1",
      [first],
    );
    const facts = {
      ...{ scope: "key", scope_id: first, budget_id: budget?.budget_id, spent_usd: "0.96", max_budget_usd: "1" },
      ...{ budget_duration: "1d", period_start: "2027-04-01T00:00:00.000Z" },
    };
    assert.deepEqual(ofFirst.toSorted(), [
      ["warn", "80 % of the budget is spent.", { alert: "budget_80", ...facts }],
      ["warn", "95 % of the budget is spent.", { alert: "budget_95", ...facts }],
    ]);
  });
});
