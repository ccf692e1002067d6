import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { waitForUpdate } from "@pydantic/genai-prices";
import type { PriceKind } from "../../src/config/config.ts";
import { shiftDecimal } from "../../src/config/decimal.ts";

/**
 * Makes src/config/price-table.json of the figures in genai-prices, a package that is only needed for this: `npm run
 * generate:prices` after its version has changed. What is kept: who is meant by a name, how much fits into the model, and the
 * prices of what we meter.
 */

const table = new URL("../../src/config/price-table.json", import.meta.url);
const name = "@pydantic/genai-prices";

/**
 * The package's names of prices: what they are for, the decimal places from USD per unit to pico-dollars per piece, and how many
 * pieces the unit has besides.
 */
const kinds: Readonly<Record<string, readonly [kind: PriceKind, places: number, pieces?: number]>> = {
  input_mtok: ["input", 6],
  output_mtok: ["output", 6],
  cache_read_mtok: ["cacheRead", 6],
  cache_write_mtok: ["cacheWrite", 6],
  cache_write_1h_mtok: ["cacheWrite1h", 6],
  output_reasoning_mtok: ["reasoningOutput", 6],
  input_audio_mtok: ["audioInput", 6],
  output_audio_mtok: ["audioOutput", 6],
  input_image_mtok: ["imageInput", 6],
  output_image_mtok: ["imageOutput", 6],
  requests_kcount: ["request", 9],
  web_searches_kcount: ["webSearch", 9],
  input_audio_hours: ["inputSecond", 12, 3600],
};

type Source = NonNullable<Awaited<ReturnType<typeof waitForUpdate>>>;
type Prices = Extract<Source[number]["models"][number]["prices"], unknown[]>[number];

/** The version of the package that is installed. */
export function installedVersion(): string {
  const path = new URL(`../../node_modules/${name}/package.json`, import.meta.url);
  return String(JSON.parse(readFileSync(path, "utf8")).version);
}

/** @param published the day the package was published. */
export async function priceTableText(published: string): Promise<string> {
  const providers = (await waitForUpdate()) ?? [];
  const version = installedVersion();
  const head = JSON.stringify({ version: `genai-prices@${version}`, package: name, published });
  const parts = providers.map((provider) => {
    const { model_match: match, fallback_model_providers: fallbacks } = provider;
    const models = provider.models.map((model) => {
      const variants = Array.isArray(model.prices) ? model.prices : [{ prices: model.prices }];
      return JSON.stringify([model.id, model.match, model.context_window ?? null, ...variants.map(variant)]);
    });
    const rest = JSON.stringify({ match, fallbacks }).slice(1, -1);
    return `${JSON.stringify(provider.id)}:{${rest}${rest === "" ? "" : ","}"models":[\n${models.join(",\n")}\n]}`;
  });
  return `${head.slice(0, -1)},"providers":{\n${parts.join(",\n")}\n}}\n`;
}

function variant({ constraint, prices }: Prices): object {
  const figures: [PriceKind, number, number][] = [];
  for (const [key, price] of Object.entries(prices)) {
    const known = kinds[key];
    if (known === undefined || price === undefined) continue;
    const [kind, places, pieces = 1] = known;
    const levels =
      typeof price === "number" ? [{ start: 0, price }] : [{ start: 0, price: price.base }, ...price.tiers];
    for (const { start, price: usd } of levels) figures.push([kind, start, Math.ceil(picosOf(usd, places) / pieces)]);
  }
  const when =
    constraint === undefined
      ? {}
      : constraint.type === "start_date"
        ? { from: constraint.start_date }
        : { daily: [constraint.start_time, constraint.end_time] };
  const base = Object.fromEntries(figures.flatMap(([kind, start, picos]) => (start === 0 ? [[kind, picos]] : [])));
  const above = Map.groupBy(
    figures.filter(([, start]) => start > 0),
    ([, start]) => start,
  );
  const long = [...above].map(([start, of]) => ({
    above: start,
    ...Object.fromEntries(of.map(([kind, , picos]) => [kind, picos])),
  }));
  return { ...when, ...base, ...(long.length > 0 && { long }) };
}

/** Twelve digits: some figures are what is left of a division, such as 0.18000000000000002. */
function picosOf(usd: number, places: number): number {
  return Number(shiftDecimal(Number(usd.toPrecision(12)), places));
}

if (import.meta.main) {
  const view = spawnSync("npm", ["view", `${name}@${installedVersion()}`, "time", "--json"], { encoding: "utf8" });
  const published = String(JSON.parse(view.stdout)[installedVersion()]).slice(0, 10);
  writeFileSync(table, await priceTableText(published));
}
