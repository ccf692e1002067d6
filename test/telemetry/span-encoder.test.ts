import assert from "node:assert/strict";
import { test } from "node:test";
import { type Attributes, SpanStatusCode } from "@opentelemetry/api";
import { TraceState } from "@opentelemetry/core";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import { resourceFromAttributes } from "@opentelemetry/resources";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import fc from "fast-check";
import { SpanEncoder } from "../../src/telemetry/span-encoder.ts";
import { readSpans } from "../collector.ts";

const hex = (digits: number) =>
  fc.stringMatching(new RegExp(`^[0-9a-f]{${digits}}$`)).filter((id) => /[1-9a-f]/.test(id));
const text = fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.string({ minLength: 100, maxLength: 5_000 }));
const time = fc.tuple(fc.integer({ min: 0, max: 4_000_000_000 }), fc.integer({ min: 0, max: 999_999_999 }));
const value = fc.oneof(
  ...[text, fc.boolean(), fc.double({ noNaN: true }), fc.nat(), fc.maxSafeNat(), fc.array(text, { maxLength: 5 })],
);
const context = fc.record({
  ...{ traceId: hex(32), spanId: hex(16), traceFlags: fc.constantFrom(0, 1) },
  isRemote: fc.boolean(),
});
const span = fc
  .record({
    ...{ name: text, kind: fc.integer({ min: 0, max: 4 }), context, parent: fc.option(context, { nil: undefined }) },
    ...{
      startTime: time,
      endTime: time,
      attributes: fc.dictionary(text, value),
      links: fc.array(context, { maxLength: 3 }),
    },
    state: fc.constantFrom(undefined, "a=b,c=d"),
    status: fc.constantFrom(
      { code: SpanStatusCode.UNSET },
      { code: SpanStatusCode.ERROR, message: "provider_error" },
      { code: SpanStatusCode.ERROR, message: "" },
    ),
  })
  .map(
    ({ context: own, parent, links, state, attributes, ...facts }): ReadableSpan => ({
      ...facts,
      attributes: attributes as Attributes,
      spanContext: () => ({ ...own, ...(state !== undefined && { traceState: new TraceState(state) }) }),
      ...(parent !== undefined && { parentSpanContext: parent }),
      links: links.map((linked) => ({ context: linked })),
      ...{ events: [], duration: [0, 0], ended: true },
      resource: resourceFromAttributes({ "service.name": "tollgate", "a.list": ["x", "y"] }),
      instrumentationScope: { name: "tollgate" },
      ...{ droppedAttributesCount: 0, droppedEventsCount: 0, droppedLinksCount: 0 },
    }),
  );

test("spans are written as OpenTelemetry's own encoder writes them, whatever is in them", () => {
  const encoder = new SpanEncoder();
  fc.assert(
    fc.property(fc.array(span, { minLength: 1, maxLength: 4 }), (spans) => {
      for (const each of spans) encoder.add(each);
      assert.equal(encoder.count, spans.length);
      const [{ bytes, count }, theirs] = [encoder.take(), ProtobufTraceSerializer.serializeRequest(spans)];
      assert.ok(theirs !== undefined);
      assert.equal(count, spans.length);
      assert.deepEqual(readSpans(bytes, "http"), readSpans(theirs, "http"));
    }),
  );
});
