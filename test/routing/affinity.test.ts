import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { AffinityCheck, RouterConfig } from "../../src/config/config.ts";
import type { Ask, Candidate } from "../../src/routing/candidate.ts";
import { rank } from "../../src/routing/candidates.ts";
import { strategyOf } from "../../src/routing/strategies.ts";
import { neutralRequest } from "../sample-call.ts";
import { seeded } from "../seeded.ts";
import { type CandidateFacts, sampleAsk, sampleCandidates } from "./sample-candidates.ts";

const five: readonly CandidateFacts[] = [{}, {}, {}, {}, {}];
const prefix = "You are a helpful assistant. ".repeat(200);
const system = { role: "system", content: prefix };

/** Where calls go, `times` times each, in a row of ids. */
function idsOf(
  checks: readonly AffinityCheck[],
  asks: readonly Ask[],
  { facts = five, groups = [] }: { facts?: readonly CandidateFacts[]; groups?: AffinityGroups } = {},
): string[] {
  const choose = strategyOf({ strategy: "simple-shuffle", affinity: { checks, groups } });
  const candidates = sampleCandidates(facts);
  const random = seeded(9);
  return asks.map((ask) => choose(candidates, random, ask).deployment.id);
}
type AffinityGroups = NonNullable<RouterConfig["affinity"]>["groups"];

const times = (count: number, askOf: (index: number) => Ask) =>
  Array.from({ length: count }, (_, index) => askOf(index));
const distinct = (ids: readonly string[]) => new Set(ids).size;
const asked = (content: string) => ({ messages: [system, { role: "user", content }] });

describe("calls go to one deployment", () => {
  const rows: readonly [string, AffinityCheck, (index: number) => Ask][] = [
    ["of a session by its header", "session_affinity", () => sampleAsk({}, { sessionId: "s" })],
    ["of a session in metadata", "session_affinity", () => sampleAsk({ metadata: { session_id: "s" } })],
    ["of a session by LiteLLM's field", "session_affinity", () => sampleAsk({ litellm_session_id: "s" })],
    ["of a key", "deployment_affinity", () => sampleAsk({}, { keyId: "k" })],
    ["that begin alike at length", "prompt_caching", (index) => sampleAsk(asked(`question ${index}`))],
    [
      "that begin alike, by gRPC",
      "prompt_caching",
      (index) => ({ ...sampleAsk(), request: neutralRequest(asked(`question ${index}`)) }),
    ],
  ];
  for (const [name, check, askOf] of rows) {
    test(name, () => {
      assert.equal(distinct(idsOf([check], times(50, askOf))), 1);
      assert.equal(distinct(idsOf([], times(50, askOf))), 5, "unless nothing is configured");
    });
  }

  test("and calls of others, or with nothing in common, to all", () => {
    const many = times(300, (index) => sampleAsk({}, { sessionId: `s${index}`, keyId: `k${index}` }));
    assert.equal(distinct(idsOf(["session_affinity"], many)), 5);
    assert.equal(distinct(idsOf(["deployment_affinity"], many)), 5);
    assert.equal(
      distinct(
        idsOf(
          ["session_affinity", "deployment_affinity", "prompt_caching"],
          times(99, () => sampleAsk()),
        ),
      ),
      5,
    );
    const short = times(99, () => sampleAsk({ messages: [{ role: "user", content: "a".repeat(4_000) }] }));
    assert.equal(distinct(idsOf(["prompt_caching"], short)), 5, "no provider keeps what is short");
    const image = { type: "image_url", image_url: { url: "https://example.com/a.png" } };
    const counted = times(99, () => sampleAsk({ messages: [{ role: "user", content: [image] }] }));
    assert.equal(distinct(idsOf(["prompt_caching"], counted)), 5, "an image that counts for much is not long");
  });

  test("by the closest thing they have in common: the session, then the beginning, then the key", () => {
    const all = ["deployment_affinity", "prompt_caching", "session_affinity"] as const;
    const placeOf = (checks: readonly AffinityCheck[], ask: Ask) => idsOf(checks, [ask])[0];
    for (let index = 0; index < 20; index++) {
      const whole = sampleAsk(asked(`${index}`), { sessionId: `s${index}`, keyId: `k${index}` });
      assert.equal(placeOf(all, whole), placeOf(["session_affinity"], whole));
      const { sessionId: _, ...alone } = whole;
      assert.equal(placeOf(all, alone), placeOf(["prompt_caching"], alone));
      assert.equal(placeOf(all, sampleAsk({}, { keyId: `k${index}` })), placeOf(["deployment_affinity"], whole));
    }
  });

  test("of a model as its own configuration says, if it has any", () => {
    const ask = () => sampleAsk({}, { sessionId: "s", keyId: "k" });
    const groups = [{ modelGroup: "m", checks: [] }];
    assert.equal(distinct(idsOf(["session_affinity"], times(50, ask), { groups })), 5);
    const own = [{ modelGroup: "m", checks: ["deployment_affinity"] as const }];
    assert.equal(distinct(idsOf([], times(50, ask), { groups: own })), 1);
    const other = [{ modelGroup: "x", checks: [] }];
    assert.equal(distinct(idsOf(["session_affinity"], times(50, ask), { groups: other })), 1);
  });
});

describe("a deployment that calls are bound to", () => {
  const choose = strategyOf({ strategy: "simple-shuffle", affinity: { checks: ["session_affinity"], groups: [] } });
  const sessions = times(2_000, (index) => sampleAsk({}, { sessionId: `session ${index}` }));
  const placesAmong = (candidates: readonly Candidate[]) =>
    sessions.map((ask) => choose(candidates, seeded(1), ask).deployment.id);

  test("gives way when it is away; the sessions of others stay, and its own come back", () => {
    const candidates = sampleCandidates(five);
    const before = placesAmong(candidates);
    const meanwhile = placesAmong(candidates.filter(({ deployment }) => deployment.id !== "3"));
    let moved = 0;
    for (const [index, id] of before.entries()) {
      if (id !== "3") assert.equal(meanwhile[index], id);
      else moved += 1;
    }
    assert.ok(moved > 300 && moved < 500, `${moved}`);
    assert.equal(distinct(meanwhile.filter((_, index) => before[index] === "3")), 4, "its sessions go to all others");
    assert.deepEqual(placesAmong([...candidates].reverse()), before, "every pod finds the same, however it lists them");
  });

  test("gives way when its rpm or tpm is used up", () => {
    const before = placesAmong(sampleCandidates(five));
    const after = placesAmong(sampleCandidates([{ rpm: 5, requests: 5 }, { tpm: 9, tokens: 9 }, {}, {}, {}]));
    assert.ok(after.every((id) => id !== "0" && id !== "1"));
    assert.ok(before.every((id, index) => id === "0" || id === "1" || after[index] === id));
  });

  test("has its share by weight, and none at a weight of nothing", () => {
    const counts = Map.groupBy(
      placesAmong(sampleCandidates([{ weight: 1 }, { weight: 3 }, { weight: 0 }])),
      (id) => id,
    );
    const heavy = counts.get("1")?.length ?? 0;
    assert.equal(counts.get("2"), undefined);
    // Three standard deviations of 2,000 draws at three quarters.
    assert.ok(Math.abs(heavy - 1_500) < 58, `${heavy}`);
  });

  test("is of the lowest order there is, and followed by the others", () => {
    const candidates = sampleCandidates([{ order: 2 }, { order: 1 }, { order: 1 }]);
    const orders = sessions.slice(0, 50).map((ask) => {
      const ids = [...rank(candidates, choose, seeded(1), ask)].map(({ deployment }) => deployment.id);
      assert.deepEqual([...ids].sort(), ["0", "1", "2"]);
      return ids.join("");
    });
    assert.deepEqual(new Set(orders), new Set(["120", "210"]));
  });
});
