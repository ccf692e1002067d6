import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  type ConfiguredParty,
  ConfiguredProviderBudgets,
  holdConfigured,
} from "../../src/keyservice/configured-budgets.ts";
import { seeded } from "../seeded.ts";
import { BooksStage, spend } from "./books-stage.ts";

describe("budgets that configurations give", () => {
  let stage: BooksStage;
  before(async () => {
    stage = await BooksStage.open();
  });
  after(async () => {
    await stage.check();
    await stage.close();
  });

  const party = (scope: ConfiguredParty["scope"], id: string, max: bigint, duration: string | null = "1d") => {
    return { scope, id, budget: { max, duration } };
  };
  const hold = async (...parties: ConfiguredParty[]) => {
    const grants = await holdConfigured(stage.postgres, parties);
    return grants.map(({ budgets: [budget] }) => budget?.budgetId ?? "");
  };
  const standing = async (budgetId: string) => {
    const [row] = await stage.postgres.query<{ spent: bigint; reserved: bigint }>(
      "SELECT sum(spent_nanos)::bigint AS spent, sum(reserved_nanos)::bigint AS reserved FROM budget_periods WHERE budget_id = $1",
      [budgetId],
    );
    return row ?? { spent: 0n, reserved: 0n };
  };

  it("are made when they are first asked for, once, however many sidecars ask at the same time", async () => {
    const wanted = [party("provider", "p1", 5n), party("deployment", "d1", 7n, null), party("tag", "t1", 9n)];
    const all = await Promise.all(Array.from({ length: 20 }, () => hold(...wanted, ...wanted.toReversed())));
    assert.equal(new Set(all.map((ids) => ids.join())).size, 1);
    const [first = []] = all;
    assert.equal(new Set(first).size, 3);
    assert.deepEqual(first.slice(3), first.slice(0, 3).reverse());
  });

  it("keep their id and what was spent when the configuration changes, and bind from then on", async () => {
    const keyId = await stage.key(undefined);
    const [budgetId = ""] = await hold(party("deployment", "d2", 100n));
    await stage.settle(spend(keyId, 60n, { budgetIds: [budgetId] }));
    assert.equal((await stage.acquire(keyId, 41n, 41n, { budgetIds: [budgetId] })).outcome, "refused");
    assert.deepEqual(await hold(party("deployment", "d2", 120n)), [budgetId]);
    const answer = await stage.acquire(keyId, 61n, 61n, { budgetIds: [budgetId] });
    assert.equal(answer.outcome === "refused" && answer.budget.max_nanos, 120n);
    assert.equal((await stage.acquire(keyId, 60n, 60n, { budgetIds: [budgetId] })).outcome, "granted");
  });

  it("a tag's is another than the one an operator gave the tag", async () => {
    const own = await stage.budget("tag", "both", 5n, null);
    const [configured] = await hold(party("tag", "both", 9n));
    assert.notEqual(configured, own);
  });

  it("are never passed, whatever pods lend, spend and give back at the same time", async () => {
    const random = seeded(7);
    const max = 1_000n;
    const keys = await Promise.all(Array.from({ length: 6 }, () => stage.key(undefined)));
    const [provider = "", deployment = ""] = await hold(
      party("provider", "busy", max),
      party("deployment", "busy", 600n),
    );
    let [granted, refused] = [0, 0];
    const pod = async () => {
      for (let turn = 0; turn < 25; turn++) {
        const keyId = keys[Math.floor(random() * keys.length)] ?? "";
        const budgetIds = random() < 0.5 ? [provider] : [provider, deployment];
        const leaseId = crypto.randomUUID();
        const amount = BigInt(1 + Math.floor(random() * 120));
        const answer = await stage.acquire(keyId, amount, amount, { leaseId, budgetIds });
        if (answer.outcome !== "granted") {
          refused++;
          continue;
        }
        granted++;
        const cost = random() < 0.7 ? amount / 3n : 0n;
        if (cost > 0n) await stage.settle(spend(keyId, cost, { leaseId, budgetIds }));
        await stage.giveBack(leaseId, amount - cost, true);
      }
    };
    let isOver = false;
    const watch = async () => {
      while (!isOver) {
        for (const [id, most] of [
          [provider, max],
          [deployment, 600n],
        ] as const) {
          const { spent, reserved } = await standing(id);
          assert.ok((spent ?? 0n) + (reserved ?? 0n) <= most, `${spent} and ${reserved} of ${most}`);
        }
      }
    };
    const watching = watch();
    await Promise.all(Array.from({ length: 5 }, pod));
    isOver = true;
    await watching;
    assert.ok(granted > 10 && refused > 10, `${granted} granted, ${refused} refused`);
    assert.equal((await standing(provider)).reserved, 0n);
  });

  it("of providers are listed as they stand", async () => {
    const keyId = await stage.key(undefined);
    const [budgetId = ""] = await hold(party("provider", "listed", 100n));
    await stage.settle(spend(keyId, 30n, { budgetIds: [budgetId] }));
    const nowMs = Date.UTC(2026, 0, 1, 12);
    const budgets = new ConfiguredProviderBudgets({
      books: stage.postgres,
      asOf: () => ({ nowMs: stage.clock.nowMs(), timeZone: "UTC" }),
    });
    const found = (await budgets.list()).find(({ provider }) => provider === "listed");
    assert.deepEqual(
      { ...found, resetsAtMs: 0 },
      { provider: "listed", max: 100n, duration: "1d", spent: 30n, resetsAtMs: 0 },
    );
    assert.ok((found?.resetsAtMs ?? 0) > nowMs);
  });
});
