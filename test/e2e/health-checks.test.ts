import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PlannedUpstream } from "./planned-upstream.ts";
import { masterKey, Stack } from "./stack.ts";

const intervalMs = 1_000;
const config = `
  enable_health_check_routing: true
general_settings:
  background_health_checks: true
  health_check_interval: ${intervalMs / 1000}
`;

/** What `GET /health` says. */
interface HealthAnswer {
  readonly healthy_endpoints: readonly Endpoint[];
  readonly unhealthy_endpoints: readonly Endpoint[];
  readonly healthy_count: number;
  readonly unhealthy_count: number;
}
interface Endpoint {
  readonly model: string;
  readonly model_id: string;
  readonly error?: string;
  readonly cooldown_ms?: number;
}

describe("background health checks, by two sidecars with one Redis", () => {
  let planned: PlannedUpstream;
  let stack: Stack;
  let key: string;
  before(async () => {
    planned = await PlannedUpstream.start();
    // Only a check can end so long a cooldown within this test.
    const params = { cooldown_time: 600 };
    const models = ["steady", "frail"].map((name) => planned.deployment("pair", name, { group: "pair", params }));
    for (const name of ["steady", "frail"]) planned.plan("pair", name, ["ok"]);
    stack = await Stack.start({ sidecars: 2, models: models.join("\n"), config });
    key = await stack.generateKey({ max_budget: 10 });
  });
  after(async () => {
    await stack?.close();
    await planned?.close();
  });

  async function health(sidecar: number, query: string, token: string | undefined = masterKey) {
    const headers = token === "" ? {} : { authorization: `Bearer ${token}` };
    const answer = await fetch(`${stack.sidecars[sidecar]?.url}/health${query}`, { headers });
    return { status: answer.status, text: await answer.text() };
  }

  /** The ids of the healthy and of the others, in the words of a sidecar. */
  async function told(sidecar: number): Promise<{ well: string; unwell: string; answer: HealthAnswer }> {
    const answer = JSON.parse((await health(sidecar, "?model=pair")).text) as HealthAnswer;
    const ids = (endpoints: readonly Endpoint[]) => endpoints.map(({ model_id }) => model_id).join(" ");
    return { well: ids(answer.healthy_endpoints), unwell: ids(answer.unhealthy_endpoints), answer };
  }

  async function untilBothTell(well: string): Promise<void> {
    for (let tries = 0; ; tries++) {
      const both = await Promise.all([told(0), told(1)]);
      if (both.every((one) => one.well === well)) return;
      if (tries > 100) throw new Error(`not told in 10 s: ${JSON.stringify(both)}`);
      await sleep(100);
    }
  }

  const frailCalls = () => planned.tried("pair").filter((name) => name === "frail").length;

  async function chatTimes(count: number): Promise<void> {
    for (let index = 0; index < count; index++) {
      const answer = await stack.chat(index % 2, key, { model: "pair" });
      assert.equal(answer.status, 200, await answer.text());
    }
  }

  it("find a dead deployment before any call does, and put it back when it answers, at nobody's cost", async () => {
    await untilBothTell("pair-steady pair-frail");
    planned.plan("pair", "frail", ["resetBeforeHead"]);
    await untilBothTell("pair-steady");
    const { answer } = await told(0);
    assert.deepEqual([answer.healthy_count, answer.unhealthy_count], [1, 1]);
    assert.equal(answer.unhealthy_endpoints[0]?.model, "openai/pair-frail");
    assert.match(answer.unhealthy_endpoints[0]?.error ?? "", /^provider_/);
    assert.ok((answer.unhealthy_endpoints[0]?.cooldown_ms ?? 0) > 500_000);
    await chatTimes(10);
    planned.plan("pair", "frail", ["ok"]);
    await untilBothTell("pair-steady pair-frail");
    const before = frailCalls();
    await chatTimes(20);
    assert.ok(frailCalls() - before >= 3, "calls go there again");
    assert.equal((await stack.booked(key, 30)).length, 30);
    const { rows } = await stack.database.query("SELECT count(*)::int AS count FROM spend_log");
    assert.equal(rows[0]?.count, 30, "no check is in the books");
  });

  it("are made by one pod of the two, once an interval", async () => {
    await sleep(intervalMs);
    const [before, startedMs] = [frailCalls(), performance.now()];
    await sleep(5 * intervalMs);
    const intervals = (performance.now() - startedMs) / (0.9 * intervalMs);
    const made = frailCalls() - before;
    assert.ok(made >= 2 && made <= Math.ceil(intervals) + 1, `${made} checks in ${intervals.toFixed(1)} intervals`);
  });

  it("are told of to the master key alone, for all models or one, and without any secret", async () => {
    assert.equal((await health(0, "", "")).status, 401);
    assert.equal((await health(0, "", key)).status, 403);
    const unknown = await health(0, "?model=nothing");
    assert.equal(unknown.status, 404);
    assert.match(unknown.text, /model_not_found/);
    const all = await health(0, "");
    assert.equal(all.status, 200);
    const { healthy_count, unhealthy_count } = JSON.parse(all.text) as HealthAnswer;
    assert.ok(healthy_count + unhealthy_count > 2);
    assert.doesNotMatch(all.text, /sk-/);
  });
});
