import { type Exposition, expose } from "./exposition.ts";
import type { MetricFamily, Sample } from "./metric-family.ts";

/** The metrics of a program, by name: what `/metrics` tells. */
export class Metrics {
  readonly #families = new Map<string, MetricFamily>();

  /** @throws if one of these names is there already. */
  add(...families: readonly MetricFamily[]): void {
    for (const family of families) {
      if (this.#families.has(family.name)) throw new Error(`there are two metrics of the name ${family.name}`);
      this.#families.set(family.name, family);
    }
  }

  /** All there are. */
  families(): Iterable<MetricFamily> {
    return this.#families.values();
  }

  /** Everything, as Prometheus reads it. @param accept what the asker accepts; undefined: he did not say. */
  expose(accept?: string): Promise<Exposition> {
    return expose(this.families(), accept);
  }

  /** A figure that is read when somebody asks for it; undefined: there is none now. */
  gauge(name: string, help: string, read: () => number | undefined): void {
    this.add({ name, help, type: "gauge", read: () => single(read()) });
  }

  /** Figures of a few things, by name; `label` is what the name is. Read when somebody asks for them. */
  gauges(name: string, help: string, label: string, read: () => Readonly<Record<string, number>>): void {
    this.add({ name, help, type: "gauge", read: () => named(label, read()) });
  }

  /** A count that somebody else keeps and that only grows. Read when somebody asks for it. */
  counter(name: string, help: string, read: () => number): void {
    this.add({ name, help, type: "counter", read: () => single(read()) });
  }

  /** Counts that somebody else keeps of a few things, by name; `label` is what the name is. Read when somebody asks for them. */
  counters(name: string, help: string, label: string, read: () => Readonly<Record<string, number>>): void {
    this.add({ name, help, type: "counter", read: () => named(label, read()) });
  }
}

function single(value: number | undefined): readonly Sample[] {
  return value === undefined ? [] : [{ labels: {}, value }];
}

function named(label: string, figures: Readonly<Record<string, number>>): readonly Sample[] {
  return Object.entries(figures).map(([thing, value]) => ({ labels: { [label]: thing }, value }));
}
