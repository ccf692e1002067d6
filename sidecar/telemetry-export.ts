import {
  type CallbackConfig,
  createTracing,
  type Metrics,
  startMetricExport,
  systemClock,
  type Tracing,
} from "../src/index.ts";
import type { Settings } from "./settings.ts";
import { version } from "./version.ts";

/** The variables that traces and Langfuse follow, with their defaults and meanings; the README's table is tested against them. */
export const tracingVariables = {
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    default: "",
    meaning:
      "Where spans go, `http://collector:4318` for instance; none: nothing is traced. `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` goes first.",
  },
  OTEL_EXPORTER_OTLP_PROTOCOL: {
    default: "http/protobuf",
    meaning: "How: `http/protobuf` or `grpc`. `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL` goes first.",
  },
  OTEL_TRACES_EXPORTER: { default: "otlp", meaning: "`none`: no spans are exported." },
  OTEL_SDK_DISABLED: { default: "false", meaning: "`true`: nothing is traced, and Langfuse is told nothing." },
  OTEL_TRACES_SAMPLER: {
    default: "parentbased_always_on",
    meaning:
      "Which calls are traced, Langfuse's too: `always_on`, `always_off`, `traceidratio`, or these with `parentbased_`.",
  },
  OTEL_TRACES_SAMPLER_ARG: { default: "1", meaning: "The part of them for `traceidratio`, from 0 to 1." },
  OTEL_BSP_MAX_QUEUE_SIZE: {
    default: "8192",
    meaning: "Spans that wait for a collector; further ones are dropped, and counted.",
  },
  OTEL_BSP_MAX_EXPORT_BATCH_SIZE: { default: "512", meaning: "Spans sent, and encoded, in one go." },
  OTEL_BSP_SCHEDULE_DELAY: { default: "1000", meaning: "The longest a span waits for company, in milliseconds." },
  OTEL_SEMCONV_STABILITY_OPT_IN: {
    default: "",
    meaning:
      "`gen_ai_latest_experimental`: the GenAI attributes as they are being developed; else those of the conventions 1.41.",
  },
  OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: {
    default: "NO_CONTENT",
    meaning:
      "`SPAN_ONLY`: prompts and answers are on the spans of attempts, and in Langfuse. `SPAN_AND_EVENT` does the same.",
  },
  LANGFUSE_PUBLIC_KEY: {
    default: "",
    meaning: "Langfuse's public key; acts with `success_callback` or `failure_callback`.",
  },
  LANGFUSE_SECRET_KEY: { default: "", meaning: "And the secret one." },
  LANGFUSE_HOST: {
    default: "https://cloud.langfuse.com",
    meaning: "Where Langfuse is; `LANGFUSE_BASE_URL` and `LANGFUSE_OTEL_HOST` are its other names.",
  },
} as const satisfies Record<string, { default: string; meaning: string }>;

/** What traces and pushed metrics say of the program they come from; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go first. */
export function resourceOf(
  serviceName: string,
  { podId }: Pick<Settings, "podId">,
  environment?: string,
): Readonly<Record<string, string>> {
  return {
    "service.name": serviceName,
    "service.version": version,
    "service.instance.id": podId,
    ...(environment === undefined ? {} : { "deployment.environment.name": environment }),
  };
}

/** What goes out by itself: spans, and pushed metrics. */
export interface TelemetryExport {
  /** Undefined: nothing is traced. */
  readonly tracing: Tracing | undefined;
  /** Sends what waits, for a second at most. */
  close(): Promise<void>;
}

/** Sets a program's tracing up, and the pushing of its metrics, which are told of the tracing too. */
export async function startTelemetryExport(parts: {
  readonly settings: Pick<Settings, "env">;
  readonly resource: Readonly<Record<string, string>>;
  readonly metrics: Metrics;
  /** Whom it is told besides the collector; undefined: nobody. */
  readonly callbacks?: CallbackConfig;
  readonly warn: (message: string) => void;
}): Promise<TelemetryExport> {
  const { settings, resource, metrics, callbacks, warn } = parts;
  const { langfuse, hidesContent = false } = callbacks ?? {};
  const shared = { ...{ env: settings.env, clock: systemClock }, resource, warn };
  const tracing = await createTracing({ ...shared, langfuse, hidesContent });
  if (tracing !== undefined) {
    metrics.counters(
      "tollgate_telemetry_dropped_total",
      "Spans that were given up, by where they should have gone: there was no room, or they were not taken.",
      "destination",
      () => tracing.dropped(),
    );
  }
  const pushed = await startMetricExport({ ...shared, metrics });
  // Both at once: a collector that is away holds up the end no longer for having two things to take.
  return { tracing, close: async () => void (await Promise.all([tracing?.close(), pushed?.close()])) };
}
