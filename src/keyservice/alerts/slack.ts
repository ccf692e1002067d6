import type { AlertType } from "../../config/alert-routing.ts";
import type { Secret } from "../../secret.ts";
import { type Alert, alertKinds, detailsOf, headline } from "./alert.ts";
import type { Poster } from "./poster.ts";
import type { AlertSink } from "./sink.ts";

const marks = { critical: ":rotating_light:", error: ":red_circle:", warning: ":warning:", info: ":white_check_mark:" };

/** Slack's incoming webhooks. A repetition cannot be told from a second message there. */
export class SlackSink implements AlertSink {
  readonly name = "slack";
  readonly #poster: Poster;
  readonly #url: Secret | undefined;
  readonly #urlsByType: ReadonlyMap<AlertType, readonly Secret[]>;

  /** `urlsByType`: where alerts of a type go instead of to `url`. */
  constructor(parts: {
    readonly poster: Poster;
    readonly url: Secret | undefined;
    readonly urlsByType: ReadonlyMap<AlertType, readonly Secret[]>;
  }) {
    this.#poster = parts.poster;
    this.#url = parts.url;
    this.#urlsByType = parts.urlsByType;
  }

  wants(alert: Alert): boolean {
    return this.#urlsFor(alert).length > 0;
  }

  async deliver(alert: Alert, signal: AbortSignal): Promise<void> {
    const { severity } = alertKinds[alert.kind];
    const lines = Object.entries(detailsOf(alert)).map(([name, value]) => `${name}: \`${inert(value)}\``);
    const text = [`${marks[severity]} *${inert(headline(alert))}*`, ...lines].join("\n");
    // One of several that fails makes the others have it twice: better than none.
    for (const url of this.#urlsFor(alert)) await this.#poster.post(url, { text }, signal);
  }

  #urlsFor({ kind }: Alert): readonly Secret[] {
    return this.#urlsByType.get(alertKinds[kind].type) ?? (this.#url === undefined ? [] : [this.#url]);
  }
}

/** What Slack's own markup would make something of: links, mentions of everybody. */
function inert(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("`", "'");
}
