import { type Attributes, type SpanContext, SpanKind } from "@opentelemetry/api";
import { withinSpan } from "../active-span.ts";
import type { Clock } from "../clock.ts";
import type { CompletionRequest } from "../completion.ts";
import type { GatewayError } from "../errors.ts";
import {
  type AttemptStart,
  addEndAttributes,
  attemptName,
  attemptStartOf,
  type GenAiVersion,
  startAttributes,
} from "./genai.ts";
import { type CallLabels, callAttributes, generationAttributes, labelsOf } from "./langfuse.ts";
import { rpcStatusName } from "./rpc-spans.ts";
import type { Observation, Span } from "./span.ts";
import type { AttemptFacts, AttemptResult, CallFacts, CallOrigin } from "./telemetry.ts";
import type { Tracer } from "./tracer.ts";

/** What is traced of calls, and how. */
export interface CallTracing {
  readonly tracer: Tracer;
  readonly genAi: GenAiVersion;
  /** Whether what is said is recorded, unless a key forbids it. */
  readonly recordsContent: boolean;
  /** Whether there is a Langfuse to be told. */
  readonly hasLangfuse: boolean;
}

/** The spans of one call: SERVER, and below it what decides whether it goes ahead, each attempt, and its booking. */
export class CallSpans {
  readonly #shared: Shared;
  readonly #recordsContent: boolean;
  readonly #isStream: boolean;
  readonly #server: Span;
  #authorize: Span | undefined;
  #facts: CallFacts = {};
  #attempts = 0;
  #httpStatus = 200;
  #rpcStatus = 0;

  constructor(tracing: CallTracing, clock: Clock, request: CompletionRequest, origin: CallOrigin) {
    const { tracer, genAi, recordsContent, hasLangfuse } = tracing;
    const { requestId, door, route, tags, sessionId: ownSession } = origin;
    this.#recordsContent = recordsContent;
    this.#isStream = request.stream;
    const name = isRpc(route) ? route.slice(1) : `POST ${route}`;
    this.#server = tracer.server(name, origin, { "tollgate.door": door }, () => this.#describe());
    const labels = hasLangfuse && this.#server.isSampled ? labelsOf(request, origin) : undefined;
    this.#shared = {
      ...{ server: this.#server, clock, genAi, labels, factsOf: () => this.#facts },
      // Without the caller's signal and token, which would live as long as the span.
      origin: { requestId, door, route, tags, sessionId: ownSession, traceparent: undefined, tracestate: undefined },
      sessionId: labels?.sessionId ?? ownSession,
    };
  }

  get context(): SpanContext {
    return this.#server.context;
  }

  get isSampled(): boolean {
    return this.#server.isSampled;
  }

  get takesContent(): boolean {
    return this.#recordsContent && this.#server.isSampled && this.#facts.hidesContent !== true;
  }

  /** @param facts all that are known. */
  identify(facts: CallFacts): void {
    this.#facts = facts;
  }

  authorize<Result>(work: () => Result): Result {
    this.#authorize ??= this.#server.child({ name: "tollgate.authorize", kind: SpanKind.INTERNAL });
    return withinSpan(this.#authorize, work);
  }

  async lookUp<Result>(work: () => Promise<Result | undefined>): Promise<Result | undefined> {
    this.#authorized();
    const span = this.#server.child({ name: "tollgate.cache", kind: SpanKind.INTERNAL });
    try {
      const found = await withinSpan(span, work);
      span.annotate({ "tollgate.cache.hit": found !== undefined });
      return found;
    } finally {
      span.end();
    }
  }

  attempt(facts: AttemptFacts): AttemptSpan {
    this.#authorized();
    this.#attempts += 1;
    return new AttemptSpan(this.#shared, facts);
  }

  end(failure: GatewayError | undefined): void {
    const isFailure = failure !== undefined && failure.kind.blame !== "caller";
    this.#authorize?.end(failure?.code, isFailure);
    if (failure !== undefined) {
      this.#httpStatus = failure.kind.httpStatus;
      this.#rpcStatus = failure.kind.rpcCode;
    }
    this.#server.observe(this.#attempts === 0 ? this.#observation(failure?.code) : undefined);
    this.#server.end(failure?.code, isFailure);
  }

  #authorized(): void {
    this.#authorize?.end();
    this.#authorize = undefined;
  }

  #describe(): Attributes {
    const { origin, sessionId } = this.#shared;
    const { route, door, requestId } = origin;
    const { callId, keyId, teamId, modelGroup, cacheHit } = this.#facts;
    const attributes: Attributes = {
      "tollgate.door": door,
      "tollgate.request.id": requestId,
      "tollgate.stream": this.#isStream,
    };
    if (isRpc(route)) {
      attributes["rpc.system.name"] = door;
      attributes["rpc.method"] = route.slice(1);
      attributes["rpc.response.status_code"] = rpcStatusName(this.#rpcStatus);
    } else {
      attributes["http.request.method"] = "POST";
      attributes["http.route"] = route;
      attributes["http.response.status_code"] = this.#httpStatus;
    }
    if (callId !== undefined) attributes["tollgate.call.id"] = callId;
    if (keyId !== undefined) attributes["tollgate.key.id"] = keyId;
    if (teamId !== undefined) attributes["tollgate.team"] = teamId;
    if (modelGroup !== undefined) attributes["tollgate.model.alias"] = modelGroup;
    if (sessionId !== undefined) attributes["gen_ai.conversation.id"] = sessionId;
    if (cacheHit !== undefined) attributes["tollgate.cache.hit"] = cacheHit;
    if (this.#attempts > 1) attributes["tollgate.attempts"] = this.#attempts;
    return attributes;
  }

  #observation(error: string | undefined): Observation | undefined {
    const { labels, origin, factsOf } = this.#shared;
    if (labels === undefined) return undefined;
    const { name, parentSpanContext: parent } = this.#server;
    return {
      ...{ parent, name: undefined },
      describe: () => callAttributes({ name, error, labels, origin, facts: factsOf() }),
    };
  }
}

/** What all spans of a call are made from. */
interface Shared {
  readonly server: Span;
  readonly clock: Clock;
  readonly genAi: GenAiVersion;
  /** Undefined: there is no Langfuse to be told. */
  readonly labels: CallLabels | undefined;
  readonly origin: CallOrigin;
  readonly sessionId: string | undefined;
  readonly factsOf: () => CallFacts;
}

/** The spans of one attempt: CLIENT, the only one with usage and cost, and that of its booking. */
export class AttemptSpan {
  readonly #shared: Shared;
  readonly #span: Span;
  readonly #start: AttemptStart;
  readonly #startedMs: number;
  #firstOutputMs: number | undefined;
  #firstOutputAtMs: number | undefined;
  #settlingMs: number | undefined;
  #result: AttemptResult | undefined;

  constructor(shared: Shared, facts: AttemptFacts) {
    this.#shared = shared;
    this.#start = attemptStartOf(facts);
    this.#startedMs = shared.clock.monotonicMs();
    this.#span = shared.server.child({
      name: attemptName(facts),
      kind: SpanKind.CLIENT,
      startedMs: this.#startedMs,
      describe: () => this.#describe(),
    });
  }

  get traceparent(): string {
    return this.#span.traceparent;
  }

  firstOutput(): void {
    const { clock } = this.#shared;
    this.#firstOutputMs = clock.monotonicMs();
    this.#firstOutputAtMs = clock.nowMs();
  }

  settling(): void {
    this.#settlingMs = this.#shared.clock.monotonicMs();
  }

  end(result: AttemptResult): void {
    if (!this.#span.isSampled) return;
    const { content, ...facts } = result;
    this.#result = facts;
    this.#span.record(content);
    this.#span.observe(this.#observation(facts));
    // An attempt that nobody wanted any more has not failed.
    this.#span.end(facts.error, facts.error !== undefined && facts.error !== "client_closed_request");
    if (this.#settlingMs === undefined) return;
    const booking = { name: "tollgate.settle", kind: SpanKind.INTERNAL, startedMs: this.#settlingMs };
    this.#shared.server.child({ ...booking, links: [this.#span.context] }).end();
  }

  #describe(): Attributes {
    const { genAi, sessionId } = this.#shared;
    const firstOutputS = this.#firstOutputMs === undefined ? undefined : (this.#firstOutputMs - this.#startedMs) / 1000;
    const attributes = startAttributes(this.#start);
    if (sessionId !== undefined) attributes["gen_ai.conversation.id"] = sessionId;
    if (this.#result !== undefined) addEndAttributes(attributes, this.#result, firstOutputS, genAi);
    return attributes;
  }

  #observation(result: AttemptResult): Observation | undefined {
    const { server, labels, origin, factsOf } = this.#shared;
    if (labels === undefined) return undefined;
    const [start, firstOutputAtMs] = [this.#start, this.#firstOutputAtMs];
    return {
      ...{ parent: server.parentSpanContext, name: labels.generationName },
      describe: () => generationAttributes({ start, result, firstOutputAtMs, labels, origin, facts: factsOf() }),
    };
  }
}

/** Routes of RPCs are paths of a service and a method. */
function isRpc(route: string): boolean {
  return route.startsWith("/tollgate.");
}
