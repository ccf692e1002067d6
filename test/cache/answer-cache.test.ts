import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type AdmittedCall, AnswerCache } from "../../src/cache/answer-cache.ts";
import { answerBytesMax } from "../../src/cache/kept-answer.ts";
import { MemoryAnswers } from "../../src/cache/memory-answers.ts";
import type { AcceptedEvent, CallEvent } from "../../src/completion.ts";
import type { AnswerCacheConfig } from "../../src/config/answer-cache-config.ts";
import { GatewayError, ProviderFailure } from "../../src/errors.ts";
import type { Limit } from "../../src/keys/authority.ts";
import { answer, GatewayStage, usage } from "../gateway-stage.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { all, sampleDeployment, sampleRequest, sampleRouter } from "../sample-call.ts";

const answerCache: AnswerCacheConfig = {
  ...{ redis: undefined, ttlMs: 60_000, namespace: "", isDefaultOn: true, sharing: "all" },
};
const rejectedForNow = new ProviderFailure("provider_error", "no", { billable: false });
const rejected = new GatewayError("provider_rejected", "no");

function stageOf(parts: { limits?: Limit[]; config?: Partial<AnswerCacheConfig> } = {}): GatewayStage {
  const limits = parts.limits ?? [{ scope: "key", scopeId: "key_1", kind: "parallel", ceiling: 100 }];
  return new GatewayStage({ grant: { limits }, config: { answerCache: { ...answerCache, ...parts.config } } });
}

function textOf(events: readonly CallEvent[]): string {
  return events.map((event) => (event.type === "delta" ? (event.text ?? "") : "")).join("");
}

function acceptedOf(events: readonly CallEvent[]): AcceptedEvent {
  const event = events.find(({ type }) => type === "accepted");
  assert.ok(event?.type === "accepted");
  return event;
}

function isHit(events: readonly CallEvent[]): boolean | undefined {
  return acceptedOf(events).cache?.isHit;
}

describe("an answer given again", () => {
  test("is the same answer, calls no provider, costs nothing and is booked as a hit", async () => {
    const stage = stageOf();
    const first = await stage.answered();
    const second = await stage.answered();
    assert.deepEqual([isHit(first), isHit(second)], [false, true]);
    assert.equal(acceptedOf(second).cache?.key, acceptedOf(first).cache?.key);
    assert.equal(textOf(second), textOf(first));
    assert.equal(acceptedOf(second).attempts, 0);
    assert.deepEqual(second.at(-1), { type: "settled", usage, cost: 0n, raw: undefined });
    assert.equal(stage.leases.stats().reserved, 0n);
    const [made, again] = await stage.rest();
    assert.deepEqual([made?.cacheHit, made?.cost], [false, 24_000n]);
    assert.ok(again !== undefined && again.callId !== made?.callId);
    const { cacheHit, cost, reserved, leaseId, attempt, status, deploymentId, model, inputTokens, outputTokens } =
      again;
    assert.deepEqual(
      { cacheHit, cost, reserved, leaseId, attempt, status, deploymentId, model, inputTokens, outputTokens },
      {
        ...{ cacheHit: true, cost: 0n, reserved: 0n, leaseId: "", attempt: 1, status: "success" },
        ...{ deploymentId: "d1", model: "provider-model", inputTokens: 10, outputTokens: 7 },
      },
    );
  });

  test("takes no tokens of a limit, but counts as a request", async () => {
    const place = { scope: "key", scopeId: "key_1" } as const;
    const limits: Limit[] = [
      { ...place, kind: "requests", ceiling: 10 },
      { ...place, kind: "tokens", ceiling: 250 },
    ];
    const stage = stageOf({ limits });
    await stage.answered();
    for (let call = 2; call <= 10; call++) {
      const events = await stage.answered();
      assert.ok(isHit(events));
      assert.equal(acceptedOf(events).limits[0]?.remaining, 10 - call);
    }
    assert.equal((await stage.failed()).error.code, "rate_limit_exceeded");
    const { error } = await stage.failed({ request: sampleRequest({ temperature: 1 }) });
    assert.match(error.message, /request/i);
  });

  test("takes nothing of a deployment's limits", async () => {
    const deployments = [sampleDeployment({ rpm: 2, tpm: 300, parallelMax: 1 })];
    const stage = new GatewayStage({ deployments, grant: { limits: [] }, config: { answerCache } });
    await stage.answered();
    for (let call = 0; call < 20; call++) assert.ok(isHit(await stage.answered()));
    assert.equal(isHit(await stage.answered({ request: sampleRequest({ temperature: 1 }) })), false);
    assert.equal((await stage.failed({ request: sampleRequest({ temperature: 2 }) })).error.code, "deployments_full");
    await stage.rest();
  });

  test("is not a fallback's, though that was asked for by the same name", async () => {
    const deployments = [sampleDeployment({ rpm: 2 }), sampleDeployment({ id: "f1", modelGroup: "f" })];
    const router = sampleRouter({ retries: 0, fallbacks: new Map([["m", [{ model: "f" }]]]) });
    const stage = new GatewayStage({ deployments, grant: { limits: [] }, config: { answerCache, router } });
    stage.provider.scripts = [[rejectedForNow], answer];
    const first = acceptedOf(await stage.answered());
    assert.deepEqual([first.modelGroup, first.cache?.isHit], ["f", false]);
    const own = acceptedOf(await stage.answered());
    assert.deepEqual([own.modelGroup, own.cache?.isHit], ["m", false], "nothing was kept");
    // No place is left in its own group, so the call does not get as far as what is kept there.
    const moved = acceptedOf(await stage.answered());
    assert.deepEqual([moved.modelGroup, moved.cache], ["f", undefined]);
    await stage.clock.advance(61_000);
    assert.equal(stage.provider.calls.length, 4);
    await stage.rest();
  });

  test("that its reader leaves is booked as cancelled", async () => {
    const stage = stageOf();
    await stage.answered();
    const events = stage.call();
    await stage.pass(events.next());
    await stage.pass(events.return(undefined));
    const [, left] = await stage.rest();
    assert.deepEqual([left?.cacheHit, left?.status, left?.cost], [true, "cancelled", 0n]);
  });

  test("is not given after its time, nor to a call that wants a younger one", async () => {
    const stage = stageOf();
    await stage.answered();
    await stage.clock.advance(30_000);
    assert.equal(isHit(await stage.answered({ request: sampleRequest({ cache: { "s-maxage": 31 } }) })), true);
    assert.equal(isHit(await stage.answered({ cacheControl: "max-age=29" })), false);
    await stage.clock.advance(45_000);
    // The younger one has taken its place.
    assert.equal(isHit(await stage.answered()), true);
    await stage.clock.advance(15_001);
    assert.equal(isHit(await stage.answered()), false);
    assert.equal(stage.provider.calls.length, 3);
  });

  test("no answer that broke off, failed or was left is kept", async () => {
    const stage = stageOf();
    const [start, delta] = answer;
    assert.ok(start !== undefined && delta !== undefined);
    stage.provider.scripts = [[rejected], [start, delta, rejected], [start, delta]];
    for (const code of ["provider_rejected", "provider_rejected", "stream_interrupted"]) {
      assert.equal((await stage.failed()).error.code, code);
    }
    const left = stage.call();
    await stage.pass(left.next());
    await stage.pass(left.return(undefined));
    assert.equal(isHit(await stage.answered()), false);
    assert.equal(isHit(await stage.answered()), true);
  });

  test("a key without the model does not get there, whatever is kept", async () => {
    const stage = stageOf();
    await stage.answered();
    const { error } = await stage.failed({ request: sampleRequest({ model: "another" }) });
    assert.equal(error.code, "model_not_found");
    const blind = new GatewayStage({ grant: { models: ["another"] }, config: { answerCache } });
    assert.equal((await blind.failed()).error.code, "model_not_allowed");
  });

  test("a call whose terms are wrong is refused before it takes anything", async () => {
    const stage = stageOf({ limits: [{ scope: "key", scopeId: "key_1", kind: "requests", ceiling: 1 }] });
    const { error } = await stage.failed({ request: sampleRequest({ cache: { ttl: "soon" } }) });
    assert.deepEqual([error.code, error.facts.param], ["invalid_request", "cache.ttl"]);
    await stage.answered();
  });

  test("one for a shortened budget is no answer for callers without one", async () => {
    const deployments = [sampleDeployment({ outputTokensMax: 100 })];
    const free = new GatewayStage({
      deployments,
      grant: { limits: [], budgets: [] },
      config: { answerCache, unpricedModels: "flag" },
    });
    const keyFree = acceptedOf(await free.answered()).cache?.key;
    const bound = stageOf();
    const keyBound = acceptedOf(await bound.answered()).cache?.key;
    assert.notEqual(keyFree, keyBound);
  });
});

describe("equal calls at the same time", () => {
  const calls = (stage: GatewayStage, count: number) =>
    Array.from({ length: count }, () => all(stage.call()).catch((error: GatewayError) => error));

  test("share one attempt", async () => {
    const stage = stageOf();
    const answers = await stage.pass(Promise.all(calls(stage, 50)));
    const hits = answers.map((events) => (events instanceof GatewayError ? events : isHit(events)));
    assert.equal(hits.filter((hit) => hit === true).length, 49);
    assert.equal(hits.filter((hit) => hit === false).length, 1);
    const records = await stage.rest();
    assert.equal(records.length, 50);
    assert.equal(
      records.reduce((sum, { cost }) => sum + cost, 0n),
      24_000n,
    );
  });

  test("when the first one's caller leaves, one of the others takes over", async () => {
    const stage = stageOf();
    stage.provider.scripts = [["wait"]];
    const leave = new AbortController();
    const leader = all(stage.call({ signal: leave.signal })).catch((error: GatewayError) => error.code);
    await stage.clock.advance(10);
    const others = calls(stage, 20);
    await stage.clock.advance(10);
    assert.equal(stage.provider.calls.length, 1);
    leave.abort(new GatewayError("client_closed_request", "left"));
    const answers = await stage.pass(Promise.all(others));
    assert.equal(await leader, "client_closed_request");
    assert.equal(stage.provider.calls.length, 2);
    assert.equal(answers.filter((events) => !(events instanceof GatewayError) && isHit(events)).length, 19);
    await stage.rest();
  });

  test("a follower that leaves is let go at once", async () => {
    const stage = stageOf();
    stage.provider.scripts = [["wait"]];
    const [leave, leaveFirst] = [new AbortController(), new AbortController()];
    const leader = all(stage.call({ signal: leaveFirst.signal })).catch((error: GatewayError) => error.code);
    await stage.clock.advance(10);
    const follower = all(stage.call({ signal: leave.signal })).catch((error: GatewayError) => error.code);
    await stage.clock.advance(10);
    leave.abort(new GatewayError("deadline_exceeded", "too late"));
    assert.equal(await stage.pass(follower), "deadline_exceeded");
    leaveFirst.abort(new GatewayError("client_closed_request", "left"));
    assert.equal(await stage.pass(leader), "client_closed_request");
    await stage.rest();
  });

  test("a failure is told to the one whose call it was, and failures do not queue up", async () => {
    const stage = stageOf();
    stage.provider.scripts = [["wait"], [rejected], ...Array.from({ length: 8 }, () => ["wait"] as const)];
    const [leave, leaveFirst] = [new AbortController(), new AbortController()];
    const codeOf = (signal: AbortSignal) => all(stage.call({ signal })).catch((error: GatewayError) => error.code);
    const first = codeOf(leaveFirst.signal);
    await stage.clock.advance(10);
    const others = Array.from({ length: 9 }, () => codeOf(leave.signal));
    await stage.clock.advance(10);
    assert.equal(stage.provider.calls.length, 1);
    leaveFirst.abort(new GatewayError("client_closed_request", "left"));
    await stage.clock.advance(50);
    assert.equal(
      stage.provider.calls.length,
      10,
      "after two failures all others are under way, none waits for another",
    );
    leave.abort(new GatewayError("client_closed_request", "left"));
    const codes = await stage.pass(Promise.all([first, ...others]));
    assert.equal(codes.filter((code) => code === "provider_rejected").length, 1);
    assert.equal(codes.filter((code) => code === "client_closed_request").length, 9);
    await stage.rest();
  });

  test("after one failure the others still share the next attempt", async () => {
    const stage = stageOf();
    stage.provider.scripts = [[rejected]];
    const outcomes = await stage.pass(Promise.all(calls(stage, 10)));
    assert.equal(outcomes.filter((outcome) => outcome instanceof GatewayError).length, 1);
    assert.equal(stage.provider.calls.length, 2);
    await stage.rest();
  });

  test("a caller that does not read on holds up nobody but itself", async () => {
    const stage = stageOf();
    const leader = stage.call();
    assert.equal((await stage.pass(leader.next())).value?.type, "accepted");
    const follower = all(stage.call());
    await stage.clock.advance(900);
    assert.equal(stage.provider.calls.length, 1);
    await stage.pass(follower);
    assert.equal(stage.provider.calls.length, 2);
    assert.equal((await stage.pass(all(leader))).at(-1)?.type, "settled");
    await stage.rest();
  });

  test("calls that want a new answer, or none that is kept, go their own way", async () => {
    for (const cache of [{ "no-cache": true }, { "no-store": true }]) {
      const stage = stageOf();
      const request = sampleRequest({ cache });
      await stage.pass(Promise.all([1, 2, 3].map(() => all(stage.call({ request })))));
      assert.equal(stage.provider.calls.length, 3, JSON.stringify(cache));
      await stage.rest();
    }
  });
});

describe("what is kept", () => {
  const clock = new HandClock();
  const cacheOf = (config: Partial<AnswerCacheConfig> = {}) =>
    new AnswerCache({
      config: { ...answerCache, ...config },
      store: new MemoryAnswers({ clock, bytesMax: 10 * answerBytesMax }),
      clock,
    });
  const request = sampleRequest();
  const accepted: AcceptedEvent = {
    ...{ type: "accepted", callId: "c", deploymentId: "d", modelGroup: "m", attempts: 1, limits: [] },
    ...{ fallbacks: 0, timeoutMs: 1 },
  };
  const made: CallEvent[] = [
    accepted,
    { type: "start", id: "x", model: "x", createdS: 1 },
    { type: "delta", choice: 0, text: "Hi" },
    { type: "finish", choice: 0, reason: "stop" },
    { type: "settled", usage, cost: 1n, raw: undefined },
  ];

  async function isHitOf(cache: AnswerCache, facts: Partial<AdmittedCall> = {}, events = made): Promise<boolean> {
    const terms = { reads: true, stores: true, ttlMs: 60_000, maxAgeMs: Number.POSITIVE_INFINITY, namespace: "" };
    const call: AdmittedCall = {
      ...{ terms, request, signal: new AbortController().signal, callId: "c", keyId: "k", teamId: undefined },
      ...{ modelGroup: "m", model: "m", outputTokensMax: undefined, limits: [], timeoutMs: 1, giveAgain: () => {} },
      lookUp: (work) => work(),
      ...facts,
    };
    const { kept, recording } = await cache.find(call);
    if (kept !== undefined) return isHit(await all(kept)) ?? false;
    try {
      return isHit(events.map((event) => recording?.pass(event) ?? event)) ?? false;
    } finally {
      recording?.close();
    }
  }

  test("is for every key, for those of a team, or for its key alone, as configured", async () => {
    const keys = [
      { keyId: "k1", teamId: "t1" },
      { keyId: "k2", teamId: "t1" },
      { keyId: "k3", teamId: "t2" },
      { keyId: "k4" },
      { keyId: "k5" },
    ];
    for (const [sharing, expected] of [
      ["all", [false, true, true, true, true]],
      ["team", [false, true, false, false, false]],
      ["key", [false, false, false, false, false]],
    ] as const) {
      const cache = cacheOf({ sharing });
      const hits: boolean[] = [];
      for (const key of keys) hits.push(await isHitOf(cache, key));
      assert.deepEqual(hits, expected, sharing);
      for (const key of keys) assert.ok(await isHitOf(cache, key), "and each has its own");
    }
  });

  test("is not another group's answer, such as a fallback's", async () => {
    const cache = cacheOf();
    const fallback = [{ ...accepted, modelGroup: "fallback" }, ...made.slice(1)];
    assert.equal(await isHitOf(cache, {}, fallback), false);
    assert.equal(await isHitOf(cache), false);
    assert.equal(await isHitOf(cache), true);
  });

  test("is no answer beyond the bound of one", async () => {
    const cache = cacheOf();
    const piece: CallEvent = { type: "delta", choice: 0, text: "x".repeat(answerBytesMax / 4) };
    const large = [...made.slice(0, 2), piece, piece, piece, piece, ...made.slice(2)];
    assert.equal(await isHitOf(cache, {}, large), false);
    assert.equal(await isHitOf(cache), false);
  });

  test("is forgotten if it cannot be read any more", async () => {
    const cache = cacheOf();
    await isHitOf(cache);
    const get = cache.store.get.bind(cache.store);
    for (const damage of [
      () => Buffer.from("no entry"),
      () => Buffer.from("{}\n"),
      () => Buffer.from('{"form":"stream","ends":null,"keptAtMs":1,"deploymentId":"d","usage":{}}\n'),
      (entry: Buffer) => Buffer.from(entry.toString().replace('"inputTokens":10', '"inputTokens":"10"')),
      (entry: Buffer) => entry.subarray(0, entry.length - 5),
    ]) {
      cache.store.get = async (key) => {
        const entry = await get(key);
        return entry && damage(entry);
      };
      assert.equal(await isHitOf(cache), false);
    }
  });
});
