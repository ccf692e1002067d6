/** Connect, gRPC and gRPC-Web on node's HTTP servers. */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Readable } from "node:stream";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest } from "@connectrpc/connect/protocol";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { createValidateInterceptor } from "@connectrpc/validate";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import { withReadableMessage } from "./grpc-status.ts";
import { requestIdFrom } from "./request-id.ts";
import { answeredError, describe, toConnectError } from "./rpc-error.ts";
import { peerUris } from "./server-tls.ts";

/** Told of every failure that is a bug of ours, for the log. */
export type OnBug = (error: unknown, facts: { readonly requestId: string; readonly route: string }) => void;

/** Answers one RPC's requests. Throws GatewayError, before anything is written, at a request that cannot be one. */
export type RpcHandler = (req: IncomingMessage | Http2ServerRequest, res: ServerResponse | Http2ServerResponse) => void;

const requestIdKey = createContextKey("", { description: "x-request-id" });

/** The id of the call a handler works for; the response has it already. */
export function requestIdOf(context: Pick<HandlerContext, "values">): string {
  return context.values.get(requestIdKey);
}

const peerKey = createContextKey<() => readonly string[]>(() => [], { description: "the caller's certificate" });

/** The URI names in the certificate that the caller of a handler has proved to own. */
export function peerUrisOf(context: Pick<HandlerContext, "values">): readonly string[] {
  return context.values.get(peerKey)();
}

/** What RPC handlers are made of. */
export interface RpcOptions {
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: readonly Interceptor[];
  readonly readMaxBytes: number;
  /** Aborts the calls still in flight when a shutdown's patience is over. */
  readonly shutdownSignal: AbortSignal;
  readonly onBug: OnBug;
  readonly clock: Clock;
}

/** How long a caller may go on sending what we do not want. */
const drainMs = 5_000;

/** The RPCs that `routes` registers, by path. */
export function createRpcHandlers(options: RpcOptions): ReadonlyMap<string, RpcHandler> {
  const router = createConnectRouter({
    acceptCompression: [compressionGzip, compressionBrotli],
    readMaxBytes: options.readMaxBytes,
    shutdownSignal: options.shutdownSignal,
    requestGate: (context) => openCall(context, options.readMaxBytes),
    interceptors: [errorsInterceptor(options.onBug), createValidateInterceptor(), ...options.interceptors],
  });
  options.routes(router);
  return new Map(router.handlers.map((handler) => [handler.requestPath, nodeHandler(handler, options)]));
}

/** Runs before a call's body is read: whatever goes wrong with it later, the answer has a request id and an ErrorInfo. */
function openCall(context: HandlerContext, readMaxBytes: number): void {
  const requestId = requestIdFrom(context.requestHeader.get("x-request-id"));
  context.values.set(requestIdKey, requestId);
  context.responseHeader.set("x-request-id", requestId);
  // Errors that connect makes itself pass no interceptor; but it aborts a call with the very error it is about to write.
  const { signal } = context;
  signal.addEventListener("abort", () => {
    if (!(signal.reason instanceof ConnectError)) return;
    describe(signal.reason);
    if (context.protocolName === "connect") return;
    // gRPC clients show an error's trailers, not its headers.
    context.responseHeader.delete("x-request-id");
    context.responseTrailer.set("x-request-id", requestId);
  });
  // Said at once, not after all of it has been read: some clients never see an answer while they are still sending.
  const length = Number(context.requestHeader.get("content-length") ?? 0);
  if (length > readMaxBytes + envelopeBytes) {
    throw toConnectError(new GatewayError("body_too_large", `The message is over the limit of ${readMaxBytes} bytes.`));
  }
}

/** What gRPC and Connect streams put before a message. */
const envelopeBytes = 5;

function nodeHandler(handler: UniversalHandler, { clock, onBug }: RpcOptions): RpcHandler {
  return (req, res) => {
    const request = universalRequest(req, res);
    const answer = async (): Promise<void> => {
      const response = { ...(await handler(request)) };
      const { body, trailer } = response;
      if (trailer !== undefined) {
        // The trailers are complete only when they are asked for, after the body.
        Object.defineProperty(response, "trailer", { get: () => withReadableMessage(trailer) });
      }
      if (body !== undefined && !req.complete && req.httpVersionMajor === 1) {
        res.setHeader("connection", "close");
        response.body = thenDrain(body, req, clock);
      }
      await universalResponseToNodeResponse(response, res);
    };
    answer().catch((error: unknown) => {
      if (request.signal.aborted || ConnectError.from(error).code === Code.Aborted) return;
      onBug(error, { requestId: "", route: handler.requestPath });
      res.destroy();
    });
  };
}

function universalRequest(req: Parameters<RpcHandler>[0], res: Parameters<RpcHandler>[1]): UniversalServerRequest {
  try {
    const values = createContextValues().set(peerKey, () => peerUris(req.socket));
    const request = universalRequestFromNodeRequest(req, res, undefined, values);
    // connect's own iterator destroys a request that is not read to its end, and with it the way back.
    return { ...request, body: req.iterator({ destroyOnReturn: false }) };
  } catch (error) {
    // Only the host is left to be wrong: the path has been matched.
    throw new GatewayError("invalid_request", "The host header is missing or malformed.", { cause: error });
  }
}

/**
 * An HTTP/1 answer given before the request was read. A connection closed on unread bytes is reset, and a client that is still
 * sending may never see its answer; so the response ends when the request has.
 */
async function* thenDrain(body: AsyncIterable<Uint8Array>, req: Readable, clock: Clock): AsyncGenerator<Uint8Array> {
  yield* body;
  await new Promise<void>((resolve) => {
    const cancel = clock.after(drainMs, resolve);
    const done = () => {
      cancel();
      resolve();
    };
    req.on("end", done).on("close", done).on("error", done).resume();
    if (req.readableEnded || req.destroyed) done();
  });
}

/** Turns whatever handlers throw into a status with details; connect would say "internal error" to all but its own. */
function errorsInterceptor(onBug: OnBug): Interceptor {
  return (next) => async (req) => {
    const report = (error: unknown) => {
      onBug(error, { requestId: req.contextValues.get(requestIdKey), route: new URL(req.url).pathname });
    };
    const failed = (thrown: unknown) => answeredError(thrown, req.signal, report);
    try {
      const res = await next(req);
      return res.stream ? { ...res, message: mapErrors(res.message, failed) } : res;
    } catch (thrown) {
      throw failed(thrown);
    }
  };
}

function mapErrors<T>(messages: AsyncIterable<T>, failed: (thrown: unknown) => ConnectError): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = messages[Symbol.asyncIterator]();
      const mapped = (thrown: unknown): never => {
        throw failed(thrown);
      };
      return {
        next: () => iterator.next().catch(mapped),
        return: (value) => (iterator.return?.(value) ?? Promise.resolve({ done: true, value })).catch(mapped),
        throw: (error) => (iterator.throw?.(error) ?? Promise.reject(error)).catch(mapped),
      };
    },
  };
}
