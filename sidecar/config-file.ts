import { type Config, loadConfig, remarkText, systemClock } from "../src/index.ts";
import { type Settings, SettingsError } from "./settings.ts";

/**
 * Reads the configuration the settings name, and fills what it leaves open from the environment. Notices go to stderr.
 *
 * @throws SettingsError with every fault, each as `file:line: path: what is wrong`.
 */
export async function readConfig(settings: Settings): Promise<Config & { readonly timeZone: string }> {
  if (settings.configPath === "") {
    throw new SettingsError(
      "No configuration. Give one with --config FILE (LiteLLM's config.yaml), or TOLLGATE_CONFIG.",
    );
  }
  const result = await loadConfig({ file: settings.configPath, env: settings.env, nowMs: systemClock.nowMs() });
  if (!result.ok) throw new SettingsError(result.faults.map(remarkText).join("\n"));
  for (const notice of result.config.notices) process.stderr.write(`tollgate: ${remarkText(notice)}\n`);
  return {
    ...result.config,
    masterKey: result.config.masterKey ?? settings.masterKey,
    databaseUrl: result.config.databaseUrl ?? settings.databaseUrl,
    timeZone: result.config.timeZone ?? settings.timeZone,
    spendLogRetentionMs: result.config.spendLogRetentionMs ?? settings.spendLogRetentionMs,
  };
}
