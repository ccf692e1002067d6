import assert from "node:assert/strict";
import { test } from "node:test";
import { changedAtRestart, gatewayRestartSettings } from "../../src/config/restart-settings.ts";
import { configOf } from "./temporary.ts";

const models = (rpm: number) =>
  `model_list: [{model_name: m, litellm_params: {model: m, mock_response: hi, rpm: ${rpm}}}]`;

test("changed models and passwords of Redis want no restart; another Redis and master key do, each named by its place", async (context) => {
  const redis = (password: string, host = "r") => `router_settings: {redis_host: ${host}, redis_password: ${password}}`;
  const first = await configOf(context, `${models(1)}\n${redis("one")}`, { LITELLM_MASTER_KEY: "sk-1" });
  const sameElsewhere = await configOf(context, `${models(2)}\n${redis("one")}`);
  assert.deepEqual(changedAtRestart(first, sameElsewhere, gatewayRestartSettings), []);
  assert.deepEqual(
    changedAtRestart(first, await configOf(context, `${models(1)}\n${redis("two")}`), gatewayRestartSettings),
    [],
  );
  const changed = await configOf(context, `${models(1)}\n${redis("one", "s")}`, { LITELLM_MASTER_KEY: "sk-2" });
  assert.deepEqual(changedAtRestart(first, changed, gatewayRestartSettings), [
    "router_settings.redis_*, litellm_settings.cache_params",
    "general_settings.master_key",
  ]);
});

test("a changed budget of a tag wants a restart", async (context) => {
  const budget = (max: number) =>
    `litellm_settings: {tag_budget_config: {t: {max_budget: ${max}, budget_duration: 1d}}}`;
  const first = await configOf(context, `${models(1)}\n${budget(1)}`);
  const changed = await configOf(context, `${models(1)}\n${budget(2)}`);
  assert.deepEqual(changedAtRestart(first, changed, gatewayRestartSettings), ["litellm_settings.tag_budget_config"]);
});
