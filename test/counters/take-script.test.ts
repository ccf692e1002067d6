import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { Redis } from "ioredis";
import { bucketWidthMs } from "../../src/counters/claims.ts";
import { testRedis } from "../redis.ts";

/** The script as it is, but for where it reads the time. */
const script = ["give-back", "take"]
  .map((name) => readFileSync(new URL(`../../src/counters/${name}.lua`, import.meta.url), "utf8"))
  .join("\n")
  .replace("redis.call('TIME')", "redis.call('HMGET', 'clock', 's', 'us')");
const startMs = 1_800_000_000_000;
const ceiling = 8;
let redis: Redis;
let keyCount = 0;

before(async () => {
  redis = new Redis(await testRedis());
});

after(() => redis.disconnect());

interface Answer {
  readonly isGranted: boolean;
  readonly retryAfterMs: number;
  readonly remaining: number;
}

/** Takes from a window when Redis's clock shows `atMs`. */
async function take(ask: { key: string; atMs: number; amount: number; windowMs: number }): Promise<Answer> {
  await redis.hset("clock", { s: Math.floor(ask.atMs / 1000), us: (ask.atMs % 1000) * 1000 + 999 });
  const args = [0, 0, 1, `${ask.amount} ${ceiling} ${ask.windowMs} ${bucketWidthMs(ask.windowMs)}`];
  const reply = (await redis.eval(script, 1, ask.key, ...args)) as [number, number, number, number];
  assert.equal(reply[0], ask.atMs);
  return { isGranted: reply[1] === 0, retryAfterMs: reply[2], remaining: reply[3] };
}

function newKey(): string {
  keyCount += 1;
  return `window-${keyCount}`;
}

test("by the server's clock no span ever holds more than the ceiling, and retry-after is exact to the millisecond", async () => {
  const call = fc.record({ afterMs: fc.nat(9000), amount: fc.integer({ min: 1, max: 5 }) });
  await fc.assert(
    fc.asyncProperty(
      fc.array(call, { maxLength: 40 }),
      fc.integer({ min: 5000, max: 60_000 }),
      async (calls, windowMs) => {
        const key = newKey();
        const accepted: { atMs: number; amount: number }[] = [];
        let atMs = startMs;
        for (const { afterMs, amount } of calls) {
          atMs += afterMs;
          const answer = await take({ key, atMs, amount, windowMs });
          if (!answer.isGranted) {
            atMs += answer.retryAfterMs - 1;
            assert.ok(!(await take({ key, atMs, amount, windowMs })).isGranted, "room before retry-after");
            atMs += 1;
            assert.ok((await take({ key, atMs, amount, windowMs })).isGranted, "no room after retry-after");
          }
          accepted.push({ atMs, amount });
          const lately = accepted.filter((earlier) => earlier.atMs >= atMs - windowMs);
          assert.ok(lately.reduce((sum, earlier) => sum + earlier.amount, 0) <= ceiling);
        }
      },
    ),
    { numRuns: 40 },
  );
});

test("a clock set back a little lets nothing more through, and what it counted twice is forgotten in time", async () => {
  const [key, windowMs] = [newKey(), 6000];
  assert.ok((await take({ key, atMs: startMs, amount: 5, windowMs })).isGranted);
  assert.ok((await take({ key, atMs: startMs - 3000, amount: 3, windowMs })).isGranted);
  assert.ok(!(await take({ key, atMs: startMs - 2000, amount: 1, windowMs })).isGranted);
  assert.ok(!(await take({ key, atMs: startMs + 100, amount: 1, windowMs })).isGranted);
  assert.equal((await take({ key, atMs: startMs + 3100, amount: 3, windowMs })).remaining, 0);
  assert.equal((await take({ key, atMs: startMs + 6100, amount: 1, windowMs })).remaining, 4);
});

test("a clock set back by more than the window begins anew", async () => {
  const [key, windowMs] = [newKey(), 6000];
  assert.equal((await take({ key, atMs: startMs, amount: 8, windowMs })).remaining, 0);
  const later = await take({ key, atMs: startMs - 3_600_000, amount: 6, windowMs });
  assert.equal(later.remaining, 2);
  assert.equal((await take({ key, atMs: startMs - 3_600_000 + 6100, amount: 8, windowMs })).remaining, 0);
});

test("a window that was forgotten for long is empty", async () => {
  const [key, windowMs] = [newKey(), 6000];
  await take({ key, atMs: startMs, amount: 4, windowMs });
  await take({ key, atMs: startMs + 5000, amount: 4, windowMs });
  assert.equal((await take({ key, atMs: startMs + 12_000, amount: 8, windowMs })).remaining, 0);
});
