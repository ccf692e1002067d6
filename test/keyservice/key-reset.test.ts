import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { Entities } from "../../src/keyservice/entities.ts";
import { entityRpcNames } from "../../src/keyservice/entity-messages.ts";
import { forgiveAll } from "../../src/keyservice/forgiveness.ts";
import { noKeyRules } from "../../src/keyservice/key-rules.ts";
import { Keys } from "../../src/keyservice/keys.ts";
import { Members } from "../../src/keyservice/members.ts";
import { Operator } from "../../src/keyservice/operator.ts";
import { assertFails, masterKey, Stage } from "./admin-stage.ts";
import { BooksStage, leaseTtlMs, pepper, spend } from "./books-stage.ts";

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

const operator = new Operator({ name: "test", role: "proxy_admin" });
const parts = { operator, pepper, timeZone: "UTC", keyRules: noKeyRules };
const keysOf = () => new Keys({ ...parts, postgres: books.postgres, clock: books.clock });
/** The stage's ids have not the form of real ones, so the key is named by an alias. */
async function key(max: bigint, duration?: string): Promise<string> {
  const keyId = await books.key(max, duration);
  await books.postgres.query("UPDATE keys SET alias = key_id WHERE key_id = $1", [keyId]);
  return keyId;
}
const reset = (keyId: string, to: bigint) => keysOf().resetSpend({ kind: "alias", alias: keyId }, to, "reset_to");
const used = async (keyId: string) => (await keysOf().get({ kind: "alias", alias: keyId })).spent;

test("what is set back can be spent again, and no more than that", async () => {
  const keyId = await key(100n);
  await books.settle(spend(keyId, 100n));
  assert.equal((await books.acquire(keyId, 1n)).outcome, "refused");
  const { previous } = await reset(keyId, 30n);
  assert.deepEqual([previous, await used(keyId)], [100n, 30n]);
  assert.equal((await books.standing(keyId)).spent, 100n, "the books stay as they are");
  assert.equal((await books.acquire(keyId, 71n)).outcome, "refused");
  const leaseId = await books.lease(keyId, 70n);
  await books.settle(spend(keyId, 70n, { leaseId }));
  assert.equal(await used(keyId), 100n);
  assert.equal((await books.acquire(keyId, 1n)).outcome, "refused");
});

test("what pods have borrowed stays reserved, and counts when it is spent", async () => {
  const keyId = await key(100n, "1d");
  await books.settle(spend(keyId, 60n));
  const leaseId = await books.lease(keyId, 40n);
  await reset(keyId, 0n);
  assert.equal((await books.acquire(keyId, 61n)).outcome, "refused");
  assert.equal((await books.acquire(keyId, 60n)).outcome, "granted");
  await books.settle(spend(keyId, 25n, { leaseId }));
  await books.giveBack(leaseId, 0n, true);
  assert.equal(await used(keyId), 25n);
});

test("a member's budget in a team is set back alone, and not below what is asked for", async () => {
  const signed = { ...parts, postgres: books.postgres, clock: books.clock };
  const [teams, members] = [new Entities(signed), new Members(signed)];
  await teams.create("team", { id: "crew", change: {}, names: entityRpcNames });
  const membership = { scope: "team", entityId: "crew", userId: "ann" } as const;
  await members.add([{ membership, fields: { maxBudget: 100n } }], entityRpcNames);
  const keyId = await key(1_000n);
  await books.postgres.query("UPDATE keys SET team_id = 'crew', user_id = 'ann' WHERE key_id = $1", [keyId]);
  await books.settle(spend(keyId, 100n));
  assert.equal((await books.acquire(keyId, 1n)).outcome, "refused");
  const to = (resetTo: bigint) => members.resetSpend("crew", "ann", { resetTo, name: "reset_to" });
  await assert.rejects(to(101n), /at most what was spent/);
  const { previous, member } = await to(60n);
  assert.deepEqual([previous, member.budget?.spent, await used(keyId)], [100n, 60n, 100n]);
  assert.equal((await books.acquire(keyId, 41n)).outcome, "refused");
  const leaseId = await books.lease(keyId, 40n);
  // What was borrowed stays reserved, and counts when it is spent.
  await to(0n);
  assert.equal((await books.acquire(keyId, 61n)).outcome, "refused");
  await books.settle(spend(keyId, 25n, { leaseId }));
  await books.giveBack(leaseId, 0n, true);
  assert.equal((await members.get(membership)).budget?.spent, 25n);
  await assert.rejects(members.resetSpend("crew", "bob", { resetTo: 0n, name: "reset_to" }), /no member/);
});

test("all keys and teams are set back, a member's budget is not", async () => {
  const keyIds = [await key(100n), await key(100n, "1d"), await key(100n)];
  for (const keyId of keyIds.slice(0, 2)) await books.settle(spend(keyId, 90n));
  const count = await forgiveAll(books.postgres, () => ({ nowMs: books.clock.nowMs(), timeZone: "UTC" }));
  assert.ok(count >= 2);
  for (const keyId of keyIds) assert.equal(await used(keyId), 0n);
  const signed = { ...parts, postgres: books.postgres, clock: books.clock };
  const member = await new Members(signed).get({ scope: "team", entityId: "crew", userId: "ann" });
  assert.equal(member.budget?.spent, 25n);
});

test("windows are set back with the main budget; one that has used less stays", async () => {
  const keyId = await key(100n);
  await books.windows(keyId, { duration: "1d", max: 50n });
  await books.settle(spend(keyId, 40n));
  books.nowMs = Date.now() + 26 * 3_600_000;
  await books.settle(spend(keyId, 5n));
  await reset(keyId, 20n);
  const record = await keysOf().get({ kind: "alias", alias: keyId });
  assert.deepEqual([record.spent, record.windows[0]?.spent], [20n, 5n]);
  await reset(keyId, 0n);
  const again = await keysOf().get({ kind: "alias", alias: keyId });
  assert.deepEqual([again.spent, again.windows[0]?.spent], [0n, 0n]);
});

test("a correction of what was forgiven gives nothing back a second time", async () => {
  const keyId = await key(100n);
  const leaseId = await books.lease(keyId, 80n);
  books.nowMs = Date.now() + leaseTtlMs + 1_000;
  await books.leases.expireDue();
  assert.equal(await used(keyId), 80n);
  await reset(keyId, 10n);
  await books.settle(spend(keyId, 50n));
  // Of the 80 that were charged only 30 were spent, as it turns out now.
  await books.settle(spend(keyId, 30n, { leaseId }));
  assert.equal(await used(keyId), 60n);
  await books.giveBack(leaseId, 0n, true);
  assert.equal(await used(keyId), 60n);
  assert.equal((await books.standing(keyId)).spent, 80n);
  assert.equal((await books.acquire(keyId, 41n)).outcome, "refused");
});

test("a correction of what was charged after the reset counts", async () => {
  const keyId = await key(100n);
  const leaseId = await books.lease(keyId, 80n);
  await books.settle(spend(keyId, 15n));
  await reset(keyId, 0n);
  books.nowMs = Date.now() + leaseTtlMs + 1_000;
  await books.leases.expireDue();
  assert.equal(await used(keyId), 80n);
  await books.settle(spend(keyId, 30n, { leaseId }));
  await books.giveBack(leaseId, 0n, true);
  assert.equal(await used(keyId), 30n);
});

test("while pods borrow, settle, expire and give back, resets never let used and reserved pass the limit", async () => {
  const max = 1_000n;
  const keyId = await key(max);
  let running = true;
  let looks = 0;
  const watcher = (async () => {
    while (running) {
      looks++;
      const [row] = await books.postgres.query<{ used: bigint; reserved: bigint }>(
        `SELECT spent_nanos - forgiven_nanos AS used, reserved_nanos AS reserved FROM budget_periods
         JOIN budgets USING (budget_id) WHERE scope_id = $1`,
        [keyId],
      );
      assert.ok(
        row === undefined || (row.used >= 0n && row.used + row.reserved <= max),
        `${row?.used} ${row?.reserved}`,
      );
    }
  })();
  let random = 7;
  const next = (below: number) => {
    random = (random * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((random / 2_147_483_648) * below);
  };
  let forgiven = 0n;
  const pods = Array.from({ length: 8 }, async () => {
    for (let round = 0; round < 12; round++) {
      const leaseId = crypto.randomUUID();
      const answer = await books.acquire(keyId, 1n, BigInt(50 + next(100)), { leaseId });
      if (answer.outcome !== "granted") continue;
      const cost = (answer.granted * BigInt(next(101))) / 100n;
      // Some pods fall silent; their money is charged, and corrected when they come back.
      if (next(3) === 0) {
        await books.postgres.query("UPDATE leases SET expires_at = now() - interval '1 s' WHERE lease_id = $1", [
          leaseId,
        ]);
        await books.leases.expireDue(keyId);
      }
      await books.settle(spend(keyId, cost, { leaseId }));
      await books.giveBack(leaseId, 0n, true);
    }
  });
  const operator = (async () => {
    for (let round = 0; round < 15; round++) {
      const { previous, key: after } = await reset(keyId, 0n);
      assert.equal(after.spent, 0n);
      forgiven += previous;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  await Promise.all([...pods, operator]);
  running = false;
  await watcher;
  assert.ok(looks > 10 && forgiven > 0n, `${looks} ${forgiven}`);
  assert.deepEqual((await books.standing(keyId)).reserved, 0n);
});

test("reset_spend and ResetKeyBudget answer what was and what is, and refuse what makes no sense", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", { key_alias: "reset me", max_budget: 5 });
  const spent = (nanos: bigint) =>
    stage.sql(
      `INSERT INTO budget_periods (budget_id, period_start, spent_nanos)
       SELECT budget_id, 'epoch', $2 FROM budgets WHERE scope_id = $1
       ON CONFLICT (budget_id, period_start) DO UPDATE SET spent_nanos = excluded.spent_nanos`,
      [made.key_id, nanos],
    );
  await spent(4_000_000_000n);
  const answer = await stage.http("POST", `/key/${made.key}/reset_spend`, { reset_to: 1.5 });
  assert.deepEqual(answer.body, {
    ...{ key_hash: made.key_id, spend: 1.5, previous_spend: 4, max_budget: 5, budget_reset_at: null },
  });
  assert.equal((await stage.http("GET", `/key/info?key=${made.key}`)).body.info.spend, 1.5);
  const bad: [unknown, string][] = [
    [-1, "reset_to"],
    [2, "reset_to"],
    ["x", "reset_to"],
    [null, "reset_to"],
    [undefined, "reset_to"],
    [{}, "reset_to"],
  ];
  for (const [reset_to, param] of bad) {
    const refused = await stage.http("POST", `/key/${made.key}/reset_spend`, JSON.stringify({ reset_to }));
    assert.deepEqual([refused.status, refused.body.error.param], [400, param], String(reset_to));
  }
  assert.equal((await stage.http("POST", "/key/sk-nobody-knows-this-one/reset_spend", { reset_to: 0 })).status, 404);
  assert.equal((await stage.http("POST", `/key/${masterKey}/reset_spend`, { reset_to: 0 })).status, 403);
  const reset = await stage.keyAdmin.resetKeyBudget({ key: "reset me" });
  assert.deepEqual([reset.previousSpentUsd, reset.key?.spentUsd], ["1.5", "0"]);
  await assertFails(
    stage.keyAdmin.resetKeyBudget({ key: "reset me", resetToUsd: "1" }),
    Code.InvalidArgument,
    "INVALID_REQUEST",
  );
});
