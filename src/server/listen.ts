/** One port for HTTP/1.1, gRPC, gRPC-Web and Connect, in plaintext or over TLS. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import { type Clock, keepProcessAlive } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import { Health as HealthService } from "../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { methodRoutes } from "./connect-methods.ts";
import { GrpcDoor } from "./grpc-door.ts";
import type { Health } from "./health.ts";
import { HostCheck, isLoopback } from "./host-check.ts";
import { Http2Door, isGrpc, refuseGrpc } from "./http2-door.ts";
import { MalformedRequests, refuse } from "./malformed.ts";
import { readPreface } from "./preface.ts";
import { reflectionRoutes } from "./reflection.ts";
import { requestIdFrom } from "./request-id.ts";
import { toConnectError } from "./rpc-error.ts";
import { createRpcHandlers, type OnBug, type RpcHandler } from "./rpc-handlers.ts";
import type { RpcMethod } from "./rpc-method.ts";
import { renewCertificate, type ServerTls, tlsServerOptions, trackHandshakes } from "./server-tls.ts";
import { listenOnSocket } from "./unix-socket.ts";

/** Where and what to serve. */
export interface ListenOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** A unix socket to serve as well; made with mode 0660. */
  readonly socketPath?: string | undefined;
  /** Undefined: plaintext. A unix socket always is. */
  readonly tls?: ServerTls | undefined;
  /** The names it may be asked by, besides `localhost` and addresses. Default: on a loopback address none, else any. */
  readonly hostNames?: readonly string[] | undefined;
  /** Methods whose calls by gRPC are to cost little; connect serves its own protocols and gRPC-Web for them. */
  readonly methods?: readonly RpcMethod[];
  /** Registers the other RPC services. Health and reflection are there already. */
  readonly routes: (router: ConnectRouter) => void;
  /** The services that reflection lists, beside health and reflection itself. */
  readonly services: readonly DescService[];
  /**
   * Everything that is no RPC. A request over HTTP/2 has node's compatibility objects, which behave the same. It must not
   * throw.
   */
  readonly fallback: (req: IncomingMessage, res: ServerResponse) => void;
  readonly health: Health;
  /** Around every RPC that connect serves, inside the error mapping and the validation. */
  readonly interceptors?: readonly Interceptor[];
  /** The largest RPC message, in bytes; default 32 MiB. */
  readonly readMaxBytes?: number;
  readonly limits?: Partial<ListenLimits>;
  readonly clock: Clock;
  /** Told of every failure that is a bug of ours (`internal_error`), for the log. */
  readonly onBug: OnBug;
}

/** What a peer may take its time for, and how much it may send. */
export interface ListenLimits {
  /** From a connection's start, or a request's first byte, to the end of its header. Default 10 s. */
  readonly headersTimeoutMs: number;
  /** From an HTTP/1 request's first byte to its last. Default 60 s. */
  readonly requestTimeoutMs: number;
  /** How long an idle HTTP/1 connection is kept. Default 75 s. */
  readonly keepAliveTimeoutMs: number;
  /** How long a peer may leave our answer unread, or its request unfinished, before it is cut off. Default 60 s. */
  readonly stallTimeoutMs: number;
  /** The largest header. Default 16 KiB. */
  readonly headerBytes: number;
  /** Streams of one HTTP/2 connection at a time. Default 1000. */
  readonly streamsPerConnection: number;
}

/** An open port. */
export interface Listener {
  readonly host: string;
  /** The real port, also when 0 was asked for. */
  readonly port: number;
  /**
   * Stops accepting, tells HTTP/2 peers to go away, and waits for the calls in flight. Those still there after `graceMs` are
   * aborted, RPCs with the error `shutting_down`, and cut off.
   */
  close(graceMs: number): Promise<void>;
}

const defaultLimits: ListenLimits = {
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  keepAliveTimeoutMs: 75_000,
  stallTimeoutMs: 60_000,
  headerBytes: 16 * 1024,
  streamsPerConnection: 1000,
};
const defaultReadMaxBytes = 32 * 1024 * 1024;

/** How often node looks for late headers and requests. */
const checkIntervalMs = 500;
/** How often a closing server looks for connections that have become idle. */
const drainIntervalMs = 20;
/** How long aborted calls may take to say so. */
const lastWordsMs = 250;

/**
 * Opens the port, and the unix socket if asked.
 *
 * @throws node's own error if the port or the socket cannot be had.
 */
export async function listen(options: ListenOptions): Promise<Listener> {
  const port = new Port(options);
  await port.open();
  return port;
}

class Port implements Listener {
  readonly host: string;
  readonly #options: ListenOptions;
  readonly #limits: ListenLimits;
  readonly #rpcs: ReadonlyMap<string, RpcHandler>;
  readonly #shutdown = new AbortController();
  readonly #grpc: GrpcDoor;
  readonly #http2: Http2Door;
  readonly #malformed: MalformedRequests;
  readonly #servers: Server[] = [];
  /** Connections that have not shown which HTTP they speak. */
  readonly #undecided = new Set<Socket>();
  readonly #hosts: HostCheck | undefined;
  readonly #cancelRenewals: (() => void)[] = [];
  #port: number;
  #draining = false;

  constructor(options: ListenOptions) {
    const { clock, onBug, host, health, methods = [], readMaxBytes = defaultReadMaxBytes } = options;
    this.host = host;
    this.#port = options.port;
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    const { hostNames = isLoopback(host) ? [] : undefined } = options;
    this.#hosts = hostNames && new HostCheck(hostNames);
    const reflected = [...options.services, HealthService, ServerReflection, ServerReflectionAlpha];
    this.#rpcs = createRpcHandlers({
      routes(router) {
        methodRoutes(router, methods);
        options.routes(router);
        health.routes(router);
        reflectionRoutes(
          router,
          reflected.map((service) => service.typeName),
        );
      },
      interceptors: options.interceptors ?? [],
      shutdownSignal: this.#shutdown.signal,
      ...{ readMaxBytes, clock, onBug },
    });
    this.#grpc = new GrpcDoor({ methods, shutdownSignal: this.#shutdown.signal, readMaxBytes, clock, onBug });
    this.#malformed = new MalformedRequests({ clock, headerBytes: this.#limits.headerBytes });
    this.#http2 = new Http2Door({
      ...this.#limits,
      clock,
      onStream: (stream, headers) =>
        !this.#isMisled(headers[":authority"] ?? headers.host) && this.#grpc.accept(stream, headers),
      onRequest: (req, res) => this.#onHttp2Request(req, res),
    });
  }

  get port(): number {
    return this.#port;
  }

  async open(): Promise<void> {
    const { port, host, socketPath, tls } = this.#options;
    try {
      const server = tls === undefined ? this.#createServer() : this.#createTlsServer(tls);
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen({ port, host }, () => {
          server.off("error", reject);
          resolve();
        });
      });
      this.#port = (server.address() as AddressInfo).port;
      if (socketPath !== undefined) await listenOnSocket(this.#createServer(), socketPath);
    } catch (error) {
      await this.close(0);
      throw error;
    }
    for (const server of this.#servers) {
      // A connection that cannot be accepted (no file descriptors left) is no reason to stop.
      server.on("error", (error) => this.#options.onBug(error, { requestId: "", route: "accept" }));
    }
  }

  async close(graceMs: number): Promise<void> {
    // Clock's timers and paused connections let the process end; what is to be closed after this would be forgotten.
    const letEnd = keepProcessAlive();
    await this.#close(graceMs).finally(letEnd);
  }

  async #close(graceMs: number): Promise<void> {
    const { clock, health } = this.#options;
    this.#draining = true;
    health.close();
    const listening = this.#servers.filter((server) => server.listening);
    const closed = Promise.all(
      listening.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))),
    );
    let open = true;
    const finished = closed.then(() => {
      open = false;
    });
    this.#http2.drain();
    for (const socket of this.#undecided) socket.destroy();
    for (const cancel of this.#cancelRenewals) cancel();
    const closeIdle = (): void => {
      for (const server of listening) server.closeIdleConnections();
      if (open) clock.after(drainIntervalMs, closeIdle);
    };
    closeIdle();
    if (await settlesWithin(clock, finished, graceMs)) return;
    const error = new GatewayError("shutting_down", "The process is shutting down; the call was cut off.");
    this.#shutdown.abort(toConnectError(error));
    if (await settlesWithin(clock, finished, lastWordsMs)) return;
    this.#http2.destroy();
    for (const server of listening) server.closeAllConnections();
    await finished;
  }

  #createServer(): Server {
    const server = createServer(this.#serverOptions());
    this.#equip(server, "connection");
    return server;
  }

  #createTlsServer(tls: ServerTls): TlsServer {
    const { clock, onBug } = this.#options;
    const handshakeTimeout = this.#limits.headersTimeoutMs;
    const server = createTlsServer({ ...this.#serverOptions(), ...tlsServerOptions(tls), handshakeTimeout });
    this.#cancelRenewals.push(
      renewCertificate(server, tls, clock, (error) => onBug(error, { requestId: "", route: "tls" })),
    );
    trackHandshakes(server, this.#undecided);
    this.#equip(server, "secureConnection");
    return server;
  }

  #serverOptions() {
    const { headersTimeoutMs, requestTimeoutMs, keepAliveTimeoutMs, headerBytes } = this.#limits;
    return {
      noDelay: true,
      maxHeaderSize: headerBytes,
      headersTimeout: headersTimeoutMs,
      requestTimeout: requestTimeoutMs,
      keepAliveTimeout: keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.min(checkIntervalMs, headersTimeoutMs),
      // We answer a missing host ourselves, with a body.
      requireHostHeader: false,
    };
  }

  /** @param connected the event that gives a connection that HTTP can be spoken on. */
  #equip(server: Server, connected: "connection" | "secureConnection"): void {
    server.timeout = this.#limits.stallTimeoutMs;
    server.on("request", (req, res) => this.#onRequest(req, res));
    server.on("clientError", (error, socket) => {
      // node's types promise a Duplex only, for TLS.
      this.#malformed.refuse(error, socket as Socket);
    });
    // The http.Server itself must be the one that listens: its timeouts and its shutdown do not work on sockets of others.
    const toHttp1 = server.listeners(connected).at(-1);
    if (toHttp1 !== undefined) server.off(connected, toHttp1 as () => void);
    server.on(connected, (socket: Socket) => this.#onConnection(socket, () => toHttp1?.call(server, socket)));
    this.#servers.push(server);
  }

  #onConnection(socket: Socket, toHttp1: () => void): void {
    const destroy = () => socket.destroy();
    const cancelTimeout = this.#options.clock.after(this.#limits.headersTimeoutMs, destroy);
    const stopReading = readPreface(socket, (version) => {
      forget();
      if (version === "http2") this.#http2.accept(socket);
      else toHttp1();
    });
    const forget = () => {
      cancelTimeout();
      stopReading();
      this.#undecided.delete(socket);
      socket.off("error", destroy).off("end", destroy).off("close", forget);
    };
    this.#undecided.add(socket);
    socket.on("error", destroy).on("end", destroy).on("close", forget);
  }

  #onRequest(req: IncomingMessage, res: ServerResponse): void {
    res.on("timeout", cutOffStalled);
    if (this.#draining) res.setHeader("connection", "close");
    if (this.#isMisled(req.headers.host)) {
      refuse(res, misled(), requestIdFrom(req.headers["x-request-id"]));
      return;
    }
    const rpc = this.#rpcFor(req.url);
    if (rpc === undefined) this.#options.fallback(req, res);
    else runRpc(rpc, req, res);
  }

  #onHttp2Request(req: Http2ServerRequest, res: Http2ServerResponse): void {
    if (this.#isMisled(req.authority)) {
      const requestId = requestIdFrom(req.headers["x-request-id"]);
      if (isGrpc(req)) refuseGrpc(res, requestId, misled());
      else refuse(res as unknown as ServerResponse, misled(), requestId);
      return;
    }
    const rpc = this.#rpcFor(req.url);
    if (rpc !== undefined) {
      runRpc(rpc, req, res);
    } else if (isGrpc(req)) {
      const error = new GatewayError("route_not_found", `There is no method ${req.url}.`);
      refuseGrpc(res, requestIdFrom(req.headers["x-request-id"]), error);
    } else {
      // node keeps the two alike on purpose and calls it the compatibility API; its types do not say so.
      this.#options.fallback(req as unknown as IncomingMessage, res as unknown as ServerResponse);
    }
  }

  /** A unix socket has no name that could mislead anybody. */
  #isMisled(host: string | undefined): boolean {
    return this.#hosts !== undefined && !this.#hosts.allows(host);
  }

  #rpcFor(url = "/"): RpcHandler | undefined {
    const exact = this.#rpcs.get(url);
    if (exact !== undefined) return exact;
    const query = url.indexOf("?");
    return query === -1 ? undefined : this.#rpcs.get(url.slice(0, query));
  }
}

function misled(): GatewayError {
  const message =
    "This port is not asked by that host name. Use localhost or 127.0.0.1, or have the operator add the name to TOLLGATE_ALLOWED_HOSTS.";
  return new GatewayError("host_not_allowed", message);
}

function runRpc(
  rpc: RpcHandler,
  req: IncomingMessage | Http2ServerRequest,
  res: ServerResponse | Http2ServerResponse,
): void {
  try {
    rpc(req, res);
  } catch (error) {
    refuse(res as ServerResponse, GatewayError.from(error), requestIdFrom(req.headers["x-request-id"]));
  }
}

/** A response's connection has been silent for the stall timeout. An answer that is waited for is silent too. */
function cutOffStalled(this: ServerResponse, socket: Socket): void {
  if (socket.writableLength > 0 || !this.req.complete) socket.destroy();
}

function settlesWithin(clock: Clock, promise: Promise<void>, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const cancel = clock.after(timeoutMs, () => resolve(false));
    void promise.then(() => {
      cancel();
      resolve(true);
    });
  });
}
