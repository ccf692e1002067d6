import type { IncomingMessage, ServerResponse } from "node:http";
import type { MetricsPage } from "../server/metrics-page.ts";

type Handler = (req: IncomingMessage, res: ServerResponse) => void;

/** Answers `/metrics`; everything else is another's. */
export function metricsOr(metrics: MetricsPage, otherwise: Handler): Handler {
  return (req, res) => {
    const isRead = req.method === "GET" || req.method === "HEAD";
    if (isRead && /^\/metrics(?:\?|$)/.test(req.url ?? "")) metrics.answer(req, res);
    else otherwise(req, res);
  };
}
