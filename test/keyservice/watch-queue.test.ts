import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Change, type News, WatchQueue } from "../../src/keyservice/watch-queue.ts";

const key = (version: bigint): Change => ({ type: "key", keyId: `key_${version}`, version });
const heartbeat = (version: bigint): Change => ({ type: "heartbeat", version });

async function drained(queue: WatchQueue): Promise<News[]> {
  const told: News[] = [];
  const reading = (async () => {
    for await (const change of queue.drain()) told.push(change);
  })();
  await new Promise(setImmediate);
  queue.end();
  await reading;
  return told;
}

describe("a watcher's queue", () => {
  it("tells in order what is not known yet", async () => {
    const queue = new WatchQueue();
    queue.push([key(3n), key(4n), key(5n)]);
    queue.begin(4n);
    assert.deepEqual(await drained(queue), [key(5n)]);
  });

  it("tells a reader who is too far behind to forget everything, and goes on from there", async () => {
    const queue = new WatchQueue();
    queue.begin(0n);
    for (let version = 1n; version <= 1_010n; version++) queue.push([key(version)]);
    const [first, ...rest] = await drained(queue);
    assert.deepEqual(first, { type: "reset", version: 1_001n });
    assert.deepEqual(rest, [1_002n, 1_003n, 1_004n, 1_005n, 1_006n, 1_007n, 1_008n, 1_009n, 1_010n].map(key));
  });

  it("gathers no signs of life for a reader who is behind", async () => {
    const queue = new WatchQueue();
    queue.begin(0n);
    queue.push([key(1n)]);
    for (let beat = 0; beat < 5_000; beat++) queue.push([heartbeat(1n)]);
    assert.deepEqual(await drained(queue), [key(1n)]);
  });

  it("tells recalls whatever the version, and none to a reader who is too far behind", async () => {
    const recall: News = { type: "recall", budgetId: "budget_1" };
    const queue = new WatchQueue();
    queue.begin(2n);
    queue.push([key(2n), recall, key(3n), recall]);
    assert.deepEqual(await drained(queue), [recall, key(3n), recall]);
    const slow = new WatchQueue();
    for (let count = 0; count < 5_000; count++) slow.push([recall]);
    assert.equal((await drained(slow)).length, 1_000);
  });

  it("follows books that were set back to an older state", async () => {
    const queue = new WatchQueue();
    queue.begin(50n);
    queue.push([{ type: "reset", version: 20n }, key(21n)]);
    queue.push([key(22n)]);
    assert.deepEqual(await drained(queue), [{ type: "reset", version: 20n }, key(21n), key(22n)]);
  });
});
