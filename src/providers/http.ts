import { Agent } from "undici";
import type { Clock } from "../clock.ts";
import { guardedLookup } from "./guarded-lookup.ts";
import { ProviderAnswer } from "./provider-answer.ts";

/** undici's time limits are looked at in steps of this length, and may act one step early. */
const stepMs = 500;

/** One request to a provider. */
export interface ProviderRequest {
  readonly url: URL;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
  readonly signal: AbortSignal;
  /** Until the answer's head, in milliseconds. */
  readonly headTimeoutMs: number;
  /** Between two reads of its body, in milliseconds. */
  readonly idleTimeoutMs: number;
}

/** HTTP to providers: kept connections, coarse time limits, failures in our words. Follows no redirects, knows no proxies. */
export class ProviderHttp {
  readonly #clock: Clock;
  readonly #agent: Agent;

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock;
    this.#agent = new Agent({
      // As many sockets as calls: a completion holds its socket for seconds, so pipelining would queue calls behind it.
      pipelining: 1,
      connections: 512,
      connect: { timeout: 10_000, noDelay: true, lookup: guardedLookup },
      keepAliveTimeout: 30_000,
    });
  }

  /** Posts a body, as `send` does. */
  post(request: ProviderRequest): Promise<ProviderAnswer> {
    return this.send("POST", request);
  }

  /**
   * Sends a request and waits for the answer's head.
   *
   * @throws ProviderFailure when none came.
   */
  send(method: "GET" | "POST" | "PUT" | "DELETE", request: ProviderRequest): Promise<ProviderAnswer> {
    const { url, headers, body, signal } = request;
    const answer = new ProviderAnswer({ clock: this.#clock, signal });
    return answer.head((handler) =>
      this.#agent.dispatch(
        {
          origin: url.origin,
          path: url.pathname + url.search,
          method,
          headers,
          body: body.length === 0 ? null : body,
          headersTimeout: request.headTimeoutMs + stepMs,
          bodyTimeout: request.idleTimeoutMs + stepMs,
        },
        handler,
      ),
    );
  }

  /** Cuts every connection. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}
