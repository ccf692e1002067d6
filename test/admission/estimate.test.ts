import assert from "node:assert/strict";
import { test } from "node:test";
import { boundsOf, countTokens, estimatedUsage, likelyInputTokens } from "../../src/admission/estimate.ts";
import { sampleDeployment, sampleRequest } from "../sample-call.ts";

const deployments = [sampleDeployment({ outputTokensMax: 100 }), sampleDeployment({ outputTokensMax: 900 })];
const tokensPerMinute = (ceiling: number) => [{ scope: "key", scopeId: "k", kind: "tokens", ceiling }] as const;

test("without a cap of the caller's, the longest default of the reachable deployments bounds the answer", () => {
  assert.equal(boundsOf(sampleRequest(), deployments, []).outputTokensMax, 900);
  assert.equal(boundsOf(sampleRequest({ max_tokens: 5_000 }), deployments, []).outputTokensMax, 5_000);
});

test("a key's tokens per minute shorten the cap that we choose, shared by all choices, but never to nothing", () => {
  const request = sampleRequest({ n: 2 });
  const likely = likelyInputTokens(request);
  assert.equal(boundsOf(request, deployments, tokensPerMinute(likely + 201)).outputTokensMax, 100);
  assert.equal(boundsOf(request, deployments, tokensPerMinute(1)).outputTokensMax, 1);
  const named = sampleRequest({ max_tokens: 700 });
  assert.equal(boundsOf(named, deployments, tokensPerMinute(50)).outputTokensMax, 700, "the caller's own stands");
});

test("limits that count only tokens in or out shorten the cap for those out alone", () => {
  const limits = tokensPerMinute(60);
  assert.equal(boundsOf(sampleRequest(), deployments, limits, "output").outputTokensMax, 60);
  assert.equal(boundsOf(sampleRequest(), deployments, limits, "input").outputTokensMax, 900);
  const used = { inputTokens: 10, outputTokens: 7 };
  assert.deepEqual(
    (["total", "input", "output"] as const).map((counted) => countTokens(used, counted)),
    [17, 10, 7],
  );
});

test("an estimate is marked as one", () => {
  const usage = estimatedUsage(sampleRequest(), 12);
  assert.equal(usage.outputTokens, 12);
  assert.equal(usage.estimated, true);
  assert.ok(usage.inputTokens > 0);
});
