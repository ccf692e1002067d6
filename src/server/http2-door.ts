/** The HTTP/2 half of a listener. */

import {
  constants,
  createServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Socket } from "node:net";
import type { Clock } from "../clock.ts";
import type { GatewayError } from "../errors.ts";
import { trailersOf } from "./grpc-status.ts";
import { keepStreamsLightly } from "./http2-streams.ts";
import { toConnectError } from "./rpc-error.ts";

/** How long a client may go on sending after its answer is complete. */
const leftoverMs = 50;

/** How much of a request a client may send before we read it. */
const windowBytes = 1024 * 1024;

export interface Http2Options {
  readonly clock: Clock;
  readonly stallTimeoutMs: number;
  readonly headerBytes: number;
  readonly streamsPerConnection: number;
  /** Asked first. @returns whether it answers the stream; it has not touched it if not. */
  readonly onStream: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean;
  readonly onRequest: (req: Http2ServerRequest, res: Http2ServerResponse) => void;
}

/** Serves HTTP/2 on sockets it is given. */
export class Http2Door {
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #server;

  constructor({ clock, stallTimeoutMs, headerBytes, streamsPerConnection, onStream, onRequest }: Http2Options) {
    this.#server = createServer({
      settings: {
        initialWindowSize: windowBytes,
        maxConcurrentStreams: streamsPerConnection,
        maxHeaderListSize: headerBytes,
      },
    });
    this.#server.on("session", (session) => {
      this.#sessions.add(session);
      keepStreamsLightly(session);
      session.once("close", () => this.#sessions.delete(session));
      // A broken connection ends its streams, and those tell whoever works for them.
      session.on("error", () => {});
    });
    this.#server.on("request", onRequest);
    // What node has just added makes requests and responses of streams, which is not for all of them.
    const [toRequest] = this.#server.listeners("stream");
    this.#server.removeAllListeners("stream");
    this.#server.on("stream", (stream, headers, ...others) => {
      watchStream(stream, clock, stallTimeoutMs);
      if (!onStream(stream, headers)) toRequest?.call(this.#server, stream, headers, ...others);
    });
  }

  /** Takes over a connection whose preface has been put back. */
  accept(socket: Socket): void {
    // Whoever hangs up has no more use for answers. An http.Server's sockets would wait for us to say something first.
    socket.allowHalfOpen = false;
    this.#server.emit("connection", socket);
  }

  /** GOAWAY to all; each connection closes when its streams have ended. */
  drain(): void {
    for (const session of this.#sessions) session.close();
  }

  destroy(): void {
    for (const session of this.#sessions) session.destroy();
  }
}

/** Ends streams that a peer leaves hanging: nobody reads our answer, or nobody finishes the request. */
function watchStream(stream: ServerHttp2Stream, clock: Clock, stallTimeoutMs: number): void {
  stream.setTimeout(stallTimeoutMs, () => {
    if (stream.writableLength > 0 || !stream.readableEnded) stream.close(constants.NGHTTP2_CANCEL);
  });
  stream.once("finish", () => {
    if (stream.readableEnded) return;
    // A request refused for its size is never read to its end, and its stream would stay open for ever. Reset at once,
    // it would lose the reply.
    const cancel = clock.after(leftoverMs, () => stream.destroy());
    stream.once("close", cancel);
  });
}

/** Whether a request that no RPC's path matches came from a gRPC client, which understands nothing but gRPC. */
export function isGrpc(req: Http2ServerRequest): boolean {
  const type = req.headers["content-type"];
  return type !== undefined && /^application\/grpc(?:[+;]|$)/.test(type);
}

/** Answers a gRPC call with a failure, without a body. */
export function refuseGrpc(res: Http2ServerResponse, requestId: string, error: GatewayError): void {
  const head = { ":status": 200, "content-type": "application/grpc", "x-request-id": requestId };
  res.stream.respond({ ...head, ...trailersOf(toConnectError(error)) }, { endStream: true });
}
