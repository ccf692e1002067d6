/** The HTTP face of administration: LiteLLM's management endpoints, over node:http. */

import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { withinSpan } from "../active-span.ts";
import type { Json, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { requestIdFrom } from "../server/request-id.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { Tracer } from "../telemetry/tracer.ts";
import type { Administration, AdminParts } from "./admin.ts";
import { auditRoutes } from "./http-audit.ts";
import { costRoutes } from "./http-costs.ts";
import { credentialRoutes } from "./http-credentials.ts";
import { customerAndBudgetRoutes } from "./http-customers.ts";
import { dailyActivityRoutes } from "./http-daily-activity.ts";
import { parseObject } from "./http-key-body.ts";
import { keyRoutes } from "./http-keys.ts";
import { modelMetricsRoutes } from "./http-model-metrics.ts";
import { modelRoutes } from "./http-models.ts";
import { reportRoutes } from "./http-reports.ts";
import { type ManagementRoute, type ManagementRoutes, Text } from "./http-route.ts";
import { spendRoutes } from "./http-spend.ts";
import { teamRoutes } from "./http-teams.ts";
import { userRoutes } from "./http-users.ts";
import { invalid } from "./key-fields.ts";
import { nobody, type Operator } from "./operator.ts";
import { uuidForm } from "./spend-reader.ts";

/** What the handler is made of. */
export interface ManagementParts {
  readonly administration: Administration;
  readonly telemetry: Pick<Telemetry, "log">;
  /** Which paths are served, without their queries. Default: all. */
  readonly serves?: (path: string) => boolean;
  /** Undefined: nothing is traced. */
  readonly tracer?: Tracer | undefined;
}

const bodyBytesMax = 1024 * 1024;

const alive: ManagementRoute = { method: "GET", access: "public", answer: () => "I'm alive!" };
const ready: ManagementRoute = { method: "GET", access: "public", answer: readiness };
const managementRoutes: ManagementRoutes = {
  ...keyRoutes,
  ...teamRoutes,
  ...userRoutes,
  ...customerAndBudgetRoutes,
  ...spendRoutes,
  ...reportRoutes,
  ...modelRoutes,
  ...modelMetricsRoutes,
  ...credentialRoutes,
  ...dailyActivityRoutes,
  ...auditRoutes,
  ...costRoutes,
};
/** Every route, by path; `{name}` in one stands for any text without a slash. */
export const routes: ReadonlyMap<string, ManagementRoute> = new Map([
  ...Object.entries(managementRoutes),
  ["/health/liveliness", alive],
  ["/health/liveness", alive],
  ["/health/readiness", ready],
]);
/** Routes whose paths have names in them. */
const patterns = [...routes].flatMap(([path, route]) =>
  path.includes("{") ? [{ path, form: new RegExp(`^${path.replace(/\{(\w+)\}/g, "(?<$1>[^/]+)")}$`), route }] : [],
);

/**
 * Makes the handler of everything that is no RPC: management, health, and a JSON 404 for the rest. Never throws; a failure
 * that is a bug of ours is logged under the request id.
 */
export function createManagementHandler(parts: ManagementParts): (req: IncomingMessage, res: ServerResponse) => void {
  return (req, res) => {
    const requestId = requestIdFrom(req.headers["x-request-id"]);
    res.setHeader("x-request-id", requestId);
    const work = () =>
      answer(parts, req, res).catch((thrown: unknown) => {
        const error = GatewayError.from(thrown);
        if (error.kind.httpStatus >= 500) {
          const { code, cause } = error;
          parts.telemetry.log("error", "A management request failed.", { requestId, code, cause });
        }
        sendError(res, error);
      });
    void traced(parts.tracer, { req, res, requestId }, work);
  };
}

/** Does the work inside a span of its route. Paths have ids in them, and probes come every second: neither is in a trace. */
async function traced(
  tracer: Tracer | undefined,
  { req, res, requestId }: { req: IncomingMessage; res: ServerResponse; requestId: string },
  work: () => Promise<void>,
): Promise<void> {
  const found = routeOf((req.url ?? "").split("?", 1)[0] ?? "");
  if (tracer === undefined || found === undefined || found.route.access === "public") return work();
  const { method = "GET" } = req;
  const headers = { traceparent: headerOf(req, "traceparent"), tracestate: headerOf(req, "tracestate") };
  const span = tracer.server(`${method} ${found.form}`, headers, {}, () => ({
    ...{ "http.request.method": method, "http.route": found.form, "http.response.status_code": res.statusCode },
    "tollgate.request.id": requestId,
  }));
  await withinSpan(span, work);
  const { statusCode } = res;
  span.end(statusCode >= 400 ? String(statusCode) : undefined, statusCode >= 500);
}

/** Whether a path, without its query, is one of management (health is not): the sidecar may pass such requests on. */
export function isManagementPath(path: string): boolean {
  return Object.hasOwn(managementRoutes, path) || patterns.some(({ form }) => form.test(path));
}

interface Found {
  /** The path as the routes have it. */
  readonly form: string;
  readonly route: ManagementRoute;
  /** What stands in the path for each name, as it was written there. */
  readonly encoded: Readonly<Record<string, string>>;
}

function routeOf(path: string): Found | undefined {
  const exact = routes.get(path);
  if (exact !== undefined) return { form: path, route: exact, encoded: {} };
  for (const { path: named, form, route } of patterns) {
    const match = form.exec(path);
    if (match !== null) return { form: named, route, encoded: match.groups ?? {} };
  }
  return undefined;
}

/** @throws GatewayError `invalid_request` for percent signs that mean nothing. */
function decoded(encoded: Found["encoded"]): Record<string, string> {
  try {
    return Object.fromEntries(Object.entries(encoded).map(([name, text]) => [name, decodeURIComponent(text)]));
  } catch {
    throw new GatewayError("invalid_request", "The path is not valid percent-encoded UTF-8.");
  }
}

async function answer(
  { administration, serves }: ManagementParts,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  const [path = "", query = ""] = (req.url ?? "").split(/\?(.*)/s);
  const found = serves?.(path) === false ? undefined : routeOf(path);
  if (found === undefined) {
    throw new GatewayError("route_not_found", "There is nothing at this path. Check its spelling.");
  }
  const { route } = found;
  const names = decoded(found.encoded);
  const method = req.method === "HEAD" ? "GET" : req.method;
  const methods = [route.method].flat();
  const taken = methods.find((each) => each === method);
  if (taken === undefined) {
    res.setHeader("allow", methods.join(", "));
    throw new GatewayError("method_not_allowed", `This path takes ${methods.join(" or ")}.`);
  }
  const operator = await operatorOf(administration, req, found);
  operator.checkAccess(route.access);
  const result = await route.answer(administration.as(operator), {
    method: taken,
    etag: etagOf(req, route),
    requestId: writeIdOf(headerOf(req, "idempotency-key"), [operator.name, found.form]),
    query: new URLSearchParams(query),
    path: names,
    accept: req.headers.accept ?? "",
    body: async () => parseObject(await readBytes(req)),
    note(name, value) {
      if (value !== "") res.setHeader(name, value);
    },
  });
  if (result instanceof Text) sendText(res, 200, result);
  else send(res, 200, result);
}

/** @throws GatewayError `invalid_request` for an `If-Match` of more than one etag, or where it would be passed over. */
function etagOf(req: IncomingMessage, { heeds }: ManagementRoute): string | undefined {
  const sent = headerOf(req, "if-match")?.trim();
  if (sent === undefined || sent === "*") return undefined;
  const etag = /^"?(v\d{1,19})"?$/.exec(sent)?.[1];
  if (heeds !== "if-match") throw invalid("if-match", "is not heeded here: send it where something is updated.");
  if (etag === undefined) throw invalid("if-match", 'must be one `etag` of an earlier answer, such as "v12".');
  return etag;
}

/**
 * A UUID as it is; anything else is digested to one, for each operator and route apart.
 *
 * @throws GatewayError `invalid_request`.
 */
function writeIdOf(sent: string | undefined, scope: readonly string[]): string | undefined {
  if (sent === undefined) return undefined;
  if (!/^[\x21-\x7e]{1,256}$/.test(sent)) {
    throw invalid("idempotency-key", "must be 1 to 256 visible ASCII characters, best a UUID.");
  }
  if (uuidForm.test(sent)) return sent.toLowerCase();
  const digits = createHash("sha256")
    .update(JSON.stringify([...scope, sent]))
    .digest("hex");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, "$1-$2-$3-$4-$5");
}

function operatorOf(
  { operators }: Administration,
  req: IncomingMessage,
  { route, form }: Found,
): Promise<Operator> | Operator {
  if (route.access === "public") return nobody;
  const groups = ["management_routes", ...(req.method === "GET" || req.method === "HEAD" ? ["info_routes"] : [])];
  return operators.identify((name) => headerOf(req, name), { groups, paths: [form] });
}

async function readiness({ books, clock }: AdminParts): Promise<JsonObject> {
  await books.query("SELECT 1");
  const last_updated = new Date(clock.nowMs()).toISOString();
  return { status: "connected", db: "connected", cache: null, success_callbacks: [], last_updated };
}

/** Reads a body of at most 1 MB. What comes beyond is taken in and thrown away, so that the caller reads our answer. */
async function readBytes(req: IncomingMessage): Promise<Buffer> {
  const type = req.headers["content-type"];
  if (type !== undefined && !/^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(type)) {
    req.resume();
    throw new GatewayError("unsupported_media_type", "The body must be JSON: send `content-type: application/json`.");
  }
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    req.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length <= bodyBytesMax) {
        chunks.push(chunk);
      } else {
        chunks.length = 0;
        reject(new GatewayError("body_too_large", `The body may have at most ${bodyBytesMax} bytes.`));
      }
    });
    req.on("end", () => resolve(Buffer.concat(chunks)));
    const gone = () => reject(new GatewayError("client_closed_request", "The caller went away."));
    req.on("error", gone);
    req.on("close", gone);
  });
}

function headerOf(req: IncomingMessage, name: string): string | undefined {
  const value = req.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/**
 * An error in both of LiteLLM's envelopes, for it uses now one and now the other: in `error` the `code` is the status as a string,
 * and `detail` has the message alone.
 */
function sendError(res: ServerResponse, error: GatewayError): void {
  const { httpStatus, type } = error.kind;
  if (httpStatus === 401) res.setHeader("www-authenticate", "Bearer");
  res.setHeader("x-should-retry", String(error.shouldRetry));
  // The body's `code` is LiteLLM's, which is the status.
  res.setHeader("x-tollgate-error", error.code);
  const { param = null } = error.facts;
  const { message } = error;
  send(res, httpStatus, { error: { message, type, param, code: String(httpStatus) }, detail: { error: message } });
}

function send(res: ServerResponse, status: number, body: Json): void {
  sendText(res, status, new Text("application/json", JSON.stringify(body)));
}

function sendText(res: ServerResponse, status: number, { contentType, text }: Text): void {
  if (res.headersSent || res.destroyed) return;
  const bytes = Buffer.from(text);
  res.writeHead(status, { "content-type": contentType, "content-length": bytes.length });
  res.end(bytes);
}
