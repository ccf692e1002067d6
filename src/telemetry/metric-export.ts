import { type HrTime, ValueType } from "@opentelemetry/api";
import type { DataPoint, MetricData, PushMetricExporter } from "@opentelemetry/sdk-metrics";
import type { Clock } from "../clock.ts";
import { scrubCredentials } from "../secret.ts";
import type { Histogram, Labels, MetricFamily } from "./metric-family.ts";
import type { Metrics } from "./metrics.ts";
import { closeMs } from "./span-queue.ts";

/** What is pushed, where the environment says so. */
export interface MetricExportParts {
  readonly metrics: Metrics;
  /** The environment; the exporter itself reads endpoint, headers, timeout and certificates from the process's own. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whose metrics they are; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go before it. */
  readonly resource: Readonly<Record<string, string>>;
  readonly clock: Clock;
  /** Told when metrics cannot be pushed, once, and not again until they could be. */
  readonly warn: (message: string) => void;
}

type Sdk = typeof import("@opentelemetry/sdk-metrics");

const intervalMs = 60_000;

/**
 * Pushes metrics by OTLP over HTTP in protobuf, as the standard `OTEL_*` variables say. They are the same that `/metrics` tells, and
 * cumulative. Nothing is loaded unless an endpoint is set.
 *
 * @returns undefined if nothing is pushed.
 */
export async function startMetricExport(parts: MetricExportParts): Promise<{ close(): Promise<void> } | undefined> {
  if (!isWanted(parts)) return undefined;
  const { env, clock, metrics, warn } = parts;
  const [sdk, exporters, resources] = await Promise.all([
    import("@opentelemetry/sdk-metrics"),
    import("@opentelemetry/exporter-metrics-otlp-proto"),
    import("@opentelemetry/resources"),
  ]);
  const resource = resources
    .defaultResource()
    .merge(resources.resourceFromAttributes({ ...parts.resource }))
    .merge(resources.detectResources({ detectors: [resources.envDetector] }));
  const exporter: PushMetricExporter = new exporters.OTLPMetricExporter();
  const startTime = hrTime(clock.nowMs());
  let isFailing = false;
  const push = async () => {
    const times = { startTime, endTime: hrTime(clock.nowMs()) };
    const told: MetricData[] = [];
    for (const family of metrics.families()) told.push(await dataOf(family, times, sdk));
    const error = await exported(exporter, {
      resource,
      scopeMetrics: [{ scope: { name: "tollgate" }, metrics: told }],
    });
    if (error !== undefined && !isFailing) warn(`Metrics cannot be pushed by OTLP: ${scrubCredentials(error)}`);
    isFailing = error !== undefined;
  };
  const everyMs = Number(env.OTEL_METRIC_EXPORT_INTERVAL || intervalMs);
  let cancel = () => {};
  let pushing = Promise.resolve();
  let isClosed = false;
  const pushLater = () => {
    cancel = clock.after(everyMs, () => {
      pushing = push().then(() => {
        if (!isClosed) pushLater();
      });
    });
  };
  pushLater();
  return {
    close: () => {
      isClosed = true;
      cancel();
      const done = pushing.then(push).then(() => exporter.shutdown());
      return Promise.race([done, new Promise<void>((resolve) => void clock.after(closeMs, resolve))]);
    },
  };
}

function isWanted({ env, warn }: MetricExportParts): boolean {
  const own = env.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT;
  if (!own && !env.OTEL_EXPORTER_OTLP_ENDPOINT) return false;
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === "true") return false;
  if (!(env.OTEL_METRICS_EXPORTER || "otlp").split(",").includes("otlp")) return false;
  const protocol = env.OTEL_EXPORTER_OTLP_METRICS_PROTOCOL || env.OTEL_EXPORTER_OTLP_PROTOCOL || "http/protobuf";
  if (protocol === "http/protobuf") return true;
  warn(
    `Metrics are not pushed: that is done by http/protobuf, not by ${protocol}. Set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL and ..._METRICS_ENDPOINT, or OTEL_METRICS_EXPORTER=none.`,
  );
  return false;
}

/** @returns why they were not taken; undefined: they were. */
function exported(exporter: PushMetricExporter, told: Parameters<PushMetricExporter["export"]>[0]) {
  return new Promise<string | undefined>((resolve) => {
    exporter.export(told, ({ error }) => resolve(error?.message));
  });
}

async function dataOf(
  family: MetricFamily,
  times: Pick<DataPoint<number>, "startTime" | "endTime">,
  { AggregationTemporality, DataPointType }: Sdk,
): Promise<MetricData> {
  const { name, help: description, type } = family;
  // The unit is the end of the name, as Prometheus has it; told twice it would be there twice.
  const common = {
    descriptor: { name, description, unit: "", valueType: ValueType.DOUBLE },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
  const point = <Value>(labels: Labels, value: Value) => ({ ...times, attributes: { ...labels }, value });
  if (family.type === "histogram") {
    const dataPoints = [...(await family.read())].map(({ labels, histogram }) => point(labels, figuresOf(histogram)));
    return { ...common, dataPointType: DataPointType.HISTOGRAM, dataPoints };
  }
  const dataPoints = [...(await family.read())].map(({ labels, value }) => point(labels, value));
  if (type === "counter") return { ...common, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints };
  return { ...common, dataPointType: DataPointType.GAUGE, dataPoints };
}

function figuresOf({ bounds, counts, count, sum }: Histogram) {
  return { buckets: { boundaries: [...bounds], counts: [...counts] }, count, sum };
}

function hrTime(unixMs: number): HrTime {
  return [Math.floor(unixMs / 1000), (unixMs % 1000) * 1_000_000];
}
