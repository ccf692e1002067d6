import assert from "node:assert/strict";
import { test } from "node:test";
import { remarkText } from "../../src/config/remarks.ts";
import { configOf, loadText } from "./temporary.ts";

test("where alerts go is read in LiteLLM's words", async (context) => {
  const yaml = `
general_settings:
  alerting: [slack, email, slack]
  alert_types: [budget_alerts, outage_alerts]
  alert_to_webhook_url:
    budget_alerts: https://hooks.example.com/one
    outage_alerts: [https://hooks.example.com/two, os.environ/THIRD]
`;
  const { alerting } = await configOf(context, yaml, { THIRD: "https://hooks.example.com/three" });
  assert.deepEqual(alerting?.channels, ["slack", "email"]);
  assert.deepEqual(alerting?.types, new Set(["budget_alerts", "outage_alerts"]));
  const urls = [...(alerting?.slackUrls ?? [])].map(([type, list]) => [type, list.map((url) => url.reveal())]);
  assert.deepEqual(urls, [
    ["budget_alerts", ["https://hooks.example.com/one"]],
    ["outage_alerts", ["https://hooks.example.com/two", "https://hooks.example.com/three"]],
  ]);
});

test("a file that does not say leaves it to the environment, and an empty list says: nowhere", async (context) => {
  assert.equal((await configOf(context, "general_settings: {}")).alerting, undefined);
  assert.deepEqual((await configOf(context, "general_settings: { alerting: [] }")).alerting?.channels, []);
});

test("what of LiteLLM's does not exist here is told of, and the rest acts", async (context) => {
  const yaml = `
general_settings:
  alerting: [slack, pigeon]
  alert_types: [budget_alerts, llm_too_slow]
  alert_to_webhook_url: { daily_reports: https://hooks.example.com/one }
  alerting_args: { daily_report_frequency: 60 }
`;
  const config = await configOf(context, yaml);
  assert.deepEqual(config.alerting?.channels, ["slack"]);
  assert.deepEqual(config.alerting?.types, new Set(["budget_alerts"]));
  const notices = config.notices.map(remarkText).join("\n");
  assert.match(notices, /general_settings\.alerting: pigeon: not served.*slack, webhook, email, pagerduty/);
  assert.match(notices, /general_settings\.alert_types: llm_too_slow: not served/);
  assert.match(notices, /general_settings\.alert_to_webhook_url: daily_reports: not served/);
  assert.match(notices, /general_settings\.alerting_args: understood, but not served yet/);
});

test("a webhook that is no address is a fault, and is not shown", async (context) => {
  const yaml =
    "general_settings: { alerting: [slack], alert_to_webhook_url: { budget_alerts: hooks/this-must-not-show } }";
  const result = await loadText(context, yaml);
  assert.ok(!result.ok);
  const faults = result.faults.map(remarkText).join("\n");
  assert.match(faults, /alert_to_webhook_url\.budget_alerts/);
  assert.doesNotMatch(faults, /this-must-not-show/);
});
