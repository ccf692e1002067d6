import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { partiesOf, payerOf } from "../../src/admission/payer.ts";
import { ProviderFailure } from "../../src/errors.ts";
import type { Budget, Grant, PartyGrant, PartyScope, Scope } from "../../src/keys/authority.ts";
import { GatewayStage } from "../gateway-stage.ts";
import { sampleGrant } from "../keys/samples.ts";
import { sampleCaller, sampleDeployment, sampleRequest } from "../sample-call.ts";

const budget = (budgetId: string, scope: Scope = "tag"): Budget => {
  return { budgetId, scope, scopeId: budgetId, window: undefined, max: 5n };
};
const party = (id: string, facts: Partial<PartyGrant> = {}): PartyGrant => {
  return { scope: "tag", id, limits: [], budgets: [], models: [], blocked: false, ...facts };
};

describe("who pays for a call", () => {
  const grant: Grant = {
    ...sampleGrant("key_1", 100n),
    modelBudgets: [
      { model: "gpt-5", budget: budget("five", "model") },
      { model: "claude-*", budget: budget("claude", "model") },
    ],
  };

  it("is the key itself, the same object each time, where nothing else has a budget", () => {
    assert.equal(payerOf(grant, [], ["gemini"]), grant.payer);
    assert.equal(payerOf(grant, [party("unknown")], ["gemini"]), grant.payer);
  });

  const models: readonly [string, readonly string[], readonly string[]][] = [
    ["by the name the caller used", ["gpt-5"], ["five"]],
    ["by the group an alias ends in", ["fast", "gpt-5"], ["five"]],
    ["by a wildcard", ["claude-opus"], ["claude"]],
    ["by all that fit", ["claude-opus", "gpt-5"], ["claude", "five"]],
  ];
  for (const [how, names, expected] of models) {
    it(`has a model's budget ${how}`, () => {
      const payer = payerOf(grant, [], names);
      assert.deepEqual(payer.extraBudgetIds, expected);
      assert.deepEqual(payer.budgets.map(({ budgetId }) => budgetId).toSorted(), [...expected, "key_1"].toSorted());
    });
  }

  it("is told from others by the budgets, in whatever order they are named", () => {
    const [red, blue] = [party("red", { budgets: [budget("r")] }), party("blue", { budgets: [budget("b")] })];
    assert.equal(payerOf(grant, [red, blue], []).id, payerOf(grant, [blue, red], []).id);
    assert.notEqual(payerOf(grant, [red], []).id, payerOf(grant, [blue], []).id);
    assert.notEqual(payerOf(grant, [red], []).id, grant.payer.id);
  });

  it("has the limits of what the call names, besides the key's", () => {
    const limit = { scope: "tag", scopeId: "red", kind: "requests", ceiling: 3 } as const;
    assert.deepEqual(payerOf(grant, [party("red", { limits: [limit] })], []).limits, [limit]);
  });

  it("has the limits of the models the call names, and no others", () => {
    const limit = (model: string) => {
      return { scope: "model_per_key", scopeId: `key_1:${model}`, kind: "requests", ceiling: 3 } as const;
    };
    const modelLimits = ["gpt-5", "claude-*"].map((model) => ({ model, limit: limit(model) }));
    const limitsOf = (...names: string[]) => payerOf({ ...grant, modelBudgets: [], modelLimits }, [], names).limits;
    assert.deepEqual(limitsOf("gpt-5"), [limit("gpt-5")]);
    assert.deepEqual(limitsOf("fast", "claude-opus"), [limit("claude-*")]);
    assert.deepEqual(limitsOf("gemini"), []);
    assert.equal(payerOf({ ...grant, modelBudgets: [], modelLimits }, [], ["gpt-5"]).id, grant.payer.id);
  });

  it("only kinds of parties the books know any of are asked for", () => {
    const asked = (partyScopes: readonly PartyScope[]) =>
      partiesOf({ ...grant, partyScopes }, "anna", ["red", "blue"], new Map());
    assert.deepEqual(asked([]), []);
    assert.deepEqual(asked(["end_user"]), [{ scope: "end_user", id: "anna" }]);
    assert.equal(asked(["end_user", "tag"]).length, 3);
    assert.deepEqual(partiesOf({ ...grant, partyScopes: ["end_user"] }, undefined, [], new Map()), []);
  });
});

describe("a call that names what has budgets of its own", () => {
  const known = ["end_user", "tag"] as const;
  const request = () => ({ ...sampleRequest(), endUser: "anna", tags: ["red"] });

  it("asks the KeyService for all of them, and its record names them", async () => {
    const stage = new GatewayStage({
      grant: { partyScopes: known, modelBudgets: [{ model: "*", budget: budget("any", "model") }] },
    });
    stage.authority.parties.set("end_user anna", { budgets: [budget("anna's", "end_user")] });
    await stage.answered({ request: request() });
    assert.deepEqual(stage.authority.asks[0]?.budgetIds, ["anna's", "any"]);
    const [record] = await stage.rest();
    assert.deepEqual(record?.budgetIds, ["anna's", "any"]);
    assert.ok(record?.leaseId);
  });

  it("a key without any limit needs a lease for a customer with one", async () => {
    const stage = new GatewayStage({ grant: { partyScopes: known, budgets: [] } });
    stage.authority.parties.set("end_user anna", { budgets: [budget("anna's", "end_user")] });
    stage.authority.budgets.set("key_1", { max: undefined, spent: 0n, reserved: 0n });
    await stage.answered();
    assert.equal(stage.authority.asks.length, 0);
    await stage.answered({ request: request() });
    assert.equal(stage.authority.asks.length > 0, true);
    await stage.rest();
  });

  it("what is known is not asked again, strangers included", async () => {
    const stage = new GatewayStage({ grant: { partyScopes: known } });
    await stage.answered({ request: request() });
    assert.equal(stage.authority.partyCount, 2);
    await stage.answered({ request: request() });
    assert.equal(stage.authority.partyCount, 2);
    await stage.rest();
  });

  it("goes where its customer's region lets it, for no question more, and so do its tokens to be counted", async () => {
    const deployments = [
      sampleDeployment({ id: "us", region: "us-east-1" }),
      sampleDeployment({ id: "eu", region: "eu" }),
    ];
    const stage = new GatewayStage({ grant: { partyScopes: known }, deployments });
    stage.authority.parties.set("end_user anna", { region: "eu" });
    stage.authority.parties.set("end_user ben", { region: "mars" });
    stage.provider.countTokens = async () => 4_711;
    await stage.answered({ request: request() });
    assert.deepEqual(
      stage.provider.calls.map(({ deployment }) => deployment.id),
      ["eu"],
    );
    assert.equal(await stage.gateway.countTokens(request(), sampleCaller()), 4_711);
    const ofBen = { ...request(), endUser: "ben", tags: [] };
    assert.equal((await stage.failed({ request: ofBen })).error.code, "region_not_allowed");
    assert.notEqual(await stage.gateway.countTokens(ofBen, sampleCaller()), 4_711, "the provider was not asked");
    assert.equal(stage.provider.calls.length, 1);
    assert.equal(stage.authority.partyCount, 3, "anna, ben and the tag, once each");
    await stage.rest();
  });

  it("is charged, in a fallback with another customer, to that one", async () => {
    const deployments = ["one", "two"].map((modelGroup) => sampleDeployment({ id: modelGroup, modelGroup }));
    const stage = new GatewayStage({ grant: { partyScopes: known, models: [] }, deployments });
    stage.authority.parties.set("end_user ben", { budgets: [budget("ben's", "end_user")] });
    stage.provider.scripts = [[new ProviderFailure("provider_error", "boom", { billable: false })]];
    const body = { model: "one", user: "anna", num_retries: 0, fallbacks: [{ model: "two", user: "ben" }] };
    await stage.answered({ request: sampleRequest(body) });
    const records = await stage.rest();
    assert.deepEqual(records.map(({ endUser, budgetIds }) => [endUser, ...budgetIds]).at(-1), ["ben", "ben's"]);
  });

  it("is refused with 403 when a blocked customer is named, before anything is spent", async () => {
    const stage = new GatewayStage({ grant: { partyScopes: known } });
    stage.authority.parties.set("end_user anna", { blocked: true });
    const { error } = await stage.failed({ request: request() });
    assert.equal(error.code, "permission_denied");
    assert.match(error.message, /EndUser=anna is blocked/);
    assert.deepEqual(await stage.rest(), []);
  });

  it("is refused the models that what it names may not use", async () => {
    const stage = new GatewayStage({ grant: { partyScopes: known } });
    stage.authority.parties.set("end_user anna", { models: ["something-else"] });
    assert.equal((await stage.failed({ request: request() })).error.code, "model_not_allowed");
    await stage.rest();
  });

  it("is answered 503 while nobody can say what holds for what it names", async () => {
    const stage = new GatewayStage({ grant: { partyScopes: known } });
    await stage.answered();
    stage.authority.trouble.away = true;
    const { error } = await stage.failed({ request: request() });
    assert.equal(error.code, "keyservice_unavailable");
    assert.equal(error.kind.httpStatus, 503);
    await stage.rest();
  });

  it("teams, members and organizations block and restrict a key's calls", async () => {
    const rule = (scope: Scope, facts: { models?: string[]; blocked?: boolean }) => {
      return { scope, scopeId: "it", models: [], blocked: false, ...facts };
    };
    const blocked = new GatewayStage({ grant: { rules: [rule("team", { blocked: true })] } });
    const { error } = await blocked.failed();
    assert.deepEqual([error.code, error.kind.httpStatus], ["blocked_key", 403]);
    assert.match(error.message, /Team=it is blocked/);
    const restricted = new GatewayStage({
      grant: { models: ["all-team-models"], rules: [rule("team", { models: ["other"] })] },
    });
    assert.equal((await restricted.failed()).error.code, "model_not_allowed");
    const open = new GatewayStage({ grant: { models: ["*"], rules: [rule("organization", { models: ["*"] })] } });
    await open.answered();
    for (const stage of [blocked, restricted, open]) await stage.rest();
  });
});
