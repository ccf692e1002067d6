import type { LookupFunction } from "node:net";
import { Agent } from "undici";
import type { Clock } from "../clock.ts";
import type { PrivateHosts } from "../config/private-hosts.ts";
import { guardedLookup, guardedLookupWithin } from "./guarded-lookup.ts";
import { ProviderAnswer } from "./provider-answer.ts";

/** undici's time limits are looked at in steps of this length, and may act one step early. */
const stepMs = 500;

/** One request to a provider. */
export interface ProviderRequest {
  readonly url: URL;
  /** Where the address is the database's: the private places that its name may lead to. Absent: any. */
  readonly privateHosts?: PrivateHosts | undefined;
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
  /** By what is allowed: a connection that one list let through is none for another. */
  readonly #guardedAgents = new Map<string, Agent>();

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock;
    this.#agent = agentWith(guardedLookup);
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
      this.#agentFor(request.privateHosts).dispatch(
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
    await Promise.all([this.#agent, ...this.#guardedAgents.values()].map((agent) => agent.destroy()));
  }

  #agentFor(privateHosts: PrivateHosts | undefined): Agent {
    if (privateHosts === undefined) return this.#agent;
    const key = privateHosts.text;
    let agent = this.#guardedAgents.get(key);
    if (agent === undefined) {
      agent = agentWith(guardedLookupWithin(privateHosts));
      this.#guardedAgents.set(key, agent);
    }
    return agent;
  }
}

function agentWith(lookup: LookupFunction): Agent {
  return new Agent({
    // As many sockets as calls: a completion holds its socket for seconds or minutes, and a call that waited for one would wait unseen, beyond its
    // time limit too. How many may be under way at once is said by limits of keys and deployments.
    pipelining: 1,
    connections: null,
    // By HTTP/2, which undici would speak where it can, no way in which answers break off is tested.
    allowH2: false,
    connect: { timeout: 10_000, noDelay: true, lookup },
    keepAliveTimeout: 30_000,
  });
}
