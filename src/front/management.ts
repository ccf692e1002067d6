/** In `up`, LiteLLM's management paths answer on the sidecar's port too: they are passed on to the KeyService. */

import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { Pool } from "undici";
import type { Random } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import { encodeErrorBody } from "../wires/openai-error.ts";
import { sendError } from "./http-error.ts";

/** LiteLLM's groups of management paths. The KeyService answers 404 for those it does not serve. */
const prefixes =
  /^(?:(?:\/v[12])?\/(?:key|team|user|customer|end_user|organization|budget|tag|spend|global|provider|model|model_group|cost|credentials|audit)\/.|\/(?:credentials|audit)$)/;

/** Headers that speak of one connection only, and those we set ourselves. */
const hopByHop = new Set([
  ...["connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"],
  ...["te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "host", "expect", "x-request-id"],
]);

export interface ManagementOptions {
  /** The KeyService's HTTP address, "http://127.0.0.1:4100". */
  readonly url: string;
  readonly random: Random;
  /** How long the KeyService may take for a head, and between pieces of a body. Default: 30 s. */
  readonly timeoutMs?: number;
}

/** Passes management requests on, bodies as they come. */
export class ManagementForwarder {
  readonly #pool: Pool;
  readonly #random: Random;

  constructor({ url, random, timeoutMs = 30_000 }: ManagementOptions) {
    this.#random = random;
    this.#pool = new Pool(new URL(url).origin, {
      connections: 16,
      connectTimeout: 5_000,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
    });
  }

  /** Whether a path, without its query, is one of management. */
  serves(path: string): boolean {
    return prefixes.test(path);
  }

  /** Answers a request with what the KeyService says to it, or with `keyservice_unavailable`. Never throws. */
  forward(req: IncomingMessage, res: ServerResponse, requestId: string): void {
    const method = req.method ?? "GET";
    const bodiless = method === "GET" || method === "HEAD";
    const request = {
      path: req.url ?? "/",
      method,
      headers: { ...passedOn(req.headers), "x-request-id": requestId },
      body: bodiless ? null : req,
    };
    this.#pool
      .stream(request, ({ statusCode, headers }) => {
        res.writeHead(statusCode, passedOn(headers));
        return res;
      })
      .catch((cause: unknown) => {
        req.resume();
        if (res.headersSent) {
          res.destroy();
          return;
        }
        const error = new GatewayError("keyservice_unavailable", "The KeyService does not answer.", { cause });
        sendError(res, error, encodeErrorBody(error), this.#random);
      });
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

function passedOn(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const named = new Set(
    String(headers.connection ?? "")
      .toLowerCase()
      .split(/\s*,\s*/),
  );
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.startsWith(":") || hopByHop.has(name) || named.has(name)) continue;
    kept[name] = value;
  }
  return kept;
}
