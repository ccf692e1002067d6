import { RandomIdGenerator } from "@opentelemetry/sdk-trace";
import { systemClock } from "../src/clock.ts";
import type { Span } from "../src/telemetry/span.ts";
import { Tracer } from "../src/telemetry/tracer.ts";

/** Calls with spans, and what has ended of them. */
export class TracedCalls {
  readonly ended: Span[] = [];
  readonly #tracer = new Tracer({
    clock: systemClock,
    resource: { attributes: {} } as Span["resource"],
    sampler: { shouldSample: (_above, _traceId, name) => ({ decision: name.startsWith("unseen") ? 0 : 2 }) },
    ids: new RandomIdGenerator(),
    onEnd: [(span) => void this.ended.push(span)],
  });

  /** @param name calls whose names begin with "unseen" are not sampled. */
  begin(name: string): Span {
    return this.#tracer.server(name, { traceparent: undefined, tracestate: undefined }, {}, () => ({}));
  }
}

export const idOf = (span: Span) => span.context.spanId;
export const linksOf = (span: Span | undefined) => span?.links.map(({ context }) => context.spanId);
