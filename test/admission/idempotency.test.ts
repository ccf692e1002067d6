import assert from "node:assert/strict";
import { it } from "node:test";
import { ProviderFailure } from "../../src/errors.ts";
import { answer, GatewayStage } from "../gateway-stage.ts";

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
    config: { router: { strategy: "simple-shuffle", retries: 0 } },
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
