import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { FallbackTarget, RepeatWishes } from "../../src/completion.ts";
import type { Deployment, RouterConfig } from "../../src/config/config.ts";
import { type ErrorCode, GatewayError } from "../../src/errors.ts";
import { type Candidate, type Exclusion, idle } from "../../src/routing/candidate.ts";
import { Itinerary } from "../../src/routing/itinerary.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { sampleDeployment, sampleRouter } from "../sample-call.ts";
import { sampleAsk } from "./sample-candidates.ts";

/** Deployments by group, in the order they are chosen; a name tells its order after a colon: "a:2". */
type Groups = Readonly<Record<string, readonly string[]>>;

interface Trip {
  readonly groups: Groups;
  readonly config?: Partial<RouterConfig>;
  readonly wishes?: RepeatWishes;
  /** What each attempt fails with; when they are over, attempts succeed. */
  readonly failures: readonly (ErrorCode | GatewayError)[];
  /** Deployments that are down, and for how many milliseconds. */
  readonly down?: Readonly<Record<string, number>>;
  readonly timeoutMs?: number;
}

/** Plays a call that starts at the first group. @returns the attempts and pauses, such as ["a", "500", "a", "ok"]. */
function play({ groups, config, wishes = {}, failures, down = {}, timeoutMs }: Trip): string[] {
  const router = sampleRouter(config);
  const clock = new HandClock();
  const deploymentsOf = (group: string): Deployment[] =>
    (groups[group] ?? []).map((name) => {
      const [id = name, order = "1"] = name.split(":");
      return sampleDeployment({ id, modelGroup: group, order: Number(order) });
    });
  const routes = new Map(
    Object.keys(groups).map((group) => [group, { modelGroup: group, deployments: deploymentsOf(group) }]),
  );
  const [first = ""] = routes.keys();
  const firstRoute = routes.get(first);
  assert.ok(firstRoute);
  const trip = new Itinerary(
    {
      ...{ rules: router, config: router, wishes, clock, random: () => 0 },
      router: {
        select: (route, _ask, isOpen) => {
          const candidates: Candidate[] = [];
          const excluded: Exclusion[] = [];
          for (const deployment of route.deployments) {
            const forMs = down[deployment.id];
            if (!isOpen(deployment)) continue;
            if (forMs === undefined) candidates.push({ deployment, load: idle, isProbe: false });
            else excluded.push({ deployment, reason: "cooling", detail: "", retryAfterMs: forMs });
          }
          return { candidates, excluded };
        },
      },
      resolve: ({ model, overrides }: FallbackTarget) => {
        const route = routes.get(model);
        return route && { route, names: [model], overrides };
      },
      deadlineMs: timeoutMs,
    },
    { route: firstRoute, names: [first], overrides: undefined },
    sampleAsk(),
  );
  const seen: string[] = [];
  const left = [...failures];
  for (let step = 0; step < 50; step++) {
    const [candidate] = trip.candidates().candidates;
    let failure: GatewayError | undefined;
    if (candidate === undefined) {
      seen.push("nowhere");
      failure = new GatewayError("provider_unavailable", "Nowhere.");
    } else {
      trip.begin(candidate.deployment);
      seen.push(candidate.deployment.id);
      const next = left.shift();
      if (next === undefined) return [...seen, "ok"];
      failure = next instanceof GatewayError ? next : new GatewayError(next, "It failed.");
    }
    const then = trip.after(failure);
    if (then.kind === "stop") return [...seen, failure.code];
    if (then.kind === "fallback") trip.enter(then.destination, sampleAsk());
    else if (then.pauseMs > 0) seen.push(String(then.pauseMs));
  }
  throw new Error("it goes on for ever");
}

const down: ErrorCode = "provider_unavailable";
const to = (...models: string[]) => models.map((model) => ({ model }));

describe("a call that fails goes", () => {
  const cases: readonly [string, Trip, readonly string[]][] = [
    ["elsewhere in its group at once", { groups: { m: ["a", "b"] }, failures: [down] }, ["a", "b", "ok"]],
    [
      "to the same deployment after a pause where there is no other",
      { groups: { m: ["a"] }, failures: [down, down] },
      ["a", "500", "a", "1000", "a", "ok"],
    ],
    [
      "no further than its retries",
      { groups: { m: ["a"] }, config: { retries: 1 }, failures: [down, down] },
      ["a", "500", "a", down],
    ],
    ["as often as it asks for itself", { groups: { m: ["a"] }, wishes: { retries: 0 }, failures: [down] }, ["a", down]],
    [
      "as often as its group's policy says",
      {
        groups: { m: ["a"] },
        config: {
          retriesByClass: { ServiceUnavailable: 0 },
          retriesByGroup: new Map([["m", { ServiceUnavailable: 1 }]]),
        },
        failures: [down, down],
      },
      ["a", "500", "a", down],
    ],
    [
      "on after what no policy would repeat, if one names it",
      { groups: { m: ["a"] }, config: { retriesByClass: { BadRequest: 1 } }, failures: ["provider_rejected"] },
      ["a", "500", "a", "ok"],
    ],
    [
      "nowhere after what the caller got wrong",
      { groups: { m: ["a", "b"] }, failures: ["provider_rejected"] },
      ["a", "provider_rejected"],
    ],
    [
      "elsewhere, but not to the same deployment, when that refuses our credentials",
      { groups: { m: ["a", "b"] }, failures: ["provider_auth_failed", "provider_auth_failed"] },
      ["a", "b", "provider_auth_failed"],
    ],
    [
      "as late as the provider asks",
      { groups: { m: ["a"] }, failures: [new GatewayError("provider_rate_limited", "Busy.", { retryAfterMs: 2_000 })] },
      ["a", "2000", "a", "ok"],
    ],
    [
      "nowhere when the provider asks for too long",
      {
        groups: { m: ["a"] },
        failures: [new GatewayError("provider_rate_limited", "Busy.", { retryAfterMs: 40_000 })],
      },
      ["a", "provider_rate_limited"],
    ],
    [
      "to the deployment that is back first, whatever the last one asks for",
      {
        groups: { m: ["a", "b"] },
        down: { b: 60_000 },
        failures: [new GatewayError("provider_rate_limited", "Busy.", { retryAfterMs: 300 })],
      },
      ["a", "300", "a", "ok"],
    ],
    [
      "no sooner than the configured pause",
      { groups: { m: ["a"] }, config: { retryPauseMs: 3_000 }, failures: [down] },
      ["a", "3000", "a", "ok"],
    ],
    ["nowhere when its time would be over", { groups: { m: ["a"] }, timeoutMs: 400, failures: [down] }, ["a", down]],
    [
      "to the next order once retries are used up",
      { groups: { m: ["a", "b:2"] }, config: { retries: 0 }, failures: [down] },
      ["a", "b", "ok"],
    ],
    [
      "not to others of its order once retries are used up",
      { groups: { m: ["a", "b"] }, config: { retries: 0 }, failures: [down] },
      ["a", down],
    ],
    [
      "to others of its order once retries are used up, if so configured",
      { groups: { m: ["a", "b", "c"] }, config: { retries: 0, weightedFailover: true }, failures: [down, down] },
      ["a", "b", "c", "ok"],
    ],
    [
      "to its fallbacks in their order",
      {
        groups: { m: ["a"], x: ["b"], y: ["c"] },
        config: { retries: 0, fallbacks: new Map([["m", to("x", "y")]]) },
        failures: [down, down],
      },
      ["a", "b", "c", "ok"],
    ],
    [
      "to its fallbacks after its retries, and retries there anew",
      {
        groups: { m: ["a"], x: ["b"] },
        config: { retries: 1, fallbacks: new Map([["m", to("x")]]) },
        failures: [down, down, down],
      },
      ["a", "500", "a", "b", "500", "b", "ok"],
    ],
    [
      "to a fallback's fallbacks",
      {
        groups: { m: ["a"], x: ["b"], y: ["c"] },
        config: {
          retries: 0,
          fallbacks: new Map([
            ["m", to("x")],
            ["x", to("y", "m")],
          ]),
        },
        failures: [down, down],
      },
      ["a", "b", "c", "ok"],
    ],
    [
      "to no group twice",
      {
        groups: { m: ["a"], x: ["b"] },
        config: {
          retries: 0,
          fallbacks: new Map([
            ["m", to("x", "x", "m")],
            ["x", to("m")],
          ]),
        },
        failures: [down, down],
      },
      ["a", "b", down],
    ],
    [
      "past fallbacks that are not there",
      {
        groups: { m: ["a"], x: ["b"] },
        config: { retries: 0, fallbacks: new Map([["m", to("gone", "x")]]) },
        failures: [down],
      },
      ["a", "b", "ok"],
    ],
    [
      "to the fallbacks of any group",
      {
        groups: { m: ["a"], x: ["b"] },
        config: { retries: 0, fallbacks: new Map([["*", to("x")]]) },
        failures: [down],
      },
      ["a", "b", "ok"],
    ],
    [
      "to as many fallbacks as are allowed",
      {
        groups: { m: ["a"], x: ["b"], y: ["c"] },
        config: { retries: 0, fallbacksMax: 1, fallbacks: new Map([["m", to("x", "y")]]) },
        failures: [down, down],
      },
      ["a", "b", down],
    ],
    [
      "to the fallbacks it names itself before the configured ones",
      {
        groups: { m: ["a"], x: ["b"], y: ["c"] },
        config: { retries: 0, fallbacks: new Map([["m", to("x")]]) },
        wishes: { fallbacks: to("y") },
        failures: [down],
      },
      ["a", "c", "ok"],
    ],
    [
      "to no fallback if it wants none",
      {
        groups: { m: ["a"], x: ["b"] },
        config: { retries: 0, fallbacks: new Map([["m", to("x")]]) },
        wishes: { disablesFallbacks: true },
        failures: [down],
      },
      ["a", down],
    ],
    [
      "to a model with a longer context, without retries",
      {
        groups: { m: ["a"], x: ["b"], y: ["c"] },
        config: { fallbacks: new Map([["m", to("x")]]), contextWindowFallbacks: new Map([["m", to("y")]]) },
        failures: ["context_length_exceeded"],
      },
      ["a", "c", "ok"],
    ],
    [
      "nowhere when models with longer contexts are given, but none for this one",
      {
        groups: { m: ["a"], x: ["b"] },
        config: { fallbacks: new Map([["m", to("x")]]), contextWindowFallbacks: new Map([["z", to("x")]]) },
        failures: ["context_length_exceeded"],
      },
      ["a", "context_length_exceeded"],
    ],
    [
      "to the usual fallbacks when its content is refused and nothing special is given",
      {
        groups: { m: ["a"], x: ["b"] },
        config: { fallbacks: new Map([["m", to("x")]]) },
        failures: ["content_policy_violation"],
      },
      ["a", "b", "ok"],
    ],
    [
      "to its fallbacks after a mistake of the caller's too, as LiteLLM has it",
      {
        groups: { m: ["a"], x: ["b"] },
        config: { fallbacks: new Map([["m", to("x")]]) },
        failures: ["provider_rejected"],
      },
      ["a", "b", "ok"],
    ],
    [
      "to its fallbacks at once when its whole group is down",
      {
        groups: { m: ["a"], x: ["b"] },
        config: { fallbacks: new Map([["m", to("x")]]) },
        down: { a: 3_000 },
        failures: [],
      },
      ["nowhere", "b", "ok"],
    ],
    [
      "nowhere when a budget has no room",
      {
        groups: { m: ["a"], x: ["b"] },
        config: { fallbacks: new Map([["m", to("x")]]) },
        failures: ["budget_exceeded"],
      },
      ["a", "budget_exceeded"],
    ],
    [
      "on when only a fallback is refused",
      {
        groups: { m: ["a"], x: ["b"], y: ["c"] },
        config: { retries: 0, fallbacks: new Map([["m", to("x", "y")]]) },
        failures: [down, "budget_exceeded"],
      },
      ["a", "b", "c", "ok"],
    ],
    [
      "nowhere when the gateway itself cannot go on",
      { groups: { m: ["a", "b"] }, failures: ["journal_unavailable"] },
      ["a", "journal_unavailable"],
    ],
  ];
  for (const [name, trip, expected] of cases) test(name, () => assert.deepEqual(play(trip), expected));
});
