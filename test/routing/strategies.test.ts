import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Price, RouterConfig, RoutingStrategy } from "../../src/config/config.ts";
import type { Ask } from "../../src/routing/candidate.ts";
import { strategyOf } from "../../src/routing/strategies.ts";
import { samplePrice } from "../sample-call.ts";
import { seeded } from "../seeded.ts";
import { type CandidateFacts, sampleAsk, sampleCandidates } from "./sample-candidates.ts";

const ask = sampleAsk();
const askStream = sampleAsk({ stream: true });

/** How often each candidate is drawn. */
function countsOf(
  router: RoutingStrategy | Pick<RouterConfig, "strategy" | "latency">,
  facts: readonly CandidateFacts[],
  { draws = 3_000, asked = ask }: { draws?: number; asked?: Ask } = {},
): number[] {
  const choose = strategyOf(typeof router === "string" ? { strategy: router } : router);
  const candidates = sampleCandidates(facts);
  const random = seeded(20_261_123);
  const counts = facts.map(() => 0);
  for (let draw = 0; draw < draws; draw++) {
    const index = Number(choose(candidates, random, asked).deployment.id);
    counts[index] = (counts[index] ?? 0) + 1;
  }
  return counts;
}

/** How far draws are from their shares: Pearson's chi-square. */
function chiSquare(counts: readonly number[], shares: readonly number[]): number {
  const draws = counts.reduce((sum, count) => sum + count, 0);
  const total = shares.reduce((sum, share) => sum + share, 0);
  return counts.reduce((sum, count, index) => {
    const expected = (draws * (shares[index] ?? 0)) / total;
    if (expected === 0) assert.equal(count, 0, "a share of nothing is never drawn");
    return expected === 0 ? sum : sum + (count - expected) ** 2 / expected;
  }, 0);
}

/** Passed by chance once in a thousand seeds, by degrees of freedom. */
const chiSquareMax = [0, 10.83, 13.82, 16.27, 18.47];

function assertShares(counts: readonly number[], shares: readonly number[]): void {
  const freedom = shares.filter((share) => share > 0).length - 1;
  const distance = chiSquare(counts, shares);
  assert.ok(distance <= (chiSquareMax[freedom] ?? 0), `${counts} for ${shares}: ${distance}`);
}

describe("simple-shuffle", () => {
  const cases: readonly [string, readonly CandidateFacts[], readonly number[]][] = [
    ["evenly when nothing is given", [{}, {}, {}], [1, 1, 1]],
    ["by weight", [{ weight: 1 }, { weight: 2 }, { weight: 5 }], [1, 2, 5]],
    ["by fractions of weight", [{ weight: 0.25 }, { weight: 0.75 }], [1, 3]],
    [
      "by weight even if rpm is given",
      [
        { weight: 1, rpm: 100 },
        { weight: 3, rpm: 1 },
      ],
      [1, 3],
    ],
    ["by weight if only a later one has any", [{ rpm: 9 }, { weight: 1 }, { weight: 1 }], [0, 1, 1]],
    ["by rpm without weights", [{ rpm: 10 }, { rpm: 30 }], [1, 3]],
    ["by tpm without the others", [{ tpm: 1000 }, { tpm: 4000 }], [1, 4]],
    ["nothing to one without the figure the others have", [{ weight: 2 }, {}, { weight: 1 }], [2, 0, 1]],
    ["nothing to a weight of zero", [{ weight: 0 }, { weight: 1 }, { weight: 1 }], [0, 1, 1]],
    ["evenly when all weights are zero", [{ weight: 0 }, { weight: 0 }], [1, 1]],
    [
      "by rpm when all weights are zero",
      [
        { weight: 0, rpm: 1 },
        { weight: 0, rpm: 2 },
      ],
      [1, 2],
    ],
    [
      "by what is left once one is full",
      [
        { weight: 8, rpm: 60, requests: 60 },
        { weight: 1, rpm: 60, requests: 59 },
        { weight: 2, tpm: 100, tokens: 99 },
      ],
      [0, 1, 2],
    ],
    ["evenly between five", [{}, {}, {}, {}, {}], [1, 1, 1, 1, 1]],
  ];
  for (const [name, facts, shares] of cases) {
    test(`shares ${name}`, () => {
      assertShares(countsOf("simple-shuffle", facts, { draws: 100_000 }), shares);
      assertShares(countsOf("provider-budget-routing", facts, { draws: 10_000 }), shares);
    });
  }

  test("draws somebody at both ends of chance", () => {
    const choose = strategyOf({ strategy: "simple-shuffle" });
    const candidates = sampleCandidates([{ weight: 0 }, { weight: 1 }, { weight: 1 }, { weight: 0 }]);
    assert.equal(choose(candidates, () => 0, ask).deployment.id, "1");
    assert.equal(choose(candidates, () => 1, ask).deployment.id, "2", "never the one that weighs nothing");
    assert.equal(choose(sampleCandidates([{}, {}]), () => 1, ask).deployment.id, "1");
  });
});

const priceOf = (inputPicos: bigint, outputPicos: bigint): Price => ({ ...samplePrice, inputPicos, outputPicos });
const night = { dailyFromMs: 0, dailyUntilMs: 6 * 3_600_000 };
const cheapAtNight: Price = { ...priceOf(9n, 9n), changes: [{ when: night, price: priceOf(1n, 1n) }] };
const atNight: Ask = { ...ask, nowMs: Date.UTC(2026, 10, 26, 3) };
const quick = (bufferRatio: number) => ({
  strategy: "latency-based-routing" as const,
  latency: { ttlMs: 1, bufferRatio },
});

/** A strategy, what it is to be used for, the candidates, and which of them are chosen, each as often as the others. */
const rows: readonly [
  string,
  RoutingStrategy | Pick<RouterConfig, "strategy" | "latency">,
  readonly CandidateFacts[],
  readonly number[],
  Ask?,
][] = [
  ["the fewest attempts under way", "least-busy", [{ inFlight: 3 }, { inFlight: 1 }, { inFlight: 2 }], [1]],
  ["any of the equally busy ones", "least-busy", [{ inFlight: 1 }, { inFlight: 1 }, { inFlight: 2 }], [0, 1]],
  ["weights do not matter to busyness", "least-busy", [{ inFlight: 1, weight: 9 }, { inFlight: 0 }], [1]],
  ["an idle one that is full gives way", "least-busy", [{ rpm: 5, requests: 5 }, { inFlight: 9 }], [1]],
  [
    "if all are full, the limits decide",
    "least-busy",
    [
      { rpm: 5, requests: 5 },
      { tpm: 1, tokens: 7, inFlight: 9 },
    ],
    [0],
  ],
  ["an rpm of zero is always full", "least-busy", [{ rpm: 0 }, { inFlight: 9 }], [1]],

  ["the fewest tokens", "usage-based-routing", [{ tokens: 900 }, { tokens: 80 }, { tokens: 81 }], [1]],
  ["the fewest tokens", "usage-based-routing-v2", [{ tokens: 900 }, { tokens: 80 }, { tokens: 81 }], [1]],
  [
    "of equal tokens the fewest attempts",
    "usage-based-routing-v2",
    [{ requests: 2 }, { requests: 1 }, { tokens: 1 }, { requests: 1 }],
    [1, 3],
  ],
  [
    "the fewest tokens that leave room",
    "usage-based-routing-v2",
    [
      { tokens: 100, tpm: 100 },
      { tokens: 150, tpm: 200 },
      { tokens: 50, rpm: 3, requests: 3 },
    ],
    [1],
  ],
  ["the last request of an rpm is used", "usage-based-routing-v2", [{ rpm: 10, requests: 9 }, { tokens: 1 }], [0]],

  ["the shortest time per token", quick(0), [{ msPerOutputToken: 30 }, { msPerOutputToken: 10 }], [1]],
  [
    "of a stream the time to the first token",
    quick(0),
    [
      { msPerOutputToken: 1, firstTokenMs: 300 },
      { msPerOutputToken: 9, firstTokenMs: 200 },
    ],
    [1],
    askStream,
  ],
  [
    "as quick within the buffer",
    quick(0.5),
    [{ msPerOutputToken: 10 }, { msPerOutputToken: 15 }, { msPerOutputToken: 15.1 }],
    [0, 1],
  ],
  ["what nobody has measured is explored", quick(0), [{ msPerOutputToken: 1 }, {}, {}], [1, 2]],
  [
    "a measurement of streams says nothing of other calls",
    quick(0),
    [{ msPerOutputToken: 1 }, { firstTokenMs: 1 }],
    [1],
  ],
  ["one call at a time explores", quick(0), [{ msPerOutputToken: 9 }, { inFlight: 1 }, { msPerOutputToken: 8 }], [2]],
  ["before anything is measured, the least busy", quick(0), [{ inFlight: 2 }, { inFlight: 1 }], [1]],
  ["the quickest is full", quick(0), [{ msPerOutputToken: 1, tpm: 5, tokens: 5 }, { msPerOutputToken: 7 }], [1]],
  [
    "without arguments there is no buffer",
    "latency-based-routing",
    [{ firstTokenMs: 5 }, { firstTokenMs: 6 }],
    [0],
    askStream,
  ],

  [
    "the lowest price of both directions",
    "cost-based-routing",
    [{ price: priceOf(1n, 9n) }, { price: priceOf(4n, 5n) }, { price: priceOf(1n, 7n) }],
    [2],
  ],
  ["any of equal price", "cost-based-routing", [{ price: priceOf(1n, 7n) }, { price: priceOf(4n, 4n) }], [0, 1]],
  ["unpriced ones come last", "cost-based-routing", [{ price: undefined }, { price: priceOf(10n ** 12n, 1n) }], [1]],
  ["what is free is cheapest", "cost-based-routing", [{ price: priceOf(0n, 0n) }, { price: priceOf(0n, 1n) }], [0]],
  ["nothing has a price", "cost-based-routing", [{ price: undefined }, { price: undefined }], [0, 1]],
  ["the price of the hour: day", "cost-based-routing", [{ price: cheapAtNight }, { price: priceOf(5n, 5n) }], [1]],
  [
    "the price of the hour: night",
    "cost-based-routing",
    [{ price: cheapAtNight }, { price: priceOf(5n, 5n) }],
    [0],
    atNight,
  ],
];

describe("a strategy", () => {
  for (const [name, router, facts, chosen, asked = ask] of rows) {
    const strategy = typeof router === "string" ? router : router.strategy;
    test(`${strategy}: ${name}`, () => {
      const counts = countsOf(router, facts, { asked });
      assertShares(
        counts,
        facts.map((_, index) => (chosen.includes(index) ? 1 : 0)),
      );
    });
  }

  test("asks chance nothing where there is one candidate, and needs one", () => {
    const never = () => assert.fail("chance was asked");
    for (const strategy of ["simple-shuffle", "least-busy", "cost-based-routing"] as const) {
      const [only, ...none] = sampleCandidates([{ rpm: 1, requests: 1, price: undefined }]);
      assert.ok(only);
      assert.equal(strategyOf({ strategy })([only], never, ask), only);
      assert.throws(() => strategyOf({ strategy })(none, () => 0, ask), RangeError);
    }
  });
});
