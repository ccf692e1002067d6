import assert from "node:assert/strict";
import { test } from "node:test";
import { configOf } from "./temporary.ts";

test("what keys may have is read as the KeyService applies it, and a blank says nothing", async (context) => {
  const yaml = `
litellm_settings:
  default_key_generate_params:
    max_budget: 1.5
    budget_duration: 30d
    duration:
    rpm_limit: os.environ/RPM
    models: [azure-gpt-3.5]
    metadata: { setting: default }
    team_id: core-infra
    user_id: u1
  upperbound_key_generate_params: { max_budget: "100", duration: 30d, tpm_limit: 1000, max_parallel_requests: 5 }
`;
  assert.deepEqual((await configOf(context, yaml, { RPM: "60" })).keyRules, {
    defaults: {
      ...{ maxBudget: 1_500_000_000n, budgetDuration: "30d", rpmLimit: 60, models: ["azure-gpt-3.5"] },
      ...{ metadata: { setting: "default" }, userId: "u1", teamId: "core-infra" },
    },
    bounds: { maxBudget: 100_000_000_000n, duration: "30d", tpmLimit: 1_000, maxParallelRequests: 5 },
  });
  const none = { defaults: {}, bounds: {} };
  for (const settings of ["{}", "{default_key_generate_params: , upperbound_key_generate_params: {}}"])
    assert.deepEqual((await configOf(context, `litellm_settings: ${settings}`)).keyRules, none);
});

test("what new teams and users get is read too, and which teams every user may join", async (context) => {
  const yaml = `
litellm_settings:
  default_team_params: { max_budget: 50, models: [m], team_member_permissions: [/key/info], rpm_limit: }
  default_internal_user_params: { user_role: internal_user, budget_duration: 7d, tpm_limit: 10, available_teams: [open], teams: [t] }
`;
  const { keyRules, notices } = await configOf(context, yaml);
  assert.deepEqual(keyRules, {
    ...{ defaults: {}, bounds: {}, joinableTeams: ["open"] },
    teamDefaults: { maxBudget: 50_000_000_000n, models: ["m"], memberPermissions: ["/key/info"] },
    userDefaults: { role: "internal_user", budgetDuration: "7d", tpmLimit: 10 },
  });
  assert.deepEqual(
    notices.map(({ path }) => path).filter((path) => path !== ""),
    ["litellm_settings.default_internal_user_params.teams"],
  );
});
