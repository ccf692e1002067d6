import { hash } from "node:crypto";
import {
  type AlertRouting,
  buildInfo,
  Closers,
  type Config,
  type ConfigReading,
  certificateMetrics,
  type Fault,
  FileValue,
  keyServiceRestartSettings,
  Metrics,
  observedConfig,
  processMetrics,
  Secret,
  systemClock,
  systemRandom,
  tlsMaterial,
} from "../src/index.ts";
import type { FileRules } from "../src/keyservice/administration.ts";
import { type IdentityRules, readIdentityRules } from "../src/keyservice/identity-rules.ts";
import { createKeyService, type KeyService, type KeyServiceOptions } from "../src/keyservice/server.ts";
import { alertTargets } from "./alert-settings.ts";
import { type FileConfig, readConfig } from "./config-file.ts";
import { ConfigWatch } from "./config-watch.ts";
import { createLogger } from "./logger.ts";
import { type Settings, SettingsError } from "./settings.ts";
import { resourceOf, startTelemetryExport } from "./telemetry-export.ts";
import { version } from "./version.ts";

const serviceName = "tollgate-keyservice";
const encryptionKeyCharsMin = 16;

/** What both programs that work on the database need to know. */
export interface KeyServiceFacts {
  readonly databaseUrl: Secret;
  readonly masterKey: Secret;
  readonly timeZone: string;
  readonly spendLogRetentionMs: number | undefined;
  readonly alerting: AlertRouting | undefined;
  readonly storesModels: boolean;
  readonly guardsMetrics: boolean;
  /** The newest first. */
  readonly encryptionKeys: readonly Secret[];
}

/** A KeyService that runs. */
interface KeyServiceProgram extends KeyService {
  /** Reads the configuration now. Absent: there is none. */
  reload?(): Promise<void>;
}

/**
 * `tollgate keyservice`: needs a database and a master key; of the config file it takes these two, the time zone, the retention of the
 * spend log, `store_model_in_db`, what holds for new keys, where alerts go and who reads metrics, and shows its models beside those of the
 * database. What holds for new keys and models, and the models shown, change with the file.
 */
export async function startKeyServiceProgram(settings: Settings): Promise<KeyServiceProgram> {
  return startKeyService(settings, await fileConfigOf(settings));
}

/** @param config undefined: there is no file. */
export async function startKeyService(settings: Settings, config: FileConfig | undefined): Promise<KeyServiceProgram> {
  const { alerting, ...facts } = keyServiceFacts(settings, config);
  const { masterKey } = facts;
  const { targets, faults } = alertTargets(alerting, settings.alertSinks);
  if (faults.length > 0) throw new SettingsError(faults.join("\n"));
  const logger = createLogger(settings, { service: serviceName });
  const onError = ({ message }: Error) => logger.error(`${message}; what was there before is used on`);
  const { identitiesPath } = settings;
  const material = settings.tls.ports && tlsMaterial(settings.tls.ports, { clock: systemClock, onError });
  const resource = resourceOf(serviceName, settings);
  const warn = (message: string) => logger.warn(message);
  const metrics = new Metrics();
  metrics.add(buildInfo(version), ...processMetrics());
  if (material !== undefined) metrics.add(...certificateMetrics({ ports: material }));
  const log: KeyServiceOptions["log"] = (level, message, facts) => logger[level](facts ?? {}, message);
  const file = config && new ServedFile({ config, metrics, log });
  const exported = await startTelemetryExport({ settings, resource, metrics, warn });
  const service = await createKeyService({
    ...facts,
    rules: file && (() => file.rules),
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
    log,
  });
  const { host, port, adminPort } = service;
  const closers = new Closers();
  closers.add("telemetry", () => exported.close());
  closers.add("keyservice", () => service.close());
  const close = () => closers.close((part, error) => log("warn", "A part failed to close.", { part, error }));
  if (file === undefined) return { host, port, adminPort, close };
  const { reading } = file.config;
  const watch = new ConfigWatch({ settings, reading, clock: systemClock, reload: (read) => file.reload(read) });
  await watch.start();
  closers.add("configuration", () => watch.close());
  return { host, port, adminPort, close, reload: () => watch.reload() };
}

/** The file of a KeyService, and what of it is in force. */
class ServedFile {
  readonly config: FileConfig;
  rules: FileRules;
  readonly #live: ReturnType<typeof observedConfig>;

  constructor(parts: { config: FileConfig; metrics: Metrics; log: KeyServiceOptions["log"] }) {
    const { config } = parts;
    const rulesOf = ({ keyRules, privateHosts }: Config, fileModels: ConfigReading) => ({
      ...{ keyRules, privateHosts, fileModels },
    });
    this.config = config;
    this.rules = rulesOf(config, config.reading);
    this.#live = observedConfig({
      ...{ ...parts, reading: config.reading, first: config, clock: systemClock },
      untilRestart: keyServiceRestartSettings,
      apply: (changed, reading) => {
        this.rules = rulesOf(changed, reading);
      },
    });
  }

  /** One with a fault changes nothing, and is logged. */
  reload(read: ConfigReading | readonly Fault[]): Promise<void> {
    return this.#live.reload(read);
  }
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

/** @returns undefined: there is none. */
export async function fileConfigOf(settings: Settings): Promise<FileConfig | undefined> {
  return settings.configPath === "" ? undefined : readConfig(settings);
}

/** @throws SettingsError saying what is missing. */
export function keyServiceFacts(settings: Settings, config: FileConfig | undefined): KeyServiceFacts {
  const { masterKey: given, databaseUrl, timeZone, spendLogRetentionMs, storesModels, alerting } = config ?? settings;
  if (databaseUrl === undefined) {
    throw new SettingsError(
      "No database. Set DATABASE_URL (or general_settings.database_url): postgresql://user:password@host/name.",
    );
  }
  if (given === undefined) {
    throw new SettingsError(
      'No master key. Set LITELLM_MASTER_KEY (or general_settings.master_key) to a long secret that begins with "sk-".',
    );
  }
  // Without a salt key it is what keys are hashed with, and stays as it was at the start.
  const masterKey = settings.pepper === undefined ? new Secret(given.reveal()) : given;
  const encryptionKeys = encryptionKeysOf(settings.encryptionKeys, settings.pepper ?? masterKey);
  const guardsMetrics = config?.guardsMetrics ?? false;
  const ofKeys = { masterKey, encryptionKeys };
  return { databaseUrl, timeZone, spendLogRetentionMs, alerting, storesModels, guardsMetrics, ...ofKeys };
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
