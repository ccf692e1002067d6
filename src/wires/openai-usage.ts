/** OpenAI's `usage`, both ways. */

import type { Json, JsonObject, Usage } from "../completion.ts";
import { serverTools } from "./anthropic-usage.ts";
import { countOf, objectOf, textOf } from "./json.ts";

/**
 * Reads `usage`. Providers differ in where they put cached and reasoning tokens; each known place is looked at.
 *
 * @param tier `service_tier` as the answer has it beside the usage.
 * @returns undefined unless it is an object with a number of input tokens.
 */
export function readUsage(value: Json | undefined, tier?: Json): Usage | undefined {
  const usage = objectOf(value);
  const inputTokens = countOf(usage?.prompt_tokens);
  if (usage === undefined || inputTokens === undefined) return undefined;
  const total = countOf(usage.total_tokens) ?? 0;
  const outputTokens = countOf(usage.completion_tokens) ?? Math.max(0, total - inputTokens);
  const input = objectOf(usage.prompt_tokens_details);
  const output = objectOf(usage.completion_tokens_details);
  const cacheRead =
    countOf(input?.cached_tokens) ??
    countOf(usage.cache_read_input_tokens) ??
    countOf(usage.prompt_cache_hit_tokens) ??
    0;
  const cacheWrite =
    countOf(input?.cache_write_tokens) ??
    countOf(input?.cache_creation_tokens) ??
    countOf(usage.cache_creation_input_tokens) ??
    0;
  const cacheReadInputTokens = Math.min(cacheRead, inputTokens);
  const serviceTier = textOf(usage.service_tier ?? tier);
  return {
    inputTokens,
    outputTokens,
    cacheReadInputTokens,
    cacheWriteInputTokens: Math.min(cacheWrite, inputTokens - cacheReadInputTokens),
    reasoningOutputTokens: Math.min(countOf(output?.reasoning_tokens) ?? 0, outputTokens),
    ...readRareTokens(usage, input, output),
    ...(serviceTier !== undefined && { serviceTier }),
    estimated: false,
  };
}

/** Counts that most answers lack or have as 0. */
function readRareTokens(usage: JsonObject, input: JsonObject | undefined, output: JsonObject | undefined) {
  const written = objectOf(usage.cache_creation) ?? objectOf(input?.cache_creation_token_details);
  const cacheWrite1hInputTokens = countOf(written?.ephemeral_1h_input_tokens) ?? 0;
  const audioInputTokens = countOf(input?.audio_tokens) ?? 0;
  const imageInputTokens = countOf(input?.image_tokens) ?? 0;
  const image = countOf(input?.image_count) ?? 0;
  const audioOutputTokens = countOf(output?.audio_tokens) ?? 0;
  const imageOutputTokens = countOf(output?.image_tokens) ?? 0;
  return {
    ...(cacheWrite1hInputTokens > 0 && { cacheWrite1hInputTokens }),
    ...(audioInputTokens > 0 && { audioInputTokens }),
    ...(imageInputTokens > 0 && { imageInputTokens }),
    ...(image > 0 && { pieces: { image } }),
    ...(audioOutputTokens > 0 && { audioOutputTokens }),
    ...(imageOutputTokens > 0 && { imageOutputTokens }),
  };
}

/**
 * Writes `usage`. Beside OpenAI's fields stand those by which LiteLLM tells what was read from and written to a cache; what a
 * call had none of is left out.
 */
export function usageFields(usage: Usage): JsonObject {
  const { cacheReadInputTokens: read, cacheWriteInputTokens: written, cacheWrite1hInputTokens: hour = 0 } = usage;
  return {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    prompt_tokens_details: {
      cached_tokens: read,
      cache_write_tokens: written,
      ...(written > 0 && {
        cache_creation_tokens: written,
        cache_creation_token_details: { ephemeral_5m_input_tokens: written - hour, ephemeral_1h_input_tokens: hour },
      }),
      ...(usage.audioInputTokens !== undefined && { audio_tokens: usage.audioInputTokens }),
    },
    completion_tokens_details: {
      reasoning_tokens: usage.reasoningOutputTokens,
      ...(usage.audioOutputTokens !== undefined && { audio_tokens: usage.audioOutputTokens }),
    },
    ...serverTools(usage),
    ...(read > 0 && { cache_read_input_tokens: read }),
    ...(written > 0 && { cache_creation_input_tokens: written }),
  };
}
