import assert from "node:assert/strict";
import { test } from "node:test";
import { SpanKind } from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { Span } from "../../src/telemetry/span.ts";
import type { SpanBatch } from "../../src/telemetry/span-encoder.ts";
import { type SpanExporter, SpanQueue } from "../../src/telemetry/span-queue.ts";
import { HandClock } from "../keys/hand-clock.ts";

type Done = Parameters<SpanExporter["export"]>[1];

/** A collector whose answers a test gives. */
class HeldExporter implements SpanExporter {
  readonly batches: { readonly batch: SpanBatch; readonly done: Done }[] = [];
  isShutDown = false;

  export(batch: SpanBatch, done: Done): void {
    this.batches.push({ batch, done });
  }

  async shutdown(): Promise<void> {
    this.isShutDown = true;
  }

  answer(code: 0 | 1): void {
    for (const { done } of this.batches.splice(0))
      done({ code, ...(code === 1 && { error: new Error("no collector") }) });
  }
}

function queueOf(facts: { capacity?: number; batchMax?: number } = {}) {
  const [clock, exporter, told] = [new HandClock(), new HeldExporter(), [] as string[]];
  const queue = new SpanQueue({
    ...{ clock, exporter, capacity: 100, batchMax: 10, delayMs: 1_000, onFailure: (reason) => void told.push(reason) },
    ...{ shown: (each: Span) => each, ...facts },
  });
  return { queue, clock, exporter, told };
}

const home = {
  ...{ clock: new HandClock(), resource: resourceFromAttributes({}), ended: () => {} },
  newSpanId: () => "0123456789abcdef",
};
const context = { traceId: "0123456789abcdef0123456789abcdef", spanId: "0123456789abcdef", traceFlags: 1 };

/** @param saidBytes what was said in it. */
function span(saidBytes = 0): Span {
  const made = new Span({
    ...{ home, name: "chat", kind: SpanKind.CLIENT, context, parent: undefined, epochMs: 0 },
    describe: () => ({}),
  });
  if (saidBytes > 0) {
    const content = { input: undefined, systemInstructions: undefined, toolDefinitions: undefined };
    made.record({ bytes: saidBytes, read: () => ({ ...content, output: "x".repeat(saidBytes) }) });
  }
  return made;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("spans wait for company, but not long, and are never sent by whoever brings them", async () => {
  const { queue, clock, exporter } = queueOf();
  for (let index = 0; index < 3; index++) queue.push(span());
  await turn();
  assert.equal(exporter.batches.length, 0);
  await clock.advance(1_000);
  await turn();
  assert.deepEqual(
    exporter.batches.map(({ batch }) => batch.count),
    [3],
  );
  for (let index = 0; index < 10; index++) queue.push(span());
  assert.equal(exporter.batches.length, 1);
  await turn();
  assert.equal(exporter.batches.length, 2);
});

test("a collector that does not answer is sent four batches; what finds no room then is dropped and counted", async () => {
  const { queue, exporter } = queueOf();
  for (let index = 0; index < 1_000; index++) {
    queue.push(span());
    if (index % 10 === 0) await turn();
  }
  assert.equal(exporter.batches.length, 4);
  assert.equal(queue.length, 100);
  assert.equal(queue.dropped, 1_000 - 4 * 10 - 100);
  exporter.answer(0);
  for (let index = 0; index < 10; index++) await turn();
  assert.equal(exporter.batches.length, 4, "it goes on with what waited");
});

test("what a collector refuses is counted, and told once for each time it is away", async () => {
  const { queue, exporter, told } = queueOf();
  const send = async (code: 0 | 1) => {
    for (let index = 0; index < 10; index++) queue.push(span());
    await turn();
    exporter.answer(code);
  };
  for (const code of [1, 1, 0, 1] as const) await send(code);
  assert.equal(queue.dropped, 30);
  assert.deepEqual(told, ["no collector", "no collector"]);
});

test("what was said takes no more memory than there is for it; the spans go on without", async () => {
  const { queue } = queueOf();
  const large = Array.from({ length: 50 }, () => span(1_048_576));
  for (const each of large) queue.push(each);
  assert.equal(
    large.reduce((sum, { contentBytes }) => sum + contentBytes, 0),
    32 * 1_048_576,
  );
  assert.equal(queue.length, 50);
});

test("the end sends what waits, and does not wait long for a collector that is away", async () => {
  const { queue, exporter } = queueOf();
  for (let index = 0; index < 25; index++) queue.push(span());
  const closed = queue.close();
  await turn();
  await turn();
  await turn();
  await turn();
  exporter.answer(0);
  await closed;
  assert.ok(exporter.isShutDown);
  assert.equal(queue.dropped, 0);

  const stuck = queueOf();
  for (let index = 0; index < 80; index++) stuck.queue.push(span());
  const ended = stuck.queue.close();
  for (let index = 0; index < 10; index++) await turn();
  await stuck.clock.advance(1_000);
  await ended;
  assert.deepEqual(stuck.told, ["the program ends, and they were not taken in time"]);
  assert.equal(stuck.queue.dropped, 40, "four batches of ten are with the collector");
});
