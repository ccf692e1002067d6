import { hash } from "node:crypto";
import { type Secret, systemClock, systemRandom } from "../src/index.ts";
import { createKeyService, type KeyService } from "../src/keyservice/server.ts";
import { readConfig } from "./config-file.ts";
import { createLogger } from "./logger.ts";
import { type Settings, SettingsError } from "./settings.ts";

/** `tollgate keyservice`: needs a database and a master key; the config file is only read for these two, the time zone and the retention of the spend log. */
export async function startKeyServiceProgram(settings: Settings): Promise<KeyService> {
  const { masterKey, databaseUrl, timeZone, spendLogRetentionMs } =
    settings.configPath === "" ? settings : await readConfig(settings);
  if (databaseUrl === undefined) {
    throw new SettingsError(
      "No database. Set DATABASE_URL (or general_settings.database_url): postgresql://user:password@host/name.",
    );
  }
  if (masterKey === undefined) {
    throw new SettingsError(
      'No master key. Set LITELLM_MASTER_KEY (or general_settings.master_key) to a long secret that begins with "sk-".',
    );
  }
  const logger = createLogger(settings.logLevel, { service: "tollgate-keyservice" });
  return createKeyService({
    ...{ databaseUrl, masterKey, timeZone, spendLogRetentionMs },
    runtimeToken: settings.keyserviceToken ?? masterKey,
    pepper: pepperOf(settings.pepper ?? masterKey),
    host: settings.keyserviceHost,
    port: settings.keyservicePort,
    leaseTtlMs: settings.leaseTtlMs,
    graceMs: settings.graceMs,
    clock: systemClock,
    random: systemRandom,
    log: (level, message, facts) => logger[level](facts ?? {}, message),
  });
}

/** A pepper is told from its successors by a few digits of its digest. */
function pepperOf(value: Secret): { id: string; value: Secret } {
  return { id: hash("sha256", `pepper id ${value.reveal()}`).slice(0, 8), value };
}
