import assert from "node:assert/strict";
import { test } from "node:test";
import { Secret } from "../../src/secret.ts";
import { testDatabaseUrl } from "../postgres.ts";
import { measureScale } from "./scale.ts";

// The short form of `npm run test:scale`. Its bounds are wide: they are for what becomes slow by a scan or a lock, not for the machine.
test("with thousands of keys and rows, questions are answered in milliseconds, and the sums are those of the log", async () => {
  const database = await testDatabaseUrl();
  try {
    const counts = { keyCount: 2_000, rowCount: 20_000, resolveCount: 500, reportCount: 5, batchCount: 16 };
    const result = await measureScale(new Secret(database.url), { ...counts, say: () => {} });
    assert.equal(result.rowCount, 20_000n + 2n * 16n * (100n + 500n + 1_000n));
    assert.equal(result.logged, result.summed);
    assert.ok(result.resolve.alone.p50Ms < 50, JSON.stringify(result.resolve));
    for (const report of result.reports) assert.ok(report.p50Ms < 1_000, JSON.stringify(report));
    for (const settled of result.settle) {
      assert.ok(settled.settledPerSecond > settled.insertedPerSecond / 50, JSON.stringify(settled));
    }
  } finally {
    await database.drop();
  }
});
