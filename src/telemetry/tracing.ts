import { type DiagLogger, DiagLogLevel, diag, type Tracer } from "@opentelemetry/api";
import { scrubCredentials } from "../secret.ts";

/** Spans that are waiting for the exporter; beyond that they are dropped rather than kept in memory. */
const maxQueueSize = 8_192;

/** A tracer that exports, and its end. */
export interface Tracing {
  readonly tracer: Tracer;
  /** Sends what is queued, for as long as the exporter's own time limit allows. */
  close(): Promise<void>;
}

/**
 * Sets tracing up from the standard `OTEL_*` variables. Nothing is loaded and nothing exported unless an OTLP endpoint is set.
 *
 * @param env the environment; the exporter itself reads the endpoint, headers, timeouts and certificates from process.env, as
 * the specification says.
 * @param resource what is traced; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go before it.
 * @param warn told when spans cannot be exported.
 */
export async function createTracing(
  env: Readonly<Record<string, string | undefined>>,
  resource: Readonly<Record<string, string>>,
  warn: (message: string) => void,
): Promise<Tracing | undefined> {
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT;
  const off = env.OTEL_SDK_DISABLED?.toLowerCase() === "true" || env.OTEL_TRACES_EXPORTER === "none";
  if (!endpoint || off) return undefined;
  const protocol = env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL || env.OTEL_EXPORTER_OTLP_PROTOCOL || "http/protobuf";
  if (protocol !== "http/protobuf") warn(`Spans are exported by http/protobuf only, not by ${protocol}.`);
  diag.setLogger(diagnostics(warn), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  const [sdk, exporters, resources] = await Promise.all([
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/exporter-trace-otlp-proto"),
    import("@opentelemetry/resources"),
  ]);
  const provider = new sdk.TracerProvider({
    resource: resources
      .defaultResource()
      .merge(resources.resourceFromAttributes(resource))
      .merge(resources.detectResources({ detectors: [resources.envDetector] })),
    sampler: createSampler(sdk, env),
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter: new exporters.OTLPTraceExporter(),
        maxQueueSize,
        // Small and often: encoding a large batch at once would block calls for milliseconds.
        scheduledDelayMillis: Number(env.OTEL_BSP_SCHEDULE_DELAY || 1_000),
        maxExportBatchSize: Number(env.OTEL_BSP_MAX_EXPORT_BATCH_SIZE || 512),
      }),
    ],
  });
  return { tracer: provider.getTracer("tollgate"), close: () => provider.shutdown() };
}

/** The SDK's complaints as lines of ours; it would swallow them. */
function diagnostics(warn: (message: string) => void): DiagLogger {
  const say = (...words: unknown[]) => warn(scrubCredentials(`OpenTelemetry: ${words.map(String).join(" ")}`));
  const ignore = () => {};
  return { error: say, warn: say, info: ignore, debug: ignore, verbose: ignore };
}

/** The sampler `OTEL_TRACES_SAMPLER` names; the specification's default is everything, the parent deciding. */
function createSampler(
  sdk: typeof import("@opentelemetry/sdk-trace"),
  env: Readonly<Record<string, string | undefined>>,
): import("@opentelemetry/sdk-trace").Sampler {
  const name = env.OTEL_TRACES_SAMPLER || "parentbased_always_on";
  const ratio = Number(env.OTEL_TRACES_SAMPLER_ARG || 1);
  const root = name.endsWith("always_off")
    ? new sdk.AlwaysOffSampler()
    : name.endsWith("traceidratio")
      ? new sdk.TraceIdRatioBasedSampler(ratio)
      : new sdk.AlwaysOnSampler();
  return name.startsWith("parentbased_") ? new sdk.ParentBasedSampler({ root }) : root;
}
