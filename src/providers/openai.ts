import type { CompletionEvent } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import { encodeChatRequest } from "../wires/openai-chat.ts";
import { answerEvents, type ChatAnswer, endFacts, readChatAnswer } from "../wires/openai-chat-answer.ts";
import { ChatStreamReader } from "../wires/openai-chat-stream.ts";
import { encodeOperation, operationPath, readOperationAnswer } from "../wires/openai-operation.ts";
import { type ResponseNames, readResponse } from "../wires/responses-answer.ts";
import { encodeResponsesRequest } from "../wires/responses-body.ts";
import { ResponseEvents } from "../wires/responses-events.ts";
import { encodeAsResponses } from "../wires/responses-request.ts";
import { ResponseStreamReader } from "../wires/responses-stream.ts";
import { roughTokens } from "../wires/rough-tokens.ts";
import type { EntraTokenStore } from "./entra-token.ts";
import { type Dialect, passesResponses, type Question } from "./http-provider.ts";
import { openAiHeaders, openAiUrl } from "./openai-address.ts";
import type { ProviderCall } from "./provider.ts";

/**
 * Any server that speaks OpenAI's chat completions, and perhaps its responses. Bytes pass through when the caller speaks the same.
 */
export function openAiDialect({ tokens }: { tokens: EntraTokenStore }): Dialect {
  return {
    streamType: "text/event-stream",
    ask(call) {
      const { deployment, signal } = call;
      const identity = deployment.access?.cloud === "azure" ? deployment.access.identity : undefined;
      if (identity === undefined) return questionFor(call, deployment.apiKey);
      return tokens.get(identity, signal).then((token) => questionFor(call, token));
    },
    async askStored({ deployment, path, query, signal }) {
      const identity = deployment.access?.cloud === "azure" ? deployment.access.identity : undefined;
      const credential = identity === undefined ? deployment.apiKey : await tokens.get(identity, signal);
      const url = openAiUrl(deployment, `responses${path}`);
      for (const [name, value] of query) url.searchParams.append(name, value);
      return { url, headers: openAiHeaders(deployment, credential), body: Buffer.alloc(0) };
    },
    reader: (call) => (isByResponses(call) ? new ResponseStreamReader(namesFor(call)) : chatReader(call)),
    whole: wholeEvents,
  };
}

function chatReader({ request }: ProviderCall): ChatStreamReader {
  return new ChatStreamReader({
    lane: request.wire === "openai-chat" || request.operation !== "chat" ? "raw" : "neutral",
    includeUsage: request.includeUsage,
    choiceCount: request.choiceCount,
  });
}

/** Whether the provider is asked by its responses. */
function isByResponses(call: ProviderCall): boolean {
  return passesResponses(call) || (call.deployment.lacksChat === true && call.request.operation === "chat");
}

/** @returns undefined for a caller of another wire. */
function namesFor(call: ProviderCall): ResponseNames | undefined {
  return passesResponses(call) ? { nameOf: call.nameOf, previous: call.request.previousResponse } : undefined;
}

function questionFor(call: ProviderCall, credential: Secret | undefined): Question {
  const { request, deployment, outputTokensMax } = call;
  const { model, outputCapField, provider, params } = deployment;
  const headers = openAiHeaders(deployment, credential);
  if (request.operation !== "chat") {
    const url = openAiUrl(deployment, operationPath(request.operation));
    return { url, headers, body: encodeOperation(request, { model, outputTokensMax }) };
  }
  if (isByResponses(call)) {
    const target = { model, outputTokensMax, previousResponseId: call.previousResponseId, provider, params };
    const encode = passesResponses(call) ? encodeResponsesRequest : encodeAsResponses;
    return { url: openAiUrl(deployment, "responses"), headers, body: encode(request, target) };
  }
  return {
    url: openAiUrl(deployment, "chat/completions"),
    headers,
    body: encodeChatRequest(request, { model, outputTokensMax, outputCapField, provider, params }),
  };
}

function wholeEvents(call: ProviderCall, body: Buffer): readonly CompletionEvent[] {
  const { operation } = call.request;
  if (operation !== "chat") {
    const answer = readOperationAnswer(operation, body);
    if (answer instanceof GatewayError) throw answer;
    return [{ type: "end", ...answer, raw: body }];
  }
  if (isByResponses(call)) {
    const answer = readResponse(body, namesFor(call) ?? {});
    if (answer instanceof GatewayError) throw answer;
    const { bytes, body: response, usage, responseId, outputTokens } = answer;
    if (passesResponses(call)) return [{ type: "end", usage, responseId, outputTokens, raw: bytes }];
    return [...new ResponseEvents().whole(response), { type: "end", usage, responseId, raw: undefined }];
  }
  const read = readChatAnswer(body);
  if (read instanceof GatewayError) throw read;
  if (call.request.wire !== "openai-chat") return answerEvents(read);
  const { usage, responseId } = read;
  const counted = usage === undefined ? { outputTokens: outputTokensOf(read) } : {};
  return [{ type: "end", usage, responseId, ...endFacts(read), raw: body, ...counted }];
}

/** What the answer holds, roughly, when the provider does not say. */
function outputTokensOf(answer: ChatAnswer): number {
  let tokens = 0;
  for (const event of answerEvents(answer)) if (event.type === "delta") tokens += roughTokens(event);
  return tokens;
}
