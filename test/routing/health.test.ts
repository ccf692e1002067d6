import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CooldownRules, Deployment } from "../../src/config/config.ts";
import { type ErrorCode, GatewayError } from "../../src/errors.ts";
import { Health } from "../../src/routing/health.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { sampleDeployment } from "../sample-call.ts";
import { sampleBoard } from "./sample-board.ts";

const rules: CooldownRules = {
  disabled: false,
  cooldownMs: undefined,
  allowedFails: undefined,
  allowedFailsByClass: {},
};
const healthWith = (clock: HandClock) => new Health({ clock, board: sampleBoard(clock) });
const failureOf = (code: ErrorCode, retryAfterMs?: number) =>
  new GatewayError(code, "It failed.", retryAfterMs === undefined ? {} : { retryAfterMs });

/** For how long a deployment is left alone after a series of failures, in milliseconds. */
function cooldownAfter(
  codes: readonly ErrorCode[],
  parts: {
    rules?: Partial<CooldownRules>;
    deployment?: Partial<Deployment>;
    hasSiblings?: boolean;
    retryAfterMs?: number;
  } = {},
): number | undefined {
  const health = healthWith(new HandClock());
  const deployment = sampleDeployment(parts.deployment);
  let last: number | undefined;
  for (const code of codes) {
    const failure = failureOf(code, parts.retryAfterMs);
    last = health.failed(deployment, failure, { ...rules, ...parts.rules }, parts.hasSiblings ?? true);
  }
  return last;
}

const five = <Item>(item: Item): Item[] => Array.from({ length: 5 }, () => item);

describe("a deployment is left alone", () => {
  const cases: readonly [string, Parameters<typeof cooldownAfter>, number | undefined][] = [
    ["at once when it is rate limited and there are others", [["provider_rate_limited"]], 5_000],
    [
      "not when it is rate limited, is alone and nobody says for how long",
      [["provider_rate_limited"], { hasSiblings: false }],
      undefined,
    ],
    [
      "as long as its provider asks, alone or not",
      [["provider_rate_limited"], { hasSiblings: false, retryAfterMs: 700 }],
      700,
    ],
    [
      "at once when it refuses our credentials, though it is alone",
      [["provider_auth_failed"], { hasSiblings: false }],
      5_000,
    ],
    ["at once when it lacks the model", [["provider_model_not_found"], {}], 5_000],
    ["not after one server error", [["provider_error"]], undefined],
    ["after five server errors of five", [five("provider_error" as const)], 5_000],
    [
      "after five timeouts of five, though it is alone",
      [five("provider_timeout" as const), { hasSiblings: false }],
      5_000,
    ],
    [
      "never for what the caller got wrong",
      [[...five("provider_rejected" as const), "context_length_exceeded", "content_policy_violation"]],
      undefined,
    ],
    ["never for what is no provider's failure", [[...five("budget_exceeded" as const)]], undefined],
    ["never when cooldowns are off", [five("provider_error" as const), { rules: { disabled: true } }], undefined],
    [
      "never when its cooldown is zero",
      [["provider_auth_failed"], { deployment: { cooldown: { cooldownMs: 0 } } }],
      undefined,
    ],
    ["for the router's time", [["provider_auth_failed"], { rules: { cooldownMs: 9_000 } }], 9_000],
    [
      "for its provider's time before the router's",
      [["provider_rate_limited"], { rules: { cooldownMs: 9_000 }, retryAfterMs: 100 }],
      100,
    ],
    [
      "for its own time before all others",
      [
        ["provider_rate_limited"],
        { rules: { cooldownMs: 9_000 }, retryAfterMs: 100, deployment: { cooldown: { cooldownMs: 20 } } },
      ],
      20,
    ],
    [
      "not while its failures are allowed",
      [["provider_error", "provider_error"], { rules: { allowedFails: 2 } }],
      undefined,
    ],
    [
      "when there are more than are allowed, though it is alone",
      [["provider_error", "provider_error", "provider_error"], { rules: { allowedFails: 2 }, hasSiblings: false }],
      5_000,
    ],
    [
      "by its own number before the router's",
      [["provider_error"], { rules: { allowedFails: 9 }, deployment: { cooldown: { allowedFails: 0 } } }],
      5_000,
    ],
    [
      "by the number for the class before the general one",
      [["provider_timeout", "provider_timeout"], { rules: { allowedFails: 9, allowedFailsByClass: { Timeout: 1 } } }],
      5_000,
    ],
    [
      "not by the number for another class",
      [["provider_timeout", "provider_error"], { rules: { allowedFails: 9, allowedFailsByClass: { Timeout: 1 } } }],
      undefined,
    ],
    [
      "even for bad requests if a policy says so",
      [["provider_rejected"], { rules: { allowedFailsByClass: { BadRequest: 0 } } }],
      5_000,
    ],
  ];
  for (const [name, [codes, parts], expected] of cases) {
    test(name, () => assert.equal(cooldownAfter(codes, parts), expected));
  }

  test("not while most of its attempts are answered", () => {
    const health = healthWith(new HandClock());
    const deployment = sampleDeployment();
    for (let attempt = 0; attempt < 20; attempt++) {
      assert.equal(health.failed(deployment, failureOf("provider_error"), rules, true), undefined, String(attempt));
      health.succeeded(deployment, false);
      health.succeeded(deployment, false);
    }
  });

  test("not for failures of more than a minute ago", async () => {
    const clock = new HandClock();
    const health = healthWith(clock);
    const deployment = sampleDeployment();
    for (let attempt = 0; attempt < 12; attempt++) {
      assert.equal(health.failed(deployment, failureOf("provider_error"), rules, true), undefined, String(attempt));
      await clock.advance(20_000);
    }
  });
});

describe("a deployment that was left alone", () => {
  async function down() {
    const clock = new HandClock();
    const board = sampleBoard(clock);
    const health = new Health({ clock, board });
    const deployment = sampleDeployment();
    health.failed(deployment, failureOf("provider_auth_failed"), rules, true);
    return { clock, health, deployment, board };
  }

  test("is probed when its time is over, and only a probe's success puts it back", async () => {
    const { clock, health, deployment } = await down();
    assert.deepEqual(health.stateOf(deployment), { coolingForMs: 5_000, cause: "provider_auth_failed" });
    health.succeeded(deployment, false);
    assert.deepEqual(health.stateOf(deployment), { coolingForMs: 5_000, cause: "provider_auth_failed" }, "an old call");
    await clock.advance(5_000);
    assert.equal(health.stateOf(deployment), "probing");
    health.succeeded(deployment, true);
    assert.equal(health.stateOf(deployment), "up");
  });

  test("is left alone again by any failure of its probe", async () => {
    const { clock, health, deployment } = await down();
    await clock.advance(5_000);
    assert.equal(health.failed(deployment, failureOf("provider_error"), rules, true), 5_000);
    assert.deepEqual(health.stateOf(deployment), { coolingForMs: 5_000, cause: "provider_error" });
  });

  test("is told of to the other pods, and so is its recovery", async () => {
    const { clock, health, deployment, board } = await down();
    assert.deepEqual(board.of("d1").cooling, { code: "provider_auth_failed", status: undefined, remainingMs: 5_000 });
    await clock.advance(5_000);
    health.succeeded(deployment, true);
    assert.equal(board.of("d1").cooling, undefined);
  });

  test("behind a wildcard is left alone for one model only", () => {
    const health = healthWith(new HandClock());
    const one = sampleDeployment({ modelGroup: "openai/*", model: "a" });
    health.failed(one, failureOf("provider_model_not_found"), rules, true);
    assert.notEqual(health.stateOf(one), "up");
    assert.equal(health.stateOf({ ...one, model: "b" }), "up");
  });
});
