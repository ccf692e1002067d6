/** Metrics as Prometheus reads them: its text form, or OpenMetrics with exemplars for those who ask for it. */

import type { Exemplar, HistogramSample, Labels, MetricFamily } from "./metric-family.ts";

const textType = "text/plain; version=0.0.4; charset=utf-8";
const openMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/** Metrics, written down. */
export interface Exposition {
  readonly contentType: string;
  readonly text: string;
}

/**
 * Writes metrics down.
 *
 * @param accept the request's `accept`; undefined: there was none.
 */
export async function expose(families: Iterable<MetricFamily>, accept: string | undefined): Promise<Exposition> {
  const isOpen = /application\/openmetrics-text/i.test(accept ?? "");
  const lines: string[] = [];
  for (const family of families) {
    // With many keys it takes a while: calls go on in between.
    await new Promise(setImmediate);
    const { type, help } = family;
    // In OpenMetrics the family of a counter goes without the suffix that its samples have.
    const name = isOpen && type === "counter" ? family.name.replace(/_total$/, "") : family.name;
    lines.push(`# HELP ${name} ${escaped(help, isOpen)}`, `# TYPE ${name} ${type}`);
    if (family.type === "histogram") {
      for (const sample of await family.read()) writeHistogram(lines, family.name, sample, isOpen);
    } else {
      for (const { labels, value } of await family.read()) lines.push(line(family.name, labels, value));
    }
  }
  if (isOpen) lines.push("# EOF");
  return { contentType: isOpen ? openMetricsType : textType, text: `${lines.join("\n")}\n` };
}

function writeHistogram(lines: string[], name: string, { labels, histogram }: HistogramSample, isOpen: boolean): void {
  const { bounds, counts, exemplars, sum } = histogram;
  let cumulated = 0;
  for (const [bucket, count] of counts.entries()) {
    cumulated += count;
    const bound = bounds[bucket];
    const le = bound === undefined ? "+Inf" : isOpen && Number.isInteger(bound) ? bound.toFixed(1) : String(bound);
    const exemplar = isOpen ? exemplars[bucket] : undefined;
    lines.push(line(`${name}_bucket`, { ...labels, le }, cumulated) + exemplarText(exemplar));
  }
  lines.push(line(`${name}_sum`, labels, sum), line(`${name}_count`, labels, cumulated));
}

function exemplarText(exemplar: Exemplar | undefined): string {
  if (exemplar === undefined) return "";
  return ` # {trace_id="${exemplar.traceId}"} ${exemplar.value} ${(exemplar.atMs / 1000).toFixed(3)}`;
}

function line(name: string, labels: Labels, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text, true)}"`);
  return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${numberText(value)}`;
}

function numberText(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return String(value);
}

function escaped(text: string, withQuotes: boolean): string {
  const plain = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  return withQuotes ? plain.replaceAll('"', '\\"') : plain;
}
