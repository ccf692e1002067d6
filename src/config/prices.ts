import type { Deployment, Price, PriceEntry } from "./config.ts";
import { assemblePrice, isSoldByPiece } from "./price-entries.ts";
import { findInTable, type TablePrice } from "./price-table.ts";

/** A price, and what the operator should know of it. */
export interface PriceFinding {
  readonly price: Price | undefined;
  /** Why there is no price, if that is worth a remark. */
  readonly remark: string | undefined;
  /** The model has a `*`, and each model behind it has its own price. */
  readonly isLater?: true;
}

const unpriced = "no price is known: write input_cost_per_token and output_cost_per_token (0 if it is free)";
const nothing: TablePrice = { entries: [], changes: [], version: "" };

/** LiteLLM's provider names in the table's words. Providers without an entry there have no prices of their own. */
const tableProviders: ReadonlyMap<string, string> = new Map(
  Object.entries({
    openai: "openai",
    anthropic: "anthropic",
    azure: "azure",
    azure_ai: "azure",
    baseten: "baseten",
    bedrock: "aws",
    bedrock_converse: "aws",
    cerebras: "cerebras",
    cloudflare: "cloudflare",
    cohere: "cohere",
    cohere_chat: "cohere",
    deepseek: "deepseek",
    fireworks_ai: "fireworks",
    gemini: "google",
    github_copilot: "github-copilot",
    groq: "groq",
    minimax: "minimax",
    mistral: "mistral",
    moonshot: "moonshotai",
    novita: "novita",
    openrouter: "openrouter",
    ovhcloud: "ovhcloud",
    perplexity: "perplexity",
    together_ai: "together",
    vertex_ai: "google",
    vertex_ai_beta: "google",
    voyage: "voyageai",
    xai: "x-ai",
    zai: "zai",
  }),
);

/**
 * What a deployment's tokens cost: its own prices first, the table's for what these leave open.
 *
 * @param overrides prices of its own, in rising order of precedence.
 * @param baseModel `model_info.base_model`, with or without a provider's prefix: whose prices apply.
 * @param nowMs prices have dates.
 */
export function findPrice(parts: {
  readonly overrides: readonly PriceEntry[];
  readonly provider: string | undefined;
  readonly model: string;
  readonly baseModel: string | undefined;
  readonly nowMs: number;
}): PriceFinding {
  const { overrides } = parts;
  const isByPiece = isSoldByPiece(overrides);
  const [hasInput, hasOutput] = [isByPiece || hasBase(overrides, "input"), isByPiece || hasBase(overrides, "output")];
  const found = hasInput && hasOutput ? undefined : lookUp(parts);
  if (found === undefined && !(hasInput && hasOutput)) {
    const isLater =
      parts.model.includes("*") && parts.baseModel === undefined && sellerOf(parts.provider) !== undefined;
    if (isLater) return { price: undefined, remark: undefined, isLater };
    return { price: undefined, remark: overrides.length === 0 ? unpriced : missingText(hasInput) };
  }
  if (overrides.length === 0) return { price: found && completed(found, [], found.version), remark: undefined };
  // The table's other figures go with its own price of input, not with the operator's.
  const rest = hasInput ? found && keepOutput(found) : found;
  return { price: completed(rest ?? nothing, overrides, "config"), remark: undefined };
}

/** What a model behind a deployment's `*` costs; undefined: nobody knows. */
export function priceBehindWildcard(wildcard: Deployment, model: string, nowMs: number): Price | undefined {
  const { ownPrices: overrides, provider, price } = wildcard;
  return overrides === undefined ? price : findPrice({ overrides, provider, model, baseModel: undefined, nowMs }).price;
}

/**
 * How many tokens fit into a model as the table has it, and a twentieth more: it has 1,000,000 for some that take 1,048,576, and a
 * call that is a little too long is better refused by its provider than one that fits by us. Undefined: the table does not know.
 */
export function contextTokensOf(names: ModelNames): number | undefined {
  const contextTokens = findModel(names)?.contextTokens;
  return contextTokens === undefined ? undefined : Math.floor(contextTokens * 1.05);
}

function missingText(hasInput: boolean): string {
  const missing = hasInput ? "output_cost_per_token" : "input_cost_per_token";
  return `${missing} is missing and the price table does not know the model: write it too (0 if it is free)`;
}

function hasBase(entries: readonly PriceEntry[], kind: PriceEntry["kind"]): boolean {
  return entries.some((entry) => entry.kind === kind && entry.tier === undefined && entry.aboveTokens === undefined);
}

function completed(found: TablePrice, overrides: readonly PriceEntry[], version: string): Price | undefined {
  const price = assemblePrice([...found.entries, ...overrides], version);
  const changes = found.changes.flatMap(({ when, entries }) => {
    const changed = assemblePrice([...entries, ...overrides], version);
    return changed === undefined ? [] : [{ when, price: changed }];
  });
  return price && (changes.length === 0 ? price : { ...price, changes });
}

function keepOutput(found: TablePrice): TablePrice {
  const outputOf = (entries: readonly PriceEntry[]) => entries.filter(({ kind }) => kind === "output");
  const changes = found.changes.map(({ when, entries }) => ({ when, entries: outputOf(entries) }));
  return { ...found, entries: outputOf(found.entries), changes };
}

/** A deployment's model, as it is called and as the operator says what it is. */
interface ModelNames {
  readonly provider: string | undefined;
  readonly model: string;
  readonly baseModel: string | undefined;
  readonly nowMs: number;
}

function findModel({ provider, model, baseModel, nowMs }: ModelNames): TablePrice | undefined {
  return baseModel === undefined ? byModel(provider, model, nowMs) : byBaseModel(baseModel, nowMs);
}

function lookUp(parts: ModelNames): TablePrice | undefined {
  const found = findModel(parts);
  // Of models that are billed by the page we know no price.
  return found?.entries.some(({ kind }) => kind === "input") || isSoldByPiece(found?.entries ?? []) ? found : undefined;
}

function sellerOf(provider: string | undefined): string | undefined {
  return provider === undefined ? undefined : tableProviders.get(provider);
}

function byModel(provider: string | undefined, model: string, nowMs: number): TablePrice | undefined {
  const seller = sellerOf(provider);
  return seller === undefined || model.includes("*") ? undefined : findInTable(seller, model, nowMs);
}

function byBaseModel(baseModel: string, nowMs: number): TablePrice | undefined {
  const [prefix = "", ...rest] = baseModel.split("/");
  const seller = rest.length === 0 ? undefined : tableProviders.get(prefix);
  return seller === undefined ? findInTable(undefined, baseModel, nowMs) : findInTable(seller, rest.join("/"), nowMs);
}
