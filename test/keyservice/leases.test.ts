import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { systemRandom } from "../../src/clock.ts";
import { Lender } from "../../src/keyservice/lender.ts";
import { Postgres } from "../../src/keyservice/postgres.ts";
import { Recalls } from "../../src/keyservice/recalls.ts";
import { BooksStage, leaseTtlMs, spend } from "./books-stage.ts";

describe("leases", () => {
  let stage: BooksStage;
  before(async () => {
    stage = await BooksStage.open();
  });
  afterEach(async () => {
    await stage.check();
    stage.nowMs = undefined;
  });
  after(() => stage.close());

  it("grants exactly 40 of 300 parallel asks on a budget that pays for 40", async () => {
    const keyId = await stage.key(40n);
    const answers = await Promise.all(Array.from({ length: 300 }, () => stage.acquire(keyId, 1n)));
    assert.equal(answers.filter(({ outcome }) => outcome === "granted").length, 40);
    const refused = answers.find((answer) => answer.outcome === "refused");
    assert.ok(refused?.outcome === "refused");
    assert.deepEqual([refused.budget.max_nanos, refused.spent, refused.reserved], [40n, 0n, 40n]);
    assert.equal(refused.resetsAt, undefined);
    assert.deepEqual(await stage.standing(keyId), { spent: 0n, reserved: 40n });
  });

  it("does not begin an ask that nobody waits for any more when its turn comes", async () => {
    const keyId = await stage.key(100n);
    const { databaseUrl, clock, leases } = stage;
    const parts = { databaseUrl, clock, random: systemRandom, onConnectionLost: () => {}, connectionsMax: 1 };
    const postgres = new Postgres(parts);
    const recalls = new Recalls({ books: postgres, clock });
    const lender = new Lender({ postgres, leases, recalls, clock, leaseTtlMs, timeZone: "UTC" });
    const ask = () => ({
      ...{ requestId: randomUUID(), leaseId: randomUUID(), podId: "pod", keyId, budgetIds: [] },
      ...{ min: 1n, want: 1n, ahead: 0n },
    });
    try {
      const held = Promise.withResolvers<void>();
      const begun = Promise.withResolvers<void>();
      const busy = postgres.transaction(() => {
        begun.resolve();
        return held.promise;
      });
      await begun.promise;
      const gone = new AbortController();
      const refusal = assert.rejects(lender.acquire(ask(), gone.signal), { code: "keyservice_unavailable" });
      const patient = lender.acquire(ask(), new AbortController().signal);
      gone.abort();
      held.resolve();
      await busy;
      await refusal;
      assert.equal((await patient).outcome, "granted");
      assert.deepEqual(await stage.standing(keyId), { spent: 0n, reserved: 1n });
    } finally {
      await postgres.close();
    }
  });

  it("keeps its sums when 64 clients borrow, settle and give back on one budget at once", async () => {
    const keyId = await stage.key(10_000n, "1mo");
    const costs = await Promise.all(
      Array.from({ length: 64 }, async (_, client) => {
        const leaseId = await stage.lease(keyId, 30n);
        const more = await stage.acquire(keyId, 1n, 70n, { leaseId });
        assert.equal(more.outcome, "granted");
        const records = [spend(keyId, BigInt(client), { leaseId }), spend(keyId, 5n, { leaseId })];
        await stage.settle(...records);
        await stage.settle(...records.toReversed());
        await stage.giveBack(leaseId, 0n, true);
        return BigInt(client) + 5n;
      }),
    );
    const spent = costs.reduce((sum, cost) => sum + cost);
    assert.deepEqual(await stage.standing(keyId), { spent, reserved: 0n });
  });

  it("never opens a lease that was closed before its first ask arrived", async () => {
    const keyId = await stage.key(100n);
    const leaseId = randomUUID();
    await stage.giveBack(leaseId, 0n, true);
    assert.deepEqual(await stage.acquire(keyId, 40n, 40n, { leaseId }), { outcome: "ended" });
    assert.deepEqual(await stage.standing(keyId), { spent: 0n, reserved: 0n });
  });

  it("opens and closes a lease, or never opens it, when its first ask and its close arrive together", async () => {
    const keyId = await stage.key(1_000n);
    for (let round = 0; round < 30; round++) {
      const leaseId = randomUUID();
      await Promise.all([
        stage.acquire(keyId, 40n, 40n, { leaseId }),
        stage.giveBack(leaseId, 0n, true),
        stage.acquire(keyId, 40n, 40n, { leaseId }),
      ]);
    }
    assert.deepEqual(await stage.standing(keyId), { spent: 0n, reserved: 0n });
  });

  it("grants less than is wanted near the limit, and nothing below what is of use", async () => {
    const keyId = await stage.key(100n);
    await stage.lease(keyId, 70n);
    const partial = await stage.acquire(keyId, 10n, 50n);
    assert.ok(partial.outcome === "granted");
    assert.equal(partial.granted, 30n);
    assert.equal((await stage.acquire(keyId, 1n, 50n)).outcome, "refused");
  });

  it("grants nothing on a budget of zero, and anything where there is no limit", async () => {
    assert.equal((await stage.acquire(await stage.key(0n), 1n)).outcome, "refused");
    const unlimited = await stage.acquire(await stage.key(undefined), 10n ** 12n);
    assert.ok(unlimited.outcome === "granted");
    assert.equal(unlimited.granted, 10n ** 12n);
    assert.equal(unlimited.periodEndsMs, undefined);
  });

  it("takes from all budgets of a key or from none, and names the one without room", async () => {
    const keyId = await stage.key(100n);
    await stage.windows(keyId, { duration: "1d", max: 30n }, { duration: "1mo", max: 1_000n });
    const granted = await stage.acquire(keyId, 1n, 80n);
    assert.ok(granted.outcome === "granted");
    assert.equal(granted.granted, 30n);
    const refused = await stage.acquire(keyId, 1n);
    assert.ok(refused.outcome === "refused");
    assert.deepEqual([refused.budget.duration, refused.budget.max_nanos], ["1d", 30n]);
    const rows = await stage.postgres.query(
      "SELECT DISTINCT reserved_nanos AS n FROM budget_periods JOIN budgets USING (budget_id) WHERE scope_id = $1",
      [keyId],
    );
    assert.deepEqual(rows, [{ n: 30n }]);
  });

  it("grants a repeated ask once, also when it comes twice at once", async () => {
    const keyId = await stage.key(100n);
    const ids = { requestId: randomUUID(), leaseId: randomUUID() };
    const twins = await Promise.all(Array.from({ length: 8 }, () => stage.acquire(keyId, 30n, 30n, ids)));
    const again = await stage.acquire(keyId, 30n, 30n, ids);
    for (const answer of [...twins, again]) assert.ok(answer.outcome === "granted" && answer.granted === 30n);
    assert.equal((await stage.standing(keyId)).reserved, 30n);
  });

  it("does not answer a repeated ask with money that is gone", async () => {
    const keyId = await stage.key(100n);
    const ids = { requestId: randomUUID(), leaseId: randomUUID() };
    await stage.acquire(keyId, 30n, 30n, ids);
    await stage.giveBack(ids.leaseId, 0n, true);
    assert.deepEqual(await stage.acquire(keyId, 30n, 30n, ids), { outcome: "ended" });
  });

  it("adds to a lease and prolongs it", async () => {
    stage.nowMs = Date.UTC(2026, 2, 4);
    const keyId = await stage.key(100n);
    const leaseId = await stage.lease(keyId, 30n);
    stage.nowMs += leaseTtlMs / 2;
    assert.equal((await stage.acquire(keyId, 20n, 20n, { leaseId })).outcome, "granted");
    stage.nowMs += leaseTtlMs - 1;
    assert.deepEqual(await stage.leases.renew([leaseId]), { ttlMs: leaseTtlMs, ended: [] });
    assert.deepEqual(await stage.standing(keyId), { spent: 0n, reserved: 50n });
  });

  it("ends a lease that was not renewed in time, and says so", async () => {
    stage.nowMs = Date.UTC(2026, 2, 4);
    const keyId = await stage.key(100n);
    const [renewed, silent] = [await stage.lease(keyId, 10n), await stage.lease(keyId, 20n)];
    stage.nowMs += leaseTtlMs - 1;
    assert.deepEqual((await stage.leases.renew([renewed.toUpperCase()])).ended, []);
    stage.nowMs += 1;
    const unknown = randomUUID();
    assert.deepEqual((await stage.leases.renew([renewed, silent, unknown])).ended, [silent, unknown]);
    assert.deepEqual(await stage.acquire(keyId, 1n, 1n, { leaseId: silent }), { outcome: "ended" });
    assert.deepEqual(await stage.standing(keyId), { spent: 20n, reserved: 10n });
  });

  it("charges what a silent pod held, corrects it as calls come in late, and is exact at the end", async () => {
    stage.nowMs = Date.UTC(2026, 2, 4);
    const keyId = await stage.key(100n);
    const leaseId = await stage.lease(keyId, 60n);
    await stage.settle(spend(keyId, 5n, { leaseId }));
    stage.nowMs += leaseTtlMs;
    assert.deepEqual(await stage.leases.expireDue(keyId), { count: 1, more: false });
    assert.deepEqual(await stage.leases.expireDue(keyId), { count: 0, more: false });
    assert.deepEqual(await stage.standing(keyId), { spent: 60n, reserved: 0n });
    await stage.check();
    stage.nowMs += 1;
    await stage.settle(spend(keyId, 7n, { leaseId }), spend(keyId, 3n, { leaseId }));
    assert.deepEqual(await stage.standing(keyId), { spent: 60n, reserved: 0n });
    await stage.check();
    stage.nowMs += 1;
    await stage.giveBack(leaseId, 0n, true);
    assert.deepEqual(await stage.standing(keyId), { spent: 15n, reserved: 0n });
    stage.nowMs += 1;
    await stage.settle(spend(keyId, 2n, { leaseId }));
    assert.deepEqual(await stage.standing(keyId), { spent: 17n, reserved: 0n });
    const books = (await stage.log(keyId)).map(({ call_id, attempt, cost, status }) => {
      return call_id === leaseId ? `${status} ${attempt} ${cost}` : `${status} ${cost}`;
    });
    assert.deepEqual(books.toSorted(), [
      ...["correction -1 -10", "correction -2 -45", "success 2", "success 3", "success 5", "success 7"],
      "unconfirmed 0 55",
    ]);
  });

  it("charges many silent pods a bounded number at a time, and sweeps of several replicas share the work", async () => {
    stage.nowMs = Date.UTC(2026, 2, 4);
    const keyId = await stage.key(10_000n);
    await Promise.all(Array.from({ length: 230 }, () => stage.lease(keyId, 2n)));
    stage.nowMs += leaseTtlMs;
    const sweeps = await Promise.all([1, 2, 3].map(() => stage.leases.expireDue()));
    for (const { count } of sweeps) assert.ok(count <= 200);
    while ((await stage.leases.expireDue()).count > 0);
    assert.deepEqual(await stage.standing(keyId), { spent: 460n, reserved: 0n });
  });

  it("carries out a repeated return once", async () => {
    const keyId = await stage.key(100n);
    const leaseId = await stage.lease(keyId, 60n);
    const requestId = randomUUID();
    await Promise.all([1, 2, 3].map(() => stage.giveBack(leaseId, 20n, false, requestId)));
    assert.deepEqual(await stage.standing(keyId), { spent: 0n, reserved: 40n });
    await stage.giveBack(leaseId, 1_000n, false);
    assert.deepEqual(await stage.standing(keyId), { spent: 0n, reserved: 0n });
    await stage.giveBack(randomUUID(), 5n, true);
  });

  it("binds a lease to its period: at the edge it ends, the new period is full, and late costs stay in the old one", async () => {
    stage.nowMs = Date.UTC(2026, 2, 4, 23, 59, 50);
    const [today, tomorrow] = ["2026-03-04T00:00:00Z", "2026-03-05T00:00:00Z"];
    const keyId = await stage.key(100n, "1d");
    const leaseId = randomUUID();
    const answer = await stage.acquire(keyId, 100n, 100n, { leaseId });
    assert.ok(answer.outcome === "granted");
    assert.equal(answer.periodEndsMs, 10_000);
    const refused = await stage.acquire(keyId, 1n);
    assert.ok(refused.outcome === "refused");
    assert.deepEqual(refused.resetsAt, new Date(tomorrow));

    stage.nowMs += 10_000;
    assert.deepEqual(await stage.acquire(keyId, 1n, 1n, { leaseId }), { outcome: "ended" });
    assert.deepEqual((await stage.leases.renew([leaseId])).ended, [leaseId]);
    await stage.lease(keyId, 100n);
    await stage.settle(spend(keyId, 30n, { leaseId }), spend(keyId, 4n));
    await stage.giveBack(leaseId, 0n, true);
    assert.deepEqual(await stage.standing(keyId, today), { spent: 30n, reserved: 0n });
    assert.deepEqual(await stage.standing(keyId, tomorrow), { spent: 4n, reserved: 100n });

    // A clock that is set back finds the old period as it was.
    stage.nowMs -= 20_000;
    const back = await stage.acquire(keyId, 71n);
    assert.ok(back.outcome === "refused");
    assert.equal(back.spent, 30n);
  });

  it("ends a lease when the key's budgets are no longer those it was lent on", async () => {
    const keyId = await stage.key(100n);
    const leaseId = await stage.lease(keyId, 10n);
    await stage.windows(keyId, { duration: "1d", max: 50n });
    assert.deepEqual(await stage.acquire(keyId, 1n, 1n, { leaseId }), { outcome: "ended" });
    await stage.giveBack(leaseId, 0n, true);
  });

  it("lends nothing to a key that is unknown, deleted, blocked or expired, nor on another key's lease", async () => {
    const codes: string[] = [];
    const code = async (keyId: string, ids = {}) => {
      await assert.rejects(stage.acquire(keyId, 1n, 1n, ids), (error: { code: string }) => codes.push(error.code) > 0);
    };
    await code("key_nobody");
    for (const change of ["deleted_at = now()", "blocked = true", "expires_at = now() - interval '1 second'"]) {
      const keyId = await stage.key(100n);
      await stage.postgres.query(`UPDATE keys SET ${change} WHERE key_id = $1`, [keyId]);
      await code(keyId);
    }
    const leaseId = await stage.lease(await stage.key(100n), 10n);
    await code(await stage.key(100n), { leaseId });
    assert.deepEqual(codes, ["key_not_found", "key_not_found", "blocked_key", "expired_key", "invalid_request"]);
  });

  it("has a place for what the master key spends", async () => {
    await stage.settle(spend("key_master", 12n));
    assert.deepEqual(await stage.standing("key_master"), { spent: 12n, reserved: 0n });
  });
});
