import type { Secret } from "../secret.ts";

/** Where alerts can go, in LiteLLM's words. */
export type AlertChannel = "slack" | "webhook" | "email" | "pagerduty";

/** LiteLLM's kinds of alert that exist here. */
export type AlertType = "budget_alerts" | "outage_alerts" | "fallback_reports";

/** Which alerts go where. */
export interface AlertRouting {
  /** Each once. */
  readonly channels: readonly AlertChannel[];
  /** Undefined: all. */
  readonly types: ReadonlySet<AlertType> | undefined;
  /** Slack's webhooks for alerts of one type, instead of the common one. */
  readonly slackUrls: ReadonlyMap<AlertType, readonly Secret[]>;
}
