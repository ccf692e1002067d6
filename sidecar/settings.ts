import { systemClock } from "../src/clock.ts";
import { parseRetention, retentionForm } from "../src/duration.ts";
import { FileSecret } from "../src/file-secret.ts";
import type { AlertRouting } from "../src/index.ts";
import type { RotationTarget } from "../src/keyservice/key-rotations.ts";
import { Secret } from "../src/secret.ts";
import { isTimeZone } from "../src/time-zone.ts";
import { type AlertSinkSettings, readAlerting, wordsOf } from "./alert-settings.ts";
import type { LogFormat } from "./logger.ts";
import { readRotationTarget } from "./rotation-settings.ts";
import { readTlsSettings, type TlsSettings } from "./tls-settings.ts";

/** The variables of a process, as given; tests give a map instead of the environment. */
export type Variables = Readonly<Record<string, string | undefined>>;

/**
 * Every environment variable the programs read, with its default and meaning. The README's configuration table is tested
 * against this list. Each that holds a secret can be given as a file instead: `NAME_FILE`.
 */
export const variables = {
  TOLLGATE_CONFIG: { default: "", meaning: "LiteLLM's `config.yaml`, where `--config` is not given." },
  TOLLGATE_HOST: { default: "127.0.0.1", meaning: "Address the sidecar's data port listens at." },
  TOLLGATE_PORT: { default: "4000", meaning: "The sidecar's data port: HTTP, gRPC, gRPC-Web and Connect." },
  TOLLGATE_SOCKET: { default: "", meaning: "Path of a unix socket that serves the same as the data port." },
  TOLLGATE_ALLOWED_HOSTS: {
    default: "",
    meaning:
      "Names the data port and the KeyService may be asked by, commas between, besides `localhost` and addresses. None: on a loopback address no other, else any.",
  },
  TOLLGATE_ADMIN_HOST: {
    default: "0.0.0.0",
    meaning: "Address of the sidecar's health and metrics port; `tollgate up`: 127.0.0.1 unless it is set.",
  },
  TOLLGATE_ADMIN_PORT: { default: "4001", meaning: "Port of `/livez /readyz /startupz /metrics`." },
  TOLLGATE_KEYSERVICE_HOST: { default: "127.0.0.1", meaning: "Address the KeyService listens at." },
  TOLLGATE_KEYSERVICE_PORT: {
    default: "4100",
    meaning: "The KeyService's port: gRPC, Connect and LiteLLM's management HTTP.",
  },
  TOLLGATE_KEYSERVICE_ADMIN_HOST: {
    default: "127.0.0.1",
    meaning: "Address of the KeyService's port of administration, if that has one of its own.",
  },
  TOLLGATE_KEYSERVICE_ADMIN_PORT: {
    default: "",
    meaning:
      "A port of its own for the KeyService's administration, gRPC and HTTP; then TOLLGATE_KEYSERVICE_PORT serves sidecars only, and takes no master key.",
  },
  KEYSERVICE_URL: { default: "http://127.0.0.1:4100", meaning: "Where a sidecar finds the KeyService." },
  KEYSERVICE_CA_FILE: {
    default: "",
    meaning: "File (PEM) of the authorities that the KeyService's certificate must be of. None: those Node trusts.",
  },
  KEYSERVICE_CERT_FILE: { default: "", meaning: "File (PEM) of the certificate shown to the KeyService." },
  KEYSERVICE_KEY_FILE: { default: "", meaning: "File (PEM) of its key." },
  TOLLGATE_KEYSERVICE_TOKEN: {
    default: "the master key",
    meaning:
      "Secret that sidecars show to the KeyService, or with `..._FILE` a service-account token. The KeyService takes several, one a line.",
  },
  TOLLGATE_SIDECAR_IDENTITIES: {
    default: "",
    meaning: 'KeyService: YAML file of who its sidecars are and which teams they serve; see "Who a sidecar is".',
  },
  TOLLGATE_TLS_CERT_FILE: {
    default: "",
    meaning: "File (PEM) of the certificate of our ports, with its chain. None: they are in the clear.",
  },
  TOLLGATE_TLS_KEY_FILE: { default: "", meaning: "File (PEM) of its key." },
  TOLLGATE_TLS_CLIENT_CA_FILE: {
    default: "",
    meaning:
      "File (PEM) of the authorities of clients' certificates: the sidecar's data port takes no others; the KeyService knows sidecars by them.",
  },
  TOLLGATE_ADMIN_TLS: { default: "false", meaning: "Whether the sidecar's health and metrics port is over TLS too." },
  DATABASE_URL: { default: "", meaning: "The KeyService's PostgreSQL; `general_settings.database_url` goes first." },
  LITELLM_DATABASE_URL: { default: "", meaning: "`tollgate import litellm`: the PostgreSQL of the LiteLLM it reads." },
  LITELLM_MASTER_KEY: { default: "", meaning: "The operator's key; `general_settings.master_key` goes first." },
  TOLLGATE_ADMIN_TOKEN: {
    default: "the master key",
    meaning: "What `tollgate keys` and its like show to the KeyService; `--token-file` goes first.",
  },
  LITELLM_SALT_KEY: {
    default: "the master key",
    meaning: "Pepper of the keyed hashes that virtual keys are stored as. Never change it.",
  },
  TOLLGATE_ENCRYPTION_KEYS: {
    default: "",
    meaning:
      "KeyService: keys that credentials and secret parameters of models are encrypted with in the database, the newest first, one a line or with commas between them; the last of all is LITELLM_SALT_KEY. All but the first are for reading; `tollgate reencrypt` makes them needless.",
  },
  STORE_MODEL_IN_DB: {
    default: "false",
    meaning: "KeyService: whether models may be kept in the database; `general_settings.store_model_in_db` goes first.",
  },
  REDIS_URL: {
    default: "",
    meaning:
      "Redis by its address, `redis://user:password@host:6379/0`, or `rediss://` for TLS; goes before REDIS_HOST.",
  },
  REDIS_HOST: {
    default: "",
    meaning: "Redis for counters shared by all pods; the config file goes first. None: each process counts alone.",
  },
  REDIS_PORT: { default: "6379", meaning: "Redis's port." },
  REDIS_USERNAME: { default: "", meaning: "Redis's user." },
  REDIS_PASSWORD: { default: "", meaning: "Redis's password." },
  REDIS_DB: { default: "0", meaning: "Redis's numbered database." },
  REDIS_SSL: { default: "false", meaning: "Whether Redis is spoken to over TLS." },
  REDIS_SSL_CA_CERTS: {
    default: "",
    meaning: "File (PEM) of the certificates that Redis's is trusted by. None: the authorities Node trusts.",
  },
  REDIS_SSL_CERTFILE: { default: "", meaning: "File (PEM) of the certificate shown to Redis." },
  REDIS_SSL_KEYFILE: { default: "", meaning: "File (PEM) of that certificate's key; none: it is in the same file." },
  REDIS_SSL_CERT_REQS: {
    default: "required",
    meaning: "Whether Redis's certificate is verified: `required` or `none`.",
  },
  REDIS_SSL_CHECK_HOSTNAME: {
    default: "true",
    meaning: "Whether Redis's certificate must be for the host that was asked for.",
  },
  REDIS_CLUSTER_NODES: {
    default: "",
    meaning: 'Nodes of a Redis Cluster as JSON, `[{"host": "redis-1", "port": 6379}]`; they name the others.',
  },
  REDIS_SENTINEL_NODES: {
    default: "",
    meaning: 'Sentinels as JSON, `[["sentinel-1", 26379]]`; they know the master of REDIS_SERVICE_NAME.',
  },
  REDIS_SERVICE_NAME: { default: "", meaning: "What the sentinels call the master." },
  REDIS_SENTINEL_PASSWORD: { default: "", meaning: "The sentinels' password." },
  TOLLGATE_REDIS_TIMEOUT_MS: {
    default: "50",
    meaning: "How long Redis may take to decide a limit; then `tollgate.redis_unavailable` acts.",
  },
  TOLLGATE_DATA_DIR: {
    default: ".tollgate",
    meaning: "Journal, and in `up` the embedded PostgreSQL and generated secrets.",
  },
  TOLLGATE_POD_ID: { default: "the host name", meaning: "Name of this pod in leases and books." },
  TOLLGATE_JOURNAL_FSYNC: {
    default: "interval",
    meaning: "When the journal is forced to disk: `none`, `interval` (200 ms) or `always`.",
  },
  TOLLGATE_MAX_BODY_BYTES: { default: "33554432", meaning: "Largest request body." },
  TOLLGATE_KEY_STALE_S: { default: "900", meaning: "How long cached keys serve while the KeyService is away." },
  TOLLGATE_LEASE_TTL_S: {
    default: "60",
    meaning:
      "KeyService: how long money lent to a pod outlives the pod's last renewal; then it is charged as unconfirmed.",
  },
  TOLLGATE_TIMEZONE: {
    default: "UTC",
    meaning:
      "KeyService: IANA name of the zone whose calendar budget periods follow; `litellm_settings.timezone` goes first.",
  },
  TOLLGATE_SPEND_LOG_RETENTION: {
    default: "for ever",
    meaning:
      "KeyService: how long rows of the spend log are kept, `90d` for instance; `general_settings.maximum_spend_logs_retention_period` goes first. Sums by day stay.",
  },
  TOLLGATE_KEY_ROTATION_URL: {
    default: "",
    meaning:
      "KeyService: where the new secrets of keys with `auto_rotate` are posted as JSON; https, or http to this machine. Without it `auto_rotate` is refused.",
  },
  LITELLM_KEY_ROTATION_GRACE_PERIOD: {
    default: "24h",
    meaning: "KeyService: how long the secret of before still works once such a new one is delivered; `0`: not at all.",
  },
  TOLLGATE_ALERTING: {
    default: "",
    meaning:
      "KeyService: where alerts go besides the log: `slack`, `webhook`, `email`, `pagerduty`, commas between; `general_settings.alerting` goes first.",
  },
  SLACK_WEBHOOK_URL: {
    default: "",
    meaning: "KeyService: Slack's incoming webhook; `general_settings.alert_to_webhook_url` goes first for its types.",
  },
  WEBHOOK_URL: { default: "", meaning: "KeyService: where alerts are posted as JSON." },
  PAGERDUTY_API_KEY: {
    default: "",
    meaning: "KeyService: the routing (integration) key of PagerDuty's Events API v2.",
  },
  TOLLGATE_PAGERDUTY_URL: {
    default: "https://events.pagerduty.com/v2/enqueue",
    meaning: "KeyService: PagerDuty's service region, for instance `https://events.eu.pagerduty.com/v2/enqueue`.",
  },
  SMTP_HOST: { default: "", meaning: "KeyService: the mail server that alerts are sent through." },
  SMTP_PORT: { default: "587", meaning: "Its port; at 465 TLS begins with the first byte." },
  SMTP_USERNAME: { default: "", meaning: "Who the KeyService is to it; none: it does not log in." },
  SMTP_PASSWORD: { default: "", meaning: "And the password." },
  SMTP_TLS: { default: "True", meaning: "`False`: mail goes in the clear." },
  SMTP_SENDER_EMAIL: { default: "", meaning: "Whom mail is from." },
  TOLLGATE_ALERT_RECIPIENTS: { default: "", meaning: "Whom mail goes to, commas between." },
  TOLLGATE_GRACE_S: { default: "30", meaning: "How long calls in flight may take to finish after SIGTERM." },
  TOLLGATE_LOG_LEVEL: {
    default: "info",
    meaning:
      "`debug` (with what providers say of failures, who may quote prompts), `info` (a line a call), `warn` or `error`.",
  },
  TOLLGATE_LOG_FORMAT: {
    default: "json, and text in a terminal",
    meaning: "How lines of the log look: `json`, or `text` for people.",
  },
} as const satisfies Record<string, { default: string; meaning: string }>;

/** What the environment says, checked. */
export interface Settings {
  readonly configPath: string;
  readonly host: string;
  readonly port: number;
  readonly socketPath: string | undefined;
  /** Undefined: by what the address suggests. */
  readonly hostNames: readonly string[] | undefined;
  readonly adminHost: string;
  readonly adminPort: number;
  readonly keyserviceHost: string;
  readonly keyservicePort: number;
  /** Undefined: administration has no port of its own. */
  readonly keyserviceAdmin: { readonly host: string; readonly port: number } | undefined;
  readonly keyserviceUrl: string;
  readonly keyserviceToken: Secret | undefined;
  readonly databaseUrl: Secret | undefined;
  readonly litellmDatabaseUrl: Secret | undefined;
  /** Undefined: sidecars are known by the secret they show. */
  readonly identitiesPath: string | undefined;
  readonly tls: TlsSettings;
  readonly masterKey: Secret | undefined;
  readonly adminToken: Secret | undefined;
  readonly pepper: Secret | undefined;
  /** The newest first. */
  readonly encryptionKeys: readonly Secret[];
  readonly storesModels: boolean;
  readonly redisTimeoutMs: number;
  readonly dataDir: string;
  readonly podId: string;
  readonly journalFsync: "none" | "interval" | "always";
  readonly bodyBytesMax: number;
  readonly keyStaleMs: number;
  readonly leaseTtlMs: number;
  /** An IANA name. */
  readonly timeZone: string;
  /** Undefined: for ever. */
  readonly spendLogRetentionMs: number | undefined;
  readonly rotationTarget: RotationTarget | undefined;
  /** Undefined: the environment does not say. */
  readonly alerting: AlertRouting | undefined;
  readonly alertSinks: AlertSinkSettings;
  readonly graceMs: number;
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly logFormat: LogFormat;
  /** The environment itself, for OpenTelemetry's standard `OTEL_*` variables and the configuration's `os.environ/NAME`. */
  readonly env: Variables;
}

/** The settings are wrong; the message lists every fault. */
export class SettingsError extends Error {}

const flags: Readonly<Record<string, boolean>> = { true: true, "1": true, false: false, "0": false };

/** @throws SettingsError naming every variable with a wrong value. */
export function readSettings(env: Variables, hostName: string): Settings {
  const faults: string[] = [];
  const text = (name: keyof typeof variables): string => env[name] || variables[name].default;
  const number = (name: keyof typeof variables, min: number, max: number): number => {
    const value = /^\d{1,15}$/.test(text(name)) ? Number(text(name)) : Number.NaN;
    if (value >= min && value <= max) return value;
    faults.push(`${name}: "${env[name]}" is not a whole number from ${min} to ${max}`);
    return min;
  };
  const oneOf = <T extends string>(name: keyof typeof variables, choices: readonly T[]): T => {
    const choice = choices.find((candidate) => candidate === text(name));
    if (choice === undefined) faults.push(`${name}: "${env[name]}" is none of ${choices.join(", ")}`);
    return choice ?? (variables[name].default as T);
  };
  const flag = (name: keyof typeof variables): boolean => {
    const value = flags[text(name).toLowerCase()];
    if (value === undefined) faults.push(`${name}: "${env[name]}" is neither true nor false`);
    return value ?? false;
  };
  const secret = (name: keyof typeof variables): Secret | undefined => readSecret(env, name, faults);
  const keyserviceUrl = text("KEYSERVICE_URL").replace(/\/+$/, "");
  const settings: Settings = {
    configPath: text("TOLLGATE_CONFIG"),
    host: text("TOLLGATE_HOST"),
    port: number("TOLLGATE_PORT", 0, 65_535),
    socketPath: env.TOLLGATE_SOCKET || undefined,
    hostNames: env.TOLLGATE_ALLOWED_HOSTS ? wordsOf(env.TOLLGATE_ALLOWED_HOSTS) : undefined,
    adminHost: text("TOLLGATE_ADMIN_HOST"),
    adminPort: number("TOLLGATE_ADMIN_PORT", 0, 65_535),
    keyserviceHost: text("TOLLGATE_KEYSERVICE_HOST"),
    keyservicePort: number("TOLLGATE_KEYSERVICE_PORT", 0, 65_535),
    keyserviceAdmin: env.TOLLGATE_KEYSERVICE_ADMIN_PORT
      ? {
          host: text("TOLLGATE_KEYSERVICE_ADMIN_HOST"),
          port: number("TOLLGATE_KEYSERVICE_ADMIN_PORT", 0, 65_535),
        }
      : undefined,
    keyserviceUrl,
    keyserviceToken: secret("TOLLGATE_KEYSERVICE_TOKEN"),
    databaseUrl: secret("DATABASE_URL"),
    litellmDatabaseUrl: secret("LITELLM_DATABASE_URL"),
    identitiesPath: env.TOLLGATE_SIDECAR_IDENTITIES || undefined,
    tls: readTlsSettings(env, { keyserviceUrl, coversAdminPort: flag("TOLLGATE_ADMIN_TLS") }, faults),
    masterKey: secret("LITELLM_MASTER_KEY"),
    adminToken: secret("TOLLGATE_ADMIN_TOKEN"),
    pepper: secret("LITELLM_SALT_KEY"),
    encryptionKeys: encryptionKeysOf(secret("TOLLGATE_ENCRYPTION_KEYS")),
    storesModels: flag("STORE_MODEL_IN_DB"),
    redisTimeoutMs: number("TOLLGATE_REDIS_TIMEOUT_MS", 1, 60_000),
    dataDir: text("TOLLGATE_DATA_DIR"),
    podId: env.TOLLGATE_POD_ID || hostName,
    journalFsync: oneOf("TOLLGATE_JOURNAL_FSYNC", ["none", "interval", "always"]),
    bodyBytesMax: number("TOLLGATE_MAX_BODY_BYTES", 1_024, 1 << 30),
    keyStaleMs: number("TOLLGATE_KEY_STALE_S", 0, 86_400) * 1000,
    leaseTtlMs: number("TOLLGATE_LEASE_TTL_S", 1, 3_600) * 1000,
    timeZone: text("TOLLGATE_TIMEZONE"),
    spendLogRetentionMs: env.TOLLGATE_SPEND_LOG_RETENTION
      ? parseRetention(env.TOLLGATE_SPEND_LOG_RETENTION)
      : undefined,
    rotationTarget: readRotationTarget(
      secret("TOLLGATE_KEY_ROTATION_URL"),
      text("LITELLM_KEY_ROTATION_GRACE_PERIOD"),
      faults,
    ),
    alerting: readAlerting(text("TOLLGATE_ALERTING"), faults),
    alertSinks: {
      slackUrl: secret("SLACK_WEBHOOK_URL"),
      webhookUrl: secret("WEBHOOK_URL"),
      pagerDutyKey: secret("PAGERDUTY_API_KEY"),
      pagerDutyUrl: text("TOLLGATE_PAGERDUTY_URL"),
      smtpHost: env.SMTP_HOST || undefined,
      smtpPort: number("SMTP_PORT", 1, 65_535),
      smtpUsername: env.SMTP_USERNAME || undefined,
      smtpPassword: secret("SMTP_PASSWORD"),
      smtpTls: oneOf("SMTP_TLS", ["True", "true", "False", "false"]).toLowerCase() === "true",
      smtpSender: env.SMTP_SENDER_EMAIL || undefined,
      recipients: wordsOf(text("TOLLGATE_ALERT_RECIPIENTS")),
    },
    graceMs: number("TOLLGATE_GRACE_S", 0, 3_600) * 1000,
    logLevel: oneOf("TOLLGATE_LOG_LEVEL", ["debug", "info", "warn", "error"]),
    logFormat: env.TOLLGATE_LOG_FORMAT
      ? oneOf("TOLLGATE_LOG_FORMAT", ["json", "text"])
      : process.stdout.isTTY
        ? "text"
        : "json",
    env,
  };
  if (!isTimeZone(settings.timeZone)) {
    faults.push(`TOLLGATE_TIMEZONE: "${settings.timeZone}" is not the IANA name of a time zone, such as Europe/Berlin`);
  }
  if (env.TOLLGATE_SPEND_LOG_RETENTION && settings.spendLogRetentionMs === undefined) {
    faults.push(`TOLLGATE_SPEND_LOG_RETENTION: "${env.TOLLGATE_SPEND_LOG_RETENTION}" is not ${retentionForm}`);
  }
  if (!/^https?:$/.test(URL.parse(settings.keyserviceUrl)?.protocol ?? "")) {
    faults.push("KEYSERVICE_URL: not an http or https URL");
  }
  if (!/^https?:$/.test(URL.parse(settings.alertSinks.pagerDutyUrl)?.protocol ?? "")) {
    faults.push("TOLLGATE_PAGERDUTY_URL: not an http or https URL");
  }
  if (faults.length > 0) throw new SettingsError(faults.join("\n"));
  return settings;
}

function encryptionKeysOf(given: Secret | undefined): readonly Secret[] {
  const texts = given?.reveal().split(/[\s,]+/) ?? [];
  return texts.filter((text) => text !== "").map((text) => new Secret(text));
}

/** Secrets that may be rotated while a program runs: they are asked for whenever they are used. */
const rotating: ReadonlySet<string> = new Set(["TOLLGATE_KEYSERVICE_TOKEN", "DATABASE_URL", "LITELLM_MASTER_KEY"]);

function readSecret(env: Variables, name: string, faults: string[]): Secret | undefined {
  const value = env[name];
  if (value) return new Secret(value);
  const file = env[`${name}_FILE`];
  if (!file) return undefined;
  const onError = ({ message }: Error) => void process.stderr.write(`tollgate: ${name}_FILE: ${message}\n`);
  try {
    const secret = new FileSecret({ file, clock: systemClock, onError });
    return rotating.has(name) ? secret : new Secret(secret.reveal());
  } catch (error) {
    faults.push(`${name}_FILE: ${error instanceof Error ? error.message : error}`);
  }
  return undefined;
}
