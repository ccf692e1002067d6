import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { errorText } from "../error-text.ts";
import type { ErrorCode, GatewayError } from "../errors.ts";
import { usdNumber } from "../money.ts";
import type { CallCells } from "./call-cells.ts";
import { type AttemptMeter, CallMeter } from "./call-meter.ts";
import type { AttemptFacts, AttemptTrace, CallStart, CallTrace, Telemetry } from "./telemetry.ts";

const propagator = new W3CTraceContextPropagator();
const headerGetter = {
  keys: (start: CallStart) => Object.keys(start),
  get: (start: CallStart, key: string) => (key === "traceparent" ? start.traceparent : start.tracestate),
};
const headerSetter = {
  set: (carrier: Map<string, string>, key: string, value: string) => void carrier.set(key, value),
};

interface LiveParts {
  /** Undefined: nothing is traced. */
  readonly tracer: Tracer | undefined;
  /** Where calls are counted. */
  readonly cells: CallCells;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Whether providers are sent `traceparent`. Baggage never is. */
  readonly forwardTraceparent: boolean;
}

/** Telemetry for real: OpenTelemetry spans, Prometheus metrics, pino lines. */
export class LiveTelemetry implements Telemetry {
  readonly #parts: LiveParts;

  constructor(parts: LiveParts) {
    this.#parts = parts;
  }

  startCall(start: CallStart): CallTrace {
    return new LiveCall(this.#parts, start);
  }

  log(
    level: "debug" | "info" | "warn" | "error",
    message: string,
    facts: Readonly<Record<string, unknown>> = {},
  ): void {
    this.#parts.logger[level](facts, message);
  }
}

class LiveCall implements CallTrace {
  readonly #parts: LiveParts;
  readonly #start: CallStart;
  readonly #meter: CallMeter;
  readonly #context: Context;
  readonly #span: Span | undefined;
  #model = "";
  #keyId = "";

  constructor(parts: LiveParts, start: CallStart) {
    this.#parts = parts;
    this.#start = start;
    this.#meter = new CallMeter(parts.cells, parts.clock, start);
    const parent =
      start.traceparent === undefined ? ROOT_CONTEXT : propagator.extract(ROOT_CONTEXT, start, headerGetter);
    this.#span = parts.tracer?.startSpan(
      start.route,
      {
        kind: SpanKind.SERVER,
        attributes: { "tollgate.door": start.door, "tollgate.request.id": start.requestId, "http.route": start.route },
      },
      parent,
    );
    this.#context = this.#span === undefined ? parent : trace.setSpan(parent, this.#span);
  }

  get traceId(): string {
    return trace.getSpanContext(this.#context)?.traceId ?? "";
  }

  identify(facts: Parameters<CallTrace["identify"]>[0]): void {
    if (facts.keyId !== undefined) this.#keyId = facts.keyId;
    if (facts.modelGroup !== undefined) this.#model = facts.modelGroup;
    this.#meter.identify(facts);
    this.#span?.setAttributes({
      ...(facts.keyId === undefined ? {} : { "tollgate.key.id": facts.keyId }),
      ...(facts.teamId === undefined ? {} : { "tollgate.team": facts.teamId }),
      ...(facts.modelGroup === undefined ? {} : { "tollgate.model.alias": facts.modelGroup }),
    });
  }

  attempt(facts: AttemptFacts): AttemptTrace {
    return new LiveAttempt(this.#parts, facts, this.#meter.attempt(facts), this.#context);
  }

  fellBack(from: string, to: string, reason: ErrorCode): void {
    this.#meter.fellBack(from, to, reason);
  }

  end(failure: GatewayError | undefined): void {
    const { logger } = this.#parts;
    const { durationMs } = this.#meter;
    const { route, requestId, door } = this.#start;
    this.#meter.end(failure?.code, this.#span?.isRecording() === true ? this.traceId : undefined);
    this.#endSpan(failure);
    const ours = failure !== undefined && failure.kind.blame !== "caller";
    if (!ours && !logger.isLevelEnabled("debug")) return;
    const facts = { requestId, door, route, model: this.#model, keyId: this.#keyId, traceId: this.traceId, durationMs };
    if (failure === undefined) logger.debug(facts, "call answered");
    // What a caller got wrong is quoted in what the provider said about it: prompts are not logged.
    else if (!ours) logger.debug({ ...facts, code: failure.code }, "call refused");
    else
      logger.warn(
        { ...facts, code: failure.code, cause: errorText(failure, failure.code === "internal_error") },
        "call failed",
      );
  }

  #endSpan(failure: GatewayError | undefined): void {
    const span = this.#span;
    if (span === undefined) return;
    if (failure !== undefined) {
      span.setAttribute("error.type", failure.code);
      // A caller's own mistakes are not errors of this service.
      if (failure.kind.blame !== "caller") span.setStatus({ code: SpanStatusCode.ERROR, message: failure.code });
    }
    span.end();
  }
}

class LiveAttempt implements AttemptTrace {
  readonly #facts: AttemptFacts;
  readonly #meter: AttemptMeter;
  readonly #span: Span | undefined;
  readonly traceparent: string | undefined;

  constructor(parts: LiveParts, facts: AttemptFacts, meter: AttemptMeter, parent: Context) {
    this.#facts = facts;
    this.#meter = meter;
    this.#span = parts.tracer?.startSpan(
      `${facts.operation} ${facts.model}`,
      { kind: SpanKind.CLIENT, attributes: attributesOf(facts) },
      parent,
    );
    this.traceparent = parts.forwardTraceparent
      ? traceparentOf(this.#span === undefined ? parent : trace.setSpan(parent, this.#span))
      : undefined;
  }

  firstOutput(): void {
    const afterMs = this.#meter.firstOutput();
    // A whole answer's first output is its last.
    if (this.#facts.stream) this.#span?.setAttribute("gen_ai.response.time_to_first_chunk", afterMs / 1000);
  }

  end(result: Parameters<AttemptTrace["end"]>[0]): void {
    this.#meter.end(result);
    if (this.#span !== undefined) endAttemptSpan(this.#span, result, result.error);
  }
}

function attributesOf(facts: AttemptFacts): Record<string, string | number | boolean> {
  const server = facts.apiBase === undefined ? undefined : URL.parse(facts.apiBase);
  return {
    "gen_ai.operation.name": facts.operation,
    "gen_ai.provider.name": facts.provider,
    "gen_ai.request.model": facts.model,
    "gen_ai.request.stream": facts.stream,
    "tollgate.attempt": facts.number,
    "tollgate.deployment.id": facts.deploymentId,
    ...(server == null ? {} : { "server.address": server.hostname, "server.port": portOf(server) }),
  };
}

function portOf(url: URL): number {
  return url.port === "" ? (url.protocol === "http:" ? 80 : 443) : Number(url.port);
}

function traceparentOf(context: Context): string | undefined {
  const carrier = new Map<string, string>();
  propagator.inject(context, carrier, headerSetter);
  return carrier.get("traceparent");
}

function endAttemptSpan(span: Span, result: Parameters<AttemptTrace["end"]>[0], error: ErrorCode | undefined): void {
  const { usage, cost, responseId } = result;
  if (usage !== undefined) {
    span.setAttributes({
      "gen_ai.usage.input_tokens": usage.inputTokens,
      "gen_ai.usage.output_tokens": usage.outputTokens,
      "gen_ai.usage.cache_read.input_tokens": usage.cacheReadInputTokens,
      "gen_ai.usage.cost": usdNumber(cost),
      "tollgate.usage.estimated": usage.estimated,
    });
  }
  if (responseId !== undefined) span.setAttribute("gen_ai.response.id", responseId);
  if (error !== undefined) {
    span.setAttribute("error.type", error);
    span.setStatus({ code: SpanStatusCode.ERROR, message: error });
  }
  span.end();
}
