import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Clock } from "../clock.ts";
import type { MetricsPage } from "../server/metrics-page.ts";
import { sendText } from "../server/plain-text.ts";
import { renewCertificate, type ServerTls, tlsServerOptions } from "../server/server-tls.ts";

/** Whether the process can take calls, part by part. */
export interface Readiness {
  /** Config read and the KeyService heard at least once: the only things without which no call can be decided. */
  readonly started: boolean;
  /** Started and not draining. An outage of Redis, the KeyService or a provider does not change it: pods must not leave in flocks. */
  readonly ready: boolean;
  /** Every part and what it says, for `?verbose`. */
  readonly checks: Readonly<Record<string, string>>;
}

/** What the port tells of. */
interface AdminPortParts {
  /** Never rejects. */
  readonly readiness: () => Readiness | Promise<Readiness>;
  readonly metrics: MetricsPage;
}

/** Where the port is. */
interface AdminPortPlace {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Undefined: plaintext. */
  readonly tls: ServerTls | undefined;
  readonly clock: Clock;
  readonly onBug: (error: unknown) => void;
}

/** Opens the port for kubelet and Prometheus. */
export async function openAdminPort(
  parts: AdminPortParts & AdminPortPlace,
): Promise<{ readonly port: number; close(): Promise<void> }> {
  const { host, port, tls, clock, onBug } = parts;
  const handler = createAdminHandler(parts);
  const secure = tls && createTlsServer({ ...tlsServerOptions(tls), ALPNProtocols: ["http/1.1"] }, handler);
  const server = secure ?? createServer(handler);
  const stopRenewing = secure && tls && renewCertificate(secure, tls, clock, onBug);
  server.listen(port, host);
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      stopRenewing?.();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/**
 * The port for kubelet and Prometheus, which dial the pod's address: `/livez /readyz /startupz /metrics` and nothing else, so
 * that it may listen where the data port must not.
 */
function createAdminHandler(parts: AdminPortParts): (req: IncomingMessage, res: ServerResponse) => void {
  return (req, res) => {
    const url = URL.parse(req.url ?? "/", "http://admin");
    const verbose = url?.searchParams.has("verbose") ?? false;
    if (req.method !== "GET" && req.method !== "HEAD")
      return sendText(res, 405, "method not allowed\n", { allow: "GET, HEAD" });
    switch (url?.pathname) {
      case "/livez":
        return sendText(res, 200, "ok\n");
      case "/startupz":
      case "/readyz":
        return void tell(parts, url.pathname === "/readyz" ? "ready" : "started", verbose, res);
      case "/metrics":
        return parts.metrics.answer(req, res);
      default:
        return sendText(res, 404, "not found: this port has /livez /readyz /startupz /metrics\n");
    }
  };
}

async function tell(
  { readiness }: AdminPortParts,
  what: "ready" | "started",
  verbose: boolean,
  res: ServerResponse,
): Promise<void> {
  const now = await readiness();
  sendText(res, now[what] ? 200 : 503, say(now[what], now, verbose));
}

function say(good: boolean, readiness: Readiness, verbose: boolean): string {
  const verdict = good ? "ok" : "not ready";
  if (!verbose && good) return `${verdict}\n`;
  const lines = Object.entries(readiness.checks).map(([name, state]) => `${name}: ${state}`);
  return `${[...lines, verdict].join("\n")}\n`;
}
