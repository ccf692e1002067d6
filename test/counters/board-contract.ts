import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Board, DeploymentFacts } from "../../src/counters/board.ts";

/** Boards of three pods that meet, which end with `close`. */
export interface Boards {
  readonly boards: readonly [Board, Board, Board];
  close(): Promise<void>;
}

/** How soon a pod knows of another, if it has calls. */
const soonMs = 300;
const nothingKnown = { inFlight: 0, requests: 0, tokens: 0 };

let idCount = 0;

/** A deployment no other test has. */
export function newId(): string {
  idCount += 1;
  return `deployment "${idCount}" {käse}`;
}

/** Asks as a pod with calls does, until it is so. @returns how long it took. */
export async function knows(board: Board, id: string, isSo: (facts: DeploymentFacts) => boolean, withinMs = 5000) {
  const startMs = performance.now();
  while (!isSo(board.of(id))) {
    assert.ok(performance.now() - startMs < withinMs, JSON.stringify(board.of(id)));
    await sleep(10);
  }
  return performance.now() - startMs;
}

/** Holds boards to what they promise over whichever store. */
export function boardsKeepTheirPromises(name: string, open: () => Promise<Boards>): void {
  describe(name, () => {
    let opened: Boards;
    let a: Board;
    let b: Board;
    let c: Board;
    before(async () => {
      opened = await open();
      [a, b, c] = opened.boards;
    });
    after(() => opened.close());

    test("what a pod does it knows at once", () => {
      const id = newId();
      a.began(id);
      a.began(id);
      a.ended(id, { tokens: 70, msPerOutputToken: 20, firstTokenMs: 300 });
      const { msPerOutputToken = 0, firstTokenMs = 0, ...counts } = a.of(id);
      assert.deepEqual(counts, { inFlight: 1, requests: 2, tokens: 70, cooling: undefined });
      // A millisecond later the sum and the count have faded, each with its own rounding.
      assert.deepEqual([msPerOutputToken, firstTokenMs].map(Math.round), [20, 300]);
      a.ended(id, { tokens: 0 });
    });

    test("what three pods do, each soon knows the sum of", async () => {
      const id = newId();
      for (const [number, board] of [a, b, c].entries()) {
        for (let call = 0; call <= number; call += 1) board.began(id);
        board.ended(id, { tokens: 10 * (number + 1), msPerOutputToken: 10 * (number + 1), firstTokenMs: 100 });
      }
      for (const board of [a, b, c]) {
        const tookMs = await knows(board, id, (facts) => facts.requests === 6 && facts.tokens === 60);
        assert.ok(tookMs < 1000, `${tookMs}`);
        const { inFlight, msPerOutputToken = 0, firstTokenMs = 0 } = board.of(id);
        assert.equal(inFlight, 3);
        assert.ok(Math.abs(msPerOutputToken - 20) < 0.1 && Math.abs(firstTokenMs - 100) < 0.1);
      }
      b.ended(id, { tokens: 5 });
      c.ended(id, { tokens: 5 });
      c.ended(id, { tokens: 5 });
      await knows(a, id, (facts) => facts.inFlight === 0 && facts.tokens === 75);
    });

    test("what this pod has done since counts on top of what all had done", async () => {
      const id = newId();
      b.began(id);
      await knows(a, id, (facts) => facts.inFlight === 1);
      for (let call = 0; call < 50; call += 1) {
        a.began(id);
        assert.equal(a.of(id).inFlight, call + 2);
      }
      for (let call = 0; call < 50; call += 1) a.ended(id, { tokens: 1 });
      assert.equal(a.of(id).inFlight, 1);
      await sleep(soonMs);
      assert.deepEqual([a.of(id).inFlight, a.of(id).requests, a.of(id).tokens], [1, 51, 50]);
      b.ended(id, { tokens: 0 });
    });

    test("that a deployment cools, pods with calls know within 300 ms, and that it answers again", async () => {
      const id = newId();
      await Promise.all([a, b, c].map((board) => knows(board, id, () => true)));
      await sleep(soonMs);
      const cause = { code: "rate_limit_exceeded", status: 429 };
      const bothKnow = (isSo: (facts: DeploymentFacts) => boolean) =>
        Promise.all([b, c].map((board) => knows(board, id, isSo)));
      a.cool(id, 60_000, cause);
      const coolMs = await bothKnow(({ cooling }) => cooling !== undefined);
      for (const board of [a, b, c]) {
        const { remainingMs = 0, ...told } = board.of(id).cooling ?? {};
        assert.deepEqual(told, cause);
        assert.ok(remainingMs > 58_000 && remainingMs <= 60_001, `${remainingMs}`);
      }
      b.clear(id);
      assert.equal(b.of(id).cooling, undefined);
      const clearMs = await Promise.all(
        [a, c].map((board) => knows(board, id, ({ cooling }) => cooling === undefined)),
      );
      for (const tookMs of [...coolMs, ...clearMs]) assert.ok(tookMs < soonMs, `${[...coolMs, ...clearMs]}`);
      await sleep(soonMs);
      assert.equal(b.of(id).cooling, undefined);
    });

    test("the longer of two coolings stands, whoever says it first", async () => {
      const id = newId();
      a.cool(id, 30_000, { code: "rate_limit_exceeded", status: 429 });
      await knows(b, id, ({ cooling }) => cooling !== undefined);
      b.cool(id, 1_000, { code: "provider_error", status: 500 });
      c.cool(id, 40_000, { code: "timeout", status: undefined });
      await knows(a, id, ({ cooling }) => cooling?.code === "timeout");
      assert.equal(a.of(id).cooling?.status, undefined);
      await knows(b, id, ({ cooling }) => (cooling?.remainingMs ?? 0) > 35_000);
    });

    test("a deployment whose time is over stays known as not seen to answer, until it does", async () => {
      const id = newId();
      a.cool(id, 50, { code: "provider_error", status: 500 });
      await knows(b, id, ({ cooling }) => cooling?.remainingMs === 0);
      await sleep(soonMs);
      assert.equal(a.of(id).cooling?.remainingMs, 0);
      b.cool(id, 60_000, { code: "provider_error", status: 503 });
      await knows(a, id, ({ cooling }) => cooling?.status === 503);
      a.clear(id);
      a.clear(id);
      await knows(b, id, ({ cooling }) => cooling === undefined);
    });

    test("nobody knows anything of a deployment nobody has tried", async () => {
      const id = newId();
      a.of(id);
      await sleep(soonMs);
      assert.deepEqual(a.of(id), {
        ...nothingKnown,
        ...{ msPerOutputToken: undefined, firstTokenMs: undefined, cooling: undefined },
      });
    });
  });
}
