import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Deployment } from "../../src/config/config.ts";
import { GatewayError } from "../../src/errors.ts";
import { type HealthState, idle } from "../../src/routing/candidate.ts";
import { afterAttempts, isWorthRepeating, pauseMs } from "../../src/routing/retries.ts";
import { Router } from "../../src/routing/router.ts";
import { sampleConfig, sampleDeployment, samplePrice } from "../sample-call.ts";
import { seeded } from "../seeded.ts";
import { sampleAsk } from "./sample-candidates.ts";

const facts = { loadOf: () => idle, stateOf: (): HealthState => "up" };

describe("a router", () => {
  const routerOf = (deployments: readonly Partial<Deployment>[], more: Parameters<typeof sampleConfig>[1] = {}) =>
    new Router({
      config: sampleConfig(
        deployments.map((fact, index) => sampleDeployment({ id: String(index), ...fact })),
        more,
      ),
      behindWildcard: (wildcard, model) => ({ ...wildcard, model }),
      random: seeded(7),
      facts,
    });

  test("puts the lowest order first, and within an order draws", () => {
    const router = routerOf([{ order: 2 }, { order: 1 }, { order: 1 }, { order: 9 }]);
    const route = router.route("m");
    assert.ok(route);
    const { candidates } = router.select(route, sampleAsk(), () => true);
    assert.deepEqual(
      [...router.ranked(candidates, sampleAsk())].map(({ deployment }) => deployment.order),
      [1, 1, 2, 9],
    );
    const open = router.select(route, sampleAsk(), ({ id }) => id === "3").candidates;
    assert.deepEqual(
      open.map(({ deployment }) => deployment.id),
      ["3"],
    );
  });

  test("finds a wildcard group, the most specific one, and puts the captured part into the provider's model", () => {
    const router = routerOf([
      { modelGroup: "*", model: "any-*" },
      { modelGroup: "openai/*", model: "*" },
      { modelGroup: "openai/gpt-*", model: "g-*" },
      { modelGroup: "openai/gpt-4o", model: "exact" },
    ]);
    const modelOf = (name: string) => {
      const route = router.route(name);
      return [route?.modelGroup, route?.deployments[0]?.model];
    };
    assert.deepEqual(modelOf("openai/gpt-4o"), ["openai/gpt-4o", "exact"]);
    assert.deepEqual(modelOf("openai/gpt-5"), ["openai/gpt-*", "g-5"]);
    assert.deepEqual(modelOf("openai/o3$&$1"), ["openai/*", "o3$&$1"]);
    assert.deepEqual(modelOf("x"), ["*", "any-x"]);
  });

  test("finds what is known of a model behind a wildcard, once, and keeps an end to what it remembers", () => {
    const asked: string[] = [];
    const router = new Router({
      config: sampleConfig([sampleDeployment({ modelGroup: "openai/*", model: "*", price: undefined })]),
      behindWildcard: (wildcard, model) => {
        asked.push(`${wildcard.provider} ${model}`);
        return { ...wildcard, model, price: model === "known" ? { ...samplePrice, version: "table" } : undefined };
      },
      random: seeded(7),
      facts,
    });
    const priceOf = (name: string) => router.route(name)?.deployments[0]?.price?.version;
    assert.deepEqual(["openai/known", "openai/other"].map(priceOf), ["table", undefined]);
    assert.equal(router.route("openai/known"), router.route("openai/known"));
    assert.deepEqual(asked, ["openai known", "openai other"]);
    for (let each = 0; each < 1_000; each++) priceOf(`openai/${each}`);
    assert.equal(priceOf("openai/999"), undefined);
    assert.equal(asked.length, 1_002);
    assert.equal(priceOf("openai/known"), "table");
    assert.equal(asked.length, 1_003, "the oldest is forgotten first");
  });

  test("says so when there is nothing", () => {
    assert.equal(routerOf([{}]).route("other"), undefined);
    assert.equal(routerOf([{ modelGroup: "openai/*" }]).route("gpt"), undefined);
  });

  test("knows the configuration's aliases, and lists names but no wildcards and nothing hidden", () => {
    const aliases = new Map([
      ["b-alias", { group: "b", hidden: false }],
      ["a-alias", { group: "b", hidden: true }],
    ]);
    const router = routerOf([{ modelGroup: "c" }, { modelGroup: "b" }, { modelGroup: "x/*" }], { aliases });
    assert.equal(router.groupOf("a-alias"), "b");
    assert.equal(router.groupOf("c"), "c");
    assert.deepEqual(router.listModels(), ["b", "b-alias", "c"]);
  });
});

describe("repeating", () => {
  const trail = (attempts: number) => ({
    ...{ callId: "c", attempts, fallbacks: 0, modelGroup: "m", deploymentId: "d", timeoutMs: 1 },
  });
  const failure = new GatewayError("provider_unavailable", "Down.");

  test("pauses twice as long each time, up to a bound, and up to a quarter more by chance", () => {
    const pauses = [1, 2, 3, 4, 5, 6, 60].map((attempts) => pauseMs(attempts, undefined, () => 0));
    assert.deepEqual(pauses, [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    assert.equal(
      pauseMs(1, undefined, () => 1),
      625,
    );
    assert.equal(
      pauseMs(9, 100, () => 0),
      100,
    );
  });

  test("is for failures that pass; those of a deployment's own are for other deployments", () => {
    for (const code of ["provider_error", "provider_timeout", "stream_interrupted", "provider_rate_limited"] as const) {
      assert.equal(isWorthRepeating(new GatewayError(code, "x"), true), true, code);
    }
    for (const code of ["provider_auth_failed", "provider_model_not_found"] as const) {
      assert.equal(isWorthRepeating(new GatewayError(code, "x"), false), true, code);
      assert.equal(isWorthRepeating(new GatewayError(code, "x"), true), false, code);
    }
    for (const code of ["provider_rejected", "budget_exceeded", "internal_error", "client_closed_request"] as const) {
      assert.equal(isWorthRepeating(new GatewayError(code, "x"), false), false, code);
    }
  });

  test("by the gateway tells SDKs not to, for server errors", () => {
    assert.equal(afterAttempts(failure, [], trail(1)).message, failure.message);
    const told = afterAttempts(failure, [], trail(3));
    assert.equal(told.shouldRetry, false);
    assert.equal(told.code, failure.code);
    const limited = new GatewayError("provider_rate_limited", "Busy.", { retryAfterMs: 5 });
    assert.equal(afterAttempts(limited, [], trail(3)).facts.retryAfterMs, 5);
  });
});
