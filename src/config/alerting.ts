import type { Secret } from "../secret.ts";
import type { AlertChannel, AlertRouting, AlertType } from "./alert-routing.ts";
import type { Remarks } from "./remarks.ts";
import type { ConfigFile } from "./schema.ts";

const channels: ReadonlySet<string> = new Set<AlertChannel>(["slack", "webhook", "email", "pagerduty"]);
const types: ReadonlySet<string> = new Set<AlertType>(["budget_alerts", "outage_alerts", "fallback_reports"]);

/** Whether alerts can go there. */
export function isAlertChannel(word: string): word is AlertChannel {
  return channels.has(word);
}

/** Which alerts go where, of LiteLLM's `alerting`, `alert_types` and `alert_to_webhook_url`. */
export function compileAlerting({ general_settings: general }: ConfigFile, remarks: Remarks): AlertRouting | undefined {
  if (general?.alerting === undefined) return undefined;
  const known = <Word extends string>(key: string, words: readonly string[], all: ReadonlySet<string>): Word[] => {
    const strange = words.filter((word) => !all.has(word));
    if (strange.length > 0) {
      remarks.notice(
        ["general_settings", key],
        `${strange.join(", ")}: not served, it has no effect; served are ${[...all].join(", ")}`,
      );
    }
    return [...new Set(words)].filter((word): word is Word => all.has(word));
  };
  const { alert_types: wanted, alert_to_webhook_url: urls = {} } = general;
  const slackUrls = known<AlertType>("alert_to_webhook_url", Object.keys(urls), types).map(
    (type): [AlertType, readonly Secret[]] => [type, urls[type] ?? []],
  );
  return {
    channels: known<AlertChannel>("alerting", general.alerting, channels),
    types: wanted === undefined ? undefined : new Set(known<AlertType>("alert_types", wanted, types)),
    slackUrls: new Map(slackUrls),
  };
}
