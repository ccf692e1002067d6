import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Stack } from "./stack.ts";

describe("a sidecar that is killed", () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ sidecars: 1 });
  });
  after(() => stack.close());

  test("in the middle of a stream: after the restart the call is in the books once", async () => {
    const sidecar = stack.sidecars[0];
    assert.ok(sidecar);
    const key = await stack.generateKey({ max_budget: 1 });
    const answer = await stack.chat(0, key, { model: "slow", stream: true });
    const reader = answer.body?.getReader();
    await reader?.read();
    const callId = answer.headers.get("x-litellm-call-id");
    await sidecar.process.kill("SIGKILL");
    await assert.rejects(async () => {
      while ((await reader?.read())?.done === false);
    });
    sidecar.process.restart();
    await sidecar.ready();
    const rows = await stack.booked(key, 1);
    assert.equal(rows.length, 1);
    assert.equal(rows[0]?.call_id, callId);
    assert.equal(rows[0]?.status, "unconfirmed");
    assert.ok(BigInt(rows[0]?.cost_nanos) > 0n);
    assert.equal((await stack.spent(key)).spent, BigInt(rows[0]?.cost_nanos));
    // The dead pod's lease goes back with its journal, not with a time-out.
    for (let tries = 0; tries < 100 && (await stack.spent(key)).reserved > 0n; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.equal((await stack.spent(key)).reserved, 0n);
    assert.equal((await stack.chat(0, key)).status, 200);
    assert.equal((await stack.booked(key, 2)).length, 2);
  });

  test("SIGTERM finishes the call in flight, books it and returns the money", async () => {
    const sidecar = stack.sidecars[0];
    assert.ok(sidecar);
    const key = await stack.generateKey({ max_budget: 1 });
    const answer = await stack.chat(0, key, { model: "slow", stream: true });
    const ended = sidecar.process.kill("SIGTERM");
    const text = await answer.text();
    assert.match(text, /\[DONE\]\n\n$/);
    assert.equal(await ended, 0);
    const { rows } = await stack.database.query("SELECT status FROM spend_log WHERE call_id = $1", [
      answer.headers.get("x-litellm-call-id"),
    ]);
    assert.deepEqual(rows, [{ status: "success" }]);
    assert.equal((await stack.spent(key)).reserved, 0n);
    sidecar.process.restart();
    await sidecar.ready();
  });

  test("while the KeyService is down, a known key is served from its lease and booked afterwards", async () => {
    const key = await stack.generateKey({ max_budget: 1 });
    for (let call = 0; call < 5; call++) assert.equal((await stack.chat(0, key)).status, 200);
    await stack.booked(key, 5);
    await stack.keyService.kill("SIGKILL");
    assert.equal((await stack.chat(0, key)).status, 200);
    const stranger = await stack.chat(0, "sk-somebody-nobody-has-seen");
    assert.equal(stranger.status, 503, "an outage is never an answer about a key");
    stack.keyService.restart();
    await stack.keyServiceReady();
    assert.equal((await stack.booked(key, 6)).length, 6);
  });
});
