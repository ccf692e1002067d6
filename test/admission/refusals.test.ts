import assert from "node:assert/strict";
import { test } from "node:test";
import { budgetExceeded, modelNotAllowed, modelNotFound, rateLimited } from "../../src/admission/refusals.ts";
import { mayUse } from "../../src/admission/whitelist.ts";
import { sampleGrant } from "../keys/samples.ts";

const budget = {
  budgetId: "b",
  scope: "team_member",
  scopeId: "team-7",
  window: undefined,
  max: 25_000_000_000n,
} as const;

test("a budget's refusal names the scope and both figures, and invites no retry", () => {
  const refusal = { budget, spent: 24_500_000_000n, reserved: 400_000_000n, resetsAtMs: 1_800_000_000_000 };
  const error = budgetExceeded(refusal, 200_000_000n);
  assert.equal(error.kind.httpStatus, 429);
  assert.equal(error.kind.type, "budget_exceeded");
  assert.equal(error.shouldRetry, false);
  assert.equal(error.facts.retryAfterMs, undefined);
  assert.match(error.message, /^Budget has been exceeded! TeamMember=team-7 Current cost: \$24\.5 /);
  assert.match(
    error.message,
    /\$0\.4 reserved .*Max budget: \$25; this call may cost up to \$0\.2\. It resets at 2027-/,
  );
  assert.equal(error.facts.metadata?.maxUsd, "25");
  assert.match(budgetExceeded({ ...refusal, reserved: 0n, resetsAtMs: undefined }, 1n).message, /not reset by itself/);
});

test("a refusal says which of several windows has no room", () => {
  const refusal = { budget: { ...budget, window: "1d" }, spent: 25_000_000_000n, reserved: 0n, resetsAtMs: 1 };
  const error = budgetExceeded(refusal, 1n);
  assert.match(error.message, /^Budget has been exceeded! TeamMember=team-7 \(1d window\) Current cost: \$25, /);
  assert.equal(error.facts.metadata?.window, "1d");
  assert.equal("window" in (budgetExceeded({ ...refusal, budget }, 1n).facts.metadata ?? {}), false);
});

test("a limit's refusal names it and when to come back, unless that is never", () => {
  const limit = { scope: "key", scopeId: "key_1", kind: "requests", ceiling: 100 } as const;
  const error = rateLimited(limit, 1_500);
  assert.match(error.message, /for api_key: key_1\. Limit type: requests\. Current limit: 100 .* in 1\.5 s/);
  assert.equal(error.facts.retryAfterMs, 1_500);
  assert.equal(error.shouldRetry, true);
  for (const kind of ["requests", "tokens", "parallel"] as const) {
    const never = rateLimited({ ...limit, kind, ceiling: 0 }, 60_000);
    assert.match(never.message, /allows nothing/);
    assert.equal(never.shouldRetry, false);
    assert.equal(never.facts.retryAfterMs, undefined);
  }
});

test("a refusal quotes the caller's model whole only if it is short, and always as one line", () => {
  for (const error of [modelNotAllowed(`a"\n${"x".repeat(9_000)}`), modelNotFound("y".repeat(9_000))]) {
    assert.ok(error.message.length < 500);
    assert.doesNotMatch(error.message, /\n/);
    assert.ok((error.facts.metadata?.model?.length ?? 0) <= 256);
  }
});

test("a whitelist allows by any of a model's names, by wildcard, and all when it is empty", () => {
  const may = (models: readonly string[], ...names: string[]) =>
    mayUse({ ...sampleGrant("k", undefined), models }, { names, deployments: [] });
  assert.equal(may([], "anything"), true);
  assert.equal(may(["gpt-4o"], "gpt-4o"), true);
  assert.equal(may(["gpt-4o"], "gpt-4o-mini"), false);
  assert.equal(may(["gpt-4o"], "mine", "gpt-4o"), true, "an alias is allowed when its target is");
  assert.equal(may(["openai/*"], "openai/gpt-4o"), true);
  assert.equal(may(["openai/*"], "azure/openai/gpt"), false);
  for (const all of ["*", "all-proxy-models", "all-team-models"]) assert.equal(may([all], "x"), true, all);
});

test("a whitelist allows by an access group that one of a model's deployments is in, spelled out", () => {
  const deployments = [{}, { accessGroups: ["beta", "eu"] }];
  const may = (models: readonly string[], rule: readonly string[] = []) => {
    const rules = [{ scope: "team", scopeId: "t", models: rule, blocked: false }] as const;
    return mayUse({ ...sampleGrant("k", undefined), models, rules }, { names: ["gpt"], deployments });
  };
  assert.equal(may(["beta"]), true);
  assert.equal(may(["other", "eu"]), true);
  assert.equal(may(["alpha"]), false);
  assert.equal(may(["bet*"]), false, "a wildcard is about names of models");
  assert.equal(may(["no-default-models"]), false);
  assert.equal(may(["beta"], ["alpha"]), false, "the team's list has its own say");
  assert.equal(may(["gpt"], ["eu"]), true);
});
