import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import { Board } from "../../src/counters/board.ts";
import { MemoryBoard } from "../../src/counters/board-memory.ts";
import type { BoardStore } from "../../src/counters/board-store.ts";
import { CountersUnavailable } from "../../src/counters/counters.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { boardsKeepTheirPromises } from "./board-contract.ts";

const halfLifeMs = 60_000;
const cause = { code: "rate_limit_exceeded", status: 429 };

boardsKeepTheirPromises("boards that meet in memory", async () => {
  const place = new MemoryBoard({ clock: systemClock, halfLifeMs });
  const boardOf = (podId: string) => new Board({ store: place.storeOf(podId), clock: systemClock, halfLifeMs });
  const boards = [boardOf("a"), boardOf("b"), boardOf("c")] as const;
  return { boards, close: async () => void (await Promise.all(boards.map((board) => board.close()))) };
});

/** A board by hand, and how often it has exchanged. */
function byHand(clock = new HandClock(), place = new MemoryBoard({ clock, halfLifeMs }), podId = "pod") {
  const real = place.storeOf(podId);
  const seen = { count: 0, isAway: false, livePods: 1 };
  const store: BoardStore = {
    livePods: () => seen.livePods,
    exchange: async (post) => {
      seen.count += 1;
      if (seen.isAway) throw new CountersUnavailable(new Error("away"));
      return real.exchange(post);
    },
  };
  return { board: new Board({ store, clock, halfLifeMs }), clock, place, seen };
}

test("exchanges come four times a second while there are calls, then until the last minute is over, then none", async () => {
  const { board, clock, seen } = byHand();
  await clock.advance(60_000);
  assert.equal(seen.count, 1, "one at the start");
  for (let call = 0; call < 1000; call += 1) {
    board.of("d");
    board.began("d");
    board.ended("d", { tokens: 1 });
    await clock.advance(10);
  }
  assert.ok(seen.count >= 40 && seen.count <= 42, `${seen.count} in ten seconds`);
  await clock.advance(120_000);
  const settled = seen.count;
  assert.ok(settled <= 42 + 8 + 8, `${settled}`);
  assert.equal(board.of("d").requests, 0);
  await clock.advance(5_000);
  const after = seen.count;
  await clock.advance(3_600_000);
  assert.equal(seen.count, after);
});

test("a pod of a thousand exchanges every two and a half seconds, and goes by what the others said all the while", async () => {
  const { board, clock, place, seen } = byHand();
  seen.livePods = 1_000;
  const told = { inFlight: 3, requests: 3, tokens: 0, pace: { sum: 0, count: 0 }, firstToken: { sum: 0, count: 0 } };
  await place.storeOf("other").exchange({ figures: new Map([["d", told]]), cool: new Map(), clear: [], ids: [] });
  const heard: number[] = [];
  for (let call = 0; call < 100; call += 1) {
    heard.push(board.of("d").inFlight);
    await clock.advance(100);
  }
  assert.ok(seen.count >= 4 && seen.count <= 5, `${seen.count} in ten seconds`);
  assert.deepEqual(new Set(heard.slice(26)), new Set([3]));
  board.cool("d", 1_000, cause);
  await clock.advance(1);
  assert.ok(seen.count >= 5 && seen.count <= 6, "what is wrong is told at once");
});

test("requests and tokens are those of the last minute", async () => {
  const { board, clock } = byHand();
  for (let second = 0; second < 180; second += 1) {
    board.began("d");
    board.ended("d", { tokens: 7 });
    const { requests, tokens } = board.of("d");
    assert.equal(tokens, 7 * requests);
    if (second >= 70) assert.ok(requests >= 60 && requests <= 71, `${requests}`);
    await clock.advance(1000);
  }
});

test("times count half after a half-life, and are forgotten when they have faded", async () => {
  const { board, clock } = byHand();
  const end = (msPerOutputToken: number) => {
    board.began("d");
    board.ended("d", { tokens: 1, msPerOutputToken });
  };
  end(10);
  await clock.advance(halfLifeMs);
  end(40);
  assert.ok(Math.abs((board.of("d").msPerOutputToken ?? 0) - 30) < 0.01, `${board.of("d").msPerOutputToken}`);
  await clock.advance(halfLifeMs * 8);
  assert.equal(board.of("d").msPerOutputToken, undefined);
});

test("without the store a pod goes by what it knows itself, says what it could not say as soon as it is back", async () => {
  const one = byHand();
  const other = byHand(one.clock, one.place, "other");
  const { clock } = one;
  other.board.began("d");
  await clock.advance(500);
  one.board.of("d");
  await clock.advance(500);
  one.board.began("d");
  assert.equal(one.board.of("d").inFlight, 2);
  one.seen.isAway = true;
  await clock.advance(500);
  assert.deepEqual([one.board.of("d").inFlight, one.board.of("d").requests], [1, 1]);
  one.board.cool("e", 60_000, cause);
  assert.equal(one.board.of("e").cooling?.remainingMs, 60_000);
  await clock.advance(10_000);
  assert.equal(one.board.of("e").cooling?.remainingMs, 50_000);
  assert.equal(other.board.of("e").cooling, undefined);
  one.seen.isAway = false;
  await clock.advance(1_000);
  other.board.of("e");
  await clock.advance(300);
  assert.equal(other.board.of("e").cooling?.remainingMs, 48_700);
  one.board.of("d");
  await clock.advance(300);
  assert.equal(one.board.of("d").inFlight, 2);
});

test("a pod that closes has nothing under way any more", async () => {
  const one = byHand();
  const other = byHand(one.clock, one.place, "other");
  one.board.began("d");
  await one.clock.advance(500);
  other.board.of("d");
  await one.clock.advance(500);
  assert.equal(other.board.of("d").inFlight, 1);
  await one.board.close();
  await one.clock.advance(500);
  assert.equal(other.board.of("d").inFlight, 0);
});
