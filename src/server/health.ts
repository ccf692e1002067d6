import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import {
  type HealthCheckRequest,
  Health as HealthService,
  HealthCheckResponse_ServingStatus as Status,
} from "../gen/grpc/health/v1/health_pb.ts";

/** Whether the services of a process can be used, as `grpc.health.v1` tells it. "" stands for the process as a whole. */
export class Health {
  readonly #statuses = new Map<string, Status>([["", Status.SERVING]]);
  readonly #watchers = new Set<() => void>();
  #draining = false;
  #closed = false;

  /** @param services full names, all of them serving at first. */
  constructor(services: Iterable<string>) {
    for (const service of services) this.#statuses.set(service, Status.SERVING);
  }

  /** Whether `drain` has not been called and the process as a whole serves. */
  get serving(): boolean {
    return !this.#draining && this.#statuses.get("") === Status.SERVING;
  }

  /** Sets the status of one service, or with "" that of the process. No effect on what is told while draining. */
  set(service: string, serving: boolean): void {
    this.#statuses.set(service, serving ? Status.SERVING : Status.NOT_SERVING);
    this.#wake();
  }

  /** From now on nothing serves. */
  drain(): void {
    this.#draining = true;
    this.#wake();
  }

  /** Ends every watch after its last message, so that open watches do not hold up a shutdown. */
  close(): void {
    this.drain();
    this.#closed = true;
    this.#wake();
  }

  /** Adds `grpc.health.v1.Health` to a router. */
  routes(router: ConnectRouter): void {
    router.service(HealthService, {
      check: ({ service }) => ({ status: this.#known(service) }),
      watch: (request, context) => this.#watch(request, context),
    });
  }

  #status(service: string): Status | undefined {
    const status = this.#statuses.get(service);
    return status !== undefined && this.#draining ? Status.NOT_SERVING : status;
  }

  #known(service: string): Status {
    const status = this.#status(service);
    if (status === undefined) throw new ConnectError(`unknown service ${service}`, Code.NotFound);
    return status;
  }

  async *#watch({ service }: HealthCheckRequest, { signal }: HandlerContext): AsyncGenerator<{ status: Status }> {
    let wake = (): void => {};
    const onChange = () => wake();
    this.#watchers.add(onChange);
    signal.addEventListener("abort", onChange);
    try {
      let told: Status | undefined;
      while (!signal.aborted) {
        const status = this.#status(service) ?? Status.SERVICE_UNKNOWN;
        if (status !== told) yield { status };
        told = status;
        if (this.#closed) return;
        const changed = new Promise<void>((resolve) => {
          wake = resolve;
        });
        // A change during the yield above had nobody to wake.
        const latest = this.#status(service) ?? Status.SERVICE_UNKNOWN;
        if (latest === told && !signal.aborted && !this.#closed) await changed;
      }
    } finally {
      this.#watchers.delete(onChange);
      signal.removeEventListener("abort", onChange);
    }
  }

  #wake(): void {
    for (const watcher of this.#watchers) watcher();
  }
}
