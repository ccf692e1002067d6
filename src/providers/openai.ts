import type { Clock } from "../clock.ts";
import type { CompletionEvent } from "../completion.ts";
import { GatewayError, ProviderFailure } from "../errors.ts";
import { encodeChatRequest } from "../wires/openai-chat.ts";
import { answerEvents, type ChatAnswer, readChatAnswer } from "../wires/openai-chat-answer.ts";
import { ChatStreamReader } from "../wires/openai-chat-stream.ts";
import { roughTokens } from "../wires/rough-tokens.ts";
import { failureOfAnswer } from "./failures.ts";
import type { ProviderAnswer, ProviderHttp } from "./http.ts";
import type { Provider, ProviderCall } from "./provider.ts";

/** The largest unary answer we hold. */
const answerBytesMax = 64 * 1024 * 1024;

/** Any server that speaks OpenAI's chat completions. Bytes pass through when the caller speaks them too. */
export class OpenAiProvider implements Provider {
  readonly #http: ProviderHttp;
  readonly #clock: Clock;

  constructor(parts: { http: ProviderHttp; clock: Clock }) {
    this.#http = parts.http;
    this.#clock = parts.clock;
  }

  async *complete(call: ProviderCall): AsyncGenerator<CompletionEvent, void, undefined> {
    const { request, deployment, timeoutMs, signal } = call;
    const startedMs = this.#clock.monotonicMs();
    const answer = await this.#http.post({
      url: new URL(`${deployment.apiBase}/chat/completions`),
      headers: headersOf(call),
      body: encodeChatRequest(request, {
        model: deployment.model,
        outputTokensMax: call.outputTokensMax,
        outputCapField: deployment.outputCapField,
        provider: deployment.provider,
        params: deployment.params,
        streamUsage: true,
      }),
      signal,
      headTimeoutMs: timeoutMs,
      idleTimeoutMs: call.idleTimeoutMs,
    });
    if (answer.status !== 200) {
      throw failureOfAnswer(answer.status, answer.headers, await answer.readError(), this.#clock.nowMs());
    }
    const oddity = oddityOf(answer, request.stream);
    if (oddity !== undefined) {
      answer.drop();
      throw oddity;
    }
    if (request.stream) {
      yield* readStream(call, answer);
    } else {
      const leftMs = Math.max(0, timeoutMs - (this.#clock.monotonicMs() - startedMs));
      yield* wholeEvents(call, await answer.read(answerBytesMax, leftMs));
    }
  }
}

async function* readStream(
  { request }: ProviderCall,
  answer: ProviderAnswer,
): AsyncGenerator<CompletionEvent, void, undefined> {
  const reader = new ChatStreamReader({
    lane: request.wire === "openai-chat" ? "raw" : "neutral",
    includeUsage: request.includeUsage,
    choiceCount: request.choiceCount,
  });
  const nextPiece = answer.pieces();
  let whole = false;
  try {
    for (let piece = await nextPiece(); piece !== undefined; piece = await nextPiece()) {
      yield* reader.push(piece);
      // Not read on: a provider may hold the connection open after its last word.
      if (reader.over) break;
    }
    const last = reader.end();
    // Told before the events are out: whoever has the last of them does not come back.
    whole = reader.failure === undefined;
    if (whole) answer.finish(nextPiece);
    yield* last;
    if (reader.failure !== undefined) throw reader.failure;
  } finally {
    // A reader that went away cuts the upstream connection, so that the provider stops generating.
    if (!whole) answer.drop();
  }
}

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

/** The provider's headers are built anew for each call: nothing of the caller's passes. The operator's own go before ours. */
function headersOf({ deployment, request, traceparent }: ProviderCall): Record<string, string> {
  const headers: Record<string, string> = {};
  if (deployment.apiKey !== undefined) headers.authorization = `Bearer ${deployment.apiKey.reveal()}`;
  for (const name in deployment.headers) headers[name.toLowerCase()] = deployment.headers[name] ?? "";
  headers["content-type"] = "application/json";
  headers.accept = request.stream ? "text/event-stream" : "application/json";
  // Frames are passed on as they come; decompressing them would be the caller's work twice.
  headers["accept-encoding"] = "identity";
  if (traceparent !== undefined) headers.traceparent = traceparent;
  return headers;
}

/**
 * What is wrong with the head of an answer with status 200. A page of HTML is some proxy's, not the provider's: nothing was
 * generated, nothing is charged. What speaks JSON has had the model at work.
 */
function oddityOf(answer: ProviderAnswer, stream: boolean): ProviderFailure | undefined {
  const type = String(answer.headers["content-type"] ?? "");
  const encoding = String(answer.headers["content-encoding"] ?? "identity");
  const billable = type === "" || type.includes("json") || type.includes("event-stream");
  if (encoding !== "identity") {
    return new ProviderFailure("provider_error", "The provider compressed its answer, which it was asked not to do.", {
      billable,
    });
  }
  if (type === "" || type.includes(stream ? "text/event-stream" : "json")) return undefined;
  const named = type.split(";")[0]?.slice(0, 100);
  const wanted = stream ? "a stream" : "JSON";
  return new ProviderFailure("provider_error", `The provider answered with ${named} instead of ${wanted}.`, {
    billable,
  });
}
