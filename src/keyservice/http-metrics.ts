import type { IncomingMessage, ServerResponse } from "node:http";
import type { Metrics } from "../telemetry/metrics.ts";

type Handler = (req: IncomingMessage, res: ServerResponse) => void;

/** Answers `/metrics`, for Prometheus, which has no key; everything else is another's. */
export function metricsOr(metrics: Metrics, otherwise: Handler): Handler {
  return (req, res) => {
    const isRead = req.method === "GET" || req.method === "HEAD";
    if (!isRead || !/^\/metrics(?:\?|$)/.test(req.url ?? "")) return otherwise(req, res);
    metrics.expose(req.headers.accept).then(
      ({ contentType, text }) => {
        res.writeHead(200, { "content-type": contentType, "cache-control": "no-store" });
        res.end(text);
      },
      () => {
        res.writeHead(500, { "content-type": "text/plain" });
        res.end("metrics cannot be collected\n");
      },
    );
  };
}
