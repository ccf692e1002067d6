import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryAnswers } from "../../src/cache/memory-answers.ts";
import { HandClock } from "../keys/hand-clock.ts";

function answers(bytesMax: number) {
  const clock = new HandClock();
  const store = new MemoryAnswers({ clock, bytesMax });
  const put = (key: string, bytes: number, ttlMs = 1_000) => store.put(key, Buffer.alloc(bytes), ttlMs);
  const has = async (key: string) => (await store.get(key)) !== undefined;
  return { clock, store, put, has };
}

test("an answer is there for as long as it lives", async () => {
  const { clock, put, has } = answers(100);
  put("a", 10, 500);
  await clock.advance(499);
  assert.ok(await has("a"));
  await clock.advance(1);
  assert.equal(await has("a"), false);
});

test("the bytes of all answers stay within the bound, and what is asked for outlives what is not", async () => {
  const { store, put, has } = answers(100);
  put("hot", 10);
  for (let index = 0; index < 200; index++) {
    put(`cold-${index}`, 10);
    assert.ok(store.bytes <= 100, String(store.bytes));
    assert.ok(await has("hot"), `after ${index}`);
  }
  assert.equal(await has("cold-0"), false);
  assert.ok(await has("cold-199"));
});

test("one answer that is too large for its share is not kept, and drives out no other", async () => {
  const { store, put, has } = answers(100);
  put("a", 10);
  put("b", 51);
  assert.deepEqual([await has("a"), await has("b"), store.bytes], [true, false, 10]);
});

test("what is kept anew, deleted or cleared is counted once", async () => {
  const { store, put, has } = answers(100);
  put("a", 10);
  put("a", 20);
  assert.equal(store.bytes, 20);
  put("b", 5);
  await store.delete(["a", "never-there"]);
  assert.deepEqual([await has("a"), await has("b"), store.bytes], [false, true, 5]);
  await store.clear();
  assert.deepEqual([await has("b"), store.bytes], [false, 0]);
});
