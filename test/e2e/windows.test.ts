import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { inputTokens, words } from "../upstream.ts";
import { Stack } from "./stack.ts";

const costUsd = (inputTokens * 1_000 + words.length * 2_000) / 1e9;

interface Window {
  readonly budget_duration: string;
  readonly max_budget: number;
  readonly spent: number;
  readonly reserved: number;
  readonly reset_at: string;
}

interface Info {
  readonly spend: number;
  readonly reserved: number;
  readonly budget_limits: readonly Window[] | null;
}

describe("a key with a day's, a month's and its own budget, in Berlin", () => {
  let stack: Stack;
  let key: string;
  const day = { budget_duration: "1d", max_budget: 0.001 };
  before(async () => {
    stack = await Stack.start({ sidecars: 2, env: { TOLLGATE_TIMEZONE: "Europe/Berlin" } });
    key = await stack.generateKey({ max_budget: 10, budget_limits: [day], metadata: { monthly_budget: 5 } });
  });
  after(() => stack.close());

  async function info(): Promise<Info> {
    const { body } = await stack.admin("GET", `/key/info?key=${key}`);
    return body.info as Info;
  }

  async function update(fields: object): Promise<void> {
    const { status, body } = await stack.admin("POST", "/key/update", { key, ...fields });
    assert.equal(status, 200, JSON.stringify(body));
  }

  /** Once nothing is in flight: the spend log, the key and each of its windows say the same. */
  async function settled(calls: number): Promise<Info> {
    const rows = await stack.booked(key, calls);
    assert.equal(rows.length, calls);
    const loggedUsd = rows.reduce((sum, row) => sum + Number(row.cost_nanos), 0) / 1e9;
    assert.ok(Math.abs(loggedUsd - calls * costUsd) < 1e-12);
    await eventually(async () => (await info()).reserved === 0, "reserved money comes back");
    const found = await info();
    assert.equal(found.spend, loggedUsd);
    for (const window of found.budget_limits ?? []) {
      assert.deepEqual([window.spent, window.reserved], [loggedUsd, 0], window.budget_duration);
    }
    return found;
  }

  let served = 0;

  test("is refused in the name of the day when that is spent, and every window has counted every call", async () => {
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, index) => stack.chat(index % 2, key, { max_tokens: 50 })),
    );
    served = answers.filter(({ status }) => status === 200).length;
    const refused = answers.filter(({ status }) => status === 429);
    assert.equal(served + refused.length, 100);
    assert.ok(served > 0 && refused.length > 0, `${served} served`);
    for (const answer of refused) {
      const { error } = (await answer.json()) as { error: { message: string } };
      assert.match(error.message, /Key=key_\w+ \(1d window\) Current cost: .*Max budget: \$0\.001;.* It resets at /);
    }
    const { budget_limits } = await settled(served);
    assert.deepEqual(
      budget_limits?.map((window) => window.budget_duration),
      ["1d", "1mo"],
    );
    const [today, month] = budget_limits ?? [];
    assert.ok(today !== undefined && month !== undefined && today.spent <= 0.001);
    for (const { reset_at } of [today, month]) {
      assert.equal(new Date(reset_at).toLocaleTimeString("de-DE", { timeZone: "Europe/Berlin" }), "00:00:00");
    }
    assert.equal(
      new Date(month.reset_at).toLocaleDateString("de-DE", { timeZone: "Europe/Berlin", day: "numeric" }),
      "1",
    );
    while ((await stack.chat(0, key, { max_tokens: 50 })).status === 200) served++;
  });

  test("works again without the day's window, which goes on where it was when it comes back", async () => {
    await update({ budget_limits: null });
    await eventually(async () => (await stack.chat(1, key)).status === 200, "it is served", 2_000);
    served++;
    await update({ budget_limits: [{ ...day, max_budget: 0.5 }] });
    const { budget_limits } = await settled(served);
    assert.equal(budget_limits?.[0]?.max_budget, 0.5);
    assert.equal((await stack.chat(0, key)).status, 200);
  });
});

async function eventually(check: () => Promise<boolean>, what: string, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (performance.now() < deadline) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`not within ${withinMs} ms: ${what}`);
}
