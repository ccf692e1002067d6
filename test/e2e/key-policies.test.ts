import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Stack } from "./stack.ts";

const tick = () => new Promise((resolve) => setTimeout(resolve, 20));

describe("what operators change on a key, at a sidecar that knows the key already", () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ sidecars: 1 });
  });
  after(() => stack.close());

  /** The status of calls with a key, asked until it is the expected one or two seconds are over. */
  async function becomes(key: string, expected: number): Promise<{ status: number; tookMs: number }> {
    const startMs = performance.now();
    for (;;) {
      const { status } = await stack.chat(0, key);
      const tookMs = performance.now() - startMs;
      if (status === expected || tookMs > 2_000) return { status, tookMs };
      await tick();
    }
  }

  test("a replaced secret is refused by push, and the new one goes on with what was spent", async () => {
    const key = await stack.generateKey({ max_budget: 1 });
    assert.equal((await stack.chat(0, key)).status, 200);
    const { body } = await stack.admin("POST", `/key/${key}/regenerate`, {});
    const { status, tookMs } = await becomes(key, 401);
    assert.equal(status, 401, `after ${tookMs} ms`);
    const fresh = String(body.key);
    assert.equal((await stack.chat(0, fresh)).status, 200);
    assert.equal((await stack.booked(fresh, 2)).length, 2);
    assert.equal((await stack.spent(fresh)).spent, 48_000n);
  });

  test("a secret in its grace ends by the time the sidecar was told, although nobody tells it again", async () => {
    const key = await stack.generateKey();
    const { body } = await stack.admin("POST", "/key/regenerate", { key, grace_period: "2s" });
    const startMs = performance.now();
    // After the push, so that the sidecar asks again.
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal((await stack.chat(0, String(body.key))).status, 200);
    let status = (await stack.chat(0, key)).status;
    assert.equal(status, 200);
    await stack.keyService.kill("SIGKILL");
    try {
      while (performance.now() - startMs < 6_000 && status === 200) {
        status = (await stack.chat(0, key)).status;
        await tick();
      }
      const tookMs = performance.now() - startMs;
      assert.equal(status, 401);
      assert.ok(tookMs > 1_500 && tookMs < 3_500, `${tookMs} ms`);
      assert.equal((await stack.chat(0, String(body.key))).status, 200, "the new secret works on");
    } finally {
      stack.keyService.restart();
      await stack.keyServiceReady();
    }
  });
});
