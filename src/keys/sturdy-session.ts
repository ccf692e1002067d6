import type { ClientHttp2Stream, Http2Session } from "node:http2";
import { Http2SessionManager } from "@connectrpc/connect-node";

/**
 * The connection to the KeyService. One that has been given up as dead is replaced as soon as somebody asks; the manager then no longer
 * listens to the old one, which tells of its end a moment later, and an error that nobody listens to ends the process.
 */
export class SturdySession extends Http2SessionManager {
  readonly #heard = new WeakSet<Http2Session>();

  override async request(...request: Parameters<Http2SessionManager["request"]>): Promise<ClientHttp2Stream> {
    const stream = await super.request(...request);
    const { session } = stream;
    if (session !== undefined && !this.#heard.has(session)) {
      this.#heard.add(session);
      session.on("error", () => {});
    }
    return stream;
  }
}
