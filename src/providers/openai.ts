import type { CompletionEvent } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import { encodeChatRequest } from "../wires/openai-chat.ts";
import { answerEvents, type ChatAnswer, endFacts, readChatAnswer } from "../wires/openai-chat-answer.ts";
import { ChatStreamReader } from "../wires/openai-chat-stream.ts";
import { encodeOperation, operationPath, readOperationAnswer } from "../wires/openai-operation.ts";
import { roughTokens } from "../wires/rough-tokens.ts";
import type { EntraTokenStore } from "./entra-token.ts";
import type { Dialect, Question } from "./http-provider.ts";
import { openAiHeaders, openAiUrl } from "./openai-address.ts";
import type { ProviderCall } from "./provider.ts";

/** Any server that speaks OpenAI's chat completions. Bytes pass through when the caller speaks them too. */
export function openAiDialect({ tokens }: { tokens: EntraTokenStore }): Dialect {
  return {
    streamType: "text/event-stream",
    ask(call) {
      const { deployment, signal } = call;
      const identity = deployment.access?.cloud === "azure" ? deployment.access.identity : undefined;
      if (identity === undefined) return questionFor(call, deployment.apiKey);
      return tokens.get(identity, signal).then((token) => questionFor(call, token));
    },
    reader: ({ request }) =>
      new ChatStreamReader({
        lane: request.wire === "openai-chat" || request.operation !== "chat" ? "raw" : "neutral",
        includeUsage: request.includeUsage,
        choiceCount: request.choiceCount,
      }),
    whole: wholeEvents,
  };
}

function questionFor({ request, deployment, outputTokensMax }: ProviderCall, credential: Secret | undefined): Question {
  const { model, outputCapField, provider, params } = deployment;
  const headers = openAiHeaders(deployment, credential);
  if (request.operation !== "chat") {
    const url = openAiUrl(deployment, operationPath(request.operation));
    return { url, headers, body: encodeOperation(request, { model, outputTokensMax }) };
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
