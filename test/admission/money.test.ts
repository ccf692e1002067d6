import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Need } from "../../src/admission/need.ts";
import type { SettledEvent } from "../../src/completion.ts";
import { GatewayStage, usage } from "../gateway-stage.ts";
import { sampleGrant } from "../keys/samples.ts";
import { sampleDeployment, samplePrice, sampleRequest } from "../sample-call.ts";

const request = sampleRequest();
/** A token in costs 1000 nano-dollars, one out 2000. */
const inputCost = BigInt(request.inputTokensMax) * 1_000n;
const withBudget = (max: bigint) => new GatewayStage({ grant: { budgets: sampleGrant("key_1", max).payer.budgets } });

describe("what a call needs", () => {
  const bounds = { inputTokensMax: 10, outputTokensMax: 1000, choiceCount: 2 };
  const dear = { ...samplePrice, outputPicos: 20_000_000n };
  const deployments = [
    sampleDeployment({ outputTokensMax: 1000 }),
    sampleDeployment({ outputTokensMax: 20, price: dear }),
    sampleDeployment({ price: undefined }),
  ];

  test("is its cost at the dearest deployment, none sent more than its own cap", () => {
    assert.equal(new Need(bounds, deployments, true, 0).amountAt(1000), 10_000n + 2n * 1000n * 2_000n);
    assert.equal(new Need(bounds, deployments, true, 0).amountAt(50), 10_000n + 2n * 20n * 20_000n);
  });

  test("is all of a cap that is the caller's, anywhere", () => {
    assert.equal(new Need(bounds, deployments, false, 0).amountAt(1000), 10_000n + 2n * 1000n * 20_000n);
  });

  test("fits an amount when choices become so long and no longer", () => {
    const need = new Need(bounds, deployments, true, 0);
    for (const [amount, length] of [
      [10_000_000n, 1000],
      [10_000n + 2n * 500n * 2_000n, 500],
      // Twenty tokens of the dear deployment are no longer paid.
      [10_000n + 2n * 20n * 20_000n - 1n, 19],
      [9_999n, -1],
    ] as const) {
      assert.equal(need.outputTokensFor(amount), length, String(amount));
      if (length >= 0) assert.ok(need.amountAt(length) <= amount);
    }
  });
});

describe("a call without a cap of its own", () => {
  test("is sent the deployment's where the budget pays for it", async () => {
    const stage = withBudget(inputCost + 200_000n);
    await stage.answered({ request });
    assert.equal(stage.provider.calls[0]?.outputTokensMax, 100);
    await stage.rest();
  });

  test("is sent the longest the budget can pay, down to sixteen tokens, and then is refused", async () => {
    for (const [tokens, cap] of [
      [99, 99],
      [50, 50],
      [16, 16],
      [15, undefined],
    ] as const) {
      const stage = withBudget(inputCost + BigInt(tokens) * 2_000n + 1_999n);
      if (cap === undefined) assert.equal((await stage.failed({ request })).error.code, "budget_exceeded");
      else await stage.answered({ request });
      assert.equal(stage.provider.calls[0]?.outputTokensMax, cap);
      const records = await stage.rest();
      assert.equal(records[0]?.reserved, cap && inputCost + BigInt(cap) * 2_000n);
    }
  });

  test("is paid from what this pod holds already, too", async () => {
    const stage = withBudget(inputCost + 200_000n);
    await stage.answered({ request });
    // All the money is on this pod's lease, less the 24,000 of the first call.
    await stage.answered({ request });
    assert.deepEqual(
      stage.provider.calls.map(({ outputTokensMax }) => outputTokensMax),
      [100, 88],
    );
    await stage.rest();
  });

  test("is not shortened when the caller has named a cap", async () => {
    const capped = sampleRequest({ max_tokens: 100 });
    const stage = withBudget(BigInt(capped.inputTokensMax) * 1_000n + 199_999n);
    assert.equal((await stage.failed({ request: capped })).error.code, "budget_exceeded");
    assert.equal((await stage.rest()).length, 0);
  });
});

describe("a model without a price", () => {
  const deployments = [sampleDeployment({ price: undefined })];

  test("is counted, and refused to a key with a budget", async () => {
    const stage = new GatewayStage({ deployments });
    assert.equal((await stage.failed()).error.code, "unpriced_model");
    assert.deepEqual(stage.unpriced, ["m"]);
    await stage.rest();
  });

  test("is counted, and booked at nothing, where the configuration says so or no budget is to be held", async () => {
    const free = sampleGrant("key_1", undefined).payer.budgets;
    for (const options of [{ config: { unpricedModels: "flag" } }, { grant: { budgets: free } }] as const) {
      const stage = new GatewayStage({ deployments, ...options });
      const settled = (await stage.answered()).at(-1) as SettledEvent;
      assert.equal(settled.cost, 0n);
      assert.deepEqual(stage.unpriced, ["m"]);
      assert.equal((await stage.rest())[0]?.priceVersion, "unpriced");
    }
  });
});

test("a call is charged for the tier and the images it asked for when the provider names neither", async () => {
  const price = {
    ...samplePrice,
    serviceTiers: { flex: { ...samplePrice, inputPicos: 500_000n, outputPicos: 1_000_000n } },
    imagePicos: 5_000_000n,
  };
  const image = { type: "image_url", image_url: { url: "https://example.com/a.png" } };
  const fields = { messages: [{ role: "user", content: [image, image] }] };
  // 10 and 7 tokens at 1000 and 2000 nano-dollars and two images at 5000, or half the tokens' price in flex and no images.
  for (const [asked, reported, cost] of [
    [undefined, undefined, 34_000n],
    ["flex", undefined, 12_000n],
    ["flex", "default", 34_000n],
    ["auto", "flex", 12_000n],
  ] as const) {
    const stage = new GatewayStage({ deployments: [sampleDeployment({ price })] });
    const end = { type: "end", responseId: undefined, raw: undefined } as const;
    stage.provider.scripts = [[{ ...end, usage: { ...usage, ...(reported && { serviceTier: reported }) } }]];
    const request = sampleRequest({ ...fields, ...(asked && { service_tier: asked }) });
    const settled = (await stage.answered({ request })).at(-1) as SettledEvent;
    assert.equal(settled.cost, cost, `${asked} ${reported}`);
    await stage.rest();
  }
});
