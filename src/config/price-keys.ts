/** LiteLLM's keys for prices of one's own, in `litellm_params` and `model_info`. */

import { z } from "zod";
import type { PriceEntry, PriceKind, ServiceTier } from "./config.ts";
import { readNumber, shiftDecimal } from "./decimal.ts";
import { isTree } from "./document.ts";
import type { IssueParams } from "./fields.ts";
import type { Path } from "./remarks.ts";

const kinds: Readonly<Record<string, PriceKind>> = {
  input_cost_per_token: "input",
  output_cost_per_token: "output",
  cache_read_input_token_cost: "cacheRead",
  cache_creation_input_token_cost: "cacheWrite",
  cache_creation_input_token_cost_above_1hr: "cacheWrite1h",
  output_cost_per_reasoning_token: "reasoningOutput",
  input_cost_per_audio_token: "audioInput",
  output_cost_per_audio_token: "audioOutput",
  input_cost_per_image_token: "imageInput",
  output_cost_per_image_token: "imageOutput",
  input_cost_per_image: "image",
  input_cost_per_request: "request",
  output_cost_per_image: "generatedImage",
  input_cost_per_second: "inputSecond",
  output_cost_per_second: "outputSecond",
  input_cost_per_character: "character",
  input_cost_per_query: "searchUnit",
};
const tiers: Readonly<Record<string, ServiceTier>> = { flex: "flex", priority: "priority", batches: "batch" };
const suffixed = /^(\w+?)(?:_above_(\d{1,6})k_tokens)?(?:_(flex|priority|batches))?$/;
const ranges = "tiered_pricing";
/** A price for each size of context that a search of the web brings; who counts searches has one price for all. */
const searches = "search_context_cost_per_query";
const searchSizes = ["search_context_size_medium", "search_context_size_low", "search_context_size_high"];

/** What prices that are not for tokens are for. */
const units: Readonly<Partial<Record<PriceKind, string>>> = {
  image: "image",
  request: "request",
  generatedImage: "image",
  inputSecond: "second",
  outputSecond: "second",
  character: "character",
  webSearch: "search",
  searchUnit: "query",
};

/** The keys without their endings. */
export const priceNames: readonly string[] = [...Object.keys(kinds), ranges, searches];

/** 1 USD per token is already a mistake of six digits; of other things more may cost as much, but not more. */
const picosMax = 1_000_000_000_000n;

type FaultAt = (path: Path, message: string, input: unknown) => void;

/** Whether `key` is a price that is served. */
export function isPriceKey(key: string): boolean {
  return key === ranges || key === searches || priceKey(key) !== undefined;
}

/** The price keys of a section, read; whatever else is in it is passed over. */
export const priceKeys = z.unknown().transform((section, context): { prices: readonly PriceEntry[] } => {
  const prices: PriceEntry[] = [];
  const fault: FaultAt = (path, message, input) => {
    const params: IssueParams = { hidden: false };
    context.issues.push({ code: "custom", message, input, path: [...path], params });
  };
  if (!isTree(section)) return { prices };
  for (const [key, value] of Object.entries(section)) readPrice(prices, fault, [key], value);
  readSearches(prices, fault, section[searches]);
  const given = section[ranges];
  if (given !== undefined && !Array.isArray(given)) fault([ranges], "a list, a dash before each item", given);
  for (const [index, range] of Array.isArray(given) ? given.entries() : []) readRange(prices, fault, index, range);
  return { prices };
});

function readRange(prices: PriceEntry[], fault: FaultAt, index: number, range: unknown): void {
  const aboveTokens = isTree(range) && Array.isArray(range.range) ? readNumber(range.range[0]) : undefined;
  if (!isTree(range) || aboveTokens === undefined || !Number.isSafeInteger(aboveTokens) || aboveTokens < 0) {
    fault([ranges, index], "prices with the tokens of input they are for, such as range: [0, 32000]", range);
    return;
  }
  for (const [key, value] of Object.entries(range)) readPrice(prices, fault, [ranges, index, key], value, aboveTokens);
}

function readSearches(prices: PriceEntry[], fault: FaultAt, given: unknown): void {
  if (given === undefined) return;
  const size = isTree(given) ? searchSizes.find((name) => given[name] !== undefined) : undefined;
  if (!isTree(given) || size === undefined) {
    fault([searches], "USD per search, such as search_context_size_medium: 0.01", given);
    return;
  }
  const picos = picosOf(given[size]);
  if (picos === undefined) fault([searches, size], wanted("webSearch"), given[size]);
  else prices.push({ kind: "webSearch", picos });
}

function readPrice(prices: PriceEntry[], fault: FaultAt, path: Path, value: unknown, aboveTokens = 0): void {
  const key = priceKey(String(path.at(-1)));
  if (key === undefined || value === undefined) return;
  const picos = picosOf(value);
  if (picos === undefined) fault(path, wanted(key.kind), value);
  else prices.push({ ...key, ...(aboveTokens > 0 && { aboveTokens }), picos });
}

function picosOf(value: unknown): bigint | undefined {
  const picos = typeof value === "number" || typeof value === "string" ? shiftDecimal(value, 12) : undefined;
  return picos === undefined || picos > picosMax ? undefined : picos;
}

function wanted(kind: PriceKind): string {
  return `USD per ${units[kind] ?? "token"}, such as 0.00000015`;
}

function priceKey(key: string): Omit<PriceEntry, "picos"> | undefined {
  const [, name = "", thousands, tierName] = suffixed.exec(key) ?? [];
  const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
  if (kind === undefined) return undefined;
  const tier = tierName === undefined ? undefined : tiers[tierName];
  const aboveTokens = thousands === undefined ? undefined : Number(thousands) * 1000;
  return { kind, ...(tier !== undefined && { tier }), ...(aboveTokens !== undefined && { aboveTokens }) };
}
