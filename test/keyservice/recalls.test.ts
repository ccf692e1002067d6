import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { systemClock } from "../../src/clock.ts";
import { Recalls, readNotice, recallsChannel } from "../../src/keyservice/recalls.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { BooksStage } from "./books-stage.ts";

const nobodys = { podId: "", periodStart: new Date(0), untilMs: Number.POSITIVE_INFINITY };

describe("recalls", () => {
  let stage: BooksStage;
  let listener: pg.Client;
  const notices: (ReturnType<typeof readNotice> & { bytes: number })[] = [];
  before(async () => {
    stage = await BooksStage.open();
    listener = new pg.Client({ connectionString: stage.databaseUrl.reveal() });
    await listener.connect();
    await listener.query(`LISTEN ${recallsChannel}`);
    listener.on("notification", ({ payload = "" }) => {
      const notice = readNotice(payload);
      assert.ok(notice);
      notices.push({ ...notice, bytes: Buffer.byteLength(payload) });
    });
  });
  afterEach(async () => {
    await stage.check();
    notices.length = 0;
  });
  after(async () => {
    await listener.end();
    await stage.close();
  });

  const budgetOf = async (keyId: string): Promise<string> => {
    const sql = "SELECT budget_id FROM key_budgets WHERE key_id = $1";
    const [row] = await stage.postgres.query<{ budget_id: string }>(sql, [keyId]);
    assert.ok(row);
    return row.budget_id;
  };
  /** Gives the listener time to hear what was told before. */
  const told = async () => {
    await listener.query("SELECT 1");
    return notices.map(({ budgetId, podIds }) => ({ budgetId, podIds: podIds.toSorted() }));
  };

  it("asks the pods that hold some of a budget, once for all asks that lack it, and lends what came back", async () => {
    const keyId = await stage.key(100n);
    const budgetId = await budgetOf(keyId);
    const held = await stage.acquire(keyId, 50n, 50n, { podId: "a", leaseId: "11111111-1111-4111-8111-111111111111" });
    await stage.acquire(keyId, 40n, 40n, { podId: "b" });
    assert.equal(held.outcome, "granted");
    const asks = ["c", "d"].map((podId) => stage.acquire(keyId, 30n, 30n, { podId }));
    for (const startMs = performance.now(); notices.length === 0 && performance.now() - startMs < 5_000; ) {
      await new Promise(setImmediate);
    }
    await stage.giveBack("11111111-1111-4111-8111-111111111111", 50n, false);
    const answers = await Promise.all(asks);
    assert.deepEqual(
      answers.map(({ outcome }) => outcome),
      ["granted", "granted"],
    );
    assert.deepEqual(await told(), [{ budgetId, podIds: ["a", "b"] }]);
  });

  it("does not ask where other pods hold too little, where no call waits, and again so soon", async () => {
    const keyId = await stage.key(100n);
    await stage.acquire(keyId, 60n, 60n, { podId: "own" });
    await stage.acquire(keyId, 30n, 30n, { podId: "other" });
    const refused = async (amount: bigint, ahead = 0n) =>
      assert.equal((await stage.acquire(keyId, amount, amount, { podId: "own", ahead })).outcome, "refused");
    await refused(20n, 20n);
    await refused(41n);
    assert.deepEqual(await told(), []);
    // An ask for more than anybody holds does not stand in the way of the next.
    await refused(40n);
    assert.equal((await told()).length, 1);
    await refused(40n);
    await refused(40n);
    assert.equal((await told()).length, 1);
  });

  it("lends what came back of a budget whose periods were shorter before", async () => {
    const keyId = await stage.key(100n, "1d");
    await stage.acquire(keyId, 60n, 60n, { podId: "a" });
    await stage.postgres.query("UPDATE budgets SET duration = NULL WHERE scope_id = $1", [keyId]);
    const leaseId = "22222222-2222-4222-8222-222222222222";
    await stage.acquire(keyId, 90n, 90n, { podId: "a", leaseId });
    const asked = stage.acquire(keyId, 50n, 50n, { podId: "b" });
    for (const startMs = performance.now(); notices.length === 0 && performance.now() - startMs < 5_000; ) {
      await new Promise(setImmediate);
    }
    await stage.giveBack(leaseId, 90n, false);
    assert.equal((await asked).outcome, "granted");
  });

  it("asks a thousand pods in notifications that Postgres takes", async () => {
    const keyId = await stage.key(undefined);
    const budgetId = await budgetOf(keyId);
    const podIds = Array.from({ length: 1_000 }, (_, index) => `${index} ü${"x".repeat(index % 200)}`);
    for (const podId of podIds) await stage.acquire(keyId, 1n, 1n, { podId });
    const recalls = new Recalls({ books: stage.postgres, clock: systemClock });
    assert.equal(await recalls.wait({ ...nobodys, budgetId, taken: 1_000n, lacking: 1_000n }), false);
    await told();
    assert.ok(notices.length > 1 && notices.every(({ bytes }) => bytes < 8_000));
    assert.deepEqual(notices.flatMap((notice) => notice.podIds).toSorted(), podIds.toSorted());
    assert.equal(recalls.count, 1);
  });

  it("asks seldom where it brings nothing, and as often as before once it has brought something", async () => {
    const keyId = await stage.key(100n);
    const budgetId = await budgetOf(keyId);
    const leaseId = "33333333-3333-4333-8333-333333333333";
    await stage.acquire(keyId, 60n, 60n, { podId: "a", leaseId });
    const clock = new HandClock();
    const recalls = new Recalls({ books: stage.postgres, clock });
    const begunAtS: number[] = [];
    /** An ask each second, each answered before the next. */
    const ask = async (seconds: number, taken: bigint) => {
      for (let second = 0; second < seconds; second++) {
        const { count } = recalls;
        let isOver = false;
        const waiting = recalls.wait({ ...nobodys, budgetId, taken, lacking: 60n }).finally(() => {
          isOver = true;
        });
        // PostgreSQL's answers take time that this clock does not see.
        for (; !isOver; await sleep(2)) await clock.advance(10);
        await waiting;
        if (recalls.count > count) begunAtS.push(Math.floor(clock.monotonicMs() / 1_000));
        await clock.advance(1_000 - (clock.monotonicMs() % 1_000));
      }
    };
    /** A recall itself takes 0.3 s, and asks come each second. */
    const pauses = () =>
      begunAtS.slice(1).map((atS, index) => {
        const pauseS = atS - (begunAtS[index] ?? 0);
        const rest = [2, 4, 8, 16, 32, 60].find((restS) => pauseS >= restS && pauseS <= restS + 2);
        return rest === undefined ? `${pauseS}` : `about ${rest}`;
      });
    await ask(200, 60n);
    assert.deepEqual(pauses(), ["about 2", "about 4", "about 8", "about 16", "about 32", "about 60", "about 60"]);
    begunAtS.length = 0;
    // More was taken than is now: that has come back.
    await ask(66, 120n);
    assert.deepEqual(new Set(pauses()), new Set(["about 2"]));
  });

  it("waits no longer than the ask can, which other budgets have made wait", async () => {
    const keyId = await stage.key(100n);
    const budgetId = await budgetOf(keyId);
    await stage.acquire(keyId, 60n, 60n, { podId: "a" });
    const clock = new HandClock();
    const recalls = new Recalls({ books: stage.postgres, clock });
    const startMs = clock.monotonicMs();
    let isOver = false;
    const waiting = recalls
      .wait({ ...nobodys, budgetId, taken: 60n, lacking: 60n, untilMs: startMs + 100 })
      .finally(() => {
        isOver = true;
      });
    for (; !isOver && clock.monotonicMs() < startMs + 100; await sleep(2)) await clock.advance(1);
    assert.ok(isOver);
    assert.equal(await waiting, false);
  });

  it("takes a notification of another kind for none", () => {
    for (const payload of ["", "x", "{}", "[]", "[1]", '["budget", 2]']) assert.equal(readNotice(payload), undefined);
  });
});
