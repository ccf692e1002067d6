import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Usage } from "../../src/completion.ts";
import type { Price, Rates, Tariff } from "../../src/config/config.ts";
import { affordableOutputTokens, type Bounds, costOf, priceAt, reservationFor } from "../../src/spend/cost.ts";

const usage: Usage = {
  inputTokens: 0,
  outputTokens: 0,
  cacheReadInputTokens: 0,
  cacheWriteInputTokens: 0,
  reasoningOutputTokens: 0,
  estimated: false,
};
const price: Price = {
  inputPicos: 2_500_000n,
  outputPicos: 10_000_000n,
  cacheReadPicos: 1_250_000n,
  cacheWritePicos: 3_125_000n,
  version: "test",
};

/** Computed by hand from the providers' published prices per million tokens. One nano-dollar is a millionth of $0.001. */
const bills: readonly { what: string; used: Partial<Usage>; price: Price; nanos: bigint }[] = [
  {
    what: "OpenAI's cached input: $2.50 in, $1.25 cached, $10 out",
    used: { inputTokens: 2006, cacheReadInputTokens: 1920, outputTokens: 300, reasoningOutputTokens: 256 },
    price: { ...price, cacheWritePicos: price.inputPicos },
    // 86 x 2500 + 1920 x 1250 + 300 x 10000
    nanos: 5_615_000n,
  },
  {
    what: "Anthropic's caches: $3 in, $0.30 read, $3.75 written for 5 minutes, $6 for an hour, $15 out",
    used: {
      inputTokens: 10_000,
      cacheReadInputTokens: 4000,
      cacheWriteInputTokens: 3000,
      cacheWrite1hInputTokens: 1000,
      outputTokens: 500,
    },
    price: {
      inputPicos: 3_000_000n,
      outputPicos: 15_000_000n,
      cacheReadPicos: 300_000n,
      cacheWritePicos: 3_750_000n,
      cacheWrite1hPicos: 6_000_000n,
      version: "test",
    },
    // 3000 x 3000 + 4000 x 300 + 2000 x 3750 + 1000 x 6000 + 500 x 15000
    nanos: 31_200_000n,
  },
  ...[
    // 200000 x 1250 + 1000 x 10000
    { inputTokens: 200_000, nanos: 260_000_000n },
    // 200001 x 2500 + 1000 x 15000: every token of the request, not only those above
    { inputTokens: 200_001, nanos: 515_002_500n },
  ].map(({ inputTokens, nanos }) => ({
    what: `Gemini's prices over 200k, with ${inputTokens} tokens`,
    used: { inputTokens, outputTokens: 1000 },
    price: {
      inputPicos: 1_250_000n,
      outputPicos: 10_000_000n,
      cacheReadPicos: 125_000n,
      cacheWritePicos: 1_250_000n,
      longInput: [
        {
          aboveTokens: 200_000,
          inputPicos: 2_500_000n,
          outputPicos: 15_000_000n,
          cacheReadPicos: 250_000n,
          cacheWritePicos: 2_500_000n,
        },
      ],
      version: "test",
    },
    nanos,
  })),
  {
    what: "audio in and out: $2.50 and $10 for text, $40 and $80 for audio",
    used: { inputTokens: 200, audioInputTokens: 150, outputTokens: 300, audioOutputTokens: 220 },
    price: { ...price, audioInputPicos: 40_000_000n, audioOutputPicos: 80_000_000n },
    // 50 x 2500 + 150 x 40000 + 80 x 10000 + 220 x 80000
    nanos: 24_525_000n,
  },
  {
    what: "reasoning at a price of its own, and one for the request: $2 in, $8 out, $3 reasoning, $5 per 1000 requests",
    used: { inputTokens: 100, outputTokens: 1000, reasoningOutputTokens: 900 },
    price: {
      ...price,
      ...{ inputPicos: 2_000_000n, outputPicos: 8_000_000n, reasoningOutputPicos: 3_000_000n },
      requestPicos: 5_000_000_000n,
    },
    // 100 x 2000 + 100 x 8000 + 900 x 3000 + 5000000
    nanos: 8_700_000n,
  },
  {
    what: "images: two at $0.001 each besides their tokens, $5 text in, $10 image in, $40 image out",
    used: {
      inputTokens: 1000,
      imageInputTokens: 900,
      pieces: { image: 2 },
      outputTokens: 1100,
      imageOutputTokens: 1056,
    },
    price: { ...price, imageInputPicos: 10_000_000n, imageOutputPicos: 40_000_000n, imagePicos: 1_000_000_000n },
    // 100 x 2500 + 900 x 10000 + 44 x 10000 + 1056 x 40000 + 2 x 1000000
    nanos: 53_930_000n,
  },
  ...(
    [
      ["flex", 3_750_000n],
      ["priority", 7_500_000n],
      ["default", 7_500_000n],
      ["batch", 3_750_000n],
    ] as const
  ).map(([serviceTier, nanos]) => ({
    what: `the service tier ${serviceTier}: half for flex, the standard for those without a tariff, half of it for a batch`,
    used: { inputTokens: 1000, outputTokens: 500, serviceTier },
    price: {
      ...price,
      serviceTiers: {
        flex: {
          inputPicos: 1_250_000n,
          outputPicos: 5_000_000n,
          cacheReadPicos: 1_250_000n,
          cacheWritePicos: 1_250_000n,
        },
      },
    },
    nanos,
  })),
];

for (const { what, used, price: each, nanos } of bills) {
  test(`a bill computed by hand: ${what}`, () => {
    assert.equal(costOf({ ...usage, ...used }, each), nanos);
  });
}

test("tokens reported twice are charged once", () => {
  const used = {
    ...usage,
    inputTokens: 100,
    cacheReadInputTokens: 90,
    cacheWriteInputTokens: 90,
    audioInputTokens: 90,
  };
  assert.equal(costOf(used, price), BigInt(90 * 1250 + 10 * 3125));
  assert.equal(costOf({ ...usage, outputTokens: 10, reasoningOutputTokens: 99 }, price), 100_000n);
  const hour = { ...usage, inputTokens: 10, cacheWriteInputTokens: 4, cacheWrite1hInputTokens: 9 };
  assert.equal(costOf(hour, { ...price, cacheWrite1hPicos: 5_000_000n }), BigInt(4 * 5000 + 6 * 2500));
});

test("a fraction of a nano-dollar is rounded up once, at the end", () => {
  const tiny = { ...price, inputPicos: 1n, outputPicos: 1n };
  assert.equal(costOf({ ...usage, inputTokens: 1, outputTokens: 1 }, tiny), 1n);
  assert.equal(costOf({ ...usage, inputTokens: 600, outputTokens: 600 }, tiny), 2n);
  assert.equal(costOf(usage, tiny), 0n);
});

test("numbers that are no token counts cost nothing or their next whole number", () => {
  for (const odd of [Number.NaN, -5, Number.POSITIVE_INFINITY])
    assert.equal(costOf({ ...usage, outputTokens: odd }, price), 0n);
  assert.equal(costOf({ ...usage, outputTokens: 1.2 }, price), 20_000n);
});

test("no amount is too large for the books", () => {
  const absurd = { inputTokensMax: Number.MAX_VALUE, outputTokensMax: Number.MAX_SAFE_INTEGER, choiceCount: 128 };
  assert.equal(reservationFor(absurd, price), 1_000_000_000_000_000n);
  assert.equal(costOf({ ...usage, outputTokens: Number.MAX_VALUE }, price), 1_000_000_000_000_000n);
});

test("a reservation is the whole input at its dearest price, and every choice at full length", () => {
  const bounds = { inputTokensMax: 1000, outputTokensMax: 50, choiceCount: 3 };
  assert.equal(reservationFor(bounds, price), BigInt(1000 * 3125 + 3 * 50 * 10_000));
  const reasoning = { ...price, reasoningOutputPicos: 20_000_000n, requestPicos: 7_000_000n };
  assert.equal(reservationFor(bounds, reasoning), BigInt(1000 * 3125 + 3 * 50 * 20_000 + 7_000));
});

test("a reservation assumes the dear price of a long input only where the input can be that long", () => {
  const dear = { ...price, aboveTokens: 999, inputPicos: 5_000_000n, outputPicos: 20_000_000n };
  const tiered = { ...price, longInput: [dear] };
  const bounds = { inputTokensMax: 999, outputTokensMax: 10, choiceCount: 1 };
  assert.equal(reservationFor(bounds, tiered), BigInt(999 * 3125 + 10 * 10_000));
  assert.equal(reservationFor({ ...bounds, inputTokensMax: 1000 }, tiered), BigInt(1000 * 5000 + 10 * 20_000));
  const cheap = { ...dear, inputPicos: 1n, cacheReadPicos: 1n, cacheWritePicos: 1n, outputPicos: 1n };
  assert.equal(
    reservationFor({ ...bounds, inputTokensMax: 1000 }, { ...price, longInput: [cheap] }),
    BigInt(999 * 3125 + 10 * 10_000),
    "a shorter input can be the dearer one",
  );
});

test("a reservation assumes the dearest service tier the provider may choose", () => {
  const priority = { ...price, inputPicos: 5_000_000n, outputPicos: 20_000_000n };
  const flex = { ...price, inputPicos: 1n, cacheReadPicos: 1n, cacheWritePicos: 1n, outputPicos: 1n };
  const tiered = { ...price, serviceTiers: { flex, priority } };
  const bounds = { inputTokensMax: 1000, outputTokensMax: 10, choiceCount: 1 };
  const [standard, dear] = [BigInt(1000 * 3125 + 10 * 10_000), BigInt(1000 * 5000 + 10 * 20_000)];
  for (const [serviceTier, amount] of Object.entries({ auto: dear, priority: dear, default: standard, flex: standard }))
    assert.equal(reservationFor({ ...bounds, serviceTier }, tiered), amount, serviceTier);
  assert.equal(reservationFor(bounds, tiered), dear);
});

test("prices change with the day and the hour", () => {
  const dated = { ...price, version: "from June" };
  const nightly = { ...price, version: "at night" };
  const at = (text: string) =>
    priceAt(
      {
        ...price,
        changes: [
          { when: { fromMs: Date.parse("2026-06-01") }, price: dated },
          { when: { dailyFromMs: 16.5 * 3_600_000, dailyUntilMs: 0.5 * 3_600_000 }, price: nightly },
        ],
      },
      Date.parse(text),
    ).version;
  assert.equal(at("2026-05-31T12:00:00Z"), "test");
  assert.equal(at("2026-06-01T12:00:00Z"), "from June");
  assert.equal(at("2026-06-01T16:30:00Z"), "at night");
  assert.equal(at("2026-06-02T00:29:59Z"), "at night");
  assert.equal(at("2026-06-02T00:30:00Z"), "from June");
  assert.equal(at("1969-12-31T23:00:00Z"), "at night");
});

const tokens = fc.integer({ min: 0, max: 1_000_000 });
const picos = fc.bigInt({ min: 0n, max: 1_000_000_000n });
const rates: fc.Arbitrary<Rates> = fc.record(
  {
    inputPicos: picos,
    outputPicos: picos,
    cacheReadPicos: picos,
    cacheWritePicos: picos,
    cacheWrite1hPicos: picos,
    reasoningOutputPicos: picos,
    audioInputPicos: picos,
    audioOutputPicos: picos,
    imageInputPicos: picos,
    imageOutputPicos: picos,
    imagePicos: picos,
    generatedImagePicos: picos,
    inputSecondPicos: picos,
    outputSecondPicos: picos,
    characterPicos: picos,
    webSearchPicos: picos,
    searchUnitPicos: picos,
    requestPicos: picos,
  },
  { requiredKeys: ["inputPicos", "outputPicos", "cacheReadPicos", "cacheWritePicos"] },
);
const tariffs: fc.Arbitrary<Tariff> = fc
  .tuple(rates, fc.uniqueArray(fc.tuple(tokens, rates), { maxLength: 3, selector: ([above]) => above }))
  .map(([base, levels]) => ({
    ...base,
    longInput: levels.sort(([a], [b]) => a - b).map(([aboveTokens, each]) => ({ ...each, aboveTokens })),
  }));
const prices: fc.Arbitrary<Price> = fc
  .tuple(tariffs, fc.record({ flex: tariffs, priority: tariffs, batch: tariffs }, { requiredKeys: [] }))
  .map(([tariff, serviceTiers]) => ({ ...tariff, serviceTiers, version: "test" }));
/** Any usage a provider might report, whether it adds up or not. */
const usages: fc.Arbitrary<Usage> = fc.record(
  {
    inputTokens: tokens,
    outputTokens: tokens,
    cacheReadInputTokens: tokens,
    cacheWriteInputTokens: tokens,
    reasoningOutputTokens: tokens,
    cacheWrite1hInputTokens: tokens,
    audioInputTokens: tokens,
    audioOutputTokens: tokens,
    imageInputTokens: tokens,
    imageOutputTokens: tokens,
    pieces: fc.dictionary(
      fc.constantFrom("image", "generatedImage", "inputSecond", "outputSecond", "character", "webSearch", "searchUnit"),
      fc.integer({ min: 0, max: 20 }),
    ),
    estimated: fc.boolean(),
  },
  {
    requiredKeys: [
      "inputTokens",
      "outputTokens",
      "cacheReadInputTokens",
      "cacheWriteInputTokens",
      "reasoningOutputTokens",
      "estimated",
    ],
  },
);
/** What may be asked for, and as what it may then be billed. */
const requested = fc
  .constantFrom<[string | undefined, readonly (string | undefined)[]]>(
    [undefined, [undefined, "default", "flex", "priority", "batch", "scale"]],
    ["auto", ["auto", "default", "flex", "priority", "batch"]],
    ["default", ["default"]],
    ["flex", ["flex", "default"]],
    ["priority", ["priority", "default", "flex"]],
  )
  .chain(([asked, billed]) => fc.tuple(fc.constant(asked), fc.constantFrom(...billed)));

/** Bounds that a usage stays within, more or less tight. */
function boundsFor(used: Usage, choiceCount: number, slack: number, serviceTier: string | undefined): Bounds {
  return {
    inputTokensMax: used.inputTokens + slack,
    outputTokensMax: Math.ceil(used.outputTokens / choiceCount) + slack,
    choiceCount,
    pieces: used.pieces ?? {},
    ...(serviceTier !== undefined && { serviceTier }),
  };
}

const choiceCounts = fc.integer({ min: 1, max: 8 });
const slacks = fc.oneof(fc.constant(0), tokens);

test("no usage within its bounds costs more than its reservation, or less than nothing", () => {
  fc.assert(
    fc.property(usages, prices, choiceCounts, slacks, requested, (used, each, choiceCount, slack, [asked, billed]) => {
      const cost = costOf({ ...used, ...(billed !== undefined && { serviceTier: billed }) }, each);
      assert.ok(cost >= 0n);
      assert.ok(cost <= reservationFor(boundsFor(used, choiceCount, slack, asked), each));
    }),
    { numRuns: 2000 },
  );
});

test("what can be afforded is paid by the amount, and a token more is not", () => {
  const amounts = fc.bigInt({ min: -1000n, max: 2_000_000_000_000n });
  fc.assert(
    fc.property(usages, prices, choiceCounts, requested, amounts, (used, each, choiceCount, [asked], amount) => {
      const bounds = boundsFor(used, choiceCount, 0, asked);
      const outputTokensMax = affordableOutputTokens(amount, bounds, each);
      const costAt = (length: number) => reservationFor({ ...bounds, outputTokensMax: length }, each);
      assert.ok(outputTokensMax <= bounds.outputTokensMax);
      if (outputTokensMax >= 0) assert.ok(costAt(outputTokensMax) <= amount);
      if (outputTokensMax < bounds.outputTokensMax) assert.ok(costAt(outputTokensMax + 1) > amount);
    }),
    { numRuns: 1000 },
  );
});

test("more output never costs less, nor does more uncached input at the same rates", () => {
  fc.assert(
    fc.property(usages, rates, tokens, (used, plain, more) => {
      const each = { ...plain, version: "test" };
      const uncached = { ...usage, inputTokens: used.inputTokens };
      assert.ok(costOf({ ...uncached, inputTokens: uncached.inputTokens + more }, each) >= costOf(uncached, each));
      assert.ok(costOf({ ...used, outputTokens: used.outputTokens + more }, each) >= costOf(used, each));
    }),
  );
});
