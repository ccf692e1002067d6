import { type Attributes, ROOT_CONTEXT, type SpanContext, SpanKind, TraceFlags, trace } from "@opentelemetry/api";
import { parseTraceParent, TraceState } from "@opentelemetry/core";
import type { Sampler } from "@opentelemetry/sdk-trace";
import type { Clock } from "../clock.ts";
import { Span, type SpanHome } from "./span.ts";

/** W3C trace context as it came with a request. */
export interface TraceHeaders {
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
}

/** What a Tracer is made of. */
export interface TracerParts {
  readonly clock: Clock;
  readonly resource: SpanHome["resource"];
  readonly sampler: Sampler;
  readonly ids: { generateTraceId(): string; generateSpanId(): string };
  /** Told of every sampled span when it has ended; must return at once. */
  readonly onEnd: readonly ((span: Span) => void)[];
}

/** Decides which requests are traced, and begins their spans. */
export class Tracer {
  readonly #parts: TracerParts;
  readonly #home: SpanHome;

  constructor(parts: TracerParts) {
    this.#parts = parts;
    const { clock, resource, ids, onEnd } = parts;
    this.#home = {
      ...{ clock, resource },
      newSpanId: () => ids.generateSpanId(),
      ended: (span) => {
        for (const tell of onEnd) tell(span);
      },
    };
  }

  /**
   * A request that has come in: a SERVER span below the caller's, if it sent one.
   *
   * @param known what the sampler may look at.
   * @param describe the span's attributes; asked when it is exported.
   */
  server(name: string, headers: TraceHeaders, known: Attributes, describe: () => Attributes): Span {
    const { clock, ids, sampler } = this.#parts;
    const parent = readTraceHeaders(headers);
    const traceId = parent?.traceId ?? ids.generateTraceId();
    const above = parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent);
    const { decision, traceState } = sampler.shouldSample(above, traceId, name, SpanKind.SERVER, known, []);
    const state = traceState ?? parent?.traceState;
    const context = {
      ...{ traceId, spanId: ids.generateSpanId() },
      traceFlags: decision === recordAndSampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
      ...(state !== undefined && { traceState: state }),
    };
    const startedMs = clock.monotonicMs();
    const epochMs = clock.nowMs() - startedMs;
    return new Span({
      ...{ name, context, parent, describe, startedMs, epochMs },
      ...{ home: this.#home, kind: SpanKind.SERVER },
    });
  }
}

/** The SDK's `SamplingDecision.RECORD_AND_SAMPLED`; importing it would load the SDK. */
const recordAndSampled = 2;

/** @returns undefined if there is none, or it is malformed: then a trace begins here. */
export function readTraceHeaders({ traceparent, tracestate }: TraceHeaders): SpanContext | undefined {
  const context = traceparent === undefined ? null : parseTraceParent(traceparent);
  if (context === null || !trace.isSpanContextValid(context)) return undefined;
  const remote = { ...context, isRemote: true };
  return tracestate === undefined ? remote : { ...remote, traceState: new TraceState(tracestate) };
}
