import { collectDefaultMetrics, type MetricObjectWithValues, type MetricValue, Registry } from "prom-client";
import { Histogram, type HistogramSample, type Labels, type MetricFamily, type Sample } from "./metric-family.ts";

/** Gauges with the suffix of counters, which Prometheus's own check finds wrong; each is there without it, by type or alone. */
const misnamed = ["nodejs_active_handles_total", "nodejs_active_requests_total", "nodejs_active_resources_total"];

/** The event loop's lag is measured so often, in milliseconds. The library's 10 woke a process that had nothing to do a hundred times a second. */
const lagEveryMs = 100;
/** Figures that the library tells with the time between two measurements in them. */
const lagWithPause = /^nodejs_eventloop_lag_(min|max|mean|p50|p90|p99)_seconds$/;

/** Which program this is. */
export function buildInfo(version: string): MetricFamily {
  return {
    name: "tollgate_build_info",
    help: "Always 1; the labels tell the version.",
    type: "gauge",
    read: () => [{ labels: { version, node_version: process.version }, value: 1 }],
  };
}

/** CPU, memory, event loop and garbage collection of this process, as prom-client names them. */
export function processMetrics(): readonly MetricFamily[] {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: lagEveryMs });
  for (const name of misnamed) registry.removeSingleMetric(name);
  return registry.getMetricsAsArray().map(({ name, help, type }) => {
    const read = async () => {
      const metric = registry.getSingleMetric(name);
      return metric?.get() as unknown as Promise<MetricObjectWithValues<MetricValue<string>>>;
    };
    if (String(type) === "histogram")
      return { name, help, type: "histogram", read: async () => histograms(await read()) };
    return {
      name,
      help,
      type: String(type) === "counter" ? "counter" : "gauge",
      read: async () => {
        const told = samples(await read());
        return lagWithPause.test(name) ? told.map(withoutPause) : told;
      },
    };
  });
}

function samples({ values }: MetricObjectWithValues<MetricValue<string>>): Sample[] {
  return values.map(({ labels, value }) => ({ labels: textLabels(labels), value }));
}

function withoutPause({ labels, value }: Sample): Sample {
  return { labels, value: Math.max(0, value - lagEveryMs / 1_000) };
}

/** prom-client tells cumulated buckets, one value a line. */
function histograms({ name, values }: MetricObjectWithValues<MetricValue<string>>): HistogramSample[] {
  const groups = new Map<string, { labels: Labels; bounds: number[]; cumulated: number[]; sum: number }>();
  for (const { labels, value, metricName } of values as (MetricValue<string> & { metricName?: string })[]) {
    const { le, ...rest } = textLabels(labels);
    const key = JSON.stringify(rest);
    const group = groups.get(key) ?? { labels: rest, bounds: [], cumulated: [], sum: 0 };
    groups.set(key, group);
    if (metricName === `${name}_sum`) group.sum = value;
    if (le === undefined) continue;
    group.cumulated.push(value);
    if (le !== "+Inf") group.bounds.push(Number(le));
  }
  return [...groups.values()].map(({ labels, bounds, cumulated, sum }) => {
    const histogram = new Histogram(bounds);
    for (const [bucket, count] of cumulated.entries()) histogram.counts[bucket] = count - (cumulated[bucket - 1] ?? 0);
    histogram.sum = sum;
    return { labels, histogram };
  });
}

function textLabels(labels: Partial<Record<string, string | number>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, String(value)]));
}
