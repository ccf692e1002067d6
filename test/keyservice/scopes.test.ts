import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { findGrant, findParties } from "../../src/keyservice/grants.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import { BooksStage, pepper, spend } from "./books-stage.ts";

describe("budgets of every scope", () => {
  let stage: BooksStage;
  before(async () => {
    stage = await BooksStage.open();
  });
  after(async () => {
    await stage.check();
    await stage.close();
  });

  const sql = (text: string, ...values: unknown[]) => stage.postgres.query(text, values);

  async function entity(scope: string, facts: { id?: string; organization?: string; models?: string[] } = {}) {
    const { id = randomUUID(), organization = null, models = [] } = facts;
    await sql(
      `INSERT INTO entities (scope, entity_id, organization_id, models, created_by, updated_by, version)
       VALUES ($1, $2, $3, $4, 'test', 'test', 1)`,
      ...[scope, id, organization, models],
    );
    return id;
  }

  async function belong(keyId: string, owners: { team?: string; user?: string; organization?: string }) {
    const { team = null, user = null, organization = null } = owners;
    const text = "UPDATE keys SET team_id = $2, user_id = $3, organization_id = $4 WHERE key_id = $1";
    await sql(text, keyId, team, user, organization);
  }

  async function standing(budgetId: string) {
    const [row] = await sql(
      "SELECT sum(spent_nanos)::bigint AS spent, sum(reserved_nanos)::bigint AS reserved FROM budget_periods WHERE budget_id = $1",
      budgetId,
    );
    return row;
  }

  it("a lease is reserved on the budgets of the key and of all it belongs to, or on none", async () => {
    const organization = await entity("organization");
    const team = await entity("team", { organization });
    const user = await entity("user");
    const keyId = await stage.key(1_000n);
    await belong(keyId, { team, user });
    const budgets = {
      organization: await stage.budget("organization", organization, 900n, "1d"),
      team: await stage.budget("team", team, 800n, null),
      team_member: await stage.budget("team_member", `${user}:${team}`, 700n, "1mo"),
    };
    // As in LiteLLM, what a user may spend on their own does not hold inside a team.
    await stage.budget("user", user, 1n, null);
    const refused = await stage.acquire(keyId, 701n);
    assert.equal(refused.outcome, "refused");
    assert.equal(refused.outcome === "refused" && refused.budget.scope, "team_member");
    const leaseId = await stage.lease(keyId, 500n);
    for (const budgetId of Object.values(budgets))
      assert.deepEqual(await standing(budgetId), { spent: 0n, reserved: 500n });
    await stage.settle(spend(keyId, 120n, { leaseId }));
    for (const budgetId of Object.values(budgets)) {
      assert.deepEqual(await standing(budgetId), { spent: 120n, reserved: 380n });
    }
    await stage.giveBack(leaseId, 0n, true);
    for (const budgetId of Object.values(budgets))
      assert.deepEqual(await standing(budgetId), { spent: 120n, reserved: 0n });
  });

  it("a user's own budget holds for keys outside teams, over all of them", async () => {
    const user = await entity("user");
    const keys = [await stage.key(undefined), await stage.key(undefined)];
    for (const keyId of keys) await belong(keyId, { user });
    await stage.budget("user", user, 100n, null);
    await stage.lease(keys[0] ?? "", 60n);
    const refused = await stage.acquire(keys[1] ?? "", 41n);
    assert.deepEqual(refused.outcome === "refused" && [refused.budget.scope, refused.budget.scope_id], ["user", user]);
    assert.equal((await stage.acquire(keys[1] ?? "", 40n)).outcome, "granted");
  });

  it("300 asks at once by the keys of one team never get more than its budget", async () => {
    const team = await entity("team");
    const budgetId = await stage.budget("team", team, 1_000n, null);
    const keys = await Promise.all(Array.from({ length: 10 }, () => stage.key(undefined)));
    for (const keyId of keys) await belong(keyId, { team });
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, index) => stage.acquire(keys[index % keys.length] ?? "", 30n)),
    );
    assert.equal(answers.filter(({ outcome }) => outcome === "granted").length, 33);
    assert.deepEqual(await standing(budgetId), { spent: 0n, reserved: 990n });
  });

  it("budgets a call names are lent from, charged and refuse like those of its key", async () => {
    const keyId = await stage.key(1_000n);
    const [model, tag, customer] = [
      await stage.budget("tag", randomUUID(), 500n, "1d"),
      await stage.budget("tag", randomUUID(), 300n, null),
      await stage.budget("end_user", randomUUID(), 200n, null),
    ];
    const budgetIds = [model, tag, customer];
    const leaseId = randomUUID();
    const granted = await stage.acquire(keyId, 150n, 150n, { leaseId, budgetIds });
    assert.equal(granted.outcome, "granted");
    const refused = await stage.acquire(keyId, 51n, 51n, { budgetIds });
    assert.equal(refused.outcome === "refused" && refused.budget.budget_id, customer);
    // Without naming it, nothing of it is asked.
    const other = randomUUID();
    assert.equal((await stage.acquire(keyId, 400n, 400n, { leaseId: other })).outcome, "granted");
    await stage.settle(
      spend(keyId, 100n, { leaseId, budgetIds, endUser: "anna", tags: ["blue", "red"] }),
      spend(keyId, 7n, { budgetIds: [tag], tags: ["red"] }),
      spend(keyId, 300n, { leaseId: other }),
    );
    assert.deepEqual(await standing(model), { spent: 100n, reserved: 50n });
    assert.deepEqual(await standing(tag), { spent: 107n, reserved: 50n });
    assert.deepEqual(await standing(customer), { spent: 100n, reserved: 50n });
    const days = await sql(
      "SELECT scope, scope_id, cost_nanos AS cost, successes FROM daily_party_spend WHERE key_id = $1 ORDER BY 1, 2",
      keyId,
    );
    assert.deepEqual(days, [
      { scope: "end_user", scope_id: "anna", cost: 100n, successes: 1n },
      { scope: "tag", scope_id: "blue", cost: 100n, successes: 1n },
      { scope: "tag", scope_id: "red", cost: 107n, successes: 2n },
    ]);
    // The pod is not heard of any more: what its calls may have cost is charged to all of them, and named in the log.
    stage.nowMs = Date.now() + 120_000;
    await stage.leases.expireDue(keyId);
    stage.nowMs = undefined;
    assert.deepEqual(await standing(customer), { spent: 150n, reserved: 0n });
    await stage.settle(spend(keyId, 20n, { leaseId, budgetIds }));
    assert.deepEqual(await standing(customer), { spent: 150n, reserved: 0n });
    await stage.giveBack(leaseId, 0n, true);
    assert.deepEqual(await standing(customer), { spent: 120n, reserved: 0n });
    await stage.check();
  });

  it("a lease asked for other budgets than it was opened for is ended, and another must be opened", async () => {
    const keyId = await stage.key(1_000n);
    const tag = await stage.budget("tag", randomUUID(), 500n, null);
    const leaseId = randomUUID();
    await stage.acquire(keyId, 10n, 10n, { leaseId });
    assert.deepEqual(await stage.acquire(keyId, 10n, 10n, { leaseId, budgetIds: [tag] }), { outcome: "ended" });
    await stage.giveBack(leaseId, 0n, true);
  });

  it("whoever shares a budget template has its limit, and counts for themselves", async () => {
    await sql(
      "INSERT INTO budget_templates (template_id, max_nanos, duration, created_by, updated_by, version) VALUES ('small', 50, '1d', 't', 't', 1)",
    );
    const keys = [await stage.key(undefined), await stage.key(undefined), await stage.key(20n)];
    await sql("UPDATE budgets SET template_id = 'small' WHERE scope_id = ANY ($1)", keys);
    const [one = "", two = "", own = ""] = keys;
    assert.equal((await stage.acquire(one, 50n)).outcome, "granted");
    assert.equal((await stage.acquire(one, 1n)).outcome, "refused");
    assert.equal((await stage.acquire(two, 50n)).outcome, "granted");
    assert.equal((await stage.acquire(own, 21n)).outcome, "refused", "what a budget says itself goes first");
    await sql("UPDATE budget_templates SET max_nanos = 60 WHERE template_id = 'small'");
    assert.equal((await stage.acquire(one, 10n)).outcome, "granted");
    assert.equal((await stage.acquire(one, 1n)).outcome, "refused");
  });

  it("a grant holds everything that is behind a key: limits, rules, budgets, names for models", async () => {
    const organization = await entity("organization", { models: ["gpt-*"] });
    const team = await entity("team", { organization });
    const user = randomUUID();
    await sql(
      `UPDATE entities SET rpm_limit = 60, aliases = '{"fast": "small", "big": "gpt-5"}', tags = '{shared}' WHERE entity_id = $1`,
      team,
    );
    await sql(
      "INSERT INTO members (scope, entity_id, user_id, role, tpm_limit) VALUES ('team', $1, $2, 'user', 500)",
      team,
      user,
    );
    const secret = `sk-${randomUUID()}`;
    const keyId = await stage.key(10n, undefined, secret);
    await belong(keyId, { team, user });
    await sql(
      `UPDATE keys SET rpm_limit = 5, aliases = '{"small": "gpt-5-mini"}', tags = '{own}' WHERE key_id = $1`,
      keyId,
    );
    await sql(
      `INSERT INTO budgets (budget_id, scope, scope_id, place, max_nanos, duration, model)
       VALUES ($1, 'model', $2, 1, 3, '1d', 'gpt-5')`,
      ...[randomUUID(), keyId],
    );
    const grant = await findGrant(stage.postgres, digestSecret(secret), pepper);
    assert.ok(grant);
    assert.equal(grant.organizationId, organization);
    const limits = grant.limits.map(({ scope, scopeId, kind, ceiling }) => [scope, scopeId, kind, ceiling]);
    assert.deepEqual(limits.sort(), [
      ["key", keyId, "requests", 5n],
      ["team", team, "requests", 60n],
      ["team_member", `${user}:${team}`, "tokens", 500n],
    ]);
    assert.deepEqual(grant.rules, [
      { scope: "organization", scopeId: organization, models: ["gpt-*"], blocked: false },
    ]);
    assert.deepEqual(grant.aliases, { small: "gpt-5-mini", fast: "gpt-5-mini", big: "gpt-5" });
    assert.deepEqual(grant.tags.toSorted(), ["own", "shared"]);
    assert.deepEqual(grant.budgets.map(({ scope, scopeId, max, model }) => [scope, scopeId, max, model]).sort(), [
      ["key", keyId, 10n, null],
      ["model", "gpt-5", 3n, "gpt-5"],
    ]);
    assert.deepEqual(grant.partyScopes, []);
    await sql("UPDATE entities SET blocked = true WHERE entity_id = $1", team);
    await assert.rejects(stage.acquire(keyId, 1n), { code: "blocked_key" });
    const blocked = await findGrant(stage.postgres, digestSecret(secret), pepper);
    assert.deepEqual(
      blocked?.rules.filter((rule) => rule.blocked).map(({ scope }) => scope),
      ["team"],
    );
  });

  it("parties are told with limits and budgets; those nobody knows have neither", async () => {
    const customer = await entity("end_user");
    await sql("UPDATE entities SET rpm_limit = 3, blocked = true WHERE entity_id = $1", customer);
    const budgetId = await stage.budget("end_user", customer, 5n, "1d");
    const asked = [
      { scope: "end_user", id: customer },
      { scope: "tag", id: "nobody's" },
    ] as const;
    const { parties } = await findParties(stage.postgres, asked);
    assert.deepEqual(parties, [
      {
        ...{ scope: "end_user", id: customer, models: [], blocked: true, region: "" },
        limits: [{ scope: "end_user", scopeId: customer, kind: "requests", ceiling: 3n }],
        budgets: [{ budgetId, scope: "end_user", scopeId: customer, max: 5n, duration: "1d", model: null }],
      },
      { scope: "tag", id: "nobody's", limits: [], budgets: [], models: [], blocked: false, region: "" },
    ]);
    const secret = `sk-${randomUUID()}`;
    await stage.key(1n, undefined, secret);
    const grant = await findGrant(stage.postgres, digestSecret(secret), pepper);
    assert.deepEqual(grant?.partyScopes, ["end_user"]);
  });
});
