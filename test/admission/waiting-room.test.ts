import assert from "node:assert/strict";
import { test } from "node:test";
import { WaitingRoom } from "../../src/admission/waiting-room.ts";
import { GatewayError } from "../../src/errors.ts";
import { HandClock } from "../keys/hand-clock.ts";

const rules = { waitMs: 1_000, lengthMax: 3, pollMs: 100, defaultPriority: 5 };

/** A group with so many places, and callers who want one. */
class Stage {
  readonly clock = new HandClock();
  readonly room = new WaitingRoom({ clock: this.clock });
  readonly served: string[] = [];
  free = 0;
  tries = 0;

  call(
    name: string,
    facts: { priority?: number; leftMs?: number; signal?: AbortSignal; group?: string } = {},
  ): Promise<string> {
    const { priority, leftMs = Number.POSITIVE_INFINITY, signal = new AbortController().signal, group = "m" } = facts;
    const outcome = this.room
      .inTurn({ group, priority, rules, leftMs, signal }, async () => {
        this.tries += 1;
        if (this.free === 0) throw new GatewayError("deployments_full", "Full.", { retryAfterMs: 4_000 });
        this.free -= 1;
        this.served.push(name);
        return name;
      })
      .catch((error: GatewayError) => `${error.code}: ${error.message} ${error.facts.retryAfterMs}`);
    return outcome;
  }

  /** Room comes free on this pod. */
  async release(places = 1): Promise<void> {
    this.free += places;
    this.room.wake("m");
    await this.clock.advance(0);
  }
}

test("where there is room nobody waits, and what is no lack of room is thrown as it is", async () => {
  const stage = new Stage();
  stage.free = 1;
  assert.equal(await stage.call("a"), "a");
  assert.equal(stage.room.size, 0);
  const signal = new AbortController().signal;
  const ask = { group: "m", priority: 1, rules, leftMs: 1, signal };
  await assert.rejects(
    stage.room.inTurn(ask, async () => Promise.reject(new Error("something else"))),
    /something else/,
  );
  assert.equal(stage.room.size, 0);
});

test("callers are served by priority, then as they came, and none is overtaken by a newcomer", async () => {
  const stage = new Stage();
  const calls = [stage.call("a"), stage.call("b", { priority: 5 }), stage.call("urgent", { priority: 0 })];
  await stage.clock.advance(0);
  assert.equal(stage.room.size, 3);
  await stage.release();
  assert.deepEqual(stage.served, ["urgent"]);
  stage.free = 1;
  calls.push(stage.call("newcomer"));
  await stage.clock.advance(0);
  assert.deepEqual(stage.served, ["urgent"], "there is room, and others have waited for it");
  await stage.release(2);
  assert.deepEqual(stage.served, ["urgent", "a", "b", "newcomer"]);
  await Promise.all(calls);
  assert.equal(stage.room.size, 0);
});

test("room that others make is found without being told of it", async () => {
  const stage = new Stage();
  const call = stage.call("a");
  await stage.clock.advance(450);
  stage.free = 1;
  await stage.clock.advance(100);
  assert.equal(await call, "a");
  assert.ok(stage.tries <= 8, `${stage.tries} tries in 550 ms`);
});

test("whoever has waited long enough is told how full it is, though it was never his turn", async () => {
  const stage = new Stage();
  const [first, hurried, second] = [stage.call("a"), stage.call("b", { leftMs: 200 }), stage.call("c")];
  await stage.clock.advance(200);
  assert.equal(await hurried, "deployments_full: Full. The call has waited 0.2 s for it. 4000");
  assert.equal(stage.room.size, 2);
  await stage.clock.advance(800);
  assert.equal(await first, "deployments_full: Full. The call has waited 1 s for it. 4000");
  assert.equal(await second, "deployments_full: Full. The call has waited 1 s for it. 4000");
  assert.deepEqual([stage.room.size, stage.served], [0, []]);
});

test("a line that is too long takes nobody in, and another group's is another line", async () => {
  const stage = new Stage();
  const calls = ["a", "b", "c"].map((name) => stage.call(name));
  await stage.clock.advance(0);
  assert.equal(await stage.call("d", { priority: 0 }), "deployments_full: Full. 3 calls wait for it already. 4000");
  stage.free = 1;
  assert.equal(await stage.call("elsewhere", { group: "n" }), "elsewhere");
  await stage.clock.advance(1_000);
  await Promise.all(calls);
});

test("a caller who leaves is out of the line, and the next is first", async () => {
  const stage = new Stage();
  const [leaver, late] = [new AbortController(), new AbortController()];
  const reason = new GatewayError("client_closed_request", "Gone.");
  const calls = [stage.call("a", { signal: leaver.signal }), stage.call("b"), stage.call("c", { signal: late.signal })];
  await stage.clock.advance(0);
  leaver.abort(reason);
  late.abort(reason);
  await stage.clock.advance(0);
  assert.match((await calls[0]) ?? "", /^client_closed_request/);
  assert.match((await calls[2]) ?? "", /^client_closed_request/);
  assert.equal(stage.room.size, 1);
  await stage.release();
  assert.equal(await calls[1], "b");
  assert.equal(stage.room.size, 0);
});
