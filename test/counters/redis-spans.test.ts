import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { RandomIdGenerator } from "@opentelemetry/sdk-trace";
import { withinSpan } from "../../src/active-span.ts";
import { systemClock } from "../../src/clock.ts";
import type { Counters } from "../../src/counters/counters.ts";
import type { Span } from "../../src/telemetry/span.ts";
import { Tracer } from "../../src/telemetry/tracer.ts";
import { testRedis } from "../redis.ts";
import { connect } from "./redis-pod.ts";
import { granted, windowClaim } from "./sample-claims.ts";

describe("scripts that several calls share", () => {
  let counters: Counters;
  const ended: Span[] = [];
  /** Calls whose names begin with "unseen" are not sampled. */
  const tracer = new Tracer({
    clock: systemClock,
    resource: { attributes: {} } as Span["resource"],
    sampler: { shouldSample: (_above, _traceId, name) => ({ decision: name.startsWith("unseen") ? 0 : 2 }) },
    ids: new RandomIdGenerator(),
    onEnd: [(span) => void ended.push(span)],
  });
  before(async () => {
    counters = connect(await testRedis());
    await granted(counters, windowClaim());
  });
  after(() => counters.close());

  const callNamed = (name: string) =>
    tracer.server(name, { traceparent: undefined, tracestate: undefined }, {}, () => ({}));
  const claim = windowClaim({ ceiling: 1_000 });

  /** Takes for each of some calls in one turn of the event loop. @returns the spans of the scripts that were run for them. */
  async function taking(calls: readonly (Span | undefined)[]): Promise<readonly Span[]> {
    ended.length = 0;
    const take = () => granted(counters, claim);
    await Promise.all(calls.map((call) => (call === undefined ? take() : withinSpan(call, take))));
    return ended.filter(({ name }) => name === "EVALSHA");
  }
  const idsOf = (spans: readonly Span[]) => spans.map(({ context }) => context.spanId);
  const linksOf = (span: Span | undefined) => span?.links.map(({ context }) => context.spanId);

  test("have one span, below the first call that is traced, and linked to the others", async () => {
    const calls = ["first", "second", "third"].map(callNamed);
    const [script, ...others] = await taking([undefined, callNamed("unseen"), ...calls]);
    assert.deepEqual(others, []);
    const [first, second, third] = idsOf(calls);
    assert.equal(script?.parentSpanContext?.spanId, first);
    assert.deepEqual(linksOf(script), [second, third]);
    assert.equal(script?.attributes["db.operation.batch.size"], 5);
  });

  test("are linked to 32 calls at most", async () => {
    const calls = Array.from({ length: 50 }, (_, index) => callNamed(`call ${index}`));
    const [script] = await taking(calls);
    assert.deepEqual(linksOf(script), idsOf(calls.slice(1, 33)));
    assert.equal(script?.attributes["db.operation.batch.size"], 50);
  });

  test("have none where no call is traced, or each has ended", async () => {
    assert.deepEqual(await taking([undefined, callNamed("unseen")]), []);
    const over = callNamed("over");
    over.end();
    assert.deepEqual(await taking([over]), []);
  });
});
