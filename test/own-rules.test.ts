/** `router_settings` of a key or its team, as its calls follow them. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { JsonObject } from "../src/completion.ts";
import { compileOwnRules } from "../src/config/own-rules.ts";
import { ProviderFailure } from "../src/errors.ts";
import type { Grant } from "../src/keys/authority.ts";
import { GatewayStage } from "./gateway-stage.ts";
import { sampleDeployment, sampleRequest, sampleRouter } from "./sample-call.ts";

const down = () => new ProviderFailure("provider_unavailable", "Down.", { billable: false });

describe("a key's own router settings", () => {
  const deployments = ["a", "b", "c"].map((modelGroup) => sampleDeployment({ id: modelGroup, modelGroup, retries: 1 }));
  const router = sampleRouter({
    fallbacks: new Map([["a", [{ model: "b" }]]]),
    retriesByClass: { ServiceUnavailable: 3 },
  });
  const called = (stage: GatewayStage) => stage.provider.calls.map(({ deployment }) => deployment.id);
  const run = async (settings: JsonObject, grant: Partial<Grant> = {}) => {
    const stage = new GatewayStage({
      deployments,
      config: { router },
      grant: { ...grant, repeat: compileOwnRules(settings) },
    });
    stage.provider.scripts = Array.from({ length: 9 }, () => [down()]);
    await stage.failed({ request: sampleRequest({ model: "a" }) });
    await stage.rest();
    return called(stage);
  };

  test("decide how often a call is repeated, whatever deployments and policies of the configuration say", async () => {
    assert.deepEqual(await run({ num_retries: 0 }), ["a", "b"]);
    assert.deepEqual(await run({ num_retries: 2 }), ["a", "a", "a", "b", "b", "b"]);
  });

  test("decide by class of failure for one model, before the number", async () => {
    const model_group_retry_policy = { a: { ServiceUnavailableErrorRetries: 1 } };
    assert.deepEqual(await run({ num_retries: 0, model_group_retry_policy }), ["a", "a", "b"]);
  });

  test("take the place of the configuration's fallbacks, those to nothing too", async () => {
    assert.deepEqual(await run({ num_retries: 0, fallbacks: [{ a: ["c"] }] }), ["a", "c"]);
    assert.deepEqual(await run({ num_retries: 0, fallbacks: [] }), ["a"]);
  });

  test("do not lead to models the key may not use, which the configuration's may", async () => {
    assert.deepEqual(await run({ num_retries: 0, fallbacks: [{ a: ["c"] }] }, { models: ["a"] }), ["a"]);
    assert.deepEqual(await run({ num_retries: 0 }, { models: ["a"] }), ["a", "b"]);
  });

  test("limit how long its calls take that do not say so themselves", async () => {
    const timeoutOf = async (fields: JsonObject) => {
      const stage = new GatewayStage({ grant: { repeat: compileOwnRules({ timeout: 2 }) } });
      const [accepted] = await stage.answered({ request: sampleRequest(fields) });
      await stage.rest();
      // Some of it may have passed before the attempt.
      return accepted?.type === "accepted" ? Math.round(accepted.timeoutMs / 100) * 100 : 0;
    };
    assert.equal(await timeoutOf({}), 2_000);
    assert.equal(await timeoutOf({ timeout: 3 }), 3_000);
  });
});

test("settings that a stored key has and this version cannot read say nothing, and the others act", () => {
  assert.deepEqual(compileOwnRules({ num_retries: "often", timeout: 1, fallbacks: { a: "b" } }), { timeoutMs: 1_000 });
  assert.equal(compileOwnRules(undefined), undefined);
});
