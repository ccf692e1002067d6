import type { Json, JsonObject } from "../completion.ts";
import type { AdminParts } from "./admin.ts";
import type { Access } from "./operator.ts";

/** A request as a route sees it. */
export interface RouteRequest {
  /** One of those the route takes. */
  readonly method: Method;
  readonly query: URLSearchParams;
  /** What stands in the path where the route has `{name}`. */
  readonly path: Readonly<Record<string, string>>;
  /** The types of answer the caller wants, as sent; "" for none. */
  readonly accept: string;
  /** Of `If-Match`: what is to be changed only if it is still as it was. Undefined: whatever it is now. */
  readonly etag: string | undefined;
  /** A UUID that `Idempotency-Key` comes down to. */
  readonly requestId: string | undefined;
  /** The JSON body. @throws GatewayError. */
  body(): Promise<JsonObject>;
  /** Adds a header to the answer, unless its value is "". */
  note(name: string, value: string): void;
}

/** An answer that is not JSON. */
export class Text {
  readonly contentType: string;
  readonly text: string;

  constructor(contentType: string, text: string) {
    this.contentType = contentType;
    this.text = text;
  }
}

/** Says which version of a thing the answer shows, for `If-Match`. */
export function noteEtag(request: RouteRequest, etag: string): void {
  request.note("etag", `"${etag}"`);
}

/** The methods routes take. */
export type Method = "GET" | "POST" | "PATCH" | "PUT" | "DELETE";

/** One endpoint. */
export interface ManagementRoute {
  readonly method: Method | readonly Method[];
  readonly access: Access;
  /** The header it heeds. `If-Match` is refused where it would be passed over. */
  readonly heeds?: "if-match" | "idempotency-key";
  /** @returns the body of a 200. @throws GatewayError for any other status. */
  answer(parts: AdminParts, request: RouteRequest): Promise<Json | Text> | Json | Text;
}

/** Endpoints by path; `{name}` in one stands for any text without a slash. */
export type ManagementRoutes = Readonly<Record<string, ManagementRoute>>;
