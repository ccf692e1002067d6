import { Secret } from "../../secret.ts";
import { type Alert, alertKinds, dedupKey, detailsOf, headline, outageKey } from "./alert.ts";
import type { Poster } from "./poster.ts";
import type { AlertSink } from "./sink.ts";

/** Longer ones are refused. */
const summaryLengthMax = 1024;

/** PagerDuty's Events API v2. Its incidents have our key, so that a repetition is none, and the end of an outage resolves it. */
export class PagerDutySink implements AlertSink {
  readonly name = "pagerduty";
  readonly #poster: Poster;
  readonly #url: Secret;
  readonly #routingKey: Secret;

  /** `url`: of the service region's `/v2/enqueue`. */
  constructor(parts: { readonly poster: Poster; readonly url: string; readonly routingKey: Secret }) {
    this.#poster = parts.poster;
    this.#url = new Secret(parts.url);
    this.#routingKey = parts.routingKey;
  }

  wants(): boolean {
    return true;
  }

  async deliver(alert: Alert, signal: AbortSignal): Promise<void> {
    const { severity, type } = alertKinds[alert.kind];
    const isEnd = alert.kind === "provider_up";
    const head = {
      routing_key: this.#routingKey.reveal(),
      event_action: isEnd ? "resolve" : "trigger",
      dedup_key: isEnd || alert.kind === "provider_down" ? outageKey(alert) : dedupKey(alert),
    };
    const payload = {
      summary: headline(alert).slice(0, summaryLengthMax),
      source: "tollgate-keyservice",
      severity,
      timestamp: alert.createdAt.toISOString(),
      component: `${alert.scope} ${alert.scopeId}`,
      group: type,
      class: alert.kind,
      custom_details: detailsOf(alert),
    };
    await this.#poster.post(this.#url, isEnd ? head : { ...head, payload }, signal);
  }
}
