import assert from "node:assert/strict";
import { test } from "node:test";
import type { CompletionRequest } from "../../src/completion.ts";
import type { Deployment } from "../../src/config/config.ts";
import { responsesFilter } from "../../src/routing/responses.ts";
import { Secret } from "../../src/secret.ts";
import { sampleAsk, sampleDeployments } from "./sample-candidates.ts";

const own = { speaksResponses: true, apiKey: new Secret("a") };
const wire = { wire: "openai-responses" as const };

/** The ids of deployments that are left for a call. */
function left(deployments: readonly Deployment[], request: Partial<CompletionRequest>, home?: Deployment): string[] {
  const previous = home && { deployment: home, responseId: "resp_1", tokensMax: 1 };
  const ask = sampleAsk({}, { previous });
  const excluded = responsesFilter(deployments, { ...ask, request: { ...ask.request, ...wire, ...request } });
  assert.ok(excluded.every(({ reason }) => reason === "unsupported"));
  return deployments.filter((each) => !excluded.some(({ deployment }) => deployment === each)).map(({ id }) => id);
}

test("a call that goes on goes where its answer is, or else to the same account, or else nowhere", () => {
  const group = sampleDeployments([own, own, { ...own, apiKey: new Secret("b") }]);
  const [, second] = group;
  assert.deepEqual(left(group, {}, second), ["1"]);
  const [other] = sampleDeployments([{ ...own, id: "other" }]);
  assert.deepEqual(left(group, {}, other), ["0", "1"], "the same account");
  assert.deepEqual(left(group, { wire: undefined }, second), [], "what has become chat cannot go on");
  for (const facts of [
    { apiKey: new Secret("c") },
    { apiBase: "http://elsewhere/v1" },
    { headers: { "OpenAI-Project": "p" } },
  ]) {
    const [away] = sampleDeployments([{ ...own, ...facts, id: "away" }]);
    assert.deepEqual(left(group, {}, away), []);
  }
});

test("what only the wire can say goes to those that speak it, if there are any", () => {
  const unsayable = () => [{ param: "prompt", isContent: true }];
  const mixed = sampleDeployments([{}, own, { wire: "anthropic-messages" }]);
  assert.deepEqual(left(mixed, { unsayable }), ["1"]);
  assert.deepEqual(left(mixed, { unsayable: () => [] }), ["0", "1", "2"]);
  assert.deepEqual(left(sampleDeployments([{}, {}]), { unsayable }), ["0", "1"], "they refuse it by name");
  assert.deepEqual(left(mixed, { unsayable, wire: "openai-chat" }), ["0", "1", "2"], "another door's call");
});
