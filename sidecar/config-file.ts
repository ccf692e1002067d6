import {
  type Config,
  ConfigReading,
  type Fault,
  readConfigFile,
  remarkText,
  type Secret,
  systemClock,
} from "../src/index.ts";
import { type Settings, SettingsError } from "./settings.ts";

/** A configuration, and the file it was compiled from. */
export interface FileConfig extends Config {
  readonly timeZone: string;
  readonly storesModels: boolean;
  readonly reading: ConfigReading;
}

/**
 * Reads the configuration the settings name, and fills what it leaves open from the environment. Notices go to stderr.
 *
 * @throws SettingsError with every fault, each as `file:line: path: what is wrong`.
 */
export async function readConfig(settings: Settings): Promise<FileConfig> {
  if (settings.configPath === "") {
    throw new SettingsError(
      "No configuration. Give one with --config FILE (LiteLLM's config.yaml), or TOLLGATE_CONFIG.",
    );
  }
  const reading = await readConfigFile({ file: settings.configPath, env: settings.env });
  if (!(reading instanceof ConfigReading)) throw faulty(reading);
  const result = await reading.compile({ nowMs: systemClock.nowMs() });
  if (!result.ok) throw faulty(result.faults);
  for (const notice of result.config.notices) process.stderr.write(`tollgate: ${remarkText(notice)}\n`);
  return {
    ...result.config,
    masterKey: rotatingIfSame(result.config.masterKey, settings.masterKey),
    databaseUrl: rotatingIfSame(result.config.databaseUrl, settings.databaseUrl),
    timeZone: result.config.timeZone ?? settings.timeZone,
    alerting: result.config.alerting ?? settings.alerting,
    spendLogRetentionMs: result.config.spendLogRetentionMs ?? settings.spendLogRetentionMs,
    storesModels: result.config.storesModels ?? settings.storesModels,
    reading,
  };
}

/** What the file found in the environment is the environment's, which may be rotated. */
function rotatingIfSame(ofFile: Secret | undefined, ofSettings: Secret | undefined): Secret | undefined {
  return ofFile === undefined || ofFile.reveal() === ofSettings?.reveal() ? ofSettings : ofFile;
}

function faulty(faults: readonly Fault[]): SettingsError {
  return new SettingsError(faults.map(remarkText).join("\n"));
}
