import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Stack } from "./stack.ts";

const maxTokens = 100;
const fields = { model: "slow", stream: true, max_tokens: maxTokens };
const messages = [{ role: "user", content: "Hello" }];
/** What a call reserves: the whole cap out and a token a byte in, at the stack's prices. */
const reserved =
  Buffer.byteLength(JSON.stringify({ ...fields, messages, tags: ["campaign"] })) * 1_000 + maxTokens * 2_000;
/** Room for so many calls, and half of another. */
const dollarsFor = (calls: number) => (reserved * (calls + 0.5)) / 1e9;

describe("budgets the configuration gives a provider and a tag, over two sidecars", () => {
  let stack: Stack;
  before(async () => {
    const budget = (calls: number) => `{ budget_limit: ${dollarsFor(calls)}, time_period: 1d }`;
    const config = `  provider_budget_config: { openai: ${budget(8)} }
litellm_settings:
  tag_budget_config: { campaign: ${budget(2)} }`;
    stack = await Stack.start({ sidecars: 2, config });
  });
  after(() => stack.close());

  /** Many calls at once, by turns at both. @returns how many were served, and what the others were told. */
  async function burst(key: string, more: object): Promise<{ served: number; refusals: string[] }> {
    const before = stack.upstream.calls.length;
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => stack.chat(index % 2, key, { ...fields, ...more })),
    );
    const refusals: string[] = [];
    for (const answer of answers) {
      const text = await answer.text();
      if (answer.status === 200) continue;
      assert.equal(answer.status, 429, text);
      refusals.push((JSON.parse(text) as { error: { message: string } }).error.message);
    }
    const served = answers.length - refusals.length;
    assert.equal(stack.upstream.calls.length - before, served);
    return { served, refusals };
  }

  const spent = async (scope: string) => {
    const { rows } = await stack.database.query(
      `SELECT sum(spent_nanos)::float8 AS spent, sum(reserved_nanos)::float8 AS reserved
       FROM budget_periods JOIN budgets USING (budget_id) WHERE scope = $1`,
      [scope],
    );
    return rows[0] as { spent: number; reserved: number };
  };

  test("a tag's bounds calls that have it, in its name, and no others", async () => {
    const key = await stack.generateKey();
    const { served, refusals } = await burst(key, { tags: ["campaign"] });
    assert.ok(served >= 1 && served <= 2, `${served} served`);
    for (const message of refusals) assert.match(message, /Tag=campaign \(1d window\) Current cost/);
    const { spent: nanos } = await spent("configured_tag");
    assert.ok(nanos <= dollarsFor(2) * 1e9);
    assert.equal((await stack.chat(0, key, fields)).status, 200);
  });

  test("a provider's is never passed by all keys together, and no deployment of it is called when it has no room", async () => {
    const keys = [await stack.generateKey({ max_budget: 100 }), await stack.generateKey()];
    let refusals: string[] = [];
    // What calls did not use goes back, so that it takes several rounds until nothing fits any more.
    for (let round = 0; round < 12 && refusals.length < 40; round++) {
      const results = await Promise.all(keys.map((key) => burst2(key)));
      refusals = results.flat();
      const { spent: nanos, reserved: lent } = await spent("provider");
      assert.ok(nanos + lent <= dollarsFor(8) * 1e9, `${nanos} spent and ${lent} lent`);
    }
    assert.ok(refusals.length > 0);
    for (const message of refusals) {
      assert.match(message, /^No deployments available - crossed budget: Provider=openai \(1d window\) /);
    }
  });

  async function burst2(key: string): Promise<string[]> {
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => stack.chat(index % 2, key, fields)));
    const texts = await Promise.all(answers.map((answer) => answer.text()));
    return texts.flatMap((text, index) => {
      if (answers[index]?.status === 200) return [];
      assert.equal(answers[index]?.status, 429, text);
      return (JSON.parse(text) as { error: { message: string } }).error.message;
    });
  }

  test("/provider/budgets says how it stands, in LiteLLM's shape", async () => {
    const { status, body } = await stack.admin("GET", "/provider/budgets");
    assert.equal(status, 200);
    const providers = body.providers as Record<string, Record<string, unknown>>;
    assert.deepEqual(Object.keys(providers), ["openai"]);
    const { budget_limit, time_period, spend, budget_reset_at } = providers.openai ?? {};
    assert.deepEqual([budget_limit, time_period], [dollarsFor(8), "1d"]);
    assert.ok(Number(spend) > 0 && Number(spend) <= dollarsFor(8));
    assert.ok(Date.parse(String(budget_reset_at)) > 0);
  });
});
