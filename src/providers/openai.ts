import type { CompletionEvent } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import { encodeChatRequest } from "../wires/openai-chat.ts";
import { answerEvents, type ChatAnswer, endFacts, readChatAnswer } from "../wires/openai-chat-answer.ts";
import { ChatStreamReader } from "../wires/openai-chat-stream.ts";
import { spokenTokensPerSecond } from "../wires/openai-media.ts";
import { encodeOperation, operationPath } from "../wires/openai-operation.ts";
import { OperationStreamReader, readOperationAnswer } from "../wires/openai-operation-answer.ts";
import { type ResponseNames, readResponse } from "../wires/responses-answer.ts";
import { encodeResponsesRequest } from "../wires/responses-body.ts";
import { endFacts as endOfResponse, ResponseEvents } from "../wires/responses-events.ts";
import { encodeAsResponses } from "../wires/responses-request.ts";
import { ResponseStreamReader } from "../wires/responses-stream.ts";
import { roughTokens } from "../wires/rough-tokens.ts";
import { SpeechReader } from "../wires/speech-stream.ts";
import type { EntraTokenStore } from "./entra-token.ts";
import { type AnswerReader, type Dialect, type Manner, passesResponses, type Question } from "./http-provider.ts";
import { openAiHeaders, openAiUrl, operationUrl } from "./openai-address.ts";
import type { ProviderCall } from "./provider.ts";
import type { AnswerHeaders } from "./provider-answer.ts";

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
    mannerOf,
    async askStored({ deployment, path, query, signal }) {
      const identity = deployment.access?.cloud === "azure" ? deployment.access.identity : undefined;
      const credential = identity === undefined ? deployment.apiKey : await tokens.get(identity, signal);
      const url = openAiUrl(deployment, `responses${path}`);
      for (const [name, value] of query) url.searchParams.append(name, value);
      return { url, headers: openAiHeaders(deployment, credential), body: Buffer.alloc(0) };
    },
    reader: readerFor,
    whole: wholeEvents,
  };
}

/** Speech is audio; a transcription may be text, and whole where the model makes no streams. */
function mannerOf({ request }: ProviderCall, mediaType: string): Manner | undefined {
  switch (request.operation) {
    case "speech":
      return /^(audio\/|application\/octet-stream|\*)/.test(mediaType) ? "stream" : undefined;
    case "transcription":
    case "translation":
      return /^text\/html/.test(mediaType) ? undefined : "whole";
    default:
      return undefined;
  }
}

function readerFor(call: ProviderCall, headers: AnswerHeaders): AnswerReader {
  if (isByResponses(call)) return new ResponseStreamReader(namesFor(call));
  const { request } = call;
  const { operation, includeUsage, choiceCount } = request;
  if (operation === "chat" || operation === "text_completion") {
    const lane = operation === "chat" && request.wire !== "openai-chat" ? "neutral" : "raw";
    return new ChatStreamReader({ lane, includeUsage, choiceCount });
  }
  const mediaType = String(headers["content-type"] ?? "application/octet-stream");
  if (operation !== "speech" || mediaType.includes("event-stream")) return new OperationStreamReader(operation);
  return new SpeechReader({ mediaType, outputTokens: (request.pieces?.outputSecond ?? 0) * spokenTokensPerSecond });
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
    const url = operationUrl(deployment, operationPath(request.operation));
    return { url, headers, ...encodeOperation(request, { model, outputTokensMax }) };
  }
  if (isByResponses(call)) {
    const target = { model, outputTokensMax, previousResponseId: call.previousResponseId, provider, params };
    const encode = passesResponses(call) ? encodeResponsesRequest : encodeAsResponses;
    return { url: operationUrl(deployment, "responses"), headers, body: encode(request, target) };
  }
  return {
    url: operationUrl(deployment, "chat/completions"),
    headers,
    body: encodeChatRequest(request, { model, outputTokensMax, outputCapField, provider, params }),
  };
}

function wholeEvents(call: ProviderCall, body: Buffer, headers: AnswerHeaders): readonly CompletionEvent[] {
  const { operation } = call.request;
  if (operation !== "chat") {
    const mediaType = String(headers["content-type"] ?? "application/json");
    const answer = readOperationAnswer(operation, body, mediaType);
    if (answer instanceof GatewayError) throw answer;
    return [{ type: "end", ...answer, raw: body, mediaType }];
  }
  if (isByResponses(call)) {
    const answer = readResponse(body, namesFor(call) ?? {});
    if (answer instanceof GatewayError) throw answer;
    const { bytes, body: response, usage, responseId, outputTokens } = answer;
    if (passesResponses(call))
      return [{ type: "end", usage, responseId, outputTokens, raw: bytes, ...endOfResponse(response) }];
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
