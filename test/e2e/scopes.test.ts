import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Stack } from "./stack.ts";

/** What a call reserves: the whole cap out and a token a byte in, at the stack's prices. */
const maxTokens = 100;

describe("budgets and limits of every scope, over two sidecars", () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ sidecars: 2 });
  });
  after(() => stack.close());

  async function post(path: string, body: object): Promise<Record<string, unknown>> {
    const answer = await stack.admin("POST", path, body);
    assert.equal(answer.status, 200, `${path}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  const reserveOf = (fields: object) =>
    Buffer.byteLength(
      JSON.stringify({ model: "ok", messages: [{ role: "user", content: "Hello" }], max_tokens: maxTokens, ...fields }),
    ) *
      1_000 +
    maxTokens * 2_000;

  /** Room for so many calls like these, and half of another. */
  const budgetFor = (calls: number, fields: object = {}) => (reserveOf(fields) * (calls + 0.5)) / 1e9;

  /** Many calls at once, by turns at both sidecars. @returns how many were served, and what the others were told. */
  async function burst(keys: readonly string[], fields: object = {}): Promise<{ served: number; messages: string[] }> {
    const before = stack.upstream.calls.length;
    const answers = await Promise.all(
      Array.from({ length: 24 }, (_, index) =>
        // Slow answers keep every reservation open while all calls are decided.
        stack.chat(index % 2, keys[index % keys.length] ?? "", {
          max_tokens: maxTokens,
          model: "slow",
          stream: true,
          ...fields,
        }),
      ),
    );
    const served = answers.filter(({ status }) => status === 200).length;
    const messages: string[] = [];
    for (const answer of answers) {
      const text = await answer.text();
      if (answer.status === 200) continue;
      assert.equal(answer.status, 429, text);
      messages.push((JSON.parse(text) as { error: { message: string } }).error.message);
    }
    assert.equal(stack.upstream.calls.length - before, served);
    return { served, messages };
  }

  const slow = { model: "slow", stream: true };

  test("a team's budget bounds its keys together, on whichever sidecar", async () => {
    const { team_id } = await post("/team/new", { team_alias: "bounded", max_budget: budgetFor(5, slow) });
    const keys = [await stack.generateKey({ team_id, max_budget: 100 }), await stack.generateKey({ team_id })];
    const { served, messages } = await burst(keys);
    assert.ok(served >= 1 && served <= 5, `${served} served`);
    for (const message of messages) assert.match(message, new RegExp(`Team=${team_id} Current cost`));
  });

  test("a member's, a user's, an organization's and a model's budget refuse in their own names", async () => {
    const max_budget = budgetFor(3, slow);
    const { team_id } = await post("/team/new", { team_alias: "with member" });
    await post("/team/member_add", {
      team_id,
      member: { user_id: "ada", role: "user" },
      max_budget_in_team: max_budget,
    });
    const user = await post("/user/new", { user_alias: "bob", max_budget });
    const { organization_id } = await post("/organization/new", { organization_alias: "acme", max_budget });
    const cases: [string, string][] = [
      [await stack.generateKey({ team_id, user_id: "ada" }), `TeamMember=ada:${team_id}`],
      [String(user.key), `User=${user.user_id}`],
      [await stack.generateKey({ organization_id }), `Organization=${organization_id}`],
      [
        await stack.generateKey({ model_max_budget: { slow: { budget_limit: max_budget, time_period: "1d" } } }),
        "Model=slow",
      ],
    ];
    for (const [key, name] of cases) {
      const { served, messages } = await burst([key]);
      assert.ok(served >= 1 && served <= 3, `${name}: ${served} served`);
      for (const message of messages) assert.ok(message.includes(`${name} `), `${name}: ${message}`);
    }
    const [, , , [modelKey] = [""]] = cases;
    assert.equal((await stack.chat(0, modelKey)).status, 200, "another model has no such budget");
  });

  test("a customer's and a tag's budget bound all keys that name them, and nobody else", async () => {
    await post("/customer/new", { user_id: "customer-1", max_budget: budgetFor(3, { ...slow, user: "customer-1" }) });
    await post("/tag/new", { name: "campaign", max_budget: budgetFor(3, { ...slow, tags: ["campaign"] }) });
    const keys = [await stack.generateKey(), await stack.generateKey({ max_budget: 100 })];
    const byCustomer = await burst(keys, { user: "customer-1" });
    assert.ok(byCustomer.served >= 1 && byCustomer.served <= 3, `${byCustomer.served} served`);
    for (const message of byCustomer.messages) assert.match(message, /EndUser=customer-1 /);
    const byTag = await burst(keys, { tags: ["campaign"] });
    assert.ok(byTag.served >= 1 && byTag.served <= 3, `${byTag.served} served`);
    for (const message of byTag.messages) assert.match(message, /Tag=campaign /);
    assert.equal((await burst(keys, { user: "customer-2", tags: ["other"] })).served, 24);
    const rows = await stack.database.query(
      `SELECT scope, sum(cost_nanos)::text AS cost FROM daily_party_spend WHERE scope_id IN ('customer-1', 'campaign') GROUP BY 1`,
    );
    assert.equal(rows.rowCount, 2);
  });

  test("a team's limits hold for its keys together", async () => {
    const { team_id } = await post("/team/new", { team_alias: "slow lane", rpm_limit: 6 });
    const keys = [await stack.generateKey({ team_id, rpm_limit: 100 }), await stack.generateKey({ team_id })];
    const { served, messages } = await burst(keys);
    assert.equal(served, 6);
    for (const message of messages) assert.match(message, new RegExp(`Rate limit exceeded for team: ${team_id}`));
  });

  test("limits of a member, a user, an organization, a customer and of models hold over both, each in its own name", async () => {
    const rpm_limit = 5;
    const { team_id } = await post("/team/new", { team_alias: "with limits", model_rpm_limit: { "sl*": rpm_limit } });
    const { team_id: other } = await post("/team/new", { team_alias: "with a member" });
    await post("/team/member_add", { team_id: other, member: { user_id: "eve", role: "user" } });
    await post("/team/member_update", { team_id: other, user_id: "eve", rpm_limit });
    const user = await post("/user/new", { user_alias: "carol", rpm_limit });
    const { organization_id } = await post("/organization/new", { organization_alias: "limited", rpm_limit });
    await post("/customer/new", { user_id: "limited", rpm_limit });
    const cases: [string[], string, object?][] = [
      [[await stack.generateKey({ team_id: other, user_id: "eve" })], `team_member: eve:${other}`],
      [[String(user.key)], `user: ${user.user_id}`],
      [[await stack.generateKey({ organization_id })], `organization: ${organization_id}`],
      [[await stack.generateKey(), await stack.generateKey()], "end_user: limited", { user: "limited" }],
      [[await stack.generateKey({ team_id }), await stack.generateKey({ team_id })], `model_per_team: ${team_id}:sl*`],
      [[await stack.generateKey({ model_rpm_limit: { slow: rpm_limit } })], "model_per_key: key_"],
    ];
    for (const [keys, name, fields] of cases) {
      const { served, messages } = await burst(keys, fields);
      assert.equal(served, rpm_limit, name);
      for (const message of messages) assert.ok(message.startsWith(`Rate limit exceeded for ${name}`), message);
    }
    const [modelKey = ""] = cases.at(-1)?.[0] ?? [];
    const answer = await stack.chat(0, modelKey);
    assert.equal(answer.status, 200, "another model has no such limit");
    assert.equal(answer.headers.get("x-ratelimit-model_per_key-limit-requests"), null);
  });

  test("a model's limits are in the headers of its calls, of a key and of a team", async () => {
    const { team_id } = await post("/team/new", { team_alias: "with headers", model_tpm_limit: { ok: 10_000 } });
    const key = await stack.generateKey({ team_id, model_rpm_limit: { ok: 7 } });
    const { headers } = await stack.chat(0, key);
    assert.equal(headers.get("x-ratelimit-model_per_key-limit-requests"), "7");
    assert.equal(headers.get("x-ratelimit-model_per_key-remaining-requests"), "6");
    assert.equal(headers.get("x-litellm-key-remaining-requests-ok"), "6");
    assert.equal(headers.get("x-ratelimit-model_per_team-limit-tokens"), "10000");
    assert.equal((await stack.chat(1, key)).headers.get("x-litellm-key-remaining-requests-ok"), "5");
  });

  test("blocking a team or a customer is felt on every sidecar within a second", async () => {
    const { team_id } = await post("/team/new", { team_alias: "blocked" });
    const key = await stack.generateKey({ team_id });
    const fields = { user: "customer-3" };
    await post("/customer/new", { user_id: "customer-3" });
    const statuses = async () => Promise.all([0, 1].map(async (pod) => (await stack.chat(pod, key, fields)).status));
    assert.deepEqual(await statuses(), [200, 200]);
    for (const [path, body] of [
      ["/team/block", { team_id }],
      ["/team/unblock", { team_id }],
      ["/customer/block", { user_ids: ["customer-3"] }],
      ["/customer/unblock", { user_ids: ["customer-3"] }],
    ] as const) {
      await post(path, body);
      const expected = path.endsWith("/block") ? 403 : 200;
      const deadlineMs = performance.now() + 1_000;
      let found = await statuses();
      while (found.some((status) => status !== expected) && performance.now() < deadlineMs) found = await statuses();
      assert.deepEqual(found, [expected, expected], path);
    }
  });
});
