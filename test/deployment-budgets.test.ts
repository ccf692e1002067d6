/** Budgets of deployments and providers, as calls meet them. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ConfiguredBudget } from "../src/config/configured-budget.ts";
import { ProviderFailure } from "../src/errors.ts";
import type { Budget } from "../src/keys/authority.ts";
import { answer, GatewayStage } from "./gateway-stage.ts";
import { sampleDeployment, sampleRequest, sampleRouter } from "./sample-call.ts";

const max = 1_000_000_000n;
const configured = (scope: "provider" | "deployment", id: string): ConfiguredBudget => ({
  scope,
  id,
  max,
  window: "1d",
});
const held = (scope: "provider" | "deployment", id: string): Budget => {
  return { budgetId: `${scope}_${id}`, scope, scopeId: id, window: "1d", max };
};

/** Deployments in the order they are tried; those named have a budget of their own, those of "openai" one together. */
function stageOf(...budgeted: readonly string[]): GatewayStage {
  const deployments = ["a", "b", "c"].map((id, index) => {
    const provider = id === "c" ? "anthropic" : "openai";
    const own = budgeted.includes(id) ? [configured("deployment", id)] : [];
    const common = budgeted.includes(provider) ? [configured("provider", provider)] : [];
    const budgets = [...own, ...common];
    return sampleDeployment({ id, provider, order: index, ...(budgets.length > 0 && { budgets }) });
  });
  const router = sampleRouter({ retries: 0 });
  const stage = new GatewayStage({ deployments, grant: { budgets: [] }, config: { router } });
  stage.authority.budgets.set("key_1", { max: undefined, spent: 0n, reserved: 0n });
  for (const { budgets = [] } of deployments) {
    for (const { scope, id } of budgets) {
      if (scope !== "tag") stage.authority.parties.set(`${scope} ${id}`, { budgets: [held(scope, id)] });
    }
  }
  return stage;
}

const called = (stage: GatewayStage) => stage.provider.calls.map(({ deployment }) => deployment.id);

describe("budgets of deployments and providers", () => {
  test("are lent from and charged for attempts there, of keys without any budget too", async () => {
    const stage = stageOf("a", "openai");
    await stage.answered();
    assert.deepEqual(called(stage), ["a"]);
    assert.deepEqual(stage.authority.asks[0]?.budgetIds, ["deployment_a", "provider_openai"]);
    const [record] = await stage.rest();
    assert.deepEqual(record?.budgetIds, ["deployment_a", "provider_openai"]);
    assert.ok(record?.leaseId);
  });

  test("cost nothing where a deployment has none: nobody is asked", async () => {
    const stage = stageOf("b");
    await stage.answered();
    assert.deepEqual(called(stage), ["a"]);
    assert.equal(stage.authority.partyCount + stage.authority.asks.length, 0);
    await stage.rest();
  });

  test("pass a deployment over that has no room, and for a while without asking; it comes back", async () => {
    const stage = stageOf("a");
    stage.authority.exhausted.set("deployment_a", held("deployment", "a"));
    await stage.answered();
    const asks = stage.authority.asks.length;
    await stage.answered();
    assert.deepEqual(called(stage), ["b", "b"]);
    assert.equal(stage.authority.asks.length, asks, "it is remembered");
    stage.authority.exhausted.clear();
    await stage.clock.advance(2_100);
    await stage.answered();
    assert.deepEqual(called(stage), ["b", "b", "a"]);
    await stage.rest();
  });

  test("of a provider pass over all its deployments", async () => {
    const stage = stageOf("openai");
    stage.authority.exhausted.set("provider_openai", held("provider", "openai"));
    await stage.answered();
    assert.deepEqual(called(stage), ["c"]);
    await stage.rest();
  });

  test("refuse only when no deployment is left, with 429 and in the budget's name, before anybody is called", async () => {
    const stage = stageOf("openai", "anthropic");
    for (const id of ["openai", "anthropic"]) stage.authority.exhausted.set(`provider_${id}`, held("provider", id));
    for (let call = 0; call < 2; call++) {
      const { error } = await stage.failed();
      assert.equal(error.kind.httpStatus, 429);
      assert.match(
        error.message,
        /^No deployments available - crossed budget: Provider=(anthropic|openai) \(1d window\) /,
      );
      assert.equal(error.shouldRetry, false);
    }
    assert.deepEqual(await stage.rest(), []);
  });

  test("without room send a call to its fallbacks", async () => {
    const budgets = [configured("deployment", "a")];
    const deployments = [
      sampleDeployment({ id: "a", modelGroup: "m", budgets }),
      sampleDeployment({ id: "other", modelGroup: "other" }),
    ];
    const router = sampleRouter({ fallbacks: new Map([["m", [{ model: "other" }]]]) });
    const stage = new GatewayStage({ deployments, config: { router } });
    stage.authority.parties.set("deployment a", { budgets: [held("deployment", "a")] });
    stage.authority.exhausted.set("deployment_a", held("deployment", "a"));
    await stage.answered();
    assert.deepEqual(called(stage), ["other"]);
    await stage.rest();
  });

  test("are charged for each attempt to where it is made", async () => {
    const stage = stageOf("a");
    stage.provider.scripts = [[new ProviderFailure("provider_unavailable", "Down.", { billable: false })], answer];
    await stage.answered();
    const records = await stage.rest();
    assert.deepEqual(
      records.map(({ deploymentId, budgetIds }) => [deploymentId, budgetIds]),
      [
        ["a", ["deployment_a"]],
        ["b", []],
      ],
    );
  });

  test("cannot be held where nobody knows the price, unless the configuration wants that", async () => {
    const deployments = [sampleDeployment({ price: undefined, budgets: [configured("deployment", "d1")] })];
    const refusing = new GatewayStage({ deployments, grant: { budgets: [] } });
    assert.equal((await refusing.failed()).error.code, "unpriced_model");
    await refusing.rest();
  });

  test("of a tag that the configuration gives one are asked for besides what the books know of the tag", async () => {
    const tagBudgets = new Map([["red", { scope: "tag", id: "red", max, window: "1d" } as const]]);
    const stage = new GatewayStage({ config: { tagBudgets } });
    stage.authority.parties.set("tag red", {
      budgets: [{ ...held("provider", "x"), budgetId: "red's", scope: "tag" }],
    });
    await stage.answered({ request: { ...sampleRequest(), tags: ["red", "blue"] } });
    assert.equal(stage.authority.partyCount, 1);
    assert.deepEqual(stage.authority.asks[0]?.budgetIds, ["red's"]);
    await stage.rest();
  });
});
