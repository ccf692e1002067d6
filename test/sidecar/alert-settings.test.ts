import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { alertTargets } from "../../sidecar/alert-settings.ts";
import { readSettings, SettingsError, type Variables } from "../../sidecar/settings.ts";

function targetsOf(env: Variables) {
  const settings = readSettings(env, "host-1");
  return alertTargets(settings.alerting, settings.alertSinks);
}

test("alerts go where TOLLGATE_ALERTING says, with LiteLLM's variables", () => {
  const { targets, faults } = targetsOf({
    TOLLGATE_ALERTING: "slack, pagerduty,webhook email",
    SLACK_WEBHOOK_URL: "https://hooks.example.com/slack",
    WEBHOOK_URL: "http://127.0.0.1:9/hook",
    PAGERDUTY_API_KEY: "routing",
    TOLLGATE_PAGERDUTY_URL: "https://events.eu.pagerduty.com/v2/enqueue",
    ...{ SMTP_HOST: "mail.example.com", SMTP_PORT: "465", SMTP_USERNAME: "u", SMTP_PASSWORD: "p", SMTP_TLS: "False" },
    SMTP_SENDER_EMAIL: "tollgate@example.com",
    TOLLGATE_ALERT_RECIPIENTS: "a@example.com, b@example.com",
  });
  assert.deepEqual(faults, []);
  assert.equal(targets?.slack?.url?.reveal(), "https://hooks.example.com/slack");
  assert.equal(targets?.webhook?.url.reveal(), "http://127.0.0.1:9/hook");
  assert.equal(targets?.pagerDuty?.routingKey.reveal(), "routing");
  assert.equal(targets?.pagerDuty?.url, "https://events.eu.pagerduty.com/v2/enqueue");
  const { password, ...email } = targets?.email ?? {};
  assert.equal(password?.reveal(), "p");
  assert.deepEqual(email, {
    ...{ host: "mail.example.com", port: 465, username: "u", tls: false, sender: "tollgate@example.com" },
    recipients: ["a@example.com", "b@example.com"],
  });
});

test("what is set but not asked for gets none", () => {
  assert.equal(targetsOf({ SLACK_WEBHOOK_URL: "https://hooks.example.com/slack" }).targets, undefined);
  const { targets } = targetsOf({
    ...{ TOLLGATE_ALERTING: "webhook", WEBHOOK_URL: "https://example.com/hook", PAGERDUTY_API_KEY: "routing" },
  });
  assert.deepEqual([targets?.slack, targets?.pagerDuty, targets?.email], [undefined, undefined, undefined]);
});

test("what is asked for and not set is named, all at once", () => {
  const { faults } = targetsOf({ TOLLGATE_ALERTING: "slack,webhook,pagerduty,email" });
  for (const name of ["SLACK_WEBHOOK_URL", "WEBHOOK_URL", "PAGERDUTY_API_KEY", "SMTP_HOST", "SMTP_SENDER_EMAIL"]) {
    assert.ok(
      faults.some((fault) => fault.includes(`${name} is not set`)),
      name,
    );
  }
  assert.ok(faults.some((fault) => fault.includes("TOLLGATE_ALERT_RECIPIENTS")));
});

test("wrong words and addresses are faults, and addresses are not shown", () => {
  assert.throws(
    () => targetsOf({ TOLLGATE_ALERTING: "slack,pigeon" }),
    (error) => error instanceof SettingsError && /pigeon/.test(error.message),
  );
  assert.throws(() => targetsOf({ TOLLGATE_PAGERDUTY_URL: "events" }), /TOLLGATE_PAGERDUTY_URL/);
  assert.throws(() => targetsOf({ SMTP_TLS: "perhaps" }), /SMTP_TLS/);
  const { faults } = targetsOf({ TOLLGATE_ALERTING: "slack", SLACK_WEBHOOK_URL: "hooks/hidden" });
  assert.match(faults.join(), /SLACK_WEBHOOK_URL: not an http or https URL/);
  assert.doesNotMatch(faults.join(), /hidden/);
  const { env: _, ...settings } = readSettings({ SLACK_WEBHOOK_URL: "https://x/hidden", SMTP_PASSWORD: "hidden" }, "h");
  assert.doesNotMatch(JSON.stringify(settings) + inspect(settings, { depth: 9 }), /hidden/);
});
