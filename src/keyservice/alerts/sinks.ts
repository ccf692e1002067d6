import type { AlertType } from "../../config/alert-routing.ts";
import { Closers } from "../../lifecycle.ts";
import type { Secret } from "../../secret.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import { type Alert, alertKinds } from "./alert.ts";
import { EmailSink, type SmtpAddress } from "./email.ts";
import { LogSink } from "./log.ts";
import { PagerDutySink } from "./pager-duty.ts";
import { Poster } from "./poster.ts";
import type { AlertSink } from "./sink.ts";
import { SlackSink } from "./slack.ts";
import { WebhookSink } from "./webhook.ts";

/** Where alerts go besides the log. What is undefined gets none. */
export interface AlertTargets {
  readonly slack:
    | { readonly url: Secret | undefined; readonly urlsByType: ReadonlyMap<AlertType, readonly Secret[]> }
    | undefined;
  readonly pagerDuty: { readonly url: string; readonly routingKey: Secret } | undefined;
  readonly webhook: { readonly url: Secret } | undefined;
  readonly email: SmtpAddress | undefined;
  /** Undefined: alerts of all types. The log has them all. */
  readonly types: ReadonlySet<AlertType> | undefined;
}

/** How long one delivery may take, in milliseconds. */
export const deliveryTimeoutMs = 10_000;

/** Sinks, and what frees what they hold. */
export interface AlertSinks {
  readonly sinks: readonly AlertSink[];
  close(): Promise<void>;
}

/** Makes the log's sink and those of the targets. */
export function createAlertSinks(targets: AlertTargets | undefined, log: Telemetry["log"]): AlertSinks {
  const closers = new Closers();
  const poster = new Poster();
  closers.add("HTTP", () => poster.close());
  const outer: AlertSink[] = [];
  if (targets?.slack !== undefined) outer.push(new SlackSink({ poster, ...targets.slack }));
  if (targets?.pagerDuty !== undefined) outer.push(new PagerDutySink({ poster, ...targets.pagerDuty }));
  if (targets?.webhook !== undefined) outer.push(new WebhookSink({ poster, ...targets.webhook }));
  if (targets?.email !== undefined) {
    const email = new EmailSink({ address: targets.email, timeoutMs: deliveryTimeoutMs });
    closers.add("SMTP", async () => email.close());
    outer.push(email);
  }
  const types = targets?.types;
  return {
    sinks: [new LogSink(log), ...(types === undefined ? outer : outer.map((sink) => new OfTypes(sink, types)))],
    close: () => closers.close((part, error) => log("warn", "A part of the alerts failed to close.", { part, error })),
  };
}

/** A sink that has alerts of some types only. */
class OfTypes implements AlertSink {
  readonly #sink: AlertSink;
  readonly #types: ReadonlySet<AlertType>;

  constructor(sink: AlertSink, types: ReadonlySet<AlertType>) {
    this.#sink = sink;
    this.#types = types;
  }

  get name(): string {
    return this.#sink.name;
  }

  wants(alert: Alert): boolean {
    return this.#types.has(alertKinds[alert.kind].type) && this.#sink.wants(alert);
  }

  deliver(alert: Alert, signal: AbortSignal): Promise<void> {
    return this.#sink.deliver(alert, signal);
  }
}
