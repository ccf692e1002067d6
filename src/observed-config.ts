import type { Clock } from "./clock.ts";
import type { Config, Notice } from "./config/config.ts";
import { LiveConfig, type LiveConfigParts, type Outcome } from "./config/live-config.ts";
import type { ConfigReading } from "./config/load.ts";
import { remarkText } from "./config/remarks.ts";
import { changedAtRestart, type RestartSettings } from "./config/restart-settings.ts";
import type { Metrics } from "./telemetry/metrics.ts";
import type { Telemetry } from "./telemetry/telemetry.ts";

/** What a program's live configuration is made of. */
export interface ObservedConfigParts {
  readonly reading: ConfigReading;
  /** What was in force at the start, and what of it stays until the next one. */
  readonly first: Config;
  readonly untilRestart: RestartSettings;
  readonly apply: LiveConfigParts["apply"];
  readonly clock: Clock;
  readonly log: Telemetry["log"];
  readonly metrics: Metrics;
}

/** A live configuration that logs and counts what becomes of changes. */
export function observedConfig(parts: ObservedConfigParts): LiveConfig {
  const { reading, first, untilRestart, apply, clock, log, metrics } = parts;
  let successful = true;
  let succeededAtMs = clock.nowMs();
  const texts = (remarks: readonly Notice[]) => remarks.map(remarkText);
  const onChange = (outcome: Outcome) => {
    successful = outcome.ok && outcome.heldBack.length === 0;
    if (successful) succeededAtMs = clock.nowMs();
    if (!outcome.ok) {
      const faults = texts(outcome.faults);
      log("error", "The configuration was not changed: what is new cannot be used.", { faults });
      return;
    }
    if (outcome.heldBack.length > 0) {
      const faults = texts(outcome.heldBack);
      log("error", "Models of the database cannot be used here; they are served as they were, or not.", { faults });
    }
    const digest = outcome.config.digest.slice(0, 12);
    log("info", "A new configuration is in force.", { digest, notices: texts(outcome.notices) });
    const settings = changedAtRestart(first, outcome.config, untilRestart);
    if (settings.length > 0)
      log("warn", "Some settings that were changed are in force after a restart only.", { settings });
  };
  metrics.gauge(
    "tollgate_config_last_reload_successful",
    "Whether the last change of the configuration, the file's or the database's, is in force as a whole.",
    () => (successful ? 1 : 0),
  );
  metrics.gauge(
    "tollgate_config_last_reload_success_timestamp_seconds",
    "When the configuration was last changed as a whole, or read at the start.",
    () => succeededAtMs / 1000,
  );
  return new LiveConfig({ reading, clock, apply, onChange });
}
