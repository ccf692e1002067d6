/** What Langfuse wants to know besides OpenTelemetry's own words: https://langfuse.com/integrations/native/opentelemetry. */

import type { Attributes, SpanContext } from "@opentelemetry/api";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import type { CompletionRequest, JsonObject, Usage } from "../completion.ts";
import { usdNumber } from "../money.ts";
import type { AttemptStart } from "./genai.ts";
import type { Observation, Span } from "./span.ts";
import type { AttemptResult, CallFacts, CallOrigin } from "./telemetry.ts";

/** Labels an application gives its calls, by LiteLLM's names. */
export interface CallLabels {
  readonly userId: string | undefined;
  readonly sessionId: string | undefined;
  readonly tags: readonly string[];
  readonly traceName: string | undefined;
  readonly generationName: string | undefined;
  readonly traceMetadata: JsonObject;
}

/** So long may a label be, in characters. */
const labelCharsMax = 200;
const labelsMax = 32;

/** Reads them off a request: `user`, headers, and LiteLLM's members of `metadata`. */
export function labelsOf(request: CompletionRequest, origin: CallOrigin): CallLabels {
  const metadata = objectOf(request.raw?.value.metadata);
  const { sessionId = textOf(metadata.session_id) } = origin;
  return {
    userId: textOf(metadata.trace_user_id) ?? request.endUser?.slice(0, labelCharsMax),
    sessionId: sessionId?.slice(0, labelCharsMax),
    tags: [...new Set([...origin.tags, ...request.tags])],
    traceName: textOf(metadata.trace_name),
    generationName: textOf(metadata.generation_name),
    traceMetadata: objectOf(metadata.trace_metadata),
  };
}

/** What holds for the whole trace. Langfuse wants it on every span. */
function traceAttributes(labels: CallLabels, facts: CallFacts, origin: CallOrigin, name: string): Attributes {
  const { userId, sessionId, tags, traceName = name, traceMetadata } = labels;
  const { keyId, keyAlias, teamId, userId: owner, callId } = facts;
  return {
    "langfuse.trace.name": traceName,
    ...(userId !== undefined && { "langfuse.user.id": userId, "user.id": userId }),
    ...(sessionId !== undefined && { "langfuse.session.id": sessionId, "session.id": sessionId }),
    ...(tags.length > 0 && { "langfuse.trace.tags": [...tags] }),
    ...metadataAttributes("langfuse.trace.metadata", {
      ...traceMetadata,
      ...{ request_id: origin.requestId, call_id: callId, key_id: keyId, key_alias: keyAlias },
      ...{ team_id: teamId, key_owner_id: owner },
    }),
  };
}

function metadataAttributes(prefix: string, members: Readonly<Record<string, unknown>>): Attributes {
  const attributes: Attributes = {};
  for (const [name, value] of Object.entries(members).slice(0, labelsMax)) {
    if (typeof value === "number" || typeof value === "boolean") attributes[`${prefix}.${name}`] = value;
    else if (typeof value === "string") attributes[`${prefix}.${name}`] = value.slice(0, labelCharsMax);
  }
  return attributes;
}

/** An attempt, as a generation. @param firstOutputAtMs Unix time; undefined: it is no stream, or none came. */
export function generationAttributes(parts: {
  readonly start: AttemptStart;
  readonly result: AttemptResult;
  readonly firstOutputAtMs: number | undefined;
  readonly labels: CallLabels;
  readonly facts: CallFacts;
  readonly origin: CallOrigin;
}): Attributes {
  const { start, result, firstOutputAtMs, labels, facts, origin } = parts;
  const { usage, cost, error } = result;
  const { modelGroup = start.model } = facts;
  const parameters = { max_tokens: start.outputTokensMax, temperature: start.temperature, top_p: start.topP };
  return {
    ...traceAttributes(labels, facts, origin, `${start.operation} ${modelGroup}`),
    "langfuse.observation.type": start.operation === "embeddings" ? "embedding" : "generation",
    "langfuse.observation.model.name": result.responseModel ?? start.model,
    "langfuse.observation.model.parameters": JSON.stringify(parameters),
    ...(usage !== undefined && {
      "langfuse.observation.usage_details": JSON.stringify(usageDetails(usage)),
      "langfuse.observation.cost_details": JSON.stringify({ total: usdNumber(cost) }),
    }),
    ...(firstOutputAtMs !== undefined && {
      "langfuse.observation.completion_start_time": new Date(firstOutputAtMs).toISOString(),
    }),
    ...levelAttributes(error),
    ...metadataAttributes("langfuse.observation.metadata", {
      ...{ model_group: modelGroup, deployment_id: start.deploymentId, provider: start.provider },
      attempt: start.number,
    }),
  };
}

/** A call that no provider was asked for: it was refused, or answered with an answer given before. */
export function callAttributes(parts: {
  readonly name: string;
  readonly error: string | undefined;
  readonly labels: CallLabels;
  readonly facts: CallFacts;
  readonly origin: CallOrigin;
}): Attributes {
  const { name, error, labels, facts, origin } = parts;
  return {
    ...traceAttributes(labels, facts, origin, name),
    "langfuse.observation.type": "span",
    ...levelAttributes(error),
    ...metadataAttributes("langfuse.observation.metadata", {
      ...{ model_group: facts.modelGroup, cache_hit: facts.cacheHit },
    }),
  };
}

function levelAttributes(error: string | undefined): Attributes {
  if (error === undefined) return {};
  return { "langfuse.observation.level": "ERROR", "langfuse.observation.status_message": error };
}

/** Langfuse adds up what it is given, so each token is in one of them only. */
function usageDetails(usage: Usage): Record<string, number> {
  const { inputTokens, outputTokens, cacheReadInputTokens, cacheWriteInputTokens, reasoningOutputTokens } = usage;
  return {
    input: Math.max(0, inputTokens - cacheReadInputTokens - cacheWriteInputTokens),
    output: Math.max(0, outputTokens - reasoningOutputTokens),
    ...(cacheReadInputTokens > 0 && { cache_read_input_tokens: cacheReadInputTokens }),
    ...(cacheWriteInputTokens > 0 && { cache_creation_input_tokens: cacheWriteInputTokens }),
    ...(reasoningOutputTokens > 0 && { output_reasoning_tokens: reasoningOutputTokens }),
    total: inputTokens + outputTokens,
  };
}

/** A span as it is sent to Langfuse. */
export function observationOf(span: Span): ReadableSpan {
  const { parent, name, describe }: Partial<Observation> = span.observation ?? {};
  const content = span.messages();
  return {
    name: name ?? span.name,
    kind: span.kind,
    spanContext: () => span.context,
    ...(parent !== undefined && { parentSpanContext: parent satisfies SpanContext }),
    startTime: span.startTime,
    endTime: span.endTime,
    duration: span.duration,
    ended: true,
    status: span.status,
    attributes: {
      ...span.attributes,
      ...describe?.(),
      ...(content?.input !== undefined && { "langfuse.observation.input": content.input }),
      ...(content?.output !== undefined && { "langfuse.observation.output": content.output }),
    },
    links: span.links,
    events: span.events,
    resource: span.resource,
    instrumentationScope: span.instrumentationScope,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value.slice(0, labelCharsMax) : undefined;
}

function objectOf(value: unknown): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
}
