/** The `usage` of OpenAI's responses, both ways. */

import type { Json, JsonObject, Usage } from "../completion.ts";
import { arrayOf, countOf, isObject, objectOf } from "./json.ts";
import { readUsage as readChatUsage } from "./openai-usage.ts";

/** Reads what a whole response used. Its searches of the web are told by its items only. */
export function usageOfResponse(response: JsonObject): Usage | undefined {
  const usage = readUsage(response.usage, response.service_tier);
  const webSearch = arrayOf(response.output).filter(isSearch).length;
  return usage === undefined || webSearch === 0 ? usage : { ...usage, pieces: { ...usage.pieces, webSearch } };
}

/** Opening a page that was found, and looking for something in it, is no search. */
function isSearch(item: Json): boolean {
  if (!isObject(item) || item.type !== "web_search_call") return false;
  return (objectOf(item.action)?.type ?? "search") === "search";
}

/**
 * Reads `usage`: chat's under other names.
 *
 * @param tier `service_tier` as the answer has it beside the usage.
 * @returns undefined unless it is an object with a number of input tokens.
 */
function readUsage(value: Json | undefined, tier?: Json): Usage | undefined {
  const usage = objectOf(value);
  if (usage === undefined) return undefined;
  const { input_tokens, output_tokens, input_tokens_details, output_tokens_details, ...others } = usage;
  const renamed = {
    ...others,
    prompt_tokens: input_tokens ?? null,
    completion_tokens: output_tokens ?? null,
    prompt_tokens_details: input_tokens_details ?? null,
    completion_tokens_details: output_tokens_details ?? null,
  };
  return countOf(input_tokens) === undefined ? undefined : readChatUsage(renamed, tier);
}

/** Writes `usage`. What was written to a cache stands where LiteLLM has it, too. */
export function usageFields(usage: Usage): JsonObject {
  const { inputTokens, outputTokens, cacheReadInputTokens: read, cacheWriteInputTokens: written } = usage;
  return {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: read, cache_write_tokens: written },
    output_tokens: outputTokens,
    output_tokens_details: { reasoning_tokens: usage.reasoningOutputTokens },
    total_tokens: inputTokens + outputTokens,
    ...(written > 0 && { cache_creation_input_tokens: written }),
  };
}
