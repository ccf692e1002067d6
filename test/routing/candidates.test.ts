import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Deployment, RouterConfig } from "../../src/config/config.ts";
import {
  type Candidate,
  type DeploymentFacts,
  type Exclusion,
  type ExclusionReason,
  type HealthState,
  idle,
} from "../../src/routing/candidate.ts";
import { candidatesOf, filtersOf, rank } from "../../src/routing/candidates.ts";
import { misfitError } from "../../src/routing/misfit.ts";
import { strategyOf } from "../../src/routing/strategies.ts";
import { sampleRouter } from "../sample-call.ts";
import { seeded } from "../seeded.ts";
import { sampleAsk, sampleCandidates, sampleDeployments } from "./sample-candidates.ts";

const plain = sampleRouter({ retries: 0 });

/** Everybody idle; well, unless it is said otherwise by id. */
function factsWith(health: Readonly<Record<string, HealthState>> = {}): DeploymentFacts {
  return { loadOf: () => idle, stateOf: ({ id }) => health[id] ?? "up" };
}

describe("the candidates of a call", () => {
  const chosen = (router: RouterConfig, deployments: readonly Deployment[], health = {}, ask = sampleAsk()) => {
    const { candidates, excluded } = candidatesOf(deployments, () => true, ask, {
      facts: factsWith(health),
      filters: filtersOf(router),
    });
    return {
      candidates: candidates.map(({ deployment, isProbe }) => (isProbe ? `${deployment.id} probe` : deployment.id)),
      excluded: excluded.map(({ deployment, reason }) => `${deployment.id} ${reason}`),
    };
  };

  test("are all deployments that are well, and those to be probed; the others are told of", () => {
    const deployments = sampleDeployments([{}, {}, {}]);
    const health = { "1": { coolingForMs: 5_000, cause: "provider_rate_limited" as const }, "2": "probing" };
    assert.deepEqual(chosen(plain, deployments, health), { candidates: ["0", "2 probe"], excluded: ["1 cooling"] });
    const { excluded } = candidatesOf(deployments, () => true, sampleAsk(), {
      facts: factsWith({ "0": { coolingForMs: 5_000, cause: "provider_rate_limited" as const } }),
      filters: [],
    });
    assert.deepEqual(
      excluded.map(({ detail, retryAfterMs }) => [detail, retryAfterMs]),
      [["cooling until 12:00:05 UTC after provider_rate_limited", 5_000]],
    );
  });

  test("have the call's tags and take what it needs, where that is configured; one reason is told of each", () => {
    const deployments = sampleDeployments([
      { tags: ["a"] },
      { tags: ["b"], lacks: new Set(["function_calling"]) },
      { tags: ["a"], lacks: new Set(["function_calling"]) },
      { tags: ["a"], lacks: new Set(["vision"]) },
    ]);
    const ask = sampleAsk({ tools: [{}] }, { tags: ["a"] });
    const all = { candidates: ["0", "1", "2", "3"], excluded: [] };
    assert.deepEqual(chosen(plain, deployments, {}, ask), all);
    assert.deepEqual(chosen({ ...plain, tagRouting: { matchAny: true } }, deployments, {}, ask), {
      candidates: ["0", "2", "3"],
      excluded: ["1 tags"],
    });
    assert.deepEqual(chosen({ ...plain, checksCalls: true }, deployments, {}, ask), {
      candidates: ["0", "3"],
      excluded: ["1 unsupported", "2 unsupported"],
    });
    const both = { ...plain, tagRouting: { matchAny: true }, checksCalls: true };
    assert.deepEqual(chosen(both, deployments, { "3": { coolingForMs: 1, cause: "500" } }, ask), {
      candidates: ["0"],
      excluded: ["1 tags", "2 unsupported", "3 cooling"],
    });
  });
});

test("a call whose deployments have all been tried is not let go where its tags forbid it", () => {
  const deployments = sampleDeployments([{ tags: ["free"] }, { tags: ["default"] }]);
  const parts = { facts: factsWith(), filters: filtersOf({ ...plain, tagRouting: { matchAny: true } }) };
  const ask = sampleAsk({}, { tags: ["free"] });
  const { candidates, excluded } = candidatesOf(deployments, ({ id }) => id !== "0", ask, parts);
  assert.deepEqual(candidates, []);
  assert.deepEqual(
    excluded.map(({ deployment, reason }) => `${deployment.id} ${reason}`),
    ["1 tags"],
  );
});

describe("ranking", () => {
  test("tries the lowest order first, within an order by the strategy, none twice", () => {
    const candidates = sampleCandidates([
      { order: 2, inFlight: 1 },
      { order: 1, inFlight: 5 },
      { order: 2, inFlight: 0 },
      { order: 1, inFlight: 3 },
      { order: Number.MAX_SAFE_INTEGER },
    ]);
    const ranked = [...rank(candidates, strategyOf({ strategy: "least-busy" }), seeded(1), sampleAsk())];
    assert.deepEqual(
      ranked.map(({ deployment }) => deployment.id),
      ["3", "1", "2", "0", "4"],
    );
    assert.deepEqual([...rank([], strategyOf({ strategy: "least-busy" }), seeded(1), sampleAsk())], []);
  });

  test("chooses when it is asked and not before", () => {
    let choices = 0;
    const first = (candidates: readonly Candidate[]) => {
      choices += 1;
      assert.ok(candidates[0]);
      return candidates[0];
    };
    const ranking = rank(sampleCandidates([{}, {}, {}]), first, seeded(1), sampleAsk());
    assert.equal(choices, 0);
    assert.equal(ranking.next().value?.deployment.id, "0");
    assert.equal(choices, 1);
    assert.equal(ranking.next().value?.deployment.id, "1");
  });

  test("keeps weights for what is left: one that weighs nothing comes last", () => {
    const candidates = sampleCandidates([{ weight: 0 }, { weight: 1 }, { weight: 3 }]);
    const random = seeded(3);
    const firsts = { "0": 0, "1": 0, "2": 0 };
    for (let draw = 0; draw < 4_000; draw++) {
      const ranked = [...rank(candidates, strategyOf(plain), random, sampleAsk())].map((each) => each.deployment.id);
      assert.equal(ranked[2], "0");
      firsts[ranked[0] as keyof typeof firsts] += 1;
    }
    assert.ok(Math.abs(firsts["2"] - 3_000) < 150, JSON.stringify(firsts));
  });
});

describe("a call that fits no deployment", () => {
  const [deployment] = sampleDeployments([{}]);
  assert.ok(deployment);
  const excluded = (...reasons: ExclusionReason[]): Exclusion[] =>
    reasons.map((reason) => ({ deployment, reason, detail: `has ${reason}` }));
  const rows: readonly [readonly Exclusion[], string | undefined, RegExp?][] = [
    [excluded("tags", "tags"), "model_not_allowed", /^Not allowed to access model due to tags configuration/],
    [excluded("region", "tags"), "region_not_allowed", /^m has no deployment for this call: has region\.$/],
    [excluded("unsupported", "tags"), "invalid_request", /^m cannot take this call: it has unsupported\.$/],
    [
      excluded("tags", "context_window", "unsupported"),
      "context_length_exceeded",
      /too long for m: has context_window\.$/,
    ],
    [excluded("tags", "cooling"), undefined],
    [excluded("context_window", "limit"), undefined],
    [excluded("budget"), undefined],
    [[], undefined],
  ];
  test("is told so, unless one that fits may become free", () => {
    for (const [all, code, message] of rows) {
      const error = misfitError("m", all);
      assert.equal(error?.code, code);
      if (message !== undefined) assert.match(error?.message ?? "", message);
    }
  });
});
