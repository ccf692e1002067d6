import type { CompletionEvent } from "../completion.ts";
import type { Deployment } from "../config/config.ts";
import { GatewayError } from "../errors.ts";
import { encodeChatRequest } from "../wires/openai-chat.ts";
import { answerEvents, type ChatAnswer, readChatAnswer } from "../wires/openai-chat-answer.ts";
import { ChatStreamReader } from "../wires/openai-chat-stream.ts";
import { roughTokens } from "../wires/rough-tokens.ts";
import type { Dialect } from "./http-provider.ts";
import type { ProviderCall } from "./provider.ts";

/** Any server that speaks OpenAI's chat completions. Bytes pass through when the caller speaks them too. */
export const openAiDialect: Dialect = {
  streamType: "text/event-stream",
  ask: ({ request, deployment, outputTokensMax }) => ({
    url: new URL(`${deployment.apiBase}/chat/completions`),
    headers: headersOf(deployment),
    body: encodeChatRequest(request, {
      model: deployment.model,
      outputTokensMax,
      outputCapField: deployment.outputCapField,
      provider: deployment.provider,
      params: deployment.params,
      streamUsage: true,
    }),
  }),
  reader: ({ request }) =>
    new ChatStreamReader({
      lane: request.wire === "openai-chat" ? "raw" : "neutral",
      includeUsage: request.includeUsage,
      choiceCount: request.choiceCount,
    }),
  whole: wholeEvents,
};

function wholeEvents(call: ProviderCall, body: Buffer): readonly CompletionEvent[] {
  const read = readChatAnswer(body);
  if (read instanceof GatewayError) throw read;
  if (call.request.wire !== "openai-chat") return answerEvents(read);
  const { usage, responseId } = read;
  const counted = usage === undefined ? { outputTokens: outputTokensOf(read) } : {};
  return [{ type: "end", usage, responseId, raw: body, ...counted }];
}

/** What the answer holds, roughly, when the provider does not say. */
function outputTokensOf(answer: ChatAnswer): number {
  let tokens = 0;
  for (const event of answerEvents(answer)) if (event.type === "delta") tokens += roughTokens(event);
  return tokens;
}

function headersOf(deployment: Deployment): Record<string, string> {
  const headers: Record<string, string> = {};
  if (deployment.apiKey !== undefined) headers.authorization = `Bearer ${deployment.apiKey.reveal()}`;
  for (const name in deployment.headers) headers[name.toLowerCase()] = deployment.headers[name] ?? "";
  return headers;
}
