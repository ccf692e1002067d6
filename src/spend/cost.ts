/** What a call costs, and at most can cost. Whole numbers only. */

import type { Piece, Pieces, Usage } from "../completion.ts";
import type { Price, PriceChange, Rates, Tariff } from "../config/config.ts";
import type { Nanos } from "../money.ts";

const picosPerNano = 1_000n;
const dayMs = 86_400_000;

/**
 * The most one attempt is booked at, or reserved for: a million dollars. Whatever a caller asks for or a provider reports, the
 * books can hold the amount.
 */
const attemptNanosMax = 1_000_000_000_000_000n;

/** Within what a call stays. */
export interface Bounds {
  readonly inputTokensMax: number;
  /** Per choice. */
  readonly outputTokensMax: number;
  readonly choiceCount: number;
  /** Absent: none. */
  readonly pieces?: Pieces;
  /** As the caller asked for it. Absent: the provider decides. */
  readonly serviceTier?: string;
}

/** The price in force at a time (Unix, milliseconds); what follows from it has no further changes. */
export function priceAt(price: Price, nowMs: number): Price {
  return price.changes?.findLast(({ when }) => isInForce(when, nowMs))?.price ?? price;
}

/**
 * What a call cost: rounded up, once, to the next nano-dollar. Special tokens are part of the totals and never charged on top
 * of them, whatever a provider reports.
 */
export function costOf(usage: Usage, price: Price): Nanos {
  const tier = usage.serviceTier;
  const own = tariffOf(price, tier);
  const rates = ratesFor(count(usage.inputTokens), own ?? price);
  const input = new PartedCost(usage.inputTokens);
  const hourLong = leastOf(usage.cacheWrite1hInputTokens, usage.cacheWriteInputTokens);
  input.add(usage.cacheReadInputTokens, rates.cacheReadPicos);
  input.add(hourLong, cacheWrite1hPicos(rates));
  input.add(usage.cacheWriteInputTokens - hourLong, rates.cacheWritePicos);
  input.add(usage.audioInputTokens, rates.audioInputPicos ?? rates.inputPicos);
  input.add(usage.imageInputTokens, rates.imageInputPicos ?? rates.inputPicos);
  const output = new PartedCost(usage.outputTokens);
  output.add(usage.reasoningOutputTokens, rates.reasoningOutputPicos ?? rates.outputPicos);
  output.add(usage.audioOutputTokens, rates.audioOutputPicos ?? rates.outputPicos);
  output.add(usage.imageOutputTokens, rates.imageOutputPicos ?? rates.outputPicos);
  const picos = input.with(rates.inputPicos) + output.with(rates.outputPicos) + fixedPicos(rates, usage.pieces);
  return nanosOf(picos, tier === "batch" && own === undefined ? 2n : 1n);
}

/**
 * An amount that no call within these bounds can cost more than: all its input and all its choices at full length, each at the
 * dearest price that its tokens and its service tier may come to.
 */
export function reservationFor(bounds: Bounds, price: Price): Nanos {
  const output = count(bounds.outputTokensMax);
  let most = 0n;
  for (const { fixedPicos: fixed, outputPicos } of worstCases(bounds, price)) {
    const picos = fixed + output * outputPicos;
    if (picos > most) most = picos;
  }
  return nanosOf(most);
}

/**
 * The longest each choice may become for the call to be paid with `amount`, and no longer than the bounds say.
 *
 * @returns -1 if the input alone costs more.
 */
export function affordableOutputTokens(amount: Nanos, bounds: Bounds, price: Price): number {
  let longest = count(bounds.outputTokensMax);
  for (const { fixedPicos: fixed, outputPicos } of worstCases(bounds, price)) {
    const left = amount * picosPerNano - fixed;
    if (left < 0n) return -1;
    if (outputPicos > 0n && left / outputPicos < longest) longest = left / outputPicos;
  }
  return Number(longest);
}

/** The dearest a call can come to at each tariff and length of input it may reach: so much, and so much per output token of a choice. */
function worstCases(bounds: Bounds, price: Price): { fixedPicos: bigint; outputPicos: bigint }[] {
  const inputTokensMax = count(bounds.inputTokensMax);
  const choices = count(bounds.choiceCount);
  const cases = [];
  for (const tariff of possibleTariffs(price, bounds.serviceTier)) {
    for (const { rates, aboveTokens, upToTokens, inputPicos, outputPicos } of levelsOf(tariff)) {
      if (inputTokensMax <= aboveTokens) continue;
      // A shorter input can be the dearer one: the longest of each level is looked at.
      const inputTokens = upToTokens === undefined ? inputTokensMax : least(inputTokensMax, upToTokens);
      cases.push({
        fixedPicos: inputTokens * inputPicos + fixedPicos(rates, bounds.pieces),
        outputPicos: choices * outputPicos,
      });
    }
  }
  return cases;
}

/** The rates of inputs of a certain length, and the dearest of them. */
interface Level {
  readonly rates: Rates;
  readonly aboveTokens: bigint;
  /** Undefined: however long. */
  readonly upToTokens: bigint | undefined;
  readonly inputPicos: bigint;
  readonly outputPicos: bigint;
}

/** Worked out once: tariffs do not change, and each call reserves by them. */
const knownLevels = new WeakMap<Tariff, readonly Level[]>();

function levelsOf(tariff: Tariff): readonly Level[] {
  const known = knownLevels.get(tariff);
  if (known !== undefined) return known;
  const all: (Rates & { readonly aboveTokens: number })[] = [
    { ...tariff, aboveTokens: -1 },
    ...(tariff.longInput ?? []),
  ];
  const levels = all.map((rates, index): Level => {
    const next = all[index + 1]?.aboveTokens;
    return {
      rates,
      aboveTokens: BigInt(rates.aboveTokens),
      upToTokens: next === undefined ? undefined : BigInt(next),
      inputPicos: dearestInput(rates),
      outputPicos: dearestOutput(rates),
    };
  });
  knownLevels.set(tariff, levels);
  return levels;
}

/** What a caller who asks for a tier may be billed at; `default` is the only word that rules out the dear one. */
function possibleTariffs(price: Price, serviceTier: string | undefined): readonly Tariff[] {
  if (price.serviceTiers === undefined) return [price];
  const { flex, priority, batch } = price.serviceTiers;
  const others = serviceTier === "default" ? [] : serviceTier === "flex" ? [flex] : [flex, priority, batch];
  return [price, ...others.filter((tariff) => tariff !== undefined)];
}

function tariffOf(price: Price, serviceTier: string | undefined): Tariff | undefined {
  if (serviceTier !== "flex" && serviceTier !== "priority" && serviceTier !== "batch") return undefined;
  return price.serviceTiers?.[serviceTier];
}

function ratesFor(inputTokens: bigint, tariff: Tariff): Rates {
  return tariff.longInput?.findLast(({ aboveTokens }) => inputTokens > BigInt(aboveTokens)) ?? tariff;
}

/** What tokens cost of which some have a price of their own. Parts are taken from the total until it is used up. */
class PartedCost {
  #left: bigint;
  #picos = 0n;

  constructor(total: number) {
    this.#left = count(total);
  }

  add(tokens: number | undefined, picos: bigint): void {
    // Most calls have none of most parts.
    if (tokens === undefined || tokens === 0) return;
    const taken = least(count(tokens), this.#left);
    this.#left -= taken;
    this.#picos += taken * picos;
  }

  /** @param picos the plain price, of what is left. */
  with(picos: bigint): bigint {
    return this.#picos + this.#left * picos;
  }
}

/** The price of the request itself, and of what is counted in pieces. */
function fixedPicos(rates: Rates, pieces: Pieces | undefined): bigint {
  let picos = rates.requestPicos ?? 0n;
  for (const piece in pieces) picos += count(pieces[piece as Piece] ?? 0) * (piecePicos(rates, piece as Piece) ?? 0n);
  return picos;
}

function piecePicos(rates: Rates, piece: Piece): bigint | undefined {
  if (piece === "inputSecond") return rates.inputSecondPicos ?? rates.outputSecondPicos;
  return rates[`${piece}Picos`];
}

function dearestInput(rates: Rates): bigint {
  const { inputPicos, cacheReadPicos, cacheWritePicos, audioInputPicos, imageInputPicos } = rates;
  return dearest(inputPicos, [
    cacheReadPicos,
    cacheWritePicos,
    cacheWrite1hPicos(rates),
    audioInputPicos,
    imageInputPicos,
  ]);
}

function dearestOutput(rates: Rates): bigint {
  return dearest(rates.outputPicos, [rates.reasoningOutputPicos, rates.audioOutputPicos, rates.imageOutputPicos]);
}

function dearest(first: bigint, others: readonly (bigint | undefined)[]): bigint {
  return others.reduce<bigint>((most, each) => (each !== undefined && each > most ? each : most), first);
}

function cacheWrite1hPicos(rates: Rates): bigint {
  return rates.cacheWrite1hPicos ?? rates.cacheWritePicos;
}

function isInForce(when: PriceChange["when"], nowMs: number): boolean {
  if ("fromMs" in when) return nowMs >= when.fromMs;
  const { dailyFromMs, dailyUntilMs } = when;
  const timeMs = ((nowMs % dayMs) + dayMs) % dayMs;
  if (dailyUntilMs < dailyFromMs) return timeMs >= dailyFromMs || timeMs < dailyUntilMs;
  return timeMs >= dailyFromMs && timeMs < dailyUntilMs;
}

function nanosOf(picos: bigint, divisor = 1n): Nanos {
  const per = picosPerNano * divisor;
  return least((picos + per - 1n) / per, attemptNanosMax);
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function leastOf(a: number | undefined, b: number): number {
  return a === undefined ? 0 : Math.min(a, b);
}

/** Providers have been seen to report fractions, negatives and NaN; none of these may break or lower a bill. */
function count(tokens: number): bigint {
  return Number.isFinite(tokens) && tokens > 0 ? BigInt(Math.ceil(tokens)) : 0n;
}
