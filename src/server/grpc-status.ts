/** How a gRPC call ended, in HTTP/2's headers. */

import type { OutgoingHttpHeaders } from "node:http2";
import type { ConnectError } from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";

export const okTrailers: OutgoingHttpHeaders = { "grpc-status": "0" };

/** Status, message, details, and what the error has for headers. */
export function trailersOf(error: ConnectError): OutgoingHttpHeaders {
  return Object.fromEntries(withReadableMessage(setTrailerStatus(new Headers(), error)));
}

/**
 * connect escapes all but letters in `grpc-message`; grpc-js undoes only part of that. gRPC asks for "%" and non-ASCII
 * only.
 */
export function withReadableMessage(trailer: Headers): Headers {
  const message = trailer.get("grpc-message");
  if (message === null || !message.includes("%")) return trailer;
  const readable = decodeURIComponent(message).replace(/[^\x20-\x24\x26-\x7e]+/g, encodeURIComponent);
  const copy = new Headers(trailer);
  copy.set("grpc-message", readable);
  return copy;
}
