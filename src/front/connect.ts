/** The RPC door: CompletionService over gRPC, gRPC-Web and Connect. */

import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import type { AcceptedEvent, CallEvent, Caller } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { type Chat, CompletionService } from "../gen/tollgate/completion/v1/completion_pb.ts";
import { abortReason } from "../server/rpc-error.ts";
import { requestIdOf } from "../server/rpc-handlers.ts";
import { type HeaderLookup, repeatOf, tagsOf, tokenOf } from "./caller.ts";
import { AnswerBuilder, StreamEncoder } from "./connect-answer.ts";
import { completionRequest } from "./connect-request.ts";
import type { TypedGateway } from "./doors.ts";

/** Adds CompletionService to a router. Failures are GatewayErrors, which the listener turns into statuses. */
export function completionRoutes(router: ConnectRouter, gateway: TypedGateway): void {
  router.service(CompletionService, {
    async complete({ chat }, context) {
      const answer = new AnswerBuilder();
      for await (const event of callEvents(gateway, chat, false, context)) answer.add(event);
      return answer.build();
    },
    async *streamComplete({ chat }, context) {
      const encoder = new StreamEncoder();
      for await (const event of callEvents(gateway, chat, true, context)) {
        const message = encoder.encode(event);
        if (message !== undefined) yield message;
      }
    },
    async listModels(_, context) {
      const names = await gateway.listModels(tokenOf(headersOf(context)));
      return { models: names.map((id) => ({ id })) };
    },
  });
}

/** One call's events. However the iteration ends, the gateway is told and `caller.signal` lets go of the context. */
async function* callEvents(
  gateway: TypedGateway,
  chat: Chat | undefined,
  stream: boolean,
  context: HandlerContext,
): AsyncGenerator<CallEvent, void, undefined> {
  if (chat === undefined) throw new GatewayError("invalid_request", "`chat` is missing.", { param: "chat" });
  const request = completionRequest(chat, stream);
  const abandoned = new AbortController();
  const abort = () => abandoned.abort(abortReason(context.signal.reason));
  if (context.signal.aborted) abort();
  else context.signal.addEventListener("abort", abort);
  try {
    for await (const event of gateway.complete(request, callerOf(context, abandoned.signal))) {
      if (event.type === "accepted") writeHead(context.responseHeader, event);
      yield event;
    }
  } finally {
    context.signal.removeEventListener("abort", abort);
  }
}

function callerOf(context: HandlerContext, signal: AbortSignal): Caller {
  const { service, method } = context;
  const header = headersOf(context);
  return {
    token: tokenOf(header),
    requestId: requestIdOf(context),
    door: "connect",
    route: `/${service.typeName}/${method.name}`,
    traceparent: header("traceparent"),
    tracestate: header("tracestate"),
    tags: tagsOf(header),
    repeat: repeatOf(header),
    sessionId: header("x-litellm-session-id"),
    idempotencyKey: header("idempotency-key"),
    cacheControl: header("cache-control"),
    signal,
  };
}

function headersOf(context: Pick<HandlerContext, "requestHeader">): HeaderLookup {
  return (name) => context.requestHeader.get(name) || undefined;
}

function writeHead(header: Headers, { callId, deploymentId, region, cache }: AcceptedEvent): void {
  header.set("x-litellm-call-id", callId);
  // An operator may name a deployment as he likes; a header may not.
  const visible = (text: string) => text.replace(/[^\x20-\x7e]/g, "?");
  header.set("x-litellm-model-id", visible(deploymentId));
  if (region !== undefined) header.set("x-litellm-model-region", visible(region));
  if (cache === undefined) return;
  header.set("x-litellm-cache-key", cache.key);
  header.set("x-tollgate-cache", cache.isHit ? "hit" : "miss");
}
