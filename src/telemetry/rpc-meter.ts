import type { Interceptor } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import { Histogram, type MetricFamily } from "./metric-family.ts";

const boundsS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

interface MethodFigures {
  readonly counts: Map<string, number>;
  readonly durations: Histogram;
}

/** Counts what a service of ours is asked by RPC. The methods are those of the protos, so their number is bounded. */
export class RpcMeter {
  readonly #clock: Clock;
  readonly #methods = new Map<string, MethodFigures>();

  constructor(parts: { readonly clock: Clock }) {
    this.#clock = parts.clock;
  }

  /** Around every call. A stream counts when it has begun, and has no duration. */
  readonly interceptor: Interceptor = (next) => async (request) => {
    const startedMs = this.#clock.monotonicMs();
    const figures = this.#of(`${request.service.typeName}/${request.method.name}`);
    let code = "ok";
    try {
      return await next(request);
    } catch (thrown) {
      ({ code } = GatewayError.from(thrown));
      throw thrown;
    } finally {
      figures.counts.set(code, (figures.counts.get(code) ?? 0) + 1);
      if (!request.stream) figures.durations.observe((this.#clock.monotonicMs() - startedMs) / 1000);
    }
  };

  families(): readonly MetricFamily[] {
    return [
      {
        name: "tollgate_rpc_requests_total",
        help: "KeyService: RPCs, by method and how they ended (an error code, or ok); streams when they began.",
        type: "counter",
        read: () =>
          [...this.#methods].flatMap(([method, { counts }]) =>
            [...counts].map(([code, value]) => ({ labels: { method, code }, value })),
          ),
      },
      {
        name: "tollgate_rpc_duration_seconds",
        help: "KeyService: RPCs that are no streams.",
        type: "histogram",
        read: () =>
          [...this.#methods].flatMap(([method, { durations: histogram }]) =>
            histogram.count === 0 ? [] : { labels: { method }, histogram },
          ),
      },
    ];
  }

  #of(method: string): MethodFigures {
    const known = this.#methods.get(method);
    if (known !== undefined) return known;
    const figures = { counts: new Map<string, number>(), durations: new Histogram(boundsS) };
    this.#methods.set(method, figures);
    return figures;
  }
}
