import assert from "node:assert/strict";
import { test } from "node:test";
import { testDatabaseUrl } from "../postgres.ts";
import { rpcNames } from "./counting-authority.ts";
import { measureSidecars } from "./sidecars.ts";

// The short form of `npm run test:scale -- --sidecars 2000`.
test("sidecars with connections of their own ask no more than they do in virtual time, and every call is booked", async () => {
  const database = await testDatabaseUrl();
  try {
    const result = await measureSidecars(database.url, {
      ...{ counts: [5, 20], callsPerSecond: 1, keyCount: 5, warmUpMs: 1_000, measureMs: 3_000 },
      ...{ postgresPid: undefined, onStep: () => {} },
    });
    const { steps, settled, refused, failed, cost, logged, spent, reserved } = result;
    assert.deepEqual([refused, failed], [0, 0]);
    assert.ok(settled > 0);
    assert.deepEqual([logged, spent, reserved], [cost, cost, 0n]);
    assert.deepEqual(
      steps.map(({ sidecars }) => sidecars),
      [5, 20],
    );
    for (const { sidecars, rpcs } of steps) {
      assert.deepEqual(
        rpcNames.map((name) => rpcs[name].failures),
        [0, 0, 0, 0, 0],
      );
      // Warm keys take 1.4 a second of each; keys that are used for the first time take a few more.
      const rate = rpcNames.reduce((sum, name) => sum + rpcs[name].rate, 0);
      assert.ok(rate > 0 && rate < 4 * sidecars, JSON.stringify(rpcs));
    }
  } finally {
    await database.drop();
  }
});
