import { hash } from "node:crypto";
import {
  type AlertRouting,
  buildInfo,
  type ConfigReading,
  certificateMetrics,
  FileValue,
  type KeyRules,
  Metrics,
  processMetrics,
  type Secret,
  systemClock,
  systemRandom,
  tlsMaterial,
} from "../src/index.ts";
import { type IdentityRules, readIdentityRules } from "../src/keyservice/identity-rules.ts";
import { createKeyService, type KeyService } from "../src/keyservice/server.ts";
import { alertTargets } from "./alert-settings.ts";
import { readConfig } from "./config-file.ts";
import { createLogger } from "./logger.ts";
import { type Settings, SettingsError } from "./settings.ts";
import { resourceOf, startTelemetryExport } from "./telemetry-export.ts";
import { version } from "./version.ts";

const encryptionKeyCharsMin = 16;

/** What both programs that work on the database need to know. */
export interface KeyServiceFacts {
  readonly databaseUrl: Secret;
  readonly masterKey: Secret;
  readonly timeZone: string;
  readonly spendLogRetentionMs: number | undefined;
  readonly alerting: AlertRouting | undefined;
  readonly storesModels: boolean;
  /** Undefined: there is no file. */
  readonly keyRules: KeyRules | undefined;
  readonly guardsMetrics: boolean | undefined;
  /** The newest first. */
  readonly encryptionKeys: readonly Secret[];
  /** The file, if there is one. */
  readonly reading: ConfigReading | undefined;
}

/**
 * `tollgate keyservice`: needs a database and a master key; of the config file it takes these two, the time zone, the retention of the
 * spend log, `store_model_in_db`, what holds for new keys, where alerts go and who reads metrics, and shows its models beside those of the database.
 *
 * @param given the file and its rules, where somebody else has read it.
 */
export async function startKeyServiceProgram(
  settings: Settings,
  given: Partial<Pick<KeyServiceFacts, "reading" | "keyRules" | "guardsMetrics">> = {},
): Promise<KeyService> {
  const { alerting, ...facts } = await keyServiceFacts(settings);
  const { reading = given.reading, keyRules = given.keyRules, guardsMetrics = given.guardsMetrics ?? false } = facts;
  const { masterKey } = facts;
  const { targets, faults } = alertTargets(alerting, settings.alertSinks);
  if (faults.length > 0) throw new SettingsError(faults.join("\n"));
  const logger = createLogger(settings, { service: "tollgate-keyservice" });
  const onError = ({ message }: Error) => logger.error(`${message}; what was there before is used on`);
  const { identitiesPath } = settings;
  const material = settings.tls.ports && tlsMaterial(settings.tls.ports, { clock: systemClock, onError });
  const resource = resourceOf("tollgate-keyservice", settings);
  const warn = (message: string) => logger.warn(message);
  const metrics = new Metrics();
  metrics.add(buildInfo(version), ...processMetrics());
  if (material !== undefined) metrics.add(...certificateMetrics({ ports: material }));
  const exported = await startTelemetryExport({ settings, resource, metrics, warn });
  const service = await createKeyService({
    ...facts,
    ...{ fileModels: reading, keyRules, guardsMetrics },
    runtimeToken: settings.keyserviceToken ?? masterKey,
    identities: identitiesPath === undefined ? undefined : readIdentities(identitiesPath, onError),
    adminPort: settings.keyserviceAdmin,
    hostNames: settings.hostNames,
    // A sidecar without a certificate may show a token.
    tls: material && { material, requiresClient: false },
    pepper: pepperOf(settings.pepper ?? masterKey),
    host: settings.keyserviceHost,
    port: settings.keyservicePort,
    leaseTtlMs: settings.leaseTtlMs,
    alertTargets: targets,
    rotationTarget: settings.rotationTarget,
    graceMs: settings.graceMs,
    clock: systemClock,
    random: systemRandom,
    metrics,
    tracer: exported.tracing?.tracer,
    log: (level, message, facts) => logger[level](facts ?? {}, message),
  });
  const { host, port, adminPort } = service;
  return {
    ...{ host, port, adminPort },
    close: async () => {
      await service.close();
      await exported.close();
    },
  };
}

/** @throws SettingsError if the file cannot be used now. */
function readIdentities(file: string, onError: (error: Error) => void): FileValue<IdentityRules> {
  try {
    const read = ([content]: readonly Buffer[]) => readIdentityRules(file, String(content));
    return new FileValue({ files: [file], read, clock: systemClock, onError });
  } catch (error) {
    throw new SettingsError(`TOLLGATE_SIDECAR_IDENTITIES: ${error instanceof Error ? error.message : error}`);
  }
}

/** @throws SettingsError saying what is missing. */
export async function keyServiceFacts(settings: Settings): Promise<KeyServiceFacts> {
  const config = settings.configPath === "" ? undefined : await readConfig(settings);
  const { masterKey, databaseUrl, timeZone, spendLogRetentionMs, storesModels, alerting } = config ?? settings;
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
  const encryptionKeys = encryptionKeysOf(settings.encryptionKeys, settings.pepper ?? masterKey);
  const { reading, keyRules, guardsMetrics } = config ?? {};
  const ofKeys = { masterKey, encryptionKeys, keyRules, guardsMetrics };
  return { databaseUrl, timeZone, spendLogRetentionMs, alerting, storesModels, reading, ...ofKeys };
}

/** The salt key is the oldest; as one of the others it may be as short as it is. */
function encryptionKeysOf(given: readonly Secret[], saltKey: Secret): readonly Secret[] {
  const texts = given.map((key) => key.reveal());
  if (texts.some((text) => text.length < encryptionKeyCharsMin && text !== saltKey.reveal())) {
    throw new SettingsError(
      `TOLLGATE_ENCRYPTION_KEYS: each key must have at least ${encryptionKeyCharsMin} characters, such as those of \`openssl rand -hex 32\``,
    );
  }
  return [...given, saltKey];
}

/** A pepper is told from its successors by a few digits of its digest. */
function pepperOf(value: Secret): { id: string; value: Secret } {
  return { id: hash("sha256", `pepper id ${value.reveal()}`).slice(0, 8), value };
}
