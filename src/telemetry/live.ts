import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { CompletionRequest } from "../completion.ts";
import type { GatewayError } from "../errors.ts";
import { usdNumber } from "../money.ts";
import { CallLog } from "./call-log.ts";
import { type AttemptSpan, CallSpans, type CallTracing } from "./call-spans.ts";
import type { Metrics } from "./metrics.ts";
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
  readonly metrics: Metrics;
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

class LiveCall implements CallTrace {
  readonly #parts: LiveParts;
  readonly #origin: CallOrigin;
  readonly #isStream: boolean;
  readonly #startedMs: number;
  readonly #spans: CallSpans | undefined;
  readonly #log: CallLog;
  #facts: CallFacts = {};
  readonly traceId: string;

  constructor(parts: LiveParts, request: CompletionRequest, origin: CallOrigin) {
    this.#parts = parts;
    this.#origin = origin;
    this.#isStream = request.stream;
    this.#startedMs = parts.clock.monotonicMs();
    this.#log = new CallLog(parts.logger);
    parts.metrics.inFlight.inc();
    this.#spans = parts.tracing && new CallSpans(parts.tracing, parts.clock, request, origin);
    this.traceId = (this.#spans?.context ?? readTraceHeaders(origin))?.traceId ?? "";
  }

  identify(facts: CallFacts): void {
    this.#facts = { ...this.#facts, ...facts };
    this.#spans?.identify(this.#facts);
  }

  authorize<Result>(work: () => Promise<Result>): Promise<Result> {
    return this.#spans === undefined ? work() : this.#spans.authorize(work);
  }

  lookUp<Result>(work: () => Promise<Result | undefined>): Promise<Result | undefined> {
    return this.#spans === undefined ? work() : this.#spans.lookUp(work);
  }

  get #model(): string {
    return this.#facts.modelGroup ?? "";
  }

  attempt(facts: AttemptFacts): AttemptTrace {
    const span = this.#spans?.attempt(facts);
    return new LiveAttempt(this.#parts, facts, {
      ...{ span, model: this.#model, log: this.#log },
      takesContent: this.#spans?.takesContent ?? false,
      traceparent: this.#parts.forwardTraceparent ? (span?.traceparent ?? this.#foreignContext()) : undefined,
    });
  }

  end(failure: GatewayError | undefined): void {
    const { metrics, clock } = this.#parts;
    const durationMs = clock.monotonicMs() - this.#startedMs;
    const { route } = this.#origin;
    metrics.inFlight.dec();
    metrics.requests.inc({
      ...{ route, model: this.#model, code: failure?.code ?? "ok" },
      stream: String(this.#isStream),
    });
    metrics.requestDuration.observe({ route, model: this.#model }, durationMs / 1000);
    this.#spans?.end(failure);
    this.#log.end(failure, {
      ...{ facts: this.#facts, origin: this.#origin, traceId: this.traceId },
      ...{ stream: this.#isStream, durationMs },
    });
  }

  /** The caller's own, handed on as it came. */
  #foreignContext(): string | undefined {
    return this.traceId === "" ? undefined : this.#origin.traceparent;
  }
}

interface LiveAttemptParts {
  readonly span: AttemptSpan | undefined;
  readonly model: string;
  readonly log: CallLog;
  readonly takesContent: boolean;
  readonly traceparent: string | undefined;
}

class LiveAttempt implements AttemptTrace {
  readonly #parts: LiveParts;
  readonly #provider: string;
  readonly #isStream: boolean;
  readonly #startedMs: number;
  readonly #own: LiveAttemptParts;

  constructor(parts: LiveParts, { request, provider }: AttemptFacts, own: LiveAttemptParts) {
    this.#parts = parts;
    this.#provider = provider;
    this.#isStream = request.stream;
    this.#own = own;
    this.#startedMs = parts.clock.monotonicMs();
  }

  get takesContent(): boolean {
    return this.#own.takesContent;
  }

  get traceparent(): string | undefined {
    return this.#own.traceparent;
  }

  firstOutput(): void {
    // A whole answer's first output is its last.
    if (!this.#isStream) return;
    const { metrics, clock } = this.#parts;
    const seconds = (clock.monotonicMs() - this.#startedMs) / 1000;
    metrics.firstOutput.observe({ model: this.#own.model, provider: this.#provider }, seconds);
    this.#own.span?.firstOutput();
  }

  settling(): void {
    this.#own.span?.settling();
  }

  end(result: AttemptResult): void {
    const { metrics } = this.#parts;
    const { model, log, span } = this.#own;
    const { usage, error, cost } = result;
    metrics.attempts.inc({ provider: this.#provider, model, outcome: error ?? "ok" });
    if (usage !== undefined) {
      metrics.tokens.inc({ model, kind: "input" }, usage.inputTokens);
      metrics.tokens.inc({ model, kind: "output" }, usage.outputTokens);
      metrics.cost.inc({ model }, usdNumber(cost));
    }
    log.attempted(this.#provider, usage, cost);
    span?.end(result);
  }
}
