import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { testRedis } from "../redis.ts";
import { PlannedUpstream } from "./planned-upstream.ts";
import { Stack } from "./stack.ts";

/** How long a slot outlives a pod that died with it; `npm run test:faults -- --row 34` waits for it. */
const slotTtlMs = 30_000;

describe("the limits of deployments, over five sidecars with one Redis", () => {
  let stack: Stack;
  let upstream: PlannedUpstream;
  let redis: Redis;
  before(async () => {
    const { host, port, db } = await testRedis();
    redis = new Redis({ host, port, db });
    upstream = await PlannedUpstream.start();
    const deployments: readonly (readonly [story: string, name: string, params: object])[] = [
      ["two", "a", { rpm: 300 }],
      ["five", "a", { rpm: 300 }],
      ["tokens", "a", { tpm: 100 }],
      ["pair", "a", { rpm: 5, order: 1 }],
      ["pair", "b", { order: 2 }],
      ["slots", "a", { max_parallel_requests: 2, stream_timeout: 120 }],
      ["keyslots", "a", { stream_timeout: 120 }],
    ];
    for (const [story, name] of deployments) upstream.plan(story, name, ["ok"]);
    const models = deployments.map(([group, name, params]) => upstream.deployment(group, name, { group, params }));
    const place = `  redis_host: ${host}\n  redis_port: ${port}\n  redis_db: ${db}`;
    stack = await Stack.start({ sidecars: 5, models: models.join("\n"), redis: place });
  });
  after(async () => {
    await upstream.close();
    await stack.close();
    redis.disconnect();
  });

  /** So many calls, as many of them at once as the machine can serve in time, spread over so many sidecars. */
  async function burst(key: string, calls: number, sidecars: number, fields: object): Promise<Response[]> {
    const answers: Response[] = [];
    let next = 0;
    const callers = Array.from({ length: 40 }, async () => {
      while (next < calls) answers.push(await stack.chat(next++ % sidecars, key, fields));
    });
    await Promise.all(callers);
    return answers;
  }

  /** How often each status was answered. */
  function tally(answers: readonly Response[]): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
    return counts;
  }

  for (const [sidecars, model] of [
    [2, "two"],
    [5, "five"],
  ] as const) {
    test(`rpm 300 lets exactly 300 of 420 calls through, at ${sidecars} sidecars; what is refused costs nothing`, async () => {
      const key = await stack.generateKey({ max_budget: 10, rpm_limit: 1_000 });
      const startedMs = performance.now();
      const answers = await burst(key, 420, sidecars, { model });
      const refused = answers.filter(({ status }) => status === 429);
      assert.deepEqual(tally(answers), { 200: 300, 429: 120 });
      assert.equal(upstream.tried(model).length, 300);
      for (const answer of refused.slice(0, 5)) {
        const { error } = (await answer.json()) as { error: { code: string } };
        assert.equal(error.code, "deployments_full");
        const retryAfterMs = Number(answer.headers.get("retry-after-ms"));
        assert.ok(retryAfterMs > 0 && retryAfterMs <= 60_000, `${retryAfterMs}`);
        assert.equal(answer.headers.get("x-litellm-attempted-retries"), null, "nobody was called");
      }
      // Within the minute there is no room for any other, at no sidecar.
      const again = await burst(key, 25, sidecars, { model });
      assert.ok(performance.now() - startedMs < 50_000, "the machine is too slow for this test");
      assert.deepEqual(tally(again), { 429: 25 });
      const served = await stack.chat(0, key);
      assert.equal(
        served.headers.get("x-ratelimit-remaining-requests"),
        "699",
        "the key's limit counts what was served",
      );
      const rows = await stack.booked(key, 301);
      assert.equal(rows.length, 301, "what was refused is not in the books");
      const costs = rows.reduce((sum, row) => sum + BigInt(row.cost_nanos), 0n);
      assert.equal((await stack.spent(key)).spent, costs);
    });
  }

  test("tpm 100 lets exactly one of ten calls of 80 tokens through", async () => {
    const key = await stack.generateKey({});
    // It is still in flight, and holds what it has reserved, when the last one is decided.
    upstream.script("tokens", "a", async (call, res, request) => {
      await sleep(1_500);
      return upstream.act("ok")(call, res, request);
    });
    const body = JSON.stringify({ model: "tokens", messages: [{ role: "user", content: "Hello" }], max_tokens: 55 });
    const tokens = Math.ceil(body.length / 4) + 55;
    assert.ok(tokens > 50 && tokens <= 80, `${tokens}`);
    const answers = await burst(key, 10, 5, { model: "tokens", max_tokens: 55 + 80 - tokens });
    assert.deepEqual(tally(answers), { 200: 1, 429: 9 });
    assert.equal(upstream.tried("tokens").length, 1);
  });

  test("a deployment that is full is skipped, and nobody waits for it", async () => {
    const key = await stack.generateKey({});
    const answers = await burst(key, 40, 5, { model: "pair" });
    assert.ok(answers.every(({ status }) => status === 200));
    const tried = upstream.tried("pair");
    assert.equal(tried.filter((name) => name === "a").length, 5);
    assert.equal(tried.filter((name) => name === "b").length, 35);
    for (const answer of answers) assert.equal(answer.headers.get("x-litellm-attempted-retries"), "0");
  });

  test("slots of deployments and keys that a killed sidecar held are let go of within their lease's time", async () => {
    for (const story of ["slots", "keyslots"]) upstream.plan(story, "a", ["stalled", "stalled", "ok"]);
    const key = await stack.generateKey({});
    const narrowKey = await stack.generateKey({ max_parallel_requests: 2 });
    const hold = (secret: string, model: string) => stack.chat(4, secret, { model, stream: true });
    const held = await Promise.all([
      ...[hold(key, "slots"), hold(key, "slots")],
      ...[hold(narrowKey, "keyslots"), hold(narrowKey, "keyslots")],
    ]);
    assert.ok(held.every(({ status }) => status === 200));
    const statuses = async () => [
      (await stack.chat(0, key, { model: "slots" })).status,
      (await stack.chat(1, narrowKey, { model: "keyslots" })).status,
    ];
    assert.deepEqual(await statuses(), [429, 429]);
    await stack.sidecars[4]?.process.kill("SIGKILL");
    for (const answer of held) answer.text().catch(() => {});
    assert.deepEqual(await statuses(), [429, 429], "a crash frees nothing at once");
    // Whoever would renew them is dead: they end when their time is over.
    const ends = await slotEnds(redis);
    assert.equal(ends.length, 4);
    const [seconds] = await redis.time();
    const nowMs = Number(seconds) * 1_000;
    for (const endMs of ends) assert.ok(endMs > nowMs && endMs <= nowMs + 1_000 + slotTtlMs, `${endMs - nowMs} ms`);
    stack.sidecars[4]?.process.restart();
  });
});

/** When each slot that is held ends, as Redis has it: Unix time, milliseconds. */
async function slotEnds(redis: Redis): Promise<number[]> {
  const keys = (await redis.keys("*:parallel:slots")).sort();
  const held = await Promise.all(keys.map((key) => redis.zrange(key, "0", "-1", "WITHSCORES")));
  return held.flatMap((pairs) => pairs.filter((_, index) => index % 2 === 1).map((end) => Number(end)));
}
