import { randomUUID } from "node:crypto";
import type { Clock } from "../clock.ts";
import type { Deployment } from "../config/config.ts";
import { GatewayError } from "../errors.ts";
import type { AnswerFacts } from "../wires/gemini-answer.ts";
import { encodeGeminiCount, encodeGeminiRequest } from "../wires/gemini-chat.ts";
import { GeminiStreamReader, readGeminiAnswer } from "../wires/gemini-stream.ts";
import { arrayOf, countOf, isObject, objectOf, parseJson, textOf } from "../wires/json.ts";
import type { FailureHints } from "./failures.ts";
import type { GoogleTokenStore } from "./google-token.ts";
import type { Dialect } from "./http-provider.ts";
import type { ProviderCall } from "./provider.ts";
import type { AnswerHeaders } from "./provider-answer.ts";
import { vertexPlace } from "./vertex.ts";

const newId = () => randomUUID().replaceAll("-", "");

/** Google's Gemini: with a key at Google AI Studio, or with an account's token in Google's cloud (Vertex AI). */
export function geminiDialect({ clock, tokens }: { clock: Clock; tokens: GoogleTokenStore }): Dialect {
  const factsOf = ({ deployment }: ProviderCall): AnswerFacts => ({
    model: deployment.model,
    nowS: Math.floor(clock.nowMs() / 1000),
    newId,
  });
  return {
    streamType: "text/event-stream",
    async ask(call) {
      const { request, deployment, outputTokensMax } = call;
      const { model, provider, params } = deployment;
      const body = encodeGeminiRequest(request, { model, outputTokensMax, provider, params });
      const { path, headers } = await addressOf(call, tokens);
      const method = request.stream ? "streamGenerateContent?alt=sse" : "generateContent";
      return { url: new URL(`${path}:${method}`), headers: { ...ownHeaders(deployment), ...headers }, body };
    },
    async askCount(call) {
      const { request, deployment, outputTokensMax } = call;
      const { model, provider, params } = deployment;
      const { path, headers } = await addressOf(call, tokens);
      const body = encodeGeminiCount(request, { model, outputTokensMax, provider, params }, countLane(deployment));
      const question = {
        url: new URL(`${path}:countTokens`),
        headers: { ...ownHeaders(deployment), ...headers },
        body,
      };
      return { question, countIn: (answer) => countOf(objectOf(answer)?.totalTokens) };
    },
    reader: (call) => new GeminiStreamReader(factsOf(call)),
    whole(call, body) {
      const events = readGeminiAnswer(body, factsOf(call));
      if (events instanceof GatewayError) throw events;
      return events;
    },
    hints: hintsOf,
  };
}

function countLane({ access }: Deployment): "studio" | "cloud" {
  return access?.cloud === "google" ? "cloud" : "studio";
}

/** Where the model is, and what opens the door. */
async function addressOf(
  call: ProviderCall,
  tokens: GoogleTokenStore,
): Promise<{ readonly path: string; readonly headers: Readonly<Record<string, string>> }> {
  const { access, apiBase, apiKey, model } = call.deployment;
  if (access?.cloud !== "google") {
    const headers: Record<string, string> = apiKey === undefined ? {} : { "x-goog-api-key": apiKey.reveal() };
    return { path: `${apiBase}/models/${encodeURIComponent(model)}`, headers };
  }
  const { place, headers } = await vertexPlace(call, access, tokens);
  // A model that was tuned has an endpoint, which is a number.
  const isEndpoint = /^\d+$/.test(model);
  const resource = isEndpoint ? `endpoints/${model}` : `publishers/google/models/${encodeURIComponent(model)}`;
  return { path: `${place}/${resource}`, headers };
}

function ownHeaders(deployment: Deployment): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name in deployment.headers) headers[name.toLowerCase()] = deployment.headers[name] ?? "";
  return headers;
}

/** A wrong key has status 400 there, and the wait after a 429 stands in the body. */
function hintsOf(status: number, _headers: AnswerHeaders, said: string): FailureHints {
  const parsed = parseJson(said);
  const body = objectOf(Array.isArray(parsed) ? parsed[0] : parsed);
  const details = arrayOf(objectOf(body?.error)?.details).filter(isObject);
  const isBadKey = status === 400 && details.some(({ reason }) => reason === "API_KEY_INVALID");
  const delay = textOf(details.find(({ retryDelay }) => retryDelay !== undefined)?.retryDelay);
  const seconds = /^(\d+(?:\.\d+)?)s$/.exec(delay ?? "")?.[1];
  return {
    code: isBadKey ? "provider_auth_failed" : undefined,
    retryAfterMs: seconds === undefined ? undefined : Number(seconds) * 1000,
  };
}
