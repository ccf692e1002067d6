import {
  type Attributes,
  type HrTime,
  type Link,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
} from "@opentelemetry/api";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import type { ActiveSpan, ClientSpan, SpanAttributes } from "../active-span.ts";
import type { Clock } from "../clock.ts";
import type { MessageContent, RecordedContent } from "./telemetry.ts";

/** Where spans come from and where they go when they have ended. */
export interface SpanHome {
  readonly clock: Clock;
  readonly resource: ReadableSpan["resource"];
  /** Hexadecimal, 16 digits. */
  newSpanId(): string;
  ended(span: Span): void;
}

/** What a span is made of. */
export interface SpanParts {
  readonly home: SpanHome;
  readonly name: string;
  readonly kind: SpanKind;
  readonly context: SpanContext;
  readonly parent: SpanContext | undefined;
  /** Asked once, when the span is exported, not before; what it gives is added to. */
  readonly describe: () => Attributes;
  /** The trace's clock: what `monotonicMs` is added to, to have Unix time. */
  readonly epochMs: number;
  /** Monotonic. Default: now. */
  readonly startedMs?: number | undefined;
  readonly links?: readonly SpanContext[] | undefined;
}

/** A span as Langfuse shows it. */
export interface Observation {
  /** What it is shown below; undefined: it stands alone. */
  readonly parent: SpanContext | undefined;
  /** Its name there; undefined: the span's. */
  readonly name: string | undefined;
  /** Attributes for Langfuse alone. */
  describe(): Attributes;
}

const scope = { name: "tollgate" };
const noEvents: ReadableSpan["events"] = [];
const noLinks: Link[] = [];
const nothing = (): Attributes => ({});

/**
 * A span as exporters read it. While a call lasts it only remembers facts; what it says of them is worked out when it is exported, away
 * from the call. In a trace that is not sampled it has an id to be passed on, and goes nowhere.
 */
export class Span implements ReadableSpan, ActiveSpan, ClientSpan {
  readonly #parts: SpanParts;
  readonly parentSpanContext?: SpanContext;
  readonly #startedMs: number;
  #endedMs: number | undefined;
  #annotations: SpanAttributes | undefined;
  #errorType: string | undefined;
  #attributes: Attributes | undefined;
  #content: RecordedContent | undefined;
  #messages: MessageContent | undefined;
  #observation: Observation | undefined;
  /** Whether it is to be seen as failed. */
  #isFailure = false;
  readonly events = noEvents;
  readonly links: Link[];
  readonly droppedAttributesCount = 0;
  readonly droppedEventsCount = 0;
  readonly droppedLinksCount = 0;
  readonly instrumentationScope = scope;

  constructor(parts: SpanParts) {
    this.#parts = parts;
    this.#startedMs = parts.startedMs ?? parts.home.clock.monotonicMs();
    if (parts.parent !== undefined) this.parentSpanContext = parts.parent;
    this.links = parts.links === undefined ? noLinks : parts.links.map((context) => ({ context }));
  }

  get name(): string {
    return this.#parts.name;
  }

  get kind(): SpanKind {
    return this.#parts.kind;
  }

  get context(): SpanContext {
    return this.#parts.context;
  }

  get isSampled(): boolean {
    return (this.#parts.context.traceFlags & 1) === 1;
  }

  get isOpen(): boolean {
    return this.#endedMs === undefined;
  }

  get traceparent(): string {
    const { traceId, spanId, traceFlags } = this.#parts.context;
    return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
  }

  get tracestate(): string | undefined {
    return this.#parts.context.traceState?.serialize() || undefined;
  }

  /** A part of it. @param startedMs monotonic; default: now. */
  child(parts: Pick<SpanParts, "name" | "kind"> & Partial<Pick<SpanParts, "describe" | "startedMs" | "links">>): Span {
    if (!this.isSampled) return this.#unseen();
    const { home, context, epochMs } = this.#parts;
    const { traceId, traceFlags, traceState } = context;
    const own: SpanContext = { traceId, spanId: home.newSpanId(), traceFlags };
    if (traceState !== undefined) own.traceState = traceState;
    const { name, kind, describe = nothing, startedMs, links } = parts;
    return new Span({ home, name, kind, context: own, parent: context, describe, epochMs, startedMs, links });
  }

  /** In a trace that nobody looks at, one span stands for all of them. */
  #unseen(): Span {
    return new Span(this.#parts);
  }

  client(name: string, attributes: SpanAttributes, others: readonly ActiveSpan[] = []): Span {
    const links = others.length === 0 ? undefined : others.map(({ context }) => context);
    return this.child({ name, kind: SpanKind.CLIENT, describe: () => ({ ...attributes }) as Attributes, links });
  }

  annotate(attributes: SpanAttributes): void {
    this.#annotations = this.#annotations === undefined ? attributes : { ...this.#annotations, ...attributes };
  }

  /**
   * Ends it. Later ends are ignored.
   *
   * @param errorType what went wrong; undefined: nothing.
   * @param isFailure whether that is a failure of what the span is about; a caller's own mistake is none.
   */
  end(errorType?: string, isFailure = errorType !== undefined): void {
    if (this.#endedMs !== undefined) return;
    this.#endedMs = this.#parts.home.clock.monotonicMs();
    this.#errorType = errorType;
    this.#isFailure = isFailure;
    if (this.isSampled) this.#parts.home.ended(this);
  }

  /** What was said in it. @param content undefined: nothing may be told of that. */
  record(content: RecordedContent | undefined): void {
    this.#content = content;
  }

  /** How Langfuse is to show it. @param observation undefined: not at all. */
  observe(observation: Observation | undefined): void {
    this.#observation = observation;
  }

  get observation(): Observation | undefined {
    return this.#observation;
  }

  get errorType(): string | undefined {
    return this.#errorType;
  }

  /** Memory that it holds besides itself, in bytes. */
  get contentBytes(): number {
    return this.#content?.bytes ?? 0;
  }

  /** Lets go of what was said: there is no room to keep it until it is exported. */
  shed(): void {
    if (this.#content !== undefined) this.annotate({ "tollgate.content.dropped": true });
    this.#content = undefined;
  }

  // What follows is for exporters.

  /** What was said; undefined: nothing may be told of that. */
  messages(): MessageContent | undefined {
    this.#messages ??= this.#content?.read();
    return this.#messages;
  }

  spanContext(): SpanContext {
    return this.#parts.context;
  }

  get resource(): ReadableSpan["resource"] {
    return this.#parts.home.resource;
  }

  get attributes(): Attributes {
    this.#attributes ??= this.#describe();
    return this.#attributes;
  }

  #describe(): Attributes {
    const attributes = this.#parts.describe();
    if (this.#annotations !== undefined) Object.assign(attributes, this.#annotations);
    const content = this.messages();
    if (content !== undefined) addContent(attributes, content);
    if (this.#errorType !== undefined) attributes["error.type"] = this.#errorType;
    return attributes;
  }

  get status(): ReadableSpan["status"] {
    if (!this.#isFailure) return { code: SpanStatusCode.UNSET };
    return { code: SpanStatusCode.ERROR, message: this.#errorType ?? "" };
  }

  get startTime(): HrTime {
    return hrTime(this.#parts.epochMs + this.#startedMs);
  }

  get endTime(): HrTime {
    return hrTime(this.#parts.epochMs + (this.#endedMs ?? this.#startedMs));
  }

  get duration(): HrTime {
    return hrTime((this.#endedMs ?? this.#startedMs) - this.#startedMs);
  }

  get ended(): boolean {
    return this.#endedMs !== undefined;
  }
}

function addContent(attributes: Attributes, content: MessageContent): void {
  const { input, output, systemInstructions, toolDefinitions } = content;
  if (input !== undefined) attributes["gen_ai.input.messages"] = input;
  if (output !== undefined) attributes["gen_ai.output.messages"] = output;
  if (systemInstructions !== undefined) attributes["gen_ai.system_instructions"] = systemInstructions;
  if (toolDefinitions !== undefined) attributes["gen_ai.tool.definitions"] = toolDefinitions;
}

function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}
