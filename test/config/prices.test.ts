import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Price, PriceEntry } from "../../src/config/config.ts";
import { shiftDecimal } from "../../src/config/decimal.ts";
import { findPrice } from "../../src/config/prices.ts";
import { plainDecimal } from "../../src/money.ts";
import { installedVersion } from "./price-table-writer.ts";

const nowMs = Date.parse("2026-11-23T00:00:00Z");
const version = `genai-prices@${installedVersion()}`;
const unknown = { overrides: [], provider: "hosted_vllm", model: "llama", baseModel: undefined, nowMs };
const mini = { ...unknown, provider: "openai", model: "gpt-4o-mini" };
const input: PriceEntry = { kind: "input", picos: 7n };
const output: PriceEntry = { kind: "output", picos: 9n };

function tablePrice(provider: string, model: string, atMs: number): Price | undefined {
  return findPrice({ ...unknown, provider, model, nowMs: atMs }).price;
}

test("a price is read from its decimal text, exactly", () => {
  assert.equal(shiftDecimal(0.00000015, 12), 150_000n);
  assert.equal(shiftDecimal("0.0000000375", 12), 37_500n);
  assert.equal(shiftDecimal(1.5e-7, 12), 150_000n);
  assert.equal(shiftDecimal("1.5e-7", 12), 150_000n);
  assert.equal(shiftDecimal("0.000000000000000001", 12), 1n);
  assert.equal(shiftDecimal(0, 12), 0n);
  assert.equal(shiftDecimal(0.1 + 0.2, 6), 300_001n);
  for (const wrong of ["", "free", "-1", "1e999", "1,5", "0x10"]) assert.equal(shiftDecimal(wrong, 12), undefined);
});

test("any price of up to twelve places comes out as it was written", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 999_999_999_999n }), (picos) => {
      const text = `0.${picos.toString().padStart(12, "0")}`;
      assert.equal(shiftDecimal(text, 12), picos);
      assert.equal(shiftDecimal(plainDecimal(Number(text)), 12), picos);
    }),
  );
});

test("the table's price is used where there is no other", () => {
  const { price, remark } = findPrice(mini);
  const rates = { inputPicos: 150_000n, outputPicos: 600_000n, cacheReadPicos: 75_000n, cacheWritePicos: 150_000n };
  // $10 for a thousand searches of the web.
  assert.deepEqual(price, { ...rates, webSearchPicos: 10_000_000_000n, version });
  assert.equal(remark, undefined);
});

test("the table knows long inputs, caches for an hour, reasoning, audio and requests", () => {
  assert.deepEqual(tablePrice("gemini", "gemini-2.5-pro", nowMs)?.longInput?.[0], {
    aboveTokens: 200_000,
    ...{ inputPicos: 2_500_000n, outputPicos: 15_000_000n, cacheReadPicos: 250_000n, cacheWritePicos: 2_500_000n },
  });
  const sonnet = tablePrice("anthropic", "claude-sonnet-4-5-20250929", nowMs);
  assert.equal(sonnet?.cacheWritePicos, 3_750_000n);
  assert.equal(sonnet?.cacheWrite1hPicos, 6_000_000n);
  assert.equal(sonnet?.longInput?.[0]?.cacheWrite1hPicos, 12_000_000n);
  const flash = tablePrice("vertex_ai", "gemini-2.5-flash", nowMs);
  assert.deepEqual([flash?.inputPicos, flash?.audioInputPicos], [300_000n, 1_000_000n]);
  const realtime = tablePrice("openai", "gpt-4o-realtime-preview", nowMs);
  assert.deepEqual([realtime?.audioInputPicos, realtime?.audioOutputPicos], [40_000_000n, 80_000_000n]);
  assert.equal(tablePrice("perplexity", "sonar", nowMs)?.requestPicos, 12_000_000_000n);
  assert.equal(tablePrice("perplexity", "sonar-deep-research", nowMs)?.reasoningOutputPicos, 3_000_000n);
});

test("a price of one's own wins, and caching costs the input's price unless it is named", () => {
  const own = { inputPicos: 7n, outputPicos: 9n, cacheReadPicos: 7n, cacheWritePicos: 7n, version: "config" };
  assert.deepEqual(findPrice({ ...mini, overrides: [input, output] }).price, own);
  const caching: PriceEntry[] = [
    { kind: "cacheRead", picos: 1n },
    { kind: "cacheWrite", picos: 8n },
  ];
  const { price } = findPrice({ ...unknown, overrides: [input, output, ...caching] });
  assert.deepEqual(price, { ...own, cacheReadPicos: 1n, cacheWritePicos: 8n });
});

test("of prices for longer inputs and for tiers, what is not written is what holds without", () => {
  const { price } = findPrice({
    ...unknown,
    overrides: [
      { kind: "input", aboveTokens: 200_000, picos: 14n },
      { kind: "input", tier: "priority", picos: 20n },
      { kind: "input", tier: "priority", aboveTokens: 400_000, picos: 40n },
      { kind: "reasoningOutput", picos: 5n },
      output,
      input,
    ],
  });
  const shared = { outputPicos: 9n, reasoningOutputPicos: 5n };
  const at = (inputPicos: bigint) => ({
    ...shared,
    inputPicos,
    cacheReadPicos: inputPicos,
    cacheWritePicos: inputPicos,
  });
  assert.deepEqual(price, {
    ...at(7n),
    longInput: [{ aboveTokens: 200_000, ...at(14n) }],
    serviceTiers: {
      priority: {
        ...at(20n),
        longInput: [
          { aboveTokens: 200_000, ...at(14n) },
          { aboveTokens: 400_000, ...at(40n) },
        ],
      },
    },
    version: "config",
  });
});

test("half a price is completed from the table, or is none", () => {
  const known = findPrice({ ...mini, overrides: [output] });
  assert.deepEqual(known.price, {
    ...{ inputPicos: 150_000n, outputPicos: 9n, cacheReadPicos: 75_000n, cacheWritePicos: 150_000n },
    webSearchPicos: 10_000_000_000n,
    version: "config",
  });
  const onlyInput = findPrice({ ...mini, overrides: [input] });
  assert.deepEqual(onlyInput.price, {
    ...{ inputPicos: 7n, outputPicos: 600_000n, cacheReadPicos: 7n, cacheWritePicos: 7n },
    version: "config",
  });
  const half = findPrice({ ...unknown, overrides: [input] });
  assert.equal(half.price, undefined);
  assert.match(half.remark ?? "", /^output_cost_per_token is missing/);
});

test("zero is a price", () => {
  const free: PriceEntry[] = [
    { kind: "input", picos: 0n },
    { kind: "output", picos: 0n },
  ];
  assert.deepEqual(findPrice({ ...unknown, overrides: free }).price, {
    ...{ inputPicos: 0n, outputPicos: 0n, cacheReadPicos: 0n, cacheWritePicos: 0n },
    version: "config",
  });
});

test("base_model says whose price applies, with or without its provider", () => {
  for (const baseModel of ["gpt-4o-mini", "openai/gpt-4o-mini", "azure/gpt-4o-mini"]) {
    assert.equal(findPrice({ ...unknown, baseModel }).price?.inputPicos, 150_000n, baseModel);
  }
});

test("a model that is sold by the hour or the piece has no tokens that cost anything", () => {
  const nothing = { inputPicos: 0n, outputPicos: 0n, cacheReadPicos: 0n, cacheWritePicos: 0n };
  // $0.36 an hour.
  assert.deepEqual(tablePrice("openai", "whisper-1", nowMs), { ...nothing, inputSecondPicos: 100_000_000n, version });
  // The table has the tokens of this one; whoever sells it by the second does not sell those too.
  const own = findPrice({ ...unknown, model: "gpt-4o-transcribe", overrides: [{ kind: "inputSecond", picos: 5n }] });
  assert.deepEqual(own.price, { ...nothing, inputSecondPicos: 5n, version: "config" });
});

test("nobody's model, a wildcard and a model billed by the page have no price", () => {
  for (const model of ["no-such-model", "gpt-*", "mistral-ocr-latest"]) {
    assert.equal(findPrice({ ...unknown, provider: "openai", model }).price, undefined, model);
  }
  for (const provider of ["hosted_vllm", "constructor", "__proto__"])
    assert.equal(findPrice({ ...unknown, provider }).price, undefined, provider);
});

test("prices have dates, and those to come are known", () => {
  const o3At = (date: string) => tablePrice("openai", "o3", Date.parse(date));
  assert.equal(o3At("2025-06-11")?.inputPicos, 2_000_000n);
  assert.equal(o3At("2025-06-11")?.changes, undefined);
  const before = o3At("2025-06-01");
  assert.equal(before?.inputPicos, 10_000_000n);
  assert.deepEqual(before?.changes, [{ when: { fromMs: Date.parse("2025-06-10") }, price: o3At("2025-06-11") }]);
});

test("prices by the hour of the day are kept as such, with what the operator has written over them", () => {
  const { price } = findPrice({
    ...unknown,
    provider: "deepseek",
    model: "deepseek-chat",
    overrides: [output],
    nowMs: 0,
  });
  const daily = price?.changes?.find(({ when }) => "dailyFromMs" in when);
  assert.ok(daily);
  assert.equal(daily.price.outputPicos, 9n);
  assert.notEqual(daily.price.inputPicos, price?.inputPicos);
});
