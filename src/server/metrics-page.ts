import { hash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { GatewayError } from "../errors.ts";
import { sendText } from "./plain-text.ts";

/** What a MetricsPage is made of. */
export interface MetricsPageParts {
  /** The metrics as Prometheus reads them, by what it accepts. */
  readonly expose: (accept: string | undefined) => Promise<{ contentType: string; text: string }>;
  /** Throws GatewayError unless the holder of a key may read them. Undefined: everybody may. */
  readonly checkReader: ((key: string) => Promise<void>) | undefined;
}

/** More readers than there are in earnest. */
const knownMax = 100;

/** `/metrics`, for Prometheus. */
export class MetricsPage {
  readonly #parts: MetricsPageParts;
  /** Digests of keys that were let in: while nobody can say whether they still may, which is when metrics are wanted most, they are. */
  readonly #known = new Set<string>();

  constructor(parts: MetricsPageParts) {
    this.#parts = parts;
  }

  /** Answers a GET or HEAD. Never throws. */
  answer(req: IncomingMessage, res: ServerResponse): void {
    this.#read(req.headers).then(
      ({ contentType, text }) => sendText(res, 200, text, { "content-type": contentType }),
      (thrown) => {
        if (!(thrown instanceof GatewayError)) return sendText(res, 500, "metrics cannot be collected\n");
        const { httpStatus } = thrown.kind;
        sendText(res, httpStatus, `${thrown.message}\n`, httpStatus === 401 ? { "www-authenticate": "Bearer" } : {});
      },
    );
  }

  async #read({ authorization = "", accept }: IncomingMessage["headers"]) {
    if (this.#parts.checkReader !== undefined) await this.#check(/^bearer +(\S+) *$/i.exec(authorization)?.[1]);
    return this.#parts.expose(accept);
  }

  async #check(key: string | undefined): Promise<void> {
    if (key === undefined)
      throw new GatewayError("missing_api_key", "Metrics are read with a key here: `authorization: Bearer sk-...`.");
    const digest = hash("sha256", key);
    try {
      await this.#parts.checkReader?.(key);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== "keyservice_unavailable") this.#known.delete(digest);
      else if (this.#known.has(digest)) return;
      throw error;
    }
    if (this.#known.size < knownMax) this.#known.add(digest);
  }
}
