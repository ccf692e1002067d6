import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { withinSpan } from "../../src/active-span.ts";
import type { Counters } from "../../src/counters/counters.ts";
import type { Span } from "../../src/telemetry/span.ts";
import { testRedis } from "../redis.ts";
import { idOf, linksOf, TracedCalls } from "../traced-calls.ts";
import { connect } from "./redis-pod.ts";
import { granted, windowClaim } from "./sample-claims.ts";

describe("scripts that several calls share", () => {
  const traced = new TracedCalls();
  let counters: Counters;
  before(async () => {
    counters = connect(await testRedis());
    await granted(counters, windowClaim());
  });
  after(() => counters.close());

  const claim = windowClaim({ ceiling: 1_000 });

  /** Takes for each of some calls in one turn of the event loop. @returns the spans of the scripts that were run for them. */
  async function taking(calls: readonly (Span | undefined)[]): Promise<readonly Span[]> {
    traced.ended.length = 0;
    const take = () => granted(counters, claim);
    await Promise.all(calls.map((call) => (call === undefined ? take() : withinSpan(call, take))));
    return traced.ended.filter(({ name }) => name === "EVALSHA");
  }

  test("have one span, below the first call that is traced, and linked to the others", async () => {
    const calls = ["first", "second", "third"].map((name) => traced.begin(name));
    const [script, ...others] = await taking([undefined, traced.begin("unseen"), ...calls]);
    assert.deepEqual(others, []);
    const [first, second, third] = calls.map(idOf);
    assert.equal(script?.parentSpanContext?.spanId, first);
    assert.deepEqual(linksOf(script), [second, third]);
    assert.equal(script?.attributes["db.operation.batch.size"], 5);
  });

  test("are linked to 32 calls at most", async () => {
    const calls = Array.from({ length: 50 }, (_, index) => traced.begin(`call ${index}`));
    const [script] = await taking(calls);
    assert.deepEqual(linksOf(script), calls.slice(1, 33).map(idOf));
    assert.equal(script?.attributes["db.operation.batch.size"], 50);
  });

  test("have none where no call is traced, or each has ended", async () => {
    assert.deepEqual(await taking([undefined, traced.begin("unseen")]), []);
    const over = traced.begin("over");
    over.end();
    assert.deepEqual(await taking([over]), []);
  });
});
