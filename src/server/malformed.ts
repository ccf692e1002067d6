/** Answers to what is no HTTP request at all, or never becomes one. */

import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import { requestIdFrom } from "./request-id.ts";

/** How long a refused peer may go on sending: cut off at once, it would never see the answer. */
const lingerMs = 1_000;

/**
 * A connection as node's server keeps it, with the response that is being written to it. Kept in a map of ours, an idle connection's last
 * response held on to all of its call, 12 KB, which then grew old for V8.
 */
interface Answering extends Socket {
  readonly _httpMessage?: ServerResponse | null;
}

/** An error in the shape OpenAI's clients read. */
function errorBody(error: GatewayError): string {
  const { param = null } = error.facts;
  return JSON.stringify({ error: { message: error.message, type: error.kind.type, param, code: error.code } });
}

/** Answers a request that no handler will see, with an error in OpenAI's shape. */
export function refuse(res: ServerResponse, error: GatewayError, requestId: string): void {
  const body = errorBody(error);
  res.writeHead(error.kind.httpStatus, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    "x-request-id": requestId,
    "x-should-retry": String(error.shouldRetry),
  });
  res.end(body);
}

/** For an http.Server's `clientError`: says what was wrong, waits for the peer to hear it, and hangs up. */
export class MalformedRequests {
  readonly #clock: Clock;
  readonly #headerBytes: number;
  readonly #refused = new WeakSet<Socket>();

  constructor({ clock, headerBytes }: { readonly clock: Clock; readonly headerBytes: number }) {
    this.#clock = clock;
    this.#headerBytes = headerBytes;
  }

  refuse(error: NodeJS.ErrnoException, socket: Answering): void {
    // Every further piece of what cannot be parsed is reported again.
    if (this.#refused.has(socket)) return;
    this.#refused.add(socket);
    const isMidResponse = socket._httpMessage?.headersSent === true;
    if (!socket.writable || error.code === "ECONNRESET" || isMidResponse) {
      socket.destroy();
      return;
    }
    const { status, message } = this.#answer(error.code);
    const body = errorBody(new GatewayError("invalid_request", message));
    socket.end(
      `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
        `x-request-id: ${requestIdFrom(undefined)}\r\nx-should-retry: false\r\nconnection: close\r\n\r\n${body}`,
    );
    const cancel = this.#clock.after(lingerMs, () => socket.destroy());
    socket.once("close", cancel);
  }

  #answer(code: string | undefined): { status: string; message: string } {
    switch (code) {
      case "HPE_HEADER_OVERFLOW":
        return {
          status: "431 Request Header Fields Too Large",
          message: `The request's header is larger than ${this.#headerBytes} bytes.`,
        };
      // Not 408: SDKs would send the same request again.
      case "ERR_HTTP_REQUEST_TIMEOUT":
        return { status: "400 Bad Request", message: "The request did not arrive in time." };
      default:
        return { status: "400 Bad Request", message: "This is not valid HTTP." };
    }
  }
}
