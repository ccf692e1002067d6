/**
 * The price table shipped with the package: `price-table.json`, made of genai-prices' figures by `npm run generate:prices`.
 * Reading it takes 3 ms and 2 MB, once, when a price is first looked up; importing genai-prices itself took 40 ms and 21 MB.
 */

import { readFileSync } from "node:fs";
import type { PriceChange, PriceEntry, PriceKind } from "./config.ts";

/** How a model's name is recognised; texts without regard to case. */
type Match =
  | { readonly or: readonly Match[] }
  | { readonly and: readonly Match[] }
  | { readonly equals: string }
  | { readonly starts_with: string }
  | { readonly ends_with: string }
  | { readonly contains: string }
  | { readonly regex: string };

type Figures = Readonly<Partial<Record<PriceKind, number>>>;

/** Figures in pico-dollars, and when they are in force. Without a time: always, unless a later variant is. */
type Variant = Figures & {
  readonly from?: string;
  readonly daily?: readonly [string, string];
  readonly long?: readonly (Figures & { readonly above: number })[];
};

/** `contextTokens`: how many tokens of input and output it takes together; null: the source does not say. */
type Model = readonly [id: string, match: Match, contextTokens: number | null, ...variants: Variant[]];

interface Provider {
  /** Names that are this provider's where none is given. */
  readonly match?: Match;
  /** Whose models it sells at the same prices. */
  readonly fallbacks?: readonly string[];
  readonly models: readonly Model[];
}

interface Table {
  readonly version: string;
  readonly providers: Readonly<Record<string, Provider>>;
}

/** What the table has for a model. */
export interface TablePrice {
  readonly entries: readonly PriceEntry[];
  /** What takes its place at times from now on; the last that is in force counts. */
  readonly changes: readonly { readonly when: PriceChange["when"]; readonly entries: readonly PriceEntry[] }[];
  /** How many tokens fit into the model, rounded by some; absent: the table does not know. */
  readonly contextTokens?: number;
  /** The table and its version. */
  readonly version: string;
}

const kindless = new Set(["from", "daily", "long", "above"]);

let table: Table | undefined;

function readTable(): Table {
  table ??= JSON.parse(readFileSync(new URL("./price-table.json", import.meta.url), "utf8")) as Table;
  return table;
}

/**
 * Looks a model up.
 *
 * @param provider in the table's words; undefined: whoever's name it is.
 * @param nowMs variants that are over by then are left out.
 */
export function findInTable(provider: string | undefined, model: string, nowMs: number): TablePrice | undefined {
  const { providers, version } = readTable();
  const name = model.toLowerCase().trim();
  const seller =
    provider === undefined
      ? Object.values(providers).find(({ match }) => match !== undefined && matches(match, name))
      : providers[provider];
  const found = seller && (findModel(seller, name, providers) ?? findModel(seller, withDashes(name), providers));
  if (found === undefined) return undefined;
  const [, , contextTokens, ...variants] = found;
  const [first, ...others] = currentVariants(variants, nowMs);
  if (first === undefined) return undefined;
  const changes = others.flatMap((variant) => {
    const when = whenOf(variant);
    return when === undefined ? [] : [{ when, entries: entriesOf(variant) }];
  });
  return { entries: entriesOf(first), changes, version, ...(contextTokens !== null && { contextTokens }) };
}

function findModel(
  { models, fallbacks = [] }: Provider,
  name: string,
  providers: Table["providers"],
): Model | undefined {
  const found = models.find(([, match]) => matches(match, name));
  if (found !== undefined) return found;
  for (const id of fallbacks) {
    const other = providers[id];
    const sold = other && findModel(other, name, providers);
    if (sold !== undefined) return sold;
  }
  return undefined;
}

function matches(match: Match, name: string): boolean {
  if ("or" in match) return match.or.some((each) => matches(each, name));
  if ("and" in match) return match.and.every((each) => matches(each, name));
  if ("equals" in match) return name === match.equals.toLowerCase();
  if ("starts_with" in match) return name.startsWith(match.starts_with.toLowerCase());
  if ("ends_with" in match) return name.endsWith(match.ends_with.toLowerCase());
  if ("contains" in match) return name.includes(match.contains.toLowerCase());
  return new RegExp(match.regex).test(name);
}

/** Some names are listed with their dates written 2025-08-07 only, and used as 20250807. */
function withDashes(name: string): string {
  return name.replace(/(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=[-:]|$)/g, "$1$2-$3-$4");
}

/** The variant in force since the last date that is past, and those that may take its place. */
function currentVariants(variants: readonly Variant[], nowMs: number): readonly Variant[] {
  const start = variants.findLastIndex(
    ({ from, daily }) => daily === undefined && (from === undefined || Date.parse(from) <= nowMs),
  );
  return variants.slice(Math.max(0, start));
}

function whenOf({ from, daily }: Variant): PriceChange["when"] | undefined {
  if (daily !== undefined) return { dailyFromMs: timeMs(daily[0]), dailyUntilMs: timeMs(daily[1]) };
  return from === undefined ? undefined : { fromMs: Date.parse(from) };
}

function timeMs(time: string): number {
  return Date.parse(`1970-01-01T${time}`);
}

function entriesOf(variant: Variant): readonly PriceEntry[] {
  const levels = [
    { aboveTokens: 0, figures: variant },
    ...(variant.long ?? []).map((figures) => ({ aboveTokens: figures.above, figures })),
  ];
  return levels.flatMap(({ aboveTokens, figures }) =>
    Object.entries(figures)
      .filter(([key]) => !kindless.has(key))
      .map(([kind, picos]) => ({
        kind: kind as PriceKind,
        ...(aboveTokens > 0 && { aboveTokens }),
        picos: BigInt(picos as number),
      })),
  );
}
