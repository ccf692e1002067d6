import { AsyncLocalStorage } from "node:async_hooks";

/** A request to a store or a service, as it shows in a trace. Acts once; later ends are ignored. */
export interface ClientSpan {
  /** W3C trace context, to be sent along. */
  readonly traceparent: string;
  readonly tracestate: string | undefined;
  /** More is known of it than when it began. */
  annotate(attributes: SpanAttributes): void;
  /** @param errorType what went wrong, in a word of few; undefined: nothing. */
  end(errorType?: string): void;
}

/** By OpenTelemetry's names. Values are figures and fixed words: no secrets, no prompts. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean | string[]>>;

/** What the work in hand is part of. */
export interface ActiveSpan {
  /** What others refer to it by. */
  readonly context: { readonly traceId: string; readonly spanId: string; readonly traceFlags: number };
  /** Whether anybody will see it. */
  readonly isSampled: boolean;
  /** Begins a request made for it, and perhaps for others besides. */
  client(name: string, attributes: SpanAttributes, others?: readonly ActiveSpan[]): ClientSpan;
  /** Whether work may still be told to belong to it: it has not ended. */
  readonly isOpen: boolean;
}

const storage = new AsyncLocalStorage<ActiveSpan | undefined>();
/** So many others a span is linked to at most. */
const othersMax = 32;

/** Does some work as part of a span, across its awaits. */
export function withinSpan<Result>(span: ActiveSpan, work: () => Result): Result {
  return storage.run(span, work);
}

/** What the work in hand is part of, if it is traced and somebody waits for it. */
export function activeSpan(): ActiveSpan | undefined {
  const span = storage.getStore();
  return span?.isOpen === true && span.isSampled ? span : undefined;
}

/**
 * Does some work as part of several spans at once, whosever work is in hand: what is asked for it shows below the first, and is linked to
 * the others.
 *
 * @param spans none: it is part of nothing.
 */
export function withinSpans<Result>(spans: readonly ActiveSpan[], work: () => Result): Result {
  const [first, ...others] = spans.length < 2 ? spans : spans.filter(({ isOpen }) => isOpen).slice(0, 1 + othersMax);
  if (first === undefined && storage.getStore() === undefined) return work();
  return storage.run(first === undefined || others.length === 0 ? first : shared(first, others), work);
}

function shared(first: ActiveSpan, others: readonly ActiveSpan[]): ActiveSpan {
  const { context, isSampled } = first;
  return {
    ...{ context, isSampled },
    get isOpen() {
      return first.isOpen;
    },
    client: (name, attributes) => first.client(name, attributes, others),
  };
}

/**
 * Begins a request to a store or a service below the span that the work in hand is part of.
 *
 * @returns undefined if it is part of none: nothing is traced, or nobody waits for it.
 */
export function clientSpan(name: string, attributes: SpanAttributes): ClientSpan | undefined {
  const span = storage.getStore();
  // What a call has set going may outlive it.
  return span?.isOpen === true ? span.client(name, attributes) : undefined;
}
