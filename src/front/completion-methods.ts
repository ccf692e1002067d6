/** The RPC door: CompletionService, over gRPC, gRPC-Web and Connect. */

import type { AcceptedEvent, Caller, CompletionRequest, SettledEvent } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { type Chat, CompletionService } from "../gen/tollgate/completion/v1/completion_pb.ts";
import { type RpcCall, type RpcMethod, streamMethod, unaryMethod } from "../server/rpc-method.ts";
import { callerOf, type HeaderLookup, tokenOf } from "./caller.ts";
import { AnswerBuilder, StreamEncoder } from "./connect-answer.ts";
import { embeddingRequest, embeddingResponse } from "./connect-embedding.ts";
import { completionRequest } from "./connect-request.ts";
import type { TypedGateway } from "./doors.ts";

/** CompletionService's methods. Failures are GatewayErrors, which the listener turns into statuses. */
export function completionMethods(gateway: TypedGateway): readonly RpcMethod[] {
  const { complete, streamComplete, embed, listModels } = CompletionService.method;
  return [
    unaryMethod(complete, async ({ chat }, call) => {
      const answer = new AnswerBuilder();
      for await (const event of gateway.complete(chatRequest(chat, false), callerBy(call))) {
        if (event.type === "accepted") writeHead(call, event);
        answer.add(event);
      }
      return answer.build();
    }),
    streamMethod(streamComplete, async function* ({ chat }, call) {
      const encoder = new StreamEncoder();
      for await (const event of gateway.complete(chatRequest(chat, true), callerBy(call))) {
        if (event.type === "accepted") writeHead(call, event);
        const message = encoder.encode(event);
        if (message !== undefined) yield message;
      }
    }),
    unaryMethod(embed, async (message, call) => {
      let accepted: AcceptedEvent | undefined;
      let settled: SettledEvent | undefined;
      // Not left at its last event: an iteration ended by its reader counts as abandoned.
      for await (const event of gateway.complete(embeddingRequest(message), callerBy(call))) {
        if (event.type === "accepted") {
          writeHead(call, event);
          accepted = event;
        } else if (event.type === "settled") settled = event;
      }
      if (settled === undefined) throw new GatewayError("internal_error", "The answer has no end.");
      return embeddingResponse(accepted, settled);
    }),
    unaryMethod(listModels, async (_, call) => {
      const names = await gateway.listModels(tokenOf(headersOf(call)));
      return { models: names.map((id) => ({ id })) };
    }),
  ];
}

function chatRequest(chat: Chat | undefined, stream: boolean): CompletionRequest {
  if (chat === undefined) throw new GatewayError("invalid_request", "`chat` is missing.", { param: "chat" });
  return completionRequest(chat, stream);
}

function callerBy(call: RpcCall): Caller {
  const { requestId, route, signal } = call;
  return { ...callerOf(headersOf(call), { requestId, door: "connect", route }), signal };
}

function headersOf(call: RpcCall): HeaderLookup {
  return (name) => call.header(name);
}

function writeHead(call: RpcCall, { callId, deploymentId, region, cache }: AcceptedEvent): void {
  call.answerHeader("x-litellm-call-id", callId);
  call.answerHeader("x-litellm-model-id", visible(deploymentId));
  if (region !== undefined) call.answerHeader("x-litellm-model-region", visible(region));
  if (cache === undefined) return;
  call.answerHeader("x-litellm-cache-key", cache.key);
  call.answerHeader("x-tollgate-cache", cache.isHit ? "hit" : "miss");
}

/** An operator may name a deployment as he likes; a header may not. */
function visible(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?");
}
