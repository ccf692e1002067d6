/** What calls cost that nobody has made: the arithmetic of the books, on figures somebody brings. */

import type { JsonObject, Usage } from "../completion.ts";
import type { Price } from "../config/config.ts";
import { factsOf } from "../config/model-check.ts";
import { GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";
import { costOf, priceAt } from "../spend/cost.ts";
import { checkName, invalid } from "./key-fields.ts";
import { entryOf, type Models } from "./models.ts";

/** Tokens of a call. Cached ones are part of the input. */
export interface TokenCounts {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadInputTokens: number;
  readonly cacheWriteInputTokens: number;
}

/** What a call costs. */
export interface CostEstimate {
  /** Undefined: nobody can say. */
  readonly provider: string | undefined;
  /** As it stands now. */
  readonly price: Price;
  readonly input: Nanos;
  readonly output: Nanos;
  readonly cost: Nanos;
}

/** Of ordinary text, one token has about this many bytes. */
const bytesPerToken = 4;
/** More tokens than any call has. */
const tokensMax = 1_000_000_000;

/** About how many tokens a call's messages have, by their length: each provider counts them in a way of its own. */
export function likelyTokens(messages: readonly JsonObject[]): number {
  return Math.ceil(Buffer.byteLength(JSON.stringify(messages)) / bytesPerToken);
}

/**
 * What one call would be booked at, at today's price of the first deployment of a model; of a model nobody has configured, such as
 * "openai/gpt-4o", at the price table's.
 *
 * @param names what the caller's face calls the model and, after it, each of the counts.
 * @throws GatewayError `invalid_request`, also for a model whose price nobody knows.
 */
export async function estimateCost(
  models: Pick<Models, "list">,
  asked: {
    readonly model: string;
    readonly tokens: TokenCounts;
    readonly names: Readonly<Record<"model" | keyof TokenCounts, string>>;
    readonly nowMs: number;
  },
): Promise<CostEstimate> {
  const { model, tokens, names, nowMs } = asked;
  checkName(model, names.model);
  for (const [field, count] of Object.entries(tokens)) {
    if (Number.isSafeInteger(count) && count >= 0 && count <= tokensMax) continue;
    throw invalid(names[field as keyof TokenCounts], `must be a whole number from 0 to ${tokensMax}.`);
  }
  const known = (await models.list()).filter(({ name }) => name === model);
  const entries = [...known.map((one) => entryOf(one.id, one)), { model_name: model, litellm_params: { model } }];
  for (const entry of entries) {
    const facts = factsOf(entry, nowMs);
    if (facts?.price === undefined) continue;
    const price = priceAt(facts.price, nowMs);
    const usage: Usage = { ...tokens, reasoningOutputTokens: 0, estimated: true };
    const cost = costOf(usage, price);
    const input = costOf({ ...usage, outputTokens: 0 }, price);
    return { provider: facts.provider, price, input, output: cost - input, cost };
  }
  throw new GatewayError(
    "invalid_request",
    "Nobody knows what this model costs. Give the name of one that has a price.",
    {
      param: names.model,
    },
  );
}
