import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { CompletionRequest } from "../completion.ts";
import type { ErrorCode, GatewayError } from "../errors.ts";
import type { CallCells } from "./call-cells.ts";
import { CallLines } from "./call-lines.ts";
import { CallLog } from "./call-log.ts";
import { type AttemptMeter, CallMeter } from "./call-meter.ts";
import { type AttemptSpan, CallSpans, type CallTracing } from "./call-spans.ts";
import type {
  AttemptFacts,
  AttemptResult,
  AttemptTrace,
  CallFacts,
  CallOrigin,
  CallTrace,
  Telemetry,
} from "./telemetry.ts";
import { readTraceHeaders } from "./tracer.ts";

interface LiveParts {
  /** Undefined: nothing is traced. */
  readonly tracing: CallTracing | undefined;
  /** Where calls are counted. */
  readonly cells: CallCells;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Whether providers are sent `traceparent`. Baggage never is. */
  readonly forwardTraceparent: boolean;
}

interface CallParts extends LiveParts {
  readonly lines: CallLines;
}

/** Telemetry for real: OpenTelemetry spans, Prometheus metrics, pino lines. */
export class LiveTelemetry implements Telemetry {
  readonly #parts: CallParts;

  constructor(parts: LiveParts) {
    this.#parts = { ...parts, lines: new CallLines(parts.logger) };
  }

  startCall(request: CompletionRequest, origin: CallOrigin): CallTrace {
    return new LiveCall(this.#parts, request, origin);
  }

  log(
    level: "debug" | "info" | "warn" | "error",
    message: string,
    facts: Readonly<Record<string, unknown>> = {},
  ): void {
    this.#parts.logger[level](facts, message);
  }
}

/** Known of a call that has just come. */
const nothing: CallFacts = {};

class LiveCall implements CallTrace {
  readonly #parts: CallParts;
  readonly #origin: CallOrigin;
  readonly #isStream: boolean;
  readonly #model: string;
  readonly #meter: CallMeter;
  readonly #log: CallLog;
  readonly #spans: CallSpans | undefined;
  #facts: CallFacts = nothing;
  readonly traceId: string;

  constructor(parts: CallParts, request: CompletionRequest, origin: CallOrigin) {
    this.#parts = parts;
    this.#origin = origin;
    this.#isStream = request.stream;
    this.#model = request.model;
    this.#meter = new CallMeter(parts.cells, parts.clock, { route: origin.route, stream: request.stream });
    this.#log = new CallLog(parts.logger, parts.lines);
    this.#spans = parts.tracing && new CallSpans(parts.tracing, parts.clock, request, origin);
    this.traceId = (this.#spans?.context ?? readTraceHeaders(origin))?.traceId ?? "";
  }

  identify(facts: CallFacts): void {
    this.#facts = this.#facts === nothing ? facts : { ...this.#facts, ...facts };
    this.#meter.identify(facts);
    this.#spans?.identify(this.#facts);
  }

  authorize<Result>(work: () => Result): Result {
    return this.#spans === undefined ? work() : this.#spans.authorize(work);
  }

  lookUp<Result>(work: () => Promise<Result | undefined>): Promise<Result | undefined> {
    return this.#spans === undefined ? work() : this.#spans.lookUp(work);
  }

  fellBack(from: string, to: string, reason: ErrorCode): void {
    this.#meter.fellBack(from, to, reason);
  }

  attempt(facts: AttemptFacts): AttemptTrace {
    const span = this.#spans?.attempt(facts);
    const { forwardTraceparent } = this.#parts;
    return new LiveAttempt({
      ...{ span, meter: this.#meter.attempt(facts), log: this.#log },
      ...{ provider: facts.provider, isStream: this.#isStream },
      takesContent: this.#spans?.takesContent ?? false,
      traceparent: forwardTraceparent ? (span?.traceparent ?? this.#foreignContext()) : undefined,
    });
  }

  end(failure: GatewayError | undefined): void {
    const { durationMs } = this.#meter;
    this.#meter.end(failure?.code, this.#spans?.isSampled === true ? this.traceId : undefined);
    this.#spans?.end(failure);
    this.#log.end(failure, {
      ...{ facts: this.#facts, origin: this.#origin, traceId: this.traceId },
      ...{ model: this.#model, stream: this.#isStream, durationMs },
    });
  }

  /** The caller's own, handed on as it came. */
  #foreignContext(): string | undefined {
    return this.traceId === "" ? undefined : this.#origin.traceparent;
  }
}

interface LiveAttemptParts {
  readonly span: AttemptSpan | undefined;
  readonly meter: AttemptMeter;
  readonly log: CallLog;
  readonly provider: string;
  readonly isStream: boolean;
  readonly takesContent: boolean;
  readonly traceparent: string | undefined;
}

class LiveAttempt implements AttemptTrace {
  readonly #parts: LiveAttemptParts;

  constructor(parts: LiveAttemptParts) {
    this.#parts = parts;
  }

  get takesContent(): boolean {
    return this.#parts.takesContent;
  }

  get traceparent(): string | undefined {
    return this.#parts.traceparent;
  }

  firstOutput(): void {
    this.#parts.meter.firstOutput();
    // A whole answer's first output is its last.
    if (this.#parts.isStream) this.#parts.span?.firstOutput();
  }

  settling(): void {
    this.#parts.span?.settling();
  }

  end(result: AttemptResult): void {
    const { meter, log, provider, span } = this.#parts;
    meter.end(result);
    log.attempted(provider, result.usage, result.cost);
    span?.end(result);
  }
}
