/** The curl lines of LiteLLM's guides on keys, teams, budgets and spend, as they are written there, and the shapes of their answers. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { systemClock } from "../../src/clock.ts";
import type { JsonObject } from "../../src/completion.ts";
import { Settlements } from "../../src/keyservice/settlements.ts";
import { assertFails, Stage } from "./admin-stage.ts";
import { spend } from "./books-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open({
    fileModels: {
      entries: async () => [
        {
          id: "f1",
          entry: {
            model_name: "priced",
            litellm_params: {
              model: "openai/gpt-4o",
              api_key: "sk-x",
              input_cost_per_token: 0.000002,
              output_cost_per_token: 0.00001,
              cache_read_input_token_cost: 0.000001,
            },
            model_info: { id: "f1" },
          },
        },
      ],
    },
  });
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

/** A curl line as people paste it: path, and the text after `-d`. */
const curl = async (path: string, data?: string) => {
  const answer = await stage.http(data === undefined ? "GET" : "POST", path, data);
  assert.equal(answer.status, 200, `${path} ${JSON.stringify(answer.body)}`);
  return answer.body;
};
const keysOf = (value: object) => Object.keys(value).sort();

describe("LiteLLM's guides", () => {
  test("a key with a budget, models, limits, metadata and an alias", async () => {
    const made = await curl(
      "/key/generate",
      `{"models": ["gpt-3.5-turbo", "gpt-4"], "max_budget": 10, "budget_duration": "30d", "tpm_limit": 100000, "rpm_limit": 100,
        "metadata": {"user": "ishaan@berri.ai"}, "key_alias": "my-key", "duration": "20m"}`,
    );
    assert.match(made.key, /^sk-/);
    assert.match(made.key_name, /^sk-\.\.\..{4}$/);
    for (const name of [
      ...["key", "key_name", "token", "token_id", "key_alias", "models", "spend", "max_budget", "budget_duration"],
      ...["budget_reset_at", "tpm_limit", "rpm_limit", "max_parallel_requests", "user_id", "team_id", "metadata"],
      ...["aliases", "config", "permissions", "model_max_budget", "allowed_cache_controls", "blocked", "expires"],
      ...["created_at", "updated_at", "created_by", "updated_by", "litellm_budget_table", "budget_id", "soft_budget"],
    ])
      assert.ok(name in made, name);
    const info = await curl(`/key/info?key=${made.key}`);
    assert.deepEqual(keysOf(info), ["info", "key"]);
    assert.equal(info.key, made.key);
    assert.ok(!("token" in info.info));
  });

  test("two windows at once, and a budget for each model", async () => {
    const made = await curl(
      "/key/generate",
      `{"budget_limits": [{"budget_duration": "24h", "max_budget": 10}, {"budget_duration": "30d", "max_budget": 100}],
        "model_max_budget": {"gpt-4o": {"budget_limit": "0.0000001", "time_period": "1d"}, "mini": {"budget_limit": 5, "time_period": "30d"}}}`,
    );
    assert.deepEqual(
      made.budget_limits.map((window: JsonObject) => [window.budget_duration, window.max_budget]),
      [
        ["24h", 10],
        ["30d", 100],
      ],
    );
    assert.deepEqual(made.model_max_budget, {
      "gpt-4o": { budget_limit: 1e-7, time_period: "1d" },
      mini: { budget_limit: 5, time_period: "30d" },
    });
  });

  test("a team with limits, a key in it, a member with a budget, and what members may do", async () => {
    const team = await curl(
      "/team/new",
      `{"team_alias": "QA Prod Bot", "max_budget": 100, "budget_duration": "10d", "tpm_limit": 1000, "rpm_limit": 10, "metadata": {"a": 1},
        "members_with_roles": [{"role": "admin", "user_id": "5c4a0aa3"}]}`,
    );
    const { team_id } = team;
    const key = await curl("/key/generate", JSON.stringify({ team_id, max_budget: 10 }));
    assert.equal(key.team_id, team_id);
    const added = await curl(
      "/team/member_add",
      JSON.stringify({ team_id, max_budget_in_team: 0.5, member: { role: "user", user_id: "krrish247652" } }),
    );
    assert.equal(added.updated_team_memberships[0].litellm_budget_table.max_budget, 0.5);
    const info = await curl(`/team/info?team_id=${team_id}`);
    assert.deepEqual(keysOf(info), ["keys", "team_id", "team_info", "team_memberships"]);
    assert.deepEqual([info.keys.length, info.team_memberships.length], [1, 2]);
    const permissions = await curl(`/team/permissions_list?team_id=${team_id}`);
    assert.deepEqual(keysOf(permissions), ["all_available_permissions", "team_id", "team_member_permissions"]);
  });

  test("a user with a key, a customer, a shared budget and a tag", async () => {
    const user = await curl("/user/new", `{"user_id": "ishaan", "user_email": "i@example.com", "max_budget": 1}`);
    assert.match(user.key, /^sk-/);
    const info = await curl("/user/info?user_id=ishaan");
    assert.deepEqual(keysOf(info), ["keys", "teams", "user_id", "user_info"]);
    const budget = await curl("/budget/new", `{"budget_id": "free-tier", "max_budget": 100, "rpm_limit": 5}`);
    assert.deepEqual([budget.budget_id, budget.max_budget, budget.rpm_limit], ["free-tier", 100, 5]);
    const customer = await curl("/customer/new", `{"user_id": "my-customer-id", "budget_id": "free-tier"}`);
    assert.equal(customer.litellm_budget_table.max_budget, 100);
    assert.equal((await curl("/customer/info?end_user_id=my-customer-id")).user_id, "my-customer-id");
    const { tag } = await curl("/tag/new", `{"name": "marketing", "description": "d", "max_budget": 500}`);
    assert.deepEqual([tag.name, tag.description, tag.max_budget], ["marketing", "d", 500]);
  });

  test("the spend report of a month by team, and a user's days, of what was booked", async () => {
    await stage.teams("reported");
    const { key, key_id } = await curl("/key/generate", `{"user_id": "days", "team_id": "reported"}`);
    const settlements = new Settlements({ postgres: stage.postgres, clock: systemClock, timeZone: "UTC" });
    const startedAt = new Date("2026-04-11T12:00:00Z");
    await settlements.settle("pod", [spend(key_id, 1_250_000_000n, { startedAt })]);
    const [day] = await curl("/global/spend/report?start_date=2026-04-01&end_date=2026-06-30&group_by=team");
    assert.deepEqual(keysOf(day), ["group_by_day", "teams"]);
    assert.equal(day.group_by_day, "2026-04-11T00:00:00+00:00");
    const [team] = day.teams;
    assert.deepEqual([team.team_name, team.total_spend], ["reported", 1.25]);
    assert.deepEqual(keysOf(team.metadata[0]), ["api_key", "model", "spend", "total_tokens"]);
    const daily = await curl("/user/daily/activity?start_date=2026-04-01&end_date=2026-04-30&user_id=days");
    assert.deepEqual(keysOf(daily), ["metadata", "results"]);
    const [result] = daily.results;
    assert.deepEqual(keysOf(result), ["breakdown", "date", "metrics"]);
    assert.deepEqual([result.date, result.metrics.spend, result.metrics.api_requests], ["2026-04-11", 1.25, 1]);
    for (const group of ["models", "model_groups", "providers", "api_keys", "entities", "mcp_servers", "endpoints"])
      assert.ok(group in result.breakdown, group);
    assert.deepEqual(
      [daily.metadata.total_spend, daily.metadata.page, daily.metadata.total_pages, daily.metadata.has_more],
      [1.25, 1, 1, false],
    );
    const own = await stage.http("GET", "/key/info", undefined, { "x-litellm-api-key": key });
    assert.equal(own.body.info.spend, 1.25);
  });
});

describe("what calls cost that nobody has made", () => {
  test("/spend/calculate is the books' price of an answer, its cached tokens included", async () => {
    const answer = (usage: JsonObject) => JSON.stringify({ completion_response: { model: "priced", usage } });
    const usage = { prompt_tokens: 1_000, completion_tokens: 100 };
    assert.deepEqual(await curl("/spend/calculate", answer(usage)), { cost: 0.003 });
    const cached = { ...usage, prompt_tokens_details: { cached_tokens: 500 } };
    assert.deepEqual(await curl("/spend/calculate", answer(cached)), { cost: 0.0025 });
  });

  test("/cost/estimate says the cost of a call, of a day and of a month; gRPC says it exactly", async () => {
    const estimate = await curl(
      "/cost/estimate",
      `{"model": "priced", "input_tokens": 1000, "output_tokens": 100, "num_requests_per_day": 10}`,
    );
    assert.deepEqual(estimate, {
      ...{ model: "priced", input_tokens: 1_000, output_tokens: 100 },
      ...{ num_requests_per_day: 10, num_requests_per_month: null },
      ...{ cost_per_request: 0.003, input_cost_per_request: 0.002, output_cost_per_request: 0.001 },
      ...{ daily_cost: 0.03, daily_input_cost: 0.02, daily_output_cost: 0.01 },
      ...{ monthly_cost: null, monthly_input_cost: null, monthly_output_cost: null },
      ...{ input_cost_per_token: 0.000002, output_cost_per_token: 0.00001, provider: "openai" },
    });
    const tokens = { inputTokens: 1_000n, outputTokens: 100n, cacheReadInputTokens: 500n };
    const { costUsd, inputCostUsd, outputCostUsd, priceVersion } = await stage.spendAdmin.estimateCost({
      ...{ model: "priced", ...tokens },
    });
    assert.deepEqual([costUsd, inputCostUsd, outputCostUsd, priceVersion], ["0.0025", "0.0015", "0.001", "config"]);
  });

  test("a model nobody has configured has the price table's price, and one nobody knows is refused", async () => {
    const { costUsd, provider } = await stage.spendAdmin.estimateCost({ model: "openai/gpt-4o", inputTokens: 1_000n });
    assert.equal(provider, "openai");
    assert.ok(Number(costUsd) > 0);
    const call = stage.spendAdmin.estimateCost({ model: "openai/nobody-knows" });
    await assertFails(call, Code.InvalidArgument, "INVALID_REQUEST");
  });
});
