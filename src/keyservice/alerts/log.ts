import type { Telemetry } from "../../telemetry/telemetry.ts";
import { type Alert, alertKinds, detailsOf } from "./alert.ts";
import type { AlertSink } from "./sink.ts";

/** The log of the replica that delivers: every alert is there, whatever else is configured. */
export class LogSink implements AlertSink {
  readonly name = "log";
  readonly #log: Telemetry["log"];

  constructor(log: Telemetry["log"]) {
    this.#log = log;
  }

  wants(): boolean {
    return true;
  }

  async deliver(alert: Alert): Promise<void> {
    const { severity, text } = alertKinds[alert.kind];
    this.#log(severity === "info" ? "info" : "warn", text, detailsOf(alert));
  }
}
