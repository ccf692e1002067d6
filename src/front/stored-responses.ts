/** What is done with responses that providers keep: OpenAI's paths below `/v1/responses`. */

import type { ServerResponse } from "node:http";
import { GatewayError } from "../errors.ts";
import type { StoredAction, StoredAsk } from "../stored-responses.ts";
import { decodePath } from "./call-routes.ts";
import { type HeaderLookup, tokenOf } from "./caller.ts";
import { sendJson } from "./http-error.ts";

/** What the door asks of the gateway. */
export interface StoredResponsesGateway {
  /** @returns JSON. Throws GatewayError. */
  ask(
    asked: StoredAsk,
    caller: { readonly token: string | undefined; readonly route: string; readonly signal: AbortSignal },
  ): Promise<Buffer>;
}

type Method = "GET" | "DELETE" | "POST";

/** A response that a path names, and what can be done with it there. */
export interface StoredPath {
  readonly name: string;
  readonly methods: readonly Method[];
  readonly actions: Readonly<Partial<Record<Method, StoredAction>>>;
}

const actionsByEnd: Readonly<Record<string, StoredPath["actions"]>> = {
  "": { GET: "retrieve", DELETE: "delete" },
  "/cancel": { POST: "cancel" },
  "/input_items": { GET: "list_input_items" },
};

/** As the door names all of these paths. */
export const storedRoute = "/v1/responses/{response_id}";

/** @returns undefined if it is no such path. */
export function storedPathOf(path: string): StoredPath | undefined {
  const [, encoded = "", end = ""] =
    /^(?:\/openai)?(?:\/v1)?\/responses\/(resp_[^/]+)(\/cancel|\/input_items)?$/.exec(path) ?? [];
  const [name, actions] = [decodePath(encoded), actionsByEnd[end]];
  if (!name || actions === undefined) return undefined;
  return { name, actions, methods: Object.keys(actions) as Method[] };
}

/** The members of a query that providers are asked with. */
const passed: ReadonlySet<string> = new Set(["include", "include[]", "limit", "order", "after", "before"]);

/** Does what is asked, and answers with what the provider says. Throws GatewayError. */
export async function answerStored(
  gateway: StoredResponsesGateway,
  { name, actions }: StoredPath,
  {
    method = "",
    query,
    header,
    res,
  }: {
    readonly method: string | undefined;
    readonly query: URLSearchParams;
    readonly header: HeaderLookup;
    readonly res: ServerResponse;
  },
): Promise<void> {
  const action = method === "HEAD" ? actions.GET : actions[method as Method];
  if (action === undefined) throw new Error("a method that the path does not take");
  if (query.get("stream") === "true") {
    const message = "A stored response is not streamed. Leave `stream` out.";
    throw new GatewayError("invalid_request", message, { param: "stream" });
  }
  const abort = new AbortController();
  res.on("close", () => abort.abort(new GatewayError("client_closed_request", "The caller went away.")));
  const kept = new URLSearchParams([...query].filter(([member]) => passed.has(member)));
  const caller = { token: tokenOf(header), route: storedRoute, signal: abort.signal };
  sendJson(res, 200, await gateway.ask({ action, name, query: kept }, caller));
}
