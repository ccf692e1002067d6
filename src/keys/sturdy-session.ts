import type { ClientHttp2Session } from "node:http2";
import { Http2SessionManager } from "@connectrpc/connect-node";

/** What of connect-node's manager is not told to TypeScript (2.2.0; the test beside says if that changes). */
interface Inside {
  setState(state: { readonly t: string; readonly conn?: ClientHttp2Session }): void;
}

/**
 * The connection to the KeyService. One that is dead is replaced as soon as somebody asks; the manager then no longer listens to the old
 * one, which may tell of its end only a moment later, and an error that nobody listens to ends the process.
 */
export class SturdySession extends Http2SessionManager {
  constructor(...parts: ConstructorParameters<typeof Http2SessionManager>) {
    super(...parts);
    const inside = this as unknown as Inside;
    const { setState } = inside;
    inside.setState = (state) => {
      if (state.t === "ready") state.conn?.on("error", () => {});
      setState.call(this, state);
    };
  }
}
