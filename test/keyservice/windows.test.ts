import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { BooksStage, spend } from "./books-stage.ts";

describe("a key with several budget windows", () => {
  let stage: BooksStage;
  before(async () => {
    stage = await BooksStage.open();
  });
  afterEach(async () => {
    await stage.check();
    stage.nowMs = undefined;
  });
  after(() => stage.close());

  it("grants exactly 40 of 300 parallel asks when the smaller of two windows pays for 40", async () => {
    const keyId = await stage.key(1_000n, "30d");
    await stage.windows(keyId, { duration: "1d", max: 40n });
    const answers = await Promise.all(Array.from({ length: 300 }, () => stage.acquire(keyId, 1n)));
    assert.equal(answers.filter(({ outcome }) => outcome === "granted").length, 40);
    for (const answer of answers) {
      if (answer.outcome !== "refused") continue;
      assert.deepEqual([answer.budget.duration, answer.budget.max_nanos], ["1d", 40n]);
    }
    assert.deepEqual(await stage.standing(keyId), { spent: 0n, reserved: 40n });
    assert.deepEqual(await stage.standing(keyId, undefined, "1d"), { spent: 0n, reserved: 40n });
  });

  it("refuses in the name of whichever window has the least room", async () => {
    const [keyId, other] = [await stage.key(undefined), await stage.key(undefined)];
    await stage.windows(other, { duration: "1h", max: 30n }, { duration: "1mo", max: 0n });
    const nothing = await stage.acquire(other, 1n);
    assert.ok(nothing.outcome === "refused");
    assert.equal(nothing.budget.duration, "1mo");
    await stage.windows(keyId, { duration: "1h", max: 30n }, { duration: "1d", max: 20n });
    const partial = await stage.acquire(keyId, 1n, 25n);
    assert.ok(partial.outcome === "granted");
    assert.equal(partial.granted, 20n);
    const refused = await stage.acquire(keyId, 1n);
    assert.ok(refused.outcome === "refused");
    assert.deepEqual([refused.budget.duration, refused.reserved], ["1d", 20n]);
  });

  it("counts every call in every window, with a lease and without", async () => {
    const keyId = await stage.key(undefined);
    await stage.windows(keyId, { duration: "1d", max: 100n }, { duration: "1mo", max: 1_000n });
    const leaseId = await stage.lease(keyId, 50n);
    await stage.settle(spend(keyId, 20n, { leaseId }), spend(keyId, 7n), spend(keyId, 3n, { leaseId: randomUUID() }));
    await stage.giveBack(leaseId, 0n, true);
    for (const window of [undefined, "1d", "1mo"]) {
      assert.deepEqual(await stage.standing(keyId, undefined, window), { spent: 30n, reserved: 0n });
    }
  });

  it("loses nothing and counts nothing twice when one window ends and the other goes on", async () => {
    stage.nowMs = Date.UTC(2026, 2, 30, 23, 59, 50);
    const [monday, tuesday, april] = ["2026-03-30T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-01T00:00:00Z"];
    const march = "2026-03-01T00:00:00Z";
    const keyId = await stage.key(1_000n, "30d");
    await stage.windows(keyId, { duration: "1d", max: 100n });
    const first = randomUUID();
    const answer = await stage.acquire(keyId, 60n, 60n, { leaseId: first });
    assert.ok(answer.outcome === "granted");
    assert.equal(answer.periodEndsMs, 10_000);

    stage.nowMs += 10_000;
    assert.deepEqual(await stage.acquire(keyId, 1n, 1n, { leaseId: first }), { outcome: "ended" });
    const second = await stage.lease(keyId, 100n);
    assert.deepEqual(await stage.standing(keyId, march), { spent: 0n, reserved: 160n });
    // The call that began on Monday ends on Tuesday: it counts where its money was lent.
    await stage.settle(spend(keyId, 25n, { leaseId: first }), spend(keyId, 40n, { leaseId: second }));
    await stage.giveBack(first, 0n, true);
    assert.deepEqual(await stage.standing(keyId, monday, "1d"), { spent: 25n, reserved: 0n });
    assert.deepEqual(await stage.standing(keyId, tuesday, "1d"), { spent: 40n, reserved: 60n });
    assert.deepEqual(await stage.standing(keyId, march), { spent: 65n, reserved: 60n });
    await stage.check();

    // Now both end.
    stage.nowMs = Date.parse(april);
    assert.deepEqual((await stage.leases.renew([second])).ended, [second]);
    await stage.settle(spend(keyId, 5n, { leaseId: second }), spend(keyId, 1n));
    await stage.giveBack(second, 0n, true);
    assert.deepEqual(await stage.standing(keyId, march), { spent: 70n, reserved: 0n });
    assert.deepEqual(await stage.standing(keyId, tuesday, "1d"), { spent: 45n, reserved: 0n });
    for (const window of [undefined, "1d"]) {
      assert.deepEqual(await stage.standing(keyId, april, window), { spent: 1n, reserved: 0n });
    }
  });

  it("keeps both sums when many pods borrow, settle and vanish across midnight", async () => {
    stage.nowMs = Date.UTC(2026, 5, 10, 23, 59, 59);
    const keyId = await stage.key(100_000n, "30d");
    await stage.windows(keyId, { duration: "1d", max: 50_000n }, { duration: "6h", max: 20_000n });
    const pods = Array.from({ length: 24 }, async (_, pod) => {
      for (let round = 0; round < 3; round++) {
        const leaseId = await stage.lease(keyId, 40n);
        if (pod === 0) stage.nowMs = (stage.nowMs ?? 0) + 1_000;
        await stage.settle(spend(keyId, BigInt(pod), { leaseId }), spend(keyId, 2n, { leaseId }));
        if (pod % 3 !== 0) await stage.giveBack(leaseId, 0n, true);
      }
    });
    await Promise.all(pods);
    await stage.check();
    stage.nowMs += 120_000;
    while ((await stage.leases.expireDue()).more);
    const [total] = await stage.postgres.query<{ sum: bigint }>(
      "SELECT sum(cost_nanos)::bigint AS sum FROM spend_log WHERE key_id = $1",
      [keyId],
    );
    for (const window of [undefined, "1d", "6h"]) {
      assert.deepEqual(await stage.standing(keyId, undefined, window), { spent: total?.sum, reserved: 0n });
    }
  });

  it("keeps a window's spend when its maximum changes", async () => {
    const keyId = await stage.key(undefined);
    await stage.windows(keyId, { duration: "1d", max: 100n });
    await stage.settle(spend(keyId, 60n));
    await stage.windows(keyId, { duration: "1d", max: 61n });
    assert.equal((await stage.acquire(keyId, 1n)).outcome, "granted");
    const refused = await stage.acquire(keyId, 1n);
    assert.ok(refused.outcome === "refused");
    assert.deepEqual([refused.spent, refused.reserved], [60n, 1n]);
  });

  it("lets a removed window limit nothing, and continues its period when it comes back", async () => {
    stage.nowMs = Date.UTC(2026, 2, 4, 12);
    const keyId = await stage.key(undefined);
    await stage.windows(keyId, { duration: "1d", max: 20n });
    const leaseId = await stage.lease(keyId, 20n);
    await stage.windows(keyId);
    assert.deepEqual(await stage.acquire(keyId, 1n, 1n, { leaseId }), { outcome: "ended" });
    const free = await stage.lease(keyId, 500n);
    await stage.settle(spend(keyId, 10n, { leaseId }), spend(keyId, 4n, { leaseId: free }), spend(keyId, 1n));
    await stage.giveBack(leaseId, 0n, true);
    await stage.giveBack(free, 0n, true);
    await stage.windows(keyId, { duration: "1d", max: 20n });
    assert.deepEqual(await stage.standing(keyId, undefined, "1d"), { spent: 15n, reserved: 0n });
    assert.equal((await stage.acquire(keyId, 6n)).outcome, "refused");
  });
});

describe("a window that comes and goes", () => {
  let stage: BooksStage;
  before(async () => {
    stage = await BooksStage.open();
  });
  after(() => stage.close());

  it("starts from nothing, and once removed counts no further period", async () => {
    stage.nowMs = Date.UTC(2026, 2, 4, 12);
    const keyId = await stage.key(undefined);
    await stage.settle(spend(keyId, 9n));
    await stage.windows(keyId, { duration: "1d", max: 20n });
    await stage.settle(spend(keyId, 5n));
    assert.equal((await stage.standing(keyId, undefined, "1d")).spent, 5n);
    await stage.windows(keyId);
    stage.nowMs += 86_400_000;
    await stage.settle(spend(keyId, 7n));
    await stage.windows(keyId, { duration: "1d", max: 20n });
    assert.equal((await stage.standing(keyId, "2026-03-05T00:00:00Z", "1d")).spent, 0n);
    assert.equal((await stage.standing(keyId)).spent, 21n);
  });
});

describe("windows in Europe/Berlin", () => {
  let stage: BooksStage;
  before(async () => {
    stage = await BooksStage.open("Europe/Berlin");
  });
  after(() => stage.close());

  /** Beginning and end of a local day on which the clocks change, and the month around it. */
  const days = [
    { name: "forward", start: "2026-03-28T23:00:00Z", end: "2026-03-29T22:00:00Z", month: "2026-02-28T23:00:00Z" },
    { name: "back", start: "2026-10-24T22:00:00Z", end: "2026-10-25T23:00:00Z", month: "2026-09-30T22:00:00Z" },
  ];
  for (const { name, start, end, month } of days) {
    it(`end a day at local midnight when the clocks have gone ${name}, and the month goes on`, async () => {
      stage.nowMs = Date.parse(start);
      const keyId = await stage.key(100n, "30d");
      await stage.windows(keyId, { duration: "1d", max: 10n });
      await stage.settle(spend(keyId, 1n));
      stage.nowMs = Date.parse(end) - 1;
      const leaseId = randomUUID();
      const last = await stage.acquire(keyId, 9n, 9n, { leaseId });
      assert.ok(last.outcome === "granted");
      assert.equal(last.periodEndsMs, 1);
      const refused = await stage.acquire(keyId, 1n);
      assert.ok(refused.outcome === "refused");
      assert.deepEqual([refused.budget.duration, refused.resetsAt], ["1d", new Date(end)]);

      stage.nowMs = Date.parse(end);
      const next = await stage.lease(keyId, 10n);
      await stage.settle(spend(keyId, 9n, { leaseId }), spend(keyId, 10n, { leaseId: next }));
      assert.deepEqual(await stage.standing(keyId, start, "1d"), { spent: 10n, reserved: 0n });
      assert.deepEqual(await stage.standing(keyId, end, "1d"), { spent: 10n, reserved: 0n });
      assert.deepEqual(await stage.standing(keyId, month), { spent: 20n, reserved: 0n });
      await stage.check();
    });
  }
});
