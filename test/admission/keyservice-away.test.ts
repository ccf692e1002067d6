import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Overdraft } from "../../src/keys/overdraft.ts";
import { GatewayStage } from "../gateway-stage.ts";
import { sampleOpen, samplePayer, sampleSettled } from "../keys/samples.ts";

describe("while the KeyService is away", () => {
  it("lease_only: what was borrowed is spent, and then calls get 503", async () => {
    const stage = new GatewayStage();
    await stage.answered();
    await stage.clock.advance(100);
    stage.authority.trouble.away = true;
    let served = 0;
    let code: string | undefined;
    while (code === undefined) {
      try {
        await stage.answered();
        served++;
      } catch (error) {
        code = (error as { code: string }).code;
      }
    }
    assert.equal(code, "keyservice_unavailable");
    assert.ok(served > 0 && served < 100, `${served} calls were served`);
    await stage.rest();
  });

  it("closed: no call is let through, though money is at hand; and again as soon as it is heard", async () => {
    const stage = new GatewayStage({ config: { keyServiceUnavailable: { mode: "closed" } } });
    assert.equal((await stage.failed()).error.code, "keyservice_unavailable");
    stage.decisions.start();
    await stage.clock.advance(50);
    await stage.answered();
    stage.authority.cut();
    await stage.clock.advance(50);
    const { error } = await stage.failed();
    assert.deepEqual([error.code, error.kind.httpStatus], ["keyservice_unavailable", 503]);
    stage.authority.trouble.away = false;
    await stage.clock.advance(5_000);
    await stage.answered();
    const closing = stage.decisions.close();
    await stage.clock.advance(100);
    await closing;
    await stage.rest();
  });

  it("open: calls go on to the amount configured and no further, and at once; booked, it is free again", async () => {
    const probe = new GatewayStage();
    await probe.answered();
    const [{ reserved = 0n, cost = 0n } = {}] = await probe.rest();
    const max = reserved + 9n * cost;
    const stage = new GatewayStage({ config: { keyServiceUnavailable: { mode: "open", max } } });
    await stage.answered();
    stage.authority.trouble.away = true;
    let code: string | undefined;
    let served = 0;
    while (code === undefined && served < 1_000) {
      try {
        await stage.answered();
        served++;
      } catch (error) {
        code = (error as { code: string }).code;
      }
    }
    assert.equal(code, "keyservice_unavailable");
    const overdrawn = stage.records.filter(({ leaseId }) => leaseId === "");
    const total = overdrawn.reduce((sum, record) => sum + record.cost, 0n);
    // The last call needs its whole reservation.
    assert.equal(overdrawn.length, 10);
    assert.equal(total, 10n * cost);
    assert.equal(stage.overdraft?.used, total);
    stage.overdraft?.booked(overdrawn);
    assert.equal(stage.overdraft?.used, 0n);
    await stage.rest();
  });

  it("an overdraft is each key's own, and holds under any order of calls and bookings", () => {
    const overdraft = new Overdraft(100n);
    const [a, b] = [samplePayer("a", 1n), samplePayer("b", 1n)];
    const first = overdraft.take(a, 60n);
    assert.ok(first);
    assert.equal(first.leaseId, "");
    assert.equal(overdraft.take(a, 41n), undefined);
    assert.ok(overdraft.take(b, 100n));
    first.settle(50n);
    assert.equal(overdraft.take(a, 51n), undefined);
    const second = overdraft.take(a, 50n);
    assert.ok(second);
    overdraft.booked([sampleSettled(sampleOpen({ keyId: "a", leaseId: "" }), { cost: 50n })]);
    assert.equal(overdraft.take(a, 51n), undefined);
    assert.ok(overdraft.take(a, 50n));
    second.release();
    // Spend of others, or paid from leases, changes nothing.
    overdraft.booked([
      sampleSettled(sampleOpen({ keyId: "a", leaseId: "lease" }), { cost: 50n }),
      sampleSettled(sampleOpen({ keyId: "c", leaseId: "" }), { cost: 50n }),
    ]);
    assert.equal(overdraft.take(a, 51n), undefined);
  });
});
