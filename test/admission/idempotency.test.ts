import assert from "node:assert/strict";
import { it } from "node:test";
import { boundsOf } from "../../src/admission/estimate.ts";
import { takeLimits } from "../../src/admission/limits.ts";
import type { Counters } from "../../src/counters/counters.ts";
import { createMemoryCounters } from "../../src/counters/memory.ts";
import { ProviderFailure } from "../../src/errors.ts";
import { answer, GatewayStage } from "../gateway-stage.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { sampleDeployment, sampleRequest, sampleRouter } from "../sample-call.ts";

const key = "idem-1";

it("of calls with one idempotency key one is made; the others are told to wait, and then that it was answered", async () => {
  const stage = new GatewayStage({ grant: { limits: [] } });
  const [first, second] = [stage.call({ idempotencyKey: key }), stage.call({ idempotencyKey: key })];
  await stage.pass(first.next());
  await assert.rejects(stage.pass(second.next()), (error: { code: string; shouldRetry: boolean }) => {
    assert.deepEqual([error.code, error.shouldRetry], ["duplicate_request", true]);
    return true;
  });
  await stage.pass(
    (async () => {
      for await (const _ of first);
    })(),
  );
  const { error } = await stage.failed({ idempotencyKey: key });
  assert.deepEqual([error.code, error.kind.httpStatus, error.shouldRetry], ["duplicate_request", 409, false]);
  await stage.answered({ idempotencyKey: "another" });
  assert.equal((await stage.rest()).length, 2);
});

it("a call that failed frees its idempotency key, and so does one whose caller went away", async () => {
  const stage = new GatewayStage({
    grant: { limits: [] },
    config: { router: sampleRouter({ retries: 0 }) },
  });
  stage.provider.scripts = [[new ProviderFailure("provider_error", "no", { billable: false })], answer, answer];
  assert.equal((await stage.failed({ idempotencyKey: key })).error.code, "provider_error");
  const left = stage.call({ idempotencyKey: key });
  await stage.pass(left.next());
  await stage.pass(left.next());
  await stage.pass(left.return(undefined));
  await stage.answered({ idempotencyKey: key });
  await stage.rest();
});

it("a call that its limits refuse has not used its idempotency key", async () => {
  const limit = { scope: "key", scopeId: "key_1", kind: "requests", ceiling: 1 } as const;
  const stage = new GatewayStage({ grant: { limits: [limit] } });
  await stage.answered();
  assert.equal((await stage.failed({ idempotencyKey: key })).error.code, "rate_limit_exceeded");
  await stage.clock.advance(61_000);
  await stage.answered({ idempotencyKey: key });
  await stage.rest();
});

it("an idempotency key that is remembered is forgotten after an hour", async () => {
  const stage = new GatewayStage({ grant: { limits: [] } });
  await stage.answered({ idempotencyKey: key });
  await stage.clock.advance(3_500_000);
  assert.equal((await stage.failed({ idempotencyKey: key })).error.code, "duplicate_request");
  await stage.clock.advance(200_000);
  await stage.answered({ idempotencyKey: key });
  await stage.rest();
});

it("a call that died with its pod has not used its idempotency key, however often", async () => {
  const counters = createMemoryCounters({ clock: new HandClock() });
  // Its slots expire, and its windows stay as they were taken.
  const ofDyingPod: Counters = {
    ping: () => counters.ping(),
    close: () => counters.close(),
    take: async (claims) => {
      const verdict = await counters.take(claims);
      return verdict.ok ? { ...verdict, hold: { release: () => verdict.hold.release([]) } } : verdict;
    },
  };
  const take = (from: Counters) =>
    takeLimits(from, {
      ...{
        limits: [],
        counted: "total" as const,
        request: sampleRequest(),
        bounds: boundsOf(sampleRequest(), [sampleDeployment()], []),
      },
      once: { keyId: "key_1", idempotencyKey: key },
      options: [{ deployment: sampleDeployment(), isProbe: false }],
    });
  for (let crash = 0; crash < 5; crash++) await (await take(ofDyingPod)).hold.end(0, false);
  await (await take(counters)).hold.end(0, true);
  await assert.rejects(take(counters), { code: "duplicate_request" });
});

it("an idempotency key that comes with another request is refused as the caller's mistake, under way and answered", async () => {
  const stage = new GatewayStage({ grant: { limits: [] } });
  const other = sampleRequest({ messages: [{ role: "user", content: "Something else" }] });
  const first = stage.call({ idempotencyKey: key });
  await stage.pass(first.next());
  const check = async () => {
    const { error } = await stage.failed({ idempotencyKey: key, request: other });
    assert.deepEqual([error.code, error.kind.httpStatus, error.shouldRetry], ["idempotency_key_reused", 422, false]);
  };
  await check();
  await stage.pass(
    (async () => {
      for await (const _ of first);
    })(),
  );
  await check();
  assert.equal((await stage.failed({ idempotencyKey: key })).error.code, "duplicate_request");
  await stage.rest();
});
