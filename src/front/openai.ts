/** The door for OpenAI's HTTP API and Anthropic's, and LiteLLM's few paths beside them. */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock, Random } from "../clock.ts";
import type { Caller, CompletionRequest, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { requestIdFrom } from "../server/request-id.ts";
import type { OnBug } from "../server/rpc-handlers.ts";
import { matchWildcard } from "../wildcard.ts";
import { type AnswerFormat, anthropicFormat, openAiFormat } from "./answer-format.ts";
import type { CacheAdmin } from "./cache-admin.ts";
import { callRoutes, decodePath, messageCount, routeWithModel, type Wanted } from "./call-routes.ts";
import { callerOf, type HeaderLookup, tokenOf, wireHeadersOf } from "./caller.ts";
import type { CompletionGateway } from "./doors.ts";
import type { HealthAdmin } from "./health-admin.ts";
import { type BodyKind, endAfterDrain, readBody, refuseHead } from "./http-body.ts";
import { HttpCall, type HttpCallParts } from "./http-call.ts";
import { jsonHeaders, retryHeaders, sendError, sendJson } from "./http-error.ts";
import type { ManagementForwarder } from "./management.ts";
import { SsePulse } from "./sse-pulse.ts";
import { answerStored, type StoredResponsesGateway, storedPathOf, storedRoute } from "./stored-responses.ts";

export interface OpenAiDoorOptions {
  readonly gateway: CompletionGateway;
  readonly clock: Clock;
  readonly random: Random;
  /** The product's version, for `GET /`. */
  readonly version: string;
  /** Whether calls can be taken, for `/health/readiness`. */
  readonly ready: () => boolean;
  /** Told of every failure that is a bug of ours, for the log. */
  readonly onBug: OnBug;
  /** Takes LiteLLM's management paths; undefined: they are not found here. */
  readonly management: ManagementForwarder | undefined;
  /** Answers LiteLLM's `/cache/*`; undefined: no answers are kept. */
  readonly cacheAdmin?: CacheAdmin | undefined;
  /** Answers LiteLLM's `/health`; undefined: it is not found here. */
  readonly healthAdmin?: HealthAdmin | undefined;
  /** Answers for responses that providers keep; undefined: they are not found here. */
  readonly storedResponses?: StoredResponsesGateway | undefined;
  readonly limits?: Partial<OpenAiDoorLimits>;
}

export interface OpenAiDoorLimits {
  /** The largest body, in bytes. Default: 32 MiB. */
  readonly bodyBytes: number;
  /** A stream silent for so long gets a comment. Default: 15 s. */
  readonly pingMs: number;
  /** A reader of a stream that has stopped reading for so long is cut off. Default: 60 s. */
  readonly stallMs: number;
}

const defaultLimits: OpenAiDoorLimits = { bodyBytes: 32 * 1_048_576, pingMs: 15_000, stallMs: 60_000 };

/** LiteLLM's; clients show it, nobody computes with it. */
const modelCreatedS = 1_677_610_602;

/** What answers a path. */
interface Route {
  /** Its name in spans and metrics. */
  readonly name: string;
  readonly methods: readonly ("GET" | "POST" | "DELETE")[];
  /** How it is answered, refusals included. */
  readonly format: AnswerFormat;
  readonly answer: (req: IncomingMessage, res: ServerResponse, requestId: string) => Promise<void> | void;
  /** Whether it writes an answer's whole head, the request's id included: headers set one by one cost a call more than all of its other headers. */
  readonly writesHead?: true;
}

/** Makes the handler of everything that is no RPC. It never throws and answers everything, with JSON. */
export function createOpenAiDoor(options: OpenAiDoorOptions): (req: IncomingMessage, res: ServerResponse) => void {
  const door = new OpenAiDoor(options);
  return (req, res) => door.handle(req, res);
}

class OpenAiDoor {
  readonly #options: OpenAiDoorOptions;
  readonly #limits: OpenAiDoorLimits;
  readonly #callParts: HttpCallParts;
  readonly #routes: ReadonlyMap<string, Route>;

  constructor(options: OpenAiDoorOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    const { pingMs, stallMs } = this.#limits;
    const pulse = new SsePulse({ clock: options.clock, intervalMs: Math.min(pingMs, stallMs) / 15 });
    this.#callParts = { ...options, pingMs, stallMs, pulse };
    this.#routes = this.#makeRoutes();
  }

  handle(req: IncomingMessage, res: ServerResponse): void {
    const requestId = requestIdFrom(req.headers["x-request-id"]);
    // A write to a connection that has just gone; `close` says so too.
    res.on("error", () => {});
    const path = pathOf(req);
    const route = this.#routeFor(path);
    const format = route?.format ?? formatAt(path);
    if (route?.writesHead !== true) identify(res, { format, requestId });
    if (route === undefined) {
      const cure = path === "/metrics" ? "Metrics are at the admin port (4001)." : "Check its spelling.";
      const error = new GatewayError("route_not_found", `There is nothing at this path. ${cure}`);
      if (this.#options.management?.serves(path) === true) this.#options.management.forward(req, res, requestId);
      else this.#refuse(res, error, { format, requestId });
      return;
    }
    this.#answer(route, req, res, requestId).catch((thrown: unknown) => {
      const error = GatewayError.from(thrown);
      if (error.code === "internal_error") this.#options.onBug(error.cause ?? error, { requestId, route: route.name });
      if (res.headersSent) res.destroy();
      else this.#refuse(res, error, { format, requestId });
    });
  }

  async #answer(route: Route, req: IncomingMessage, res: ServerResponse, requestId: string): Promise<void> {
    if (req.method === "OPTIONS") {
      // No CORS headers: a web page has no business with a pod's gateway.
      identify(res, { format: route.format, requestId });
      res.writeHead(204, { allow: allowOf(route) });
      res.end();
    } else if (route.methods.some((method) => method === (req.method === "HEAD" ? "GET" : req.method))) {
      await route.answer(req, res, requestId);
    } else {
      const error = new GatewayError("method_not_allowed", `This path takes ${route.methods.join(" and ")}.`);
      this.#refuse(res, error, { format: route.format, requestId }, { allow: allowOf(route) });
    }
  }

  #makeRoutes(): ReadonlyMap<string, Route> {
    const { version, ready, cacheAdmin, healthAdmin } = this.#options;
    const cache = cacheAdmin?.type ?? null;
    const get = (name: string, answer: Route["answer"]): Route => ({
      name,
      methods: ["GET"],
      format: openAiFormat,
      answer,
    });
    const hello = JSON.stringify({ name: "tollgate", version });
    const health = (admin: HealthAdmin) =>
      get("/health", (req, res) =>
        sendJson(res, 200, JSON.stringify(admin.answer(tokenOf(headersOf(req)), queryOf(req)))),
      );
    const alive = get("/health/liveliness", (_req, res) => sendJson(res, 200, JSON.stringify("I'm alive!")));
    const readiness = get("/health/readiness", (_req, res) => {
      if (ready()) sendJson(res, 200, JSON.stringify({ status: "healthy", db: "Not connected", cache }));
      else sendJson(res, 503, JSON.stringify({ detail: "Service Unhealthy (the KeyService has not been heard yet)" }));
    });
    const post = (name: string, format: AnswerFormat, answer: Route["answer"]): Route => ({
      ...{ name, methods: ["POST"], format, answer },
    });
    const count = post("/v1/messages/count_tokens", anthropicFormat, (req, res, requestId) =>
      this.#countTokens(req, res, requestId),
    );
    // Claude Code's telemetry, which LiteLLM takes and forgets too.
    const events = post("/api/event_logging/batch", anthropicFormat, (req, res) => this.#forget(req, res));
    const models = get("/v1/models", (req, res) => this.#listModels(req, res));
    return new Map([
      ["/", get("/", (_req, res) => sendJson(res, 200, hello))],
      ["/health/liveliness", alive],
      ["/health/liveness", alive],
      ["/health/readiness", readiness],
      ...callRoutes.map(([path, wanted]): [string, Route] => [path, this.#calling(wanted)]),
      ["/v1/messages/count_tokens", count],
      ["/anthropic/v1/messages/count_tokens", count],
      ["/api/event_logging/batch", events],
      ["/v1/models", models],
      ["/models", models],
      ...(healthAdmin === undefined ? [] : [["/health", health(healthAdmin)] as const]),
      ...(cacheAdmin === undefined ? [] : this.#cacheRoutes(cacheAdmin)),
    ]);
  }

  #cacheRoutes(cache: CacheAdmin): [string, Route][] {
    const route = (
      method: Route["methods"][number],
      name: string,
      act: (token: string | undefined, body: Buffer) => Promise<JsonObject>,
    ): [string, Route] => {
      const answer: Route["answer"] = async (req, res, requestId) => {
        const body = await this.#bodyOf(req, res, { format: openAiFormat, requestId }, "json");
        if (body !== undefined) sendJson(res, 200, JSON.stringify(await act(tokenOf(headersOf(req)), body)));
      };
      return [name, { name, methods: [method], format: openAiFormat, answer }];
    };
    return [
      route("GET", "/cache/ping", (token) => cache.ping(token)),
      route("POST", "/cache/delete", (token, body) => cache.delete(token, body)),
      route("POST", "/cache/flushall", (token) => cache.flush(token)),
    ];
  }

  #calling(wanted: Wanted): Route {
    const parts = { ...this.#callParts, format: wanted.format };
    const answer: Route["answer"] = async (req, res, requestId) => {
      const asked = await this.#read(wanted, req, res, requestId);
      if (asked !== undefined) await new HttpCall(parts, res, asked.request, asked.caller).run();
    };
    return { name: wanted.route, methods: ["POST"], format: wanted.format, answer, writesHead: true };
  }

  #routeFor(path: string): Route | undefined {
    const exact = this.#routes.get(path);
    if (exact !== undefined) return exact;
    const wanted = routeWithModel(path);
    if (wanted !== undefined) return this.#calling(wanted);
    const stored = this.#storedRouteFor(path);
    if (stored !== undefined) return stored;
    const id = /^(?:\/v1)?\/models\/(.+)$/.exec(path)?.[1];
    if (id === undefined) return undefined;
    const answer: Route["answer"] = (req, res) => this.#getModel(id, req, res);
    return { name: "/v1/models/{id}", methods: ["GET"], format: openAiFormat, answer };
  }

  #storedRouteFor(path: string): Route | undefined {
    const { storedResponses } = this.#options;
    const found = storedPathOf(path);
    if (storedResponses === undefined || found === undefined) return undefined;
    const answer: Route["answer"] = (req, res) =>
      answerStored(storedResponses, found, { method: req.method, query: queryOf(req), header: headersOf(req), res });
    return { name: storedRoute, methods: found.methods, format: openAiFormat, answer };
  }

  /** Reads a request and who makes it. @returns undefined if it was refused, or its caller has gone. */
  async #read(
    wanted: Wanted,
    req: IncomingMessage,
    res: ServerResponse,
    requestId: string,
  ): Promise<{ request: CompletionRequest; caller: Omit<Caller, "signal"> } | undefined> {
    const { format, door, route } = wanted;
    const body = await this.#bodyOf(req, res, { format, requestId }, wanted.takes);
    if (body === undefined) return undefined;
    const request = await wanted.decode(body, req.headers["content-type"] ?? "");
    if (request instanceof GatewayError) {
      this.#refuse(res, request, { format, requestId });
      return undefined;
    }
    const header = headersOf(req);
    const wireHeaders = wireHeadersOf(header, wanted.wireHeaders);
    const caller = callerOf(header, { requestId, door, route });
    return { request: wireHeaders === undefined ? request : { ...request, wireHeaders }, caller };
  }

  async #countTokens(req: IncomingMessage, res: ServerResponse, requestId: string): Promise<void> {
    const asked = await this.#read(messageCount, req, res, requestId);
    if (asked === undefined) return;
    const abort = new AbortController();
    res.on("close", () => abort.abort(new GatewayError("client_closed_request", "The caller went away.")));
    const tokens = await this.#options.gateway.countTokens(asked.request, { ...asked.caller, signal: abort.signal });
    sendJson(res, 200, JSON.stringify({ input_tokens: tokens }));
  }

  async #forget(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const body = await readBody(req, this.#limits.bodyBytes);
    if (body instanceof GatewayError) throw body;
    sendJson(res, 200, JSON.stringify({ status: "ok" }));
  }

  /** @returns undefined if there is none to be had: then the request is answered. */
  async #bodyOf(req: IncomingMessage, res: ServerResponse, to: Addressee, kind: BodyKind): Promise<Buffer | undefined> {
    const { bodyBytes } = this.#limits;
    const body = refuseHead(req, bodyBytes, kind) ?? (await readBody(req, bodyBytes));
    if (!(body instanceof GatewayError)) return body;
    if (body.code !== "client_closed_request") this.#refuseBody(req, res, body, to);
    return undefined;
  }

  async #listModels(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const names = await this.#options.gateway.listModels(tokenOf(headersOf(req)));
    sendJson(res, 200, JSON.stringify({ object: "list", data: names.map(modelEntry) }));
  }

  async #getModel(encodedId: string, req: IncomingMessage, res: ServerResponse): Promise<void> {
    const id = decodePath(encodedId);
    const names = await this.#options.gateway.listModels(tokenOf(headersOf(req)));
    if (id === undefined || !names.some((name) => matchWildcard(name, id) !== undefined)) {
      throw new GatewayError("model_not_found", "There is no such model, or the key may not use it. See /v1/models.");
    }
    sendJson(res, 200, JSON.stringify(modelEntry(id)));
  }

  #refuse(res: ServerResponse, error: GatewayError, to: Addressee, headers: Record<string, string> = {}): void {
    identify(res, to);
    sendError(res, error, to.format.error(error, to.requestId), this.#options.random, headers);
  }

  /** Refuses a request whose body may still be on its way. */
  #refuseBody(req: IncomingMessage, res: ServerResponse, error: GatewayError, to: Addressee): void {
    const body = to.format.error(error, to.requestId);
    const headers = { ...retryHeaders(error, this.#options.random), ...jsonHeaders(body) };
    const last = req.httpVersionMajor === 1 && !req.complete ? { connection: "close" } : {};
    identify(res, to);
    res.writeHead(error.kind.httpStatus, { ...headers, ...last });
    res.write(body);
    endAfterDrain(req, res, this.#limits.bodyBytes, this.#options.clock);
  }
}

/** In whose words, and about which request, somebody is refused. */
interface Addressee {
  readonly format: AnswerFormat;
  readonly requestId: string;
}

/** Names the request in its answer. */
function identify(res: ServerResponse, { format, requestId }: Addressee): void {
  res.setHeader("x-request-id", requestId);
  if (format.requestIdHeader !== undefined) res.setHeader(format.requestIdHeader, requestId);
}

function allowOf({ methods }: Route): string {
  return [...methods, ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"].join(", ");
}

/** Who asks for what does not exist is answered in the words of what is beside it. */
function formatAt(path: string): AnswerFormat {
  return path.startsWith("/v1/messages") || path.startsWith("/anthropic/") ? anthropicFormat : openAiFormat;
}

function modelEntry(id: string): object {
  return { id, object: "model", created: modelCreatedS, owned_by: "openai" };
}

function headersOf(req: IncomingMessage): HeaderLookup {
  return (name) => {
    const value = req.headers[name];
    return typeof value === "string" && value !== "" ? value : undefined;
  };
}

function queryOf(req: IncomingMessage): URLSearchParams {
  const url = req.url ?? "/";
  const query = url.indexOf("?");
  return new URLSearchParams(query === -1 ? "" : url.slice(query));
}

function pathOf(req: IncomingMessage): string {
  const url = req.url ?? "/";
  const query = url.indexOf("?");
  return query === -1 ? url : url.slice(0, query);
}
