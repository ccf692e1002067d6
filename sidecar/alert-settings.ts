import { type AlertChannel, type AlertRouting, isAlertChannel } from "../src/index.ts";
import type { AlertTargets } from "../src/keyservice/alerts/sinks.ts";
import type { Secret } from "../src/secret.ts";

/** What the environment says of the places alerts can go to. */
export interface AlertSinkSettings {
  readonly slackUrl: Secret | undefined;
  readonly webhookUrl: Secret | undefined;
  readonly pagerDutyKey: Secret | undefined;
  readonly pagerDutyUrl: string;
  readonly smtpHost: string | undefined;
  readonly smtpPort: number;
  readonly smtpUsername: string | undefined;
  readonly smtpPassword: Secret | undefined;
  readonly smtpTls: boolean;
  readonly smtpSender: string | undefined;
  readonly recipients: readonly string[];
}

/** The words of a list with commas between. */
export function wordsOf(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== "");
}

/** Reads `TOLLGATE_ALERTING`. */
export function readAlerting(text: string, faults: string[]): AlertRouting | undefined {
  const words = wordsOf(text);
  if (words.length === 0) return undefined;
  const strange = words.filter((word) => !isAlertChannel(word));
  if (strange.length > 0)
    faults.push(`TOLLGATE_ALERTING: "${strange.join(", ")}" is none of slack, webhook, email, pagerduty`);
  return { channels: [...new Set(words)].filter(isAlertChannel), types: undefined, slackUrls: new Map() };
}

/** Where alerts go, of what is asked for and what is known of it. `faults`: what is asked for and cannot be. */
export function alertTargets(
  routing: AlertRouting | undefined,
  settings: AlertSinkSettings,
): { readonly targets: AlertTargets | undefined; readonly faults: readonly string[] } {
  if (routing === undefined) return { targets: undefined, faults: [] };
  const faults: string[] = [];
  const asked = (channel: AlertChannel) => routing.channels.includes(channel);
  const need = <Value>(channel: AlertChannel, value: Value | undefined, name: string): Value | undefined => {
    if (value === undefined) faults.push(`Alerts go to ${channel}, and ${name} is not set.`);
    return value;
  };
  const needUrl = (channel: AlertChannel, url: Secret | undefined, name: string): Secret | undefined => {
    const protocol = url === undefined ? undefined : URL.parse(url.reveal())?.protocol;
    if (url !== undefined && !/^https?:$/.test(protocol ?? "")) faults.push(`${name}: not an http or https URL`);
    return need(channel, url, name);
  };
  const { slackUrls } = routing;
  const slackUrl =
    asked("slack") && (settings.slackUrl !== undefined || slackUrls.size === 0)
      ? needUrl("slack", settings.slackUrl, "SLACK_WEBHOOK_URL")
      : undefined;
  const webhookUrl = asked("webhook") ? needUrl("webhook", settings.webhookUrl, "WEBHOOK_URL") : undefined;
  const routingKey = asked("pagerduty") ? need("pagerduty", settings.pagerDutyKey, "PAGERDUTY_API_KEY") : undefined;
  const targets: AlertTargets = {
    slack: asked("slack") ? { url: slackUrl, urlsByType: slackUrls } : undefined,
    webhook: webhookUrl && { url: webhookUrl },
    pagerDuty: routingKey && { url: settings.pagerDutyUrl, routingKey },
    email: asked("email") ? smtpAddress(settings, need) : undefined,
    types: routing.types,
  };
  return { targets, faults };
}

function smtpAddress(
  settings: AlertSinkSettings,
  need: <Value>(channel: AlertChannel, value: Value | undefined, name: string) => Value | undefined,
): AlertTargets["email"] {
  const { smtpPort: port, smtpUsername: username, smtpPassword: password, smtpTls: tls, recipients } = settings;
  const host = need("email", settings.smtpHost, "SMTP_HOST");
  const sender = need("email", settings.smtpSender, "SMTP_SENDER_EMAIL");
  need("email", recipients[0], "TOLLGATE_ALERT_RECIPIENTS");
  if (host === undefined || sender === undefined) return undefined;
  return { host, port, username, password, tls, sender, recipients };
}
