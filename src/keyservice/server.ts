import { type Clock, keepProcessAlive, type Random } from "../clock.ts";
import { noPrivateHosts } from "../config/private-hosts.ts";
import { GatewayError } from "../errors.ts";
import type { FileValue } from "../file-value.ts";
import { KeyService as KeyServiceDescription } from "../gen/tollgate/keys/v1/keys_pb.ts";
import { Closers } from "../lifecycle.ts";
import type { Secret } from "../secret.ts";
import { Health } from "../server/health.ts";
import { type Listener, type ListenOptions, listen } from "../server/listen.ts";
import { MetricsPage } from "../server/metrics-page.ts";
import type { OnBug } from "../server/rpc-handlers.ts";
import type { ServerTls } from "../server/server-tls.ts";
import { Metrics } from "../telemetry/metrics.ts";
import { RpcMeter } from "../telemetry/rpc-meter.ts";
import { serverSpans } from "../telemetry/rpc-spans.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { Tracer } from "../telemetry/tracer.ts";
import type { Administration } from "./admin.ts";
import { adminRoutes, adminServices, createAdministration, type FileRules } from "./administration.ts";
import { AlertCourier } from "./alerts/courier.ts";
import { AlertForecast } from "./alerts/forecast.ts";
import { ProviderWatch } from "./alerts/provider-watch.ts";
import { type AlertTargets, createAlertSinks } from "./alerts/sinks.ts";
import { BookFigureReader } from "./book-figures.ts";
import { ChangeFeed } from "./change-feed.ts";
import { ConfiguredProviderBudgets } from "./configured-budgets.ts";
import { createManagementHandler, isManagementPath } from "./http.ts";
import { metricsOr } from "./http-metrics.ts";
import type { IdentityRules } from "./identity-rules.ts";
import { KeyRotations, type KeyRotationsParts, type RotationTarget } from "./key-rotations.ts";
import { noKeyRules } from "./key-rules.ts";
import { Leases } from "./leases.ts";
import { Lender } from "./lender.ts";
import { migrate } from "./migrations.ts";
import { Operator } from "./operator.ts";
import { isAway, Postgres } from "./postgres.ts";
import { Recalls } from "./recalls.ts";
import type { Pepper } from "./secrets.ts";
import { createRuntimeService } from "./service.ts";
import { BookingMeter, bookMetrics } from "./service-metrics.ts";
import { Settlements } from "./settlements.ts";
import { SidecarAccess } from "./sidecar-access.ts";
import { SpendLogParts } from "./spend-log-parts.ts";
import { StoredModelsReader } from "./stored-models.ts";
import { Sweeper } from "./sweeper.ts";
import { Vault } from "./vault.ts";

/** What a KeyService is made of. */
export interface KeyServiceOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly databaseUrl: Secret;
  /** For administration. */
  readonly masterKey: Secret;
  /** For sidecars that have no identity, of several, one a line, any; where administration has no port of its own the master key too. */
  readonly runtimeToken: Secret;
  /** Who the sidecars are. Default: whoever has the token. */
  readonly identities?: FileValue<IdentityRules> | undefined;
  /** Where administration is, and nothing of it elsewhere. Default: at the one port. */
  readonly adminPort?: { readonly host: string; readonly port: number } | undefined;
  /** Names the ports may be asked by; see ListenOptions. */
  readonly hostNames?: readonly string[] | undefined;
  /** Of all ports. Default: plaintext. */
  readonly tls?: ServerTls | undefined;
  readonly pepper: Pepper;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Telemetry["log"];
  /** Undefined: nothing is traced. */
  readonly tracer?: Tracer | undefined;
  /** What `/metrics` tells besides the service's own figures. Default: nothing. */
  readonly metrics?: Metrics | undefined;
  /** Whether they are read with a key only: the master key, or one made for it. Default: no. */
  readonly guardsMetrics?: boolean;
  /** How long a lease lives without renewal, in milliseconds. Default 60 s. */
  readonly leaseTtlMs?: number;
  /** The zone whose calendar budget periods follow, an IANA name. Default UTC. */
  readonly timeZone?: string;
  /** How long rows of the spend log are kept, in milliseconds; undefined: for ever. */
  readonly spendLogRetentionMs?: number | undefined;
  /** What stored secrets are encrypted with, the newest first. Default: the pepper. */
  readonly encryptionKeys?: readonly Secret[];
  /** Whether models may be kept in the database. Default: no. */
  readonly storesModels?: boolean;
  /** What this service's file says, as it is now. Default: there is none. */
  readonly rules?: (() => FileRules) | undefined;
  /** Where the secrets of keys that rotate by themselves go; without one no key may. */
  readonly rotationTarget?: RotationTarget | undefined;
  /** Where alerts go besides the log. */
  readonly alertTargets?: AlertTargets | undefined;
  /** How long the start waits for a database that is away, in milliseconds. Default 60 s. */
  readonly startPatienceMs?: number;
  /** How long a sidecar's watch lasts before it is to connect anew, in milliseconds, a tenth more or less. Default 5 minutes. */
  readonly watchMaxMs?: number;
  /** How long calls in flight may take to finish at the end, in milliseconds. Default 5 s. */
  readonly graceMs?: number;
}

/** A KeyService that answers. Several can work on one database. */
export interface KeyService {
  readonly host: string;
  readonly port: number;
  /** Where administration is. */
  readonly adminPort: number;
  /** Ends watches, finishes calls in flight, frees everything. */
  close(): Promise<void>;
}

const defaultLeaseTtlMs = 60_000;
const defaultGraceMs = 5_000;
const defaultWatchMaxMs = 300_000;
const noFile: FileRules = { keyRules: noKeyRules, privateHosts: noPrivateHosts, fileModels: undefined };
const startRetryMs = 500;
/** The longest a lease that has run out waits to be charged, in milliseconds. */
const sweepIntervalMaxMs = 10_000;

/**
 * Brings the database up to date and opens the port.
 *
 * @throws whatever the database or the port says; nothing is left open then.
 */
export async function createKeyService(options: KeyServiceOptions): Promise<KeyService> {
  const { log } = options;
  const closers = new Closers();
  const close = () =>
    closers.close((part, error) => log("warn", "A part of the KeyService failed to close.", { part, error }));
  try {
    const { databaseUrl, clock } = options;
    const migrations = await onceThere(options, () => migrate({ databaseUrl, clock }));
    if (migrations.length > 0) log("info", "The database was brought up to date.", { migrations });
    const { runtime, admin } = await open(options, closers);
    const { host, port } = runtime;
    log("info", "The KeyService listens.", { host, port, adminHost: admin.host, adminPort: admin.port });
    return { host, port, adminPort: admin.port, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Does a part of the start; for a database that is away, or goes away meanwhile, it waits. */
async function onceThere<Result>(
  { clock, log, startPatienceMs = 60_000 }: Pick<KeyServiceOptions, "clock" | "log" | "startPatienceMs">,
  work: () => Promise<Result>,
): Promise<Result> {
  const untilMs = clock.monotonicMs() + startPatienceMs;
  // At the start nothing else does.
  const letEnd = keepProcessAlive();
  try {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const away = isAway(error) || GatewayError.from(error).code === "keyservice_unavailable";
        if (!away || clock.monotonicMs() >= untilMs) throw error;
        log("warn", "The database cannot be reached yet; that is tried again.", { error });
        await new Promise<void>((resolve) => {
          clock.after(startRetryMs, resolve);
        });
      }
    }
  } finally {
    letEnd();
  }
}

async function open(
  options: KeyServiceOptions,
  closers: Closers,
): Promise<{ readonly runtime: Listener; readonly admin: Listener }> {
  const { clock, log, tracer, masterKey, pepper, timeZone = "UTC", leaseTtlMs = defaultLeaseTtlMs } = options;
  const onConnectionLost = (error: Error) => log("warn", "A connection to the database broke.", { error });
  const postgres = new Postgres({ ...options, onConnectionLost });
  closers.add("postgres", () => postgres.close());

  const leases = new Leases({ postgres, clock, leaseTtlMs, timeZone });
  const recalls = new Recalls({ books: postgres, clock });
  const lender = new Lender({ postgres, leases, recalls, clock, leaseTtlMs, timeZone });
  const spendLog = new SpendLogParts({ postgres, clock, retentionMs: options.spendLogRetentionMs });
  // Without its part a row goes to the default one, and moves later.
  await spendLog.make().catch((error) => log("warn", "Parts of the spend log could not be made yet.", { error }));
  const sweeper = new Sweeper({
    ...{ leases, clock, spendLog },
    books: postgres,
    intervalMs: Math.min(leaseTtlMs / 4, sweepIntervalMaxMs),
    onError: (error) =>
      log("warn", "Leases that ran out or old rows could not be seen to; that is tried again.", { error }),
  });
  sweeper.start();
  closers.add("sweeper", () => sweeper.close());
  openAlerts(options, postgres, closers);

  const health = new Health([KeyServiceDescription, ...adminServices].map(({ typeName }) => typeName));
  const feed = new ChangeFeed({ ...options, postgres, onLook: reachability(health, log) });
  closers.add("change feed", () => feed.close());
  await onceThere(options, () => feed.start());

  const settlements = new Settlements({ postgres, clock, timeZone });
  const { storesModels = false, rules = () => noFile } = options;
  const vault = new Vault(options.encryptionKeys ?? [pepper.value]);
  const models = new StoredModelsReader({ postgres, vault, storesModels, log });
  const access = new SidecarAccess({
    runtimeToken: options.runtimeToken,
    masterKey: options.adminPort === undefined ? masterKey : undefined,
    ...{ rules: options.identities, clock },
    onError: (error) => log("error", "The keys that sidecars' tokens are signed with cannot be had.", { error }),
  });
  const books = postgres;
  const meter = new BookingMeter({ clock });
  const runtime = createRuntimeService({
    ...{ ...options, books, lender, leases, settlements, feed, models, access, meter },
    watchMaxMs: options.watchMaxMs ?? defaultWatchMaxMs,
  });
  const administration = createAdministration({
    ...{ postgres, pepper, masterKey, clock, timeZone },
    ...{ vault, storesModels, rules },
    deliversSecrets: options.rotationTarget !== undefined,
    providerBudgets: new ConfiguredProviderBudgets({
      books: postgres,
      asOf: () => ({ nowMs: clock.nowMs(), timeZone }),
    }),
  });
  openRotations(options, { books: postgres, vault, administration }, closers);
  const rpcs = new RpcMeter({ clock });
  const { metrics = new Metrics() } = options;
  metrics.add(...rpcs.families(), ...meter.families());
  metrics.add(...bookMetrics(new BookFigureReader({ books: postgres, clock, timeZone }), clock));
  metrics.gauges("tollgate_dependency_up", "Whether what this program depends on answers.", "dep", () => ({
    postgres: health.serving ? 1 : 0,
  }));
  metrics.counter(
    "tollgate_lease_recalls_total",
    "KeyService: how often pods were asked to return what they held of a budget ahead of need, because another pod's calls lacked it.",
    () => recalls.count,
  );
  metrics.gauge("tollgate_watches", "KeyService: sidecars that are told of changes.", () => feed.watches);
  metrics.gauges(
    "tollgate_postgres_connections",
    "KeyService: connections to the database, and who waits for one.",
    "state",
    () => postgres.connections,
  );
  const page = new MetricsPage({
    expose: (accept) => metrics.expose(accept),
    checkReader: options.guardsMetrics === true ? (key) => administration.operators.checkMetricsReader(key) : undefined,
  });
  const onBug: OnBug = (error, facts) => log("error", "A call met a bug.", { ...facts, error });
  const sidecars: Face = {
    routes: (router) => router.service(KeyServiceDescription, runtime),
    services: [KeyServiceDescription],
    fallback: metricsOr(
      page,
      createManagementHandler({
        administration,
        telemetry: { log },
        tracer,
        serves: (path) => !isManagementPath(path),
      }),
    ),
  };
  const operators: Face = {
    routes: (router) => adminRoutes(router, administration),
    services: adminServices,
    fallback: metricsOr(page, createManagementHandler({ administration, telemetry: { log }, tracer })),
  };
  const listenFor = async (place: { host: string; port: number }, face: Face): Promise<Listener> => {
    const listener = await listen({
      ...place,
      ...face,
      tls: options.tls,
      interceptors: [rpcs.interceptor, ...(tracer === undefined ? [] : [serverSpans(tracer)])],
      hostNames: options.hostNames,
      health,
      clock,
      onBug,
    });
    closers.add("port", async () => {
      // Otherwise the port would wait for the watches it serves.
      await feed.close();
      await listener.close(options.graceMs ?? defaultGraceMs);
    });
    return listener;
  };
  const place = { host: options.host, port: options.port };
  if (options.adminPort === undefined) {
    const listener = await listenFor(place, both(sidecars, operators));
    return { runtime: listener, admin: listener };
  }
  return { admin: await listenFor(options.adminPort, operators), runtime: await listenFor(place, sidecars) };
}

/** What a port serves. */
type Face = Pick<ListenOptions, "routes" | "services" | "fallback">;

/** Health is on both. */
function both(sidecars: Face, operators: Face): Face {
  return {
    routes(router) {
      sidecars.routes(router);
      operators.routes(router);
    },
    services: [...sidecars.services, ...operators.services],
    fallback: operators.fallback,
  };
}

function openAlerts(options: KeyServiceOptions, postgres: Postgres, closers: Closers): void {
  const { clock, random, log, timeZone = "UTC", alertTargets } = options;
  const { sinks, close } = createAlertSinks(alertTargets, log);
  closers.add("alert sinks", close);
  const books = postgres;
  const watches = [new AlertForecast({ books, clock, timeZone }), new ProviderWatch({ books, clock })];
  const courier = new AlertCourier({ books, sinks, watches, clock, random, log });
  courier.start();
  closers.add("alerts", () => courier.close());
}

function openRotations(
  { rotationTarget: target, clock, log }: KeyServiceOptions,
  { books, vault, administration }: { books: Postgres; vault: Vault; administration: Administration },
  closers: Closers,
): void {
  if (target === undefined) return;
  const operator = new Operator({ name: "auto_rotate", role: "proxy_admin" });
  const keys: KeyRotationsParts["keys"] = {
    rotateUndelivered: (...change) => administration.as(operator).keys.rotateUndelivered(...change),
  };
  const rotations = new KeyRotations({ books, keys, vault, target, clock, log });
  rotations.start();
  closers.add("key rotations", () => rotations.close());
}

/** Keeps the health service true to whether the books can be read, and logs when that changes. */
function reachability(health: Health, log: Telemetry["log"]): (reachable: boolean) => void {
  let before = true;
  return (reachable) => {
    if (reachable === before) return;
    before = reachable;
    health.set("", reachable);
    for (const { typeName } of [KeyServiceDescription, ...adminServices]) {
      health.set(typeName, reachable);
    }
    if (reachable) log("info", "The database is back.");
    else log("error", "The database cannot be reached.");
  };
}
