import { type DiagLogger, DiagLogLevel, diag } from "@opentelemetry/api";
import type { Clock } from "../clock.ts";
import type { LangfuseSettings } from "../config/callback-config.ts";
import { scrubCredentials } from "../secret.ts";
import { type GenAiVersion, genAiVersionOf } from "./genai.ts";
import { observationOf } from "./langfuse.ts";
import type { Span } from "./span.ts";
import { type SpanExporter, SpanQueue, type SpanQueueParts } from "./span-queue.ts";
import { Tracer } from "./tracer.ts";

/** Spans that wait for a collector; further ones are dropped rather than kept in memory. */
const defaultCapacity = 8_192;
/** Encoding as many takes about a millisecond, in which no call goes on; a request for fewer costs each of them more. */
const defaultBatchMax = 512;
const defaultDelayMs = 1_000;

/** What tracing is set up from. */
export interface TracingOptions {
  /** The environment; exporters themselves read endpoints, headers, timeouts and certificates from process.env, as the specification says. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What is traced; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go before it. */
  readonly resource: Readonly<Record<string, string>>;
  /** Undefined: there is none. */
  readonly langfuse?: LangfuseSettings | undefined;
  /** Whether what is said must not be recorded, whatever the environment says (`turn_off_message_logging`). */
  readonly hidesContent?: boolean;
  readonly clock: Clock;
  /** Told when spans cannot be exported, and what of the environment is not understood. */
  readonly warn: (message: string) => void;
}

/** Tracing that is set up, and its end. */
export interface Tracing {
  readonly tracer: Tracer;
  readonly genAi: GenAiVersion;
  readonly recordsContent: boolean;
  readonly hasLangfuse: boolean;
  /** Spans that were given up, by where they should have gone: "otlp", "langfuse". */
  dropped(): Readonly<Record<string, number>>;
  /** Sends what is queued, for a second at most. */
  close(): Promise<void>;
}

/**
 * Sets tracing up from the standard `OTEL_*` variables. Nothing is loaded and nothing exported unless there is an OTLP endpoint or a
 * Langfuse.
 */
export async function createTracing(options: TracingOptions): Promise<Tracing | undefined> {
  const { env, langfuse, warn } = options;
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === "true") return undefined;
  const isExported = env.OTEL_TRACES_EXPORTER !== "none" && otlpEndpoint(env) !== undefined;
  if (!isExported && langfuse === undefined) return undefined;
  diag.setLogger(diagnostics(warn), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  const [sdk, exporters] = await Promise.all([import("@opentelemetry/sdk-trace"), import("./exporters.ts")]);
  const queues = new Map<string, SpanQueue>();
  const onEnd: ((span: Span) => void)[] = [];
  if (isExported) {
    const queue = createQueue(options, await exporters.createCollectorExporter(protocolOf(env), warn), {
      ...{ what: "Spans", shown: (span) => span },
    });
    queues.set("otlp", queue);
    onEnd.push((span) => queue.push(span));
  }
  if (langfuse !== undefined) {
    const queue = createQueue(options, exporters.createLangfuseExporter(langfuse), {
      ...{ what: "Spans for Langfuse", shown: observationOf },
    });
    queues.set("langfuse", queue);
    onEnd.push((span) => {
      const isWanted = span.errorType === undefined ? langfuse.successes : langfuse.failures;
      if (isWanted && span.observation !== undefined) queue.push(span);
    });
  }
  const tracer = new Tracer({
    ...{ clock: options.clock, onEnd },
    resource: await resourceOf(options.resource),
    sampler: createSampler(sdk, env, warn),
    ids: new sdk.RandomIdGenerator(),
  });
  return {
    tracer,
    genAi: genAiVersionOf(env.OTEL_SEMCONV_STABILITY_OPT_IN),
    recordsContent: options.hidesContent !== true && capturesContent(env, warn),
    hasLangfuse: langfuse !== undefined,
    dropped: () => Object.fromEntries([...queues].map(([name, queue]) => [name, queue.dropped])),
    close: async () => void (await Promise.all([...queues.values()].map((queue) => queue.close()))),
  };
}

function otlpEndpoint(env: TracingOptions["env"]): string | undefined {
  return env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT || undefined;
}

function protocolOf(env: TracingOptions["env"]): string {
  return env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL || env.OTEL_EXPORTER_OTLP_PROTOCOL || "http/protobuf";
}

function createQueue(
  { env, clock, warn }: TracingOptions,
  exporter: SpanExporter,
  { what, shown }: { readonly what: string; readonly shown: SpanQueueParts["shown"] },
): SpanQueue {
  return new SpanQueue({
    ...{ exporter, clock, shown },
    capacity: countOf(env.OTEL_BSP_MAX_QUEUE_SIZE) ?? defaultCapacity,
    batchMax: countOf(env.OTEL_BSP_MAX_EXPORT_BATCH_SIZE) ?? defaultBatchMax,
    delayMs: countOf(env.OTEL_BSP_SCHEDULE_DELAY) ?? defaultDelayMs,
    onFailure: (reason) => warn(scrubCredentials(`${what} cannot be exported and are dropped: ${reason}`)),
  });
}

/** As the specification has it, what is no positive number counts as not set. */
function countOf(text: string | undefined): number | undefined {
  return text !== undefined && /^[1-9]\d{0,8}$/.test(text) ? Number(text) : undefined;
}

async function resourceOf(resource: Readonly<Record<string, string>>) {
  const { defaultResource, detectResources, envDetector, resourceFromAttributes } = await import(
    "@opentelemetry/resources"
  );
  return defaultResource()
    .merge(resourceFromAttributes(resource))
    .merge(detectResources({ detectors: [envDetector] }));
}

/** OpenTelemetry's switch for prompts and answers. Events are not made here; who asks for both has spans. */
function capturesContent(env: TracingOptions["env"], warn: TracingOptions["warn"]): boolean {
  const mode = env.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT?.toUpperCase() || "NO_CONTENT";
  if (["SPAN_ONLY", "SPAN_AND_EVENT", "TRUE"].includes(mode)) return true;
  if (!["NO_CONTENT", "FALSE"].includes(mode)) {
    warn(
      "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is neither NO_CONTENT nor SPAN_ONLY: nothing is recorded.",
    );
  }
  return false;
}

/** The SDK's complaints as lines of ours; it would swallow them. */
function diagnostics(warn: (message: string) => void): DiagLogger {
  const say = (...words: unknown[]) => warn(scrubCredentials(`OpenTelemetry: ${words.map(String).join(" ")}`));
  const ignore = () => {};
  return { error: say, warn: say, info: ignore, debug: ignore, verbose: ignore };
}

const samplerNames = ["always_on", "always_off", "traceidratio"].flatMap((name) => [name, `parentbased_${name}`]);

/** The sampler `OTEL_TRACES_SAMPLER` names; the specification's default is everything, the parent deciding. */
function createSampler(
  sdk: typeof import("@opentelemetry/sdk-trace"),
  env: TracingOptions["env"],
  warn: TracingOptions["warn"],
): import("@opentelemetry/sdk-trace").Sampler {
  const name = env.OTEL_TRACES_SAMPLER || "parentbased_always_on";
  if (!samplerNames.includes(name)) warn(`OTEL_TRACES_SAMPLER is "${name}", none of ${samplerNames.join(", ")}.`);
  const ratio = Number(env.OTEL_TRACES_SAMPLER_ARG || 1);
  const root = name.endsWith("always_off")
    ? new sdk.AlwaysOffSampler()
    : name.endsWith("traceidratio")
      ? new sdk.TraceIdRatioBasedSampler(ratio)
      : new sdk.AlwaysOnSampler();
  return name.startsWith("parentbased_") ? new sdk.ParentBasedSampler({ root }) : root;
}
