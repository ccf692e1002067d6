/**
 * OpenTelemetry's names for what is asked of models, in the two forms there are: as released with the semantic conventions 1.41, and
 * as they have gone on since (https://github.com/open-telemetry/semantic-conventions-genai, unreleased).
 */

import type { Attributes } from "@opentelemetry/api";
import type { CompletionRequest, JsonObject, Operation, Usage } from "../completion.ts";
import { type Nanos, usdNumber } from "../money.ts";
import type { AttemptFacts, AttemptResult } from "./telemetry.ts";

/** Which form of the names is used. */
export type GenAiVersion = "v1.41" | "latest";

/** @param optIn OpenTelemetry's `OTEL_SEMCONV_STABILITY_OPT_IN`: words with commas between. */
export function genAiVersionOf(optIn: string | undefined): GenAiVersion {
  const words = (optIn ?? "").split(",").map((word) => word.trim());
  return words.includes("gen_ai_latest_experimental") ? "latest" : "v1.41";
}

/** The conventions' names for providers, by LiteLLM's; one that is not here goes by LiteLLM's. */
const providerNames: ReadonlyMap<string, string> = new Map([
  ["azure", "azure.ai.openai"],
  ["azure_ai", "azure.ai.inference"],
  ["bedrock", "aws.bedrock"],
  ["bedrock_converse", "aws.bedrock"],
  ["vertex_ai", "gcp.vertex_ai"],
  ["vertex_ai_beta", "gcp.vertex_ai"],
  ["gemini", "gcp.gemini"],
  ["mistral", "mistral_ai"],
  ["xai", "x_ai"],
  ["watsonx", "ibm.watsonx.ai"],
]);

function providerNameOf(provider: string): string {
  return providerNames.get(provider) ?? provider;
}

/** What is known of an attempt when it begins, without its request: that may be large, and spans wait to be exported. */
export interface AttemptStart {
  readonly number: number;
  readonly operation: Operation;
  readonly provider: string;
  readonly model: string;
  readonly apiBase: string | undefined;
  readonly deploymentId: string;
  readonly leaseId: string;
  readonly stream: boolean;
  readonly outputTokensMax: number | undefined;
  readonly temperature: number | undefined;
  readonly topP: number | undefined;
}

export function attemptStartOf({ request, ...facts }: AttemptFacts): AttemptStart {
  const { operation, stream, outputTokensMax } = request;
  const parameters = parametersOf(request);
  return {
    ...facts,
    ...{ operation, stream, outputTokensMax },
    temperature: numberOf(parameters.temperature),
    topP: numberOf(parameters.top_p),
  };
}

/** OpenAI's and Anthropic's bodies have the same names for them; typed messages are in OpenAI's form already. */
function parametersOf(request: CompletionRequest): JsonObject {
  return request.raw === undefined ? request.chat() : request.raw.value;
}

function numberOf(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}

/** How an attempt's span is called. */
export function attemptName({ request, model }: AttemptFacts): string {
  return `${request.operation} ${model}`;
}

/** What an attempt's span says of how it began. */
export function startAttributes(start: AttemptStart): Attributes {
  const { outputTokensMax, temperature, topP, leaseId } = start;
  const server = serverOf(start.apiBase);
  const attributes: Attributes = {
    "gen_ai.operation.name": start.operation,
    "gen_ai.provider.name": providerNameOf(start.provider),
    "gen_ai.request.model": start.model,
    "gen_ai.request.stream": start.stream,
    "tollgate.attempt": start.number,
    "tollgate.deployment.id": start.deploymentId,
  };
  if (outputTokensMax !== undefined) attributes["gen_ai.request.max_tokens"] = outputTokensMax;
  if (temperature !== undefined) attributes["gen_ai.request.temperature"] = temperature;
  if (topP !== undefined) attributes["gen_ai.request.top_p"] = topP;
  if (server !== undefined) {
    attributes["server.address"] = server.address;
    attributes["server.port"] = server.port;
  }
  if (leaseId !== "") attributes["tollgate.lease.id"] = leaseId;
  return attributes;
}

/** A provider's servers are few, and calls are many. */
const servers = new Map<string, { readonly address: string; readonly port: number } | undefined>();
const serversMax = 1_000;

function serverOf(apiBase: string | undefined) {
  if (apiBase === undefined) return undefined;
  if (servers.has(apiBase)) return servers.get(apiBase);
  const url = URL.parse(apiBase);
  const server = url === null ? undefined : { address: url.hostname, port: portOf(url) };
  if (servers.size < serversMax) servers.set(apiBase, server);
  return server;
}

function portOf(url: URL): number {
  return url.port === "" ? (url.protocol === "http:" ? 80 : 443) : Number(url.port);
}

/** Adds what it says of how it ended. @param firstOutputS how long its first output took, in seconds. */
export function addEndAttributes(
  attributes: Attributes,
  result: AttemptResult,
  firstOutputS: number | undefined,
  version: GenAiVersion,
): void {
  const { usage, cost, responseId, responseModel, finishReasons = [], error } = result;
  const reasons = finishReasons.length === 0 && error !== undefined ? ["error"] : finishReasons;
  if (firstOutputS !== undefined) attributes["gen_ai.response.time_to_first_chunk"] = firstOutputS;
  if (usage !== undefined) addUsage(attributes, usage, cost, version);
  if (responseId !== undefined) attributes["gen_ai.response.id"] = responseId;
  if (responseModel !== undefined) attributes["gen_ai.response.model"] = responseModel;
  if (reasons.length > 0) attributes["gen_ai.response.finish_reasons"] = [...reasons];
}

/** Details are parts of the two totals. The conventions have no word for money; `gen_ai.usage.cost` is what everybody reads. */
function addUsage(attributes: Attributes, usage: Usage, cost: Nanos, version: GenAiVersion): void {
  const { inputTokens, outputTokens, cacheReadInputTokens, cacheWriteInputTokens, reasoningOutputTokens } = usage;
  attributes["gen_ai.usage.input_tokens"] = inputTokens;
  attributes["gen_ai.usage.output_tokens"] = outputTokens;
  if (cacheReadInputTokens > 0) attributes["gen_ai.usage.cache_read.input_tokens"] = cacheReadInputTokens;
  if (cacheWriteInputTokens > 0) {
    const cacheWrite = version === "latest" ? "cache_write" : "cache_creation";
    attributes[`gen_ai.usage.${cacheWrite}.input_tokens`] = cacheWriteInputTokens;
  }
  if (reasoningOutputTokens > 0) attributes["gen_ai.usage.reasoning.output_tokens"] = reasoningOutputTokens;
  attributes["gen_ai.usage.cost"] = usdNumber(cost);
  attributes["tollgate.usage.estimated"] = usage.estimated;
}
