import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { calcPrice, waitForUpdate } from "@pydantic/genai-prices";
import { shiftDecimal } from "../../src/config/decimal.ts";
import { findInTable } from "../../src/config/price-table.ts";
import { installedVersion, priceTableText } from "./price-table-writer.ts";

const text = readFileSync(new URL("../../src/config/price-table.json", import.meta.url), "utf8");

test("the table is what npm run generate:prices makes of the package that is installed", async () => {
  const { version, published } = JSON.parse(text);
  assert.equal(version, `genai-prices@${installedVersion()}`);
  assert.match(published, /^20\d\d-\d\d-\d\d$/);
  assert.equal(text, await priceTableText(published));
});

test("every figure is as published, rounded up to a whole pico-dollar", async () => {
  for (const { models } of (await waitForUpdate()) ?? []) {
    for (const { id, prices } of models) {
      for (const { prices: each } of Array.isArray(prices) ? prices : [{ prices }]) {
        for (const price of Object.values(each)) {
          const usd = (typeof price === "object" ? price.base : price) ?? 0;
          const above = Number(picosOf(usd)) - usd * 1e6;
          assert.ok(above > -1e-6 && above < 1, `${id} ${usd}`);
        }
      }
    }
  }
});

test("every name the source knows, its variations and its dates are found here as there, at the same price", async () => {
  const times = ["2025-01-01", "2026-09-01T02:00:00Z", "2026-11-23T12:00:00Z"].map((time) => Date.parse(time));
  let found = 0;
  for (const provider of (await waitForUpdate()) ?? []) {
    for (const model of provider.models) {
      const texts = [...JSON.stringify(model.match).matchAll(/"(?:equals|starts_with|ends_with|contains)":"([^"]+)"/g)];
      const names = [model.id, ...texts.map(([, name = ""]) => name)];
      for (const name of names.flatMap((each) => [each, `${each}-20250807`, `x${each}`])) {
        for (const providerId of [provider.id, undefined]) {
          const nowMs = times[found % times.length] ?? 0;
          const options = { timestamp: new Date(nowMs), ...(providerId === undefined ? {} : { providerId }) };
          const theirs = calcPrice({}, name, options)?.model_price;
          const ours = findInTable(providerId, name, nowMs);
          assert.equal(ours === undefined, theirs === undefined, `${providerId} ${name}`);
          if (ours === undefined || theirs === undefined) continue;
          found += 1;
          if (ours.changes.length > 0) continue;
          const input = ours.entries.find(({ kind, aboveTokens }) => kind === "input" && aboveTokens === undefined);
          const { input_mtok: usd } = theirs;
          const expected = usd === undefined ? undefined : picosOf(typeof usd === "number" ? usd : usd.base);
          assert.equal(input?.picos, expected, `${providerId} ${name}`);
        }
      }
    }
  }
  assert.ok(found > 5_000, `${found}`);
});

/** From USD per million tokens; what is left of a division is cut off. */
function picosOf(usd: number): bigint | undefined {
  return shiftDecimal(Number(usd.toPrecision(12)), 6);
}
