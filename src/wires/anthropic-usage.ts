/** Anthropic's `usage`, both ways. Its `input_tokens` are those outside the cache only. */

import type { Json, JsonObject, Usage } from "../completion.ts";
import { countOf, objectOf, textOf } from "./json.ts";

/** Reads `usage`. @returns undefined unless it is an object with a number of input tokens. */
export function readUsage(value: Json | undefined): Usage | undefined {
  const usage = objectOf(value);
  const uncached = countOf(usage?.input_tokens);
  if (usage === undefined || uncached === undefined) return undefined;
  const cacheReadInputTokens = countOf(usage.cache_read_input_tokens) ?? 0;
  const written = objectOf(usage.cache_creation);
  const hour = countOf(written?.ephemeral_1h_input_tokens) ?? 0;
  const cacheWriteInputTokens =
    countOf(usage.cache_creation_input_tokens) ?? hour + (countOf(written?.ephemeral_5m_input_tokens) ?? 0);
  const outputTokens = countOf(usage.output_tokens) ?? 0;
  const thinking = countOf(objectOf(usage.output_tokens_details)?.thinking_tokens) ?? 0;
  const serviceTier = textOf(usage.service_tier);
  const webSearch = countOf(objectOf(usage.server_tool_use)?.web_search_requests) ?? 0;
  return {
    inputTokens: uncached + cacheReadInputTokens + cacheWriteInputTokens,
    outputTokens,
    cacheReadInputTokens,
    cacheWriteInputTokens,
    reasoningOutputTokens: Math.min(thinking, outputTokens),
    ...(hour > 0 && { cacheWrite1hInputTokens: Math.min(hour, cacheWriteInputTokens) }),
    ...(serviceTier !== undefined && { serviceTier }),
    ...(webSearch > 0 && { pieces: { webSearch } }),
    estimated: false,
  };
}

/** What a later report of the same answer adds to an earlier one: counts are cumulative, null says nothing. */
export function mergeUsage(before: JsonObject, later: Json | undefined): JsonObject {
  const merged = { ...before };
  for (const [key, value] of Object.entries(objectOf(later) ?? {})) if (value !== null) merged[key] = value;
  return merged;
}

/** Anthropic's word for what its own tools did; LiteLLM has it too. */
export function serverTools({ pieces }: Usage): JsonObject {
  const { webSearch = 0 } = pieces ?? {};
  return webSearch === 0 ? {} : { server_tool_use: { web_search_requests: webSearch } };
}

/** Writes `usage`. */
export function usageFields(usage: Usage): JsonObject {
  const { cacheReadInputTokens: read, cacheWriteInputTokens: written, cacheWrite1hInputTokens: hour = 0 } = usage;
  return {
    input_tokens: Math.max(0, usage.inputTokens - read - written),
    cache_creation_input_tokens: written,
    cache_read_input_tokens: read,
    ...(written > 0 && {
      cache_creation: { ephemeral_5m_input_tokens: written - hour, ephemeral_1h_input_tokens: hour },
    }),
    output_tokens: usage.outputTokens,
    ...serverTools(usage),
    ...(usage.reasoningOutputTokens > 0 && {
      output_tokens_details: { thinking_tokens: usage.reasoningOutputTokens },
    }),
  };
}
