/** What a figure is of: label names and their values. */
export type Labels = Readonly<Record<string, string>>;

/** One figure. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** How often values fell into which bucket. */
export interface HistogramSample {
  readonly labels: Labels;
  readonly histogram: Histogram;
}

/** All figures of one name, read when somebody asks for them. Counters' names end in `_total`. */
export type MetricFamily = {
  readonly name: string;
  readonly help: string;
} & (
  | { readonly type: "counter" | "gauge"; read(): Iterable<Sample> | Promise<Iterable<Sample>> }
  | { readonly type: "histogram"; read(): Iterable<HistogramSample> | Promise<Iterable<HistogramSample>> }
);

/** A value that was seen, and the trace it was seen in. */
export interface Exemplar {
  readonly traceId: string;
  readonly value: number;
  /** Unix time, milliseconds. */
  readonly atMs: number;
}

/** Counts of values in buckets. Observing costs a few comparisons and no memory. */
export class Histogram {
  /** Upper bounds, ascending; above the last there is one more bucket. */
  readonly bounds: readonly number[];
  /** Of each bucket alone, not cumulated. */
  readonly counts: Float64Array;
  /** The latest of each bucket; the array is empty until there is one. */
  readonly exemplars: (Exemplar | undefined)[] = [];
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  get count(): number {
    return this.counts.reduce((sum, count) => sum + count, 0);
  }

  observe(value: number, exemplar?: Exemplar): void {
    const { bounds, counts } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket++;
    counts[bucket] = (counts[bucket] ?? 0) + 1;
    this.sum += value;
    if (exemplar !== undefined) this.exemplars[bucket] = exemplar;
  }

  /** Adds what another one of the same bounds has counted. */
  add(other: Histogram): void {
    for (const [bucket, count] of other.counts.entries()) this.counts[bucket] = (this.counts[bucket] ?? 0) + count;
    this.sum += other.sum;
    for (const [bucket, exemplar] of other.exemplars.entries()) {
      if (exemplar !== undefined && exemplar.atMs >= (this.exemplars[bucket]?.atMs ?? 0))
        this.exemplars[bucket] = exemplar;
    }
  }
}

/**
 * Adds up what is counted apart but told together.
 *
 * @param labelsOf what a cell is told under; undefined: it is not told.
 */
export function summed<Cell>(
  cells: Iterable<Cell>,
  labelsOf: (cell: Cell) => Labels | undefined,
  figureOf: (cell: Cell) => number,
): Iterable<Sample> {
  const sums = new Map<string, { labels: Labels; value: number }>();
  for (const cell of cells) {
    const value = figureOf(cell);
    const labels = value === 0 ? undefined : labelsOf(cell);
    if (labels === undefined) continue;
    const key = Object.values(labels).join("\u0000");
    const sum = sums.get(key);
    if (sum === undefined) sums.set(key, { labels, value });
    else sum.value += value;
  }
  return sums.values();
}

/** Likewise, of histograms. */
export function merged<Cell>(
  cells: Iterable<Cell>,
  labelsOf: (cell: Cell) => Labels,
  histogramOf: (cell: Cell) => Histogram,
): Iterable<HistogramSample> {
  const sums = new Map<string, HistogramSample>();
  for (const cell of cells) {
    const histogram = histogramOf(cell);
    if (histogram.count === 0) continue;
    const labels = labelsOf(cell);
    const key = Object.values(labels).join("\u0000");
    let sum = sums.get(key);
    if (sum === undefined) {
      sum = { labels, histogram: new Histogram(histogram.bounds) };
      sums.set(key, sum);
    }
    sum.histogram.add(histogram);
  }
  return sums.values();
}
