import type { Clock } from "../clock.ts";
import type { CompletionEvent } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { endFacts, type MessageAnswer, messageEvents, readMessage } from "../wires/anthropic-answer.ts";
import { encodeMessagesRequest, readsJsonTool } from "../wires/anthropic-request.ts";
import { MessageStreamReader } from "../wires/anthropic-stream.ts";
import { countOf, objectOf } from "../wires/json.ts";
import { roughTokens } from "../wires/rough-tokens.ts";
import type { Dialect, Question } from "./http-provider.ts";
import type { ProviderCall } from "./provider.ts";

/** The version that takes everything the neutral form may hold; callers with Anthropic's own wire say theirs. */
const defaultVersion = "2023-06-01";

/** Anthropic, or any server that speaks its Messages. Bytes pass through when the caller speaks them too. */
export function anthropicDialect({ clock }: { clock: Clock }): Dialect {
  return {
    streamType: "text/event-stream",
    ask: (call) => question(call, "/v1/messages"),
    // In the clouds' places it has another address, if any.
    askCount: (call) =>
      call.deployment.access === undefined
        ? {
            question: question(call, "/v1/messages/count_tokens"),
            countIn: (body) => countOf(objectOf(body)?.input_tokens),
          }
        : undefined,
    reader: (call) =>
      new MessageStreamReader({
        lane: isRaw(call) ? "raw" : "neutral",
        readsJsonTool: !isRaw(call) && readsJsonTool(call.request, call.deployment.model),
        nowMs: clock.nowMs(),
      }),
    whole: (call, body) => wholeEvents(call, body, clock),
  };
}

function question(call: ProviderCall, path: string): Question {
  const { request, deployment, outputTokensMax } = call;
  // Operators write the address with and without `/v1`.
  const base = deployment.apiBase?.replace(/\/v1(\/messages)?$/, "");
  return {
    url: new URL(`${base}${path}`),
    headers: anthropicHeaders(call),
    body: encodeMessagesRequest(request, {
      model: deployment.model,
      outputTokensMax,
      outputTokensDefault: deployment.outputTokensMax,
      provider: deployment.provider,
      params: deployment.params,
    }),
  };
}

function isRaw({ request }: ProviderCall): boolean {
  return request.wire === "anthropic-messages";
}

function wholeEvents(call: ProviderCall, body: Buffer, clock: Clock): readonly CompletionEvent[] {
  const read = readMessage(body);
  if (read instanceof GatewayError) throw read;
  const nowMs = clock.nowMs();
  if (!isRaw(call)) {
    return messageEvents(read, { readsJsonTool: readsJsonTool(call.request, call.deployment.model), nowMs });
  }
  const { usage, responseId } = read;
  const counted = usage === undefined ? { outputTokens: outputTokensOf(read, nowMs) } : {};
  return [{ type: "end", usage, responseId, ...endFacts(read.body), raw: body, ...counted }];
}

/** What the answer holds, roughly, when the provider does not say. */
function outputTokensOf(answer: MessageAnswer, nowMs: number): number {
  let tokens = 0;
  for (const event of messageEvents(answer, { readsJsonTool: false, nowMs })) {
    if (event.type === "delta") tokens += roughTokens(event);
  }
  return tokens;
}

/** The operator's own headers go before ours; of the caller's, the version and the betas pass. */
function anthropicHeaders({ deployment, request }: ProviderCall): Record<string, string> {
  const headers: Record<string, string> = {
    "anthropic-version": request.wireHeaders?.["anthropic-version"] ?? defaultVersion,
  };
  if (deployment.apiKey !== undefined) headers["x-api-key"] = deployment.apiKey.reveal();
  for (const name in deployment.headers) headers[name.toLowerCase()] = deployment.headers[name] ?? "";
  const betas = [headers["anthropic-beta"], request.wireHeaders?.["anthropic-beta"]].filter(
    (text) => text !== undefined,
  );
  if (betas.length > 0) headers["anthropic-beta"] = betas.join(",");
  return headers;
}
