/** Prices before they are put together: one figure each, from LiteLLM's keys or from the price table. */

import type { Price, PriceEntry, PriceKind, Rates, ServiceTier, Tariff } from "./config.ts";

/** Who has a price for one of these sells its model by the piece; what has no price there, tokens included, costs nothing. */
const soldBy: ReadonlySet<PriceKind> = new Set([
  "generatedImage",
  "inputSecond",
  "outputSecond",
  "character",
  "searchUnit",
]);

/** Whether a model is sold by the piece and not by the token. */
export function isSoldByPiece(entries: readonly PriceEntry[]): boolean {
  return entries.some(({ kind }) => soldBy.has(kind));
}

type Figures = Partial<Record<PriceKind, bigint>>;

/**
 * Puts figures together; of two for the same thing the later counts. What a longer input or another tier has no figure for
 * costs what it costs without.
 *
 * @returns undefined if nothing says what input costs, or what is sold in its place. Output without a figure costs nothing, as embeddings have none.
 */
export function assemblePrice(entries: readonly PriceEntry[], version: string): Price | undefined {
  const tariff = assembleTariff(entries, undefined);
  if (tariff === undefined) return undefined;
  const tiers = (["flex", "priority", "batch"] as const).flatMap((tier) => {
    const own = entries.some((entry) => entry.tier === tier) ? assembleTariff(entries, tier) : undefined;
    return own === undefined ? [] : [[tier, own] as const];
  });
  return { ...tariff, ...(tiers.length === 0 ? {} : { serviceTiers: Object.fromEntries(tiers) }), version };
}

function assembleTariff(entries: readonly PriceEntry[], tier: ServiceTier | undefined): Tariff | undefined {
  const base = ratesAt(entries, tier, 0);
  if (base === undefined) return undefined;
  const relevant = entries.filter((entry) => entry.tier === undefined || entry.tier === tier);
  const levels = [...new Set(relevant.map((entry) => entry.aboveTokens ?? 0))].filter((level) => level > 0);
  const longInput = levels
    .sort((a, b) => a - b)
    .flatMap((aboveTokens) => {
      const rates = ratesAt(entries, tier, aboveTokens);
      return rates === undefined ? [] : [{ aboveTokens, ...rates }];
    });
  return longInput.length === 0 ? base : { ...base, longInput };
}

function ratesAt(
  entries: readonly PriceEntry[],
  tier: ServiceTier | undefined,
  aboveTokens: number,
): Rates | undefined {
  // The more particular figure counts: a longer input before a shorter one, at the same length the tier's own.
  const rank = (entry: PriceEntry) => 2 * (entry.aboveTokens ?? 0) + (entry.tier === undefined ? 0 : 1);
  const figures: Figures = {};
  for (const entry of entries.toSorted((a, b) => rank(a) - rank(b))) {
    const applies = (entry.tier === undefined || entry.tier === tier) && (entry.aboveTokens ?? 0) <= aboveTokens;
    if (applies) figures[entry.kind] = entry.picos;
  }
  const { input, output: outputPicos = 0n, cacheRead, cacheWrite, ...others } = figures;
  const inputPicos = input ?? (isSoldByPiece(entries) ? 0n : undefined);
  if (inputPicos === undefined) return undefined;
  return {
    inputPicos,
    outputPicos,
    cacheReadPicos: cacheRead ?? inputPicos,
    cacheWritePicos: cacheWrite ?? inputPicos,
    ...Object.fromEntries(Object.entries(others).map(([kind, picos]) => [`${kind}Picos`, picos])),
  };
}
