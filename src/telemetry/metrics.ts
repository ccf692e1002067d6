import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

const callBucketsS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640];
const firstOutputBucketsS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2];

/** Every metric of the data plane. Labels are bounded: configured names and codes, never keys, users or ids. */
export class Metrics {
  readonly registry = new Registry();
  readonly #registers = [this.registry];

  readonly requests = new Counter({
    name: "tollgate_requests_total",
    help: "Calls, by how they ended (code: an error code of the README's table, or ok).",
    labelNames: ["route", "model", "code", "stream"] as const,
    registers: this.#registers,
  });
  readonly requestDuration = new Histogram({
    name: "tollgate_request_duration_seconds",
    help: "Calls from the first byte in to the last byte out.",
    labelNames: ["route", "model"] as const,
    buckets: callBucketsS,
    registers: this.#registers,
  });
  readonly firstOutput = new Histogram({
    name: "tollgate_time_to_first_token_seconds",
    help: "From the start of a provider attempt to its first output.",
    labelNames: ["model", "provider"] as const,
    buckets: firstOutputBucketsS,
    registers: this.#registers,
  });
  readonly attempts = new Counter({
    name: "tollgate_upstream_attempts_total",
    help: "Provider attempts, by outcome (an error code, or ok).",
    labelNames: ["provider", "model", "outcome"] as const,
    registers: this.#registers,
  });
  readonly tokens = new Counter({
    name: "tollgate_tokens_total",
    help: "Tokens booked.",
    labelNames: ["model", "kind"] as const,
    registers: this.#registers,
  });
  readonly cost = new Counter({
    name: "tollgate_cost_usd_total",
    help: "Money booked, in US dollars. For watching; the ledger is what is billed.",
    labelNames: ["model"] as const,
    registers: this.#registers,
  });
  readonly unpriced = new Counter({
    name: "tollgate_unpriced_model_requests_total",
    help: "Calls to models nobody knows the price of: refused to keys with a budget, or booked at $0.",
    labelNames: ["model"] as const,
    registers: this.#registers,
  });
  readonly inFlight = new Gauge({
    name: "tollgate_requests_in_flight",
    help: "Calls under way.",
    registers: this.#registers,
  });

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  /** A figure that is read when somebody asks for it. */
  gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: this.#registers,
      collect() {
        this.set(read());
      },
    });
  }

  /** Figures of a few things, by name; `label` is what the name is. Read when somebody asks for them. */
  gauges(name: string, help: string, label: string, read: () => Readonly<Record<string, number>>): void {
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers: this.#registers,
      collect() {
        for (const [thing, figure] of Object.entries(read())) this.set({ [label]: thing }, figure);
      },
    });
  }

  /** A count that somebody else keeps and that only grows. Read when somebody asks for it. */
  counter(name: string, help: string, read: () => number): void {
    new Counter({
      name,
      help,
      registers: this.#registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  /** Counts that somebody else keeps of a few things, by name; `label` is what the name is. Read when somebody asks for them. */
  counters(name: string, help: string, label: string, read: () => Readonly<Record<string, number>>): void {
    new Counter({
      name,
      help,
      labelNames: [label],
      registers: this.#registers,
      collect() {
        this.reset();
        for (const [thing, count] of Object.entries(read())) this.inc({ [label]: thing }, count);
      },
    });
  }
}
