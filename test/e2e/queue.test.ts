import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Stack } from "./stack.ts";

const answerMs = 400;
const models = ["narrow", "rare"]
  .map(
    (name) => `
  - model_name: ${name}
    litellm_params:
      model: openai/${name}
      mock_response: "hello"
      mock_delay: ${answerMs / 1000}
      ${name === "narrow" ? "max_parallel_requests: 1" : "rpm: 1"}
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
    model_info: { id: ${name}-1 }`,
  )
  .join("");
const config = `
  polling_interval: 0.05
  default_priority: 5
tollgate:
  queue_timeout: 3
  queue_length: 4
`;

describe("calls that wait for room, on two sidecars with one Redis", () => {
  let stack: Stack;
  let key: string;
  before(async () => {
    stack = await Stack.start({ sidecars: 2, models, config });
    key = await stack.generateKey({ max_budget: 10 });
  });
  after(() => stack?.close());

  async function waiting(sidecar: number): Promise<number> {
    const text = await (await fetch(`${stack.sidecars[sidecar]?.adminUrl}/metrics`)).text();
    return Number(/^tollgate_queue_length (\d+)/m.exec(text)?.[1]);
  }

  async function untilWaiting(sidecar: number, count: number): Promise<void> {
    for (let tries = 0; (await waiting(sidecar)) !== count; tries++) {
      if (tries > 200) throw new Error(`${await waiting(sidecar)} wait, not ${count}`);
      await sleep(10);
    }
  }

  it("all are answered, one at a time over both pods, where there is one place", async () => {
    const started = performance.now();
    const answers = await Promise.all([0, 1, 0, 1].map((sidecar) => stack.chat(sidecar, key, { model: "narrow" })));
    assert.deepEqual(
      answers.map(({ status }) => status),
      [200, 200, 200, 200],
    );
    assert.ok(performance.now() - started >= 4 * answerMs, "never two at once");
    assert.deepEqual([await waiting(0), await waiting(1)], [0, 0]);
  });

  it("lower priorities go first, equals as they came; what nobody said is the default", async () => {
    const order: string[] = [];
    const call = async (name: string, fields: object) => {
      const { status } = await stack.chat(0, key, { model: "narrow", ...fields });
      assert.equal(status, 200);
      order.push(name);
    };
    const calls = [call("running", {})];
    await sleep(150);
    const later: [string, object][] = [
      ["last", { priority: 9 }],
      ["default", {}],
      ["fifth", { priority: 5 }],
      ["urgent", { priority: 0 }],
    ];
    for (const [index, [name, fields]] of later.entries()) {
      calls.push(call(name, fields));
      await untilWaiting(0, index + 1);
    }
    await Promise.all(calls);
    assert.deepEqual(order, ["running", "urgent", "default", "fifth", "last"]);
    assert.equal((await stack.chat(0, key, { model: "narrow", priority: "high" })).status, 400);
  });

  it("a caller who leaves, or whose time is over, or who finds a long line, does not wait", async () => {
    assert.equal((await stack.chat(0, key, { model: "rare" })).status, 200);
    const leave = new AbortController();
    const left = fetch(`${stack.sidecars[0]?.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "rare", messages: [{ role: "user", content: "Hello" }] }),
      signal: leave.signal,
    });
    await untilWaiting(0, 1);
    leave.abort();
    await assert.rejects(left);
    await untilWaiting(0, 0);
    const started = performance.now();
    const hurried = await stack.chat(0, key, { model: "rare", timeout: 0.3 });
    assert.equal(hurried.status, 429);
    assert.ok(performance.now() - started < 2_500, "no longer than its caller waits");
    const waiters = Array.from({ length: 4 }, () => stack.chat(0, key, { model: "rare" }));
    await untilWaiting(0, 4);
    const tooMany = await stack.chat(0, key, { model: "rare" });
    assert.match(await tooMany.text(), /4 calls wait for it already/);
    for (const answer of await Promise.all(waiters)) {
      assert.equal(answer.status, 429);
      assert.ok(Number(answer.headers.get("retry-after")) > 0);
      const { error } = (await answer.json()) as { error: { code: string; message: string } };
      assert.equal(error.code, "deployments_full");
      const seconds = Number(/Try again in (\d+) s\. The call has waited 3 s for it\./.exec(error.message)?.[1]);
      assert.ok(seconds > 40 && seconds <= 60, `the window ends in ${seconds} s: ${error.message}`);
    }
  });

  it("who waited and was refused has paid nothing", async () => {
    const rows = await stack.booked(key, 10);
    assert.equal(rows.length, 10, "4 and 5 narrow ones and a rare one were answered");
  });
});
