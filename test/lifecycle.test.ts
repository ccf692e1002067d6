import assert from "node:assert/strict";
import { test } from "node:test";
import { Closers } from "../src/lifecycle.ts";

test("what was opened last is closed first, one after the other", async () => {
  const closers = new Closers();
  const order: string[] = [];
  for (const name of ["a", "b", "c"]) {
    closers.add(name, async () => {
      order.push(`${name} begins`);
      await new Promise((resolve) => setImmediate(resolve));
      order.push(`${name} ends`);
    });
  }
  await closers.close(() => assert.fail());
  assert.deepEqual(order, ["c begins", "c ends", "b begins", "b ends", "a begins", "a ends"]);
});

test("a part that fails to close is told, and the others are closed all the same", async () => {
  const closers = new Closers();
  const closed: string[] = [];
  const failed: string[] = [];
  closers.add("first", () => void closed.push("first"));
  closers.add("throws", () => {
    throw new Error("no");
  });
  closers.add("rejects", async () => {
    throw new Error("no");
  });
  closers.add("last", () => void closed.push("last"));
  await closers.close((name) => void failed.push(name));
  assert.deepEqual(closed, ["last", "first"]);
  assert.deepEqual(failed, ["rejects", "throws"]);
});

test("closing twice closes once, and both wait for the end", async () => {
  const closers = new Closers();
  let count = 0;
  let ended = false;
  closers.add("slow", async () => {
    count++;
    await new Promise((resolve) => setTimeout(resolve, 5));
    ended = true;
  });
  void closers.close(() => {});
  await closers.close(() => {});
  assert.equal(count, 1);
  assert.equal(ended, true);
});
