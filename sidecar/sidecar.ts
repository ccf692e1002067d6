import cluster from "node:cluster";
import {
  buildInfo,
  CallCells,
  Closers,
  callMetrics,
  certificateMetrics,
  createGateway,
  LiveTelemetry,
  litellmMetrics,
  Metrics,
  openDataPort,
  processMetrics,
  systemClock,
  systemRandom,
  type TlsFiles,
  tlsMaterial,
} from "../src/index.ts";
import { type AdminDoor, type AdminFacts, openAdminDoor } from "./admin-door.ts";
import { type FileConfig, readConfig } from "./config-file.ts";
import { ConfigWatch } from "./config-watch.ts";
import { createLogger } from "./logger.ts";
import type { Settings } from "./settings.ts";
import type { Sidecar } from "./sidecar-handle.ts";
import { resourceOf, startTelemetryExport } from "./telemetry-export.ts";
import { version } from "./version.ts";

const serviceName = "tollgate";

interface SidecarParts {
  readonly settings: Settings;
  readonly config: FileConfig;
  /** Whether LiteLLM's management paths are passed on to the KeyService. */
  readonly management: boolean;
  /** Where health and metrics are asked for; undefined: at a port of its own. */
  readonly openAdmin?: ((facts: AdminFacts) => Promise<AdminDoor>) | undefined;
}

/** `tollgate sidecar`. */
export async function startSidecarProgram(settings: Settings): Promise<Sidecar> {
  const config = await readConfig(settings);
  const start = (parts: Omit<SidecarParts, "config" | "management">) =>
    startSidecar({ ...parts, config, management: false });
  if (config.workers === 1) return start({ settings });
  // Loaded when there are some: the one process that most pods have does without.
  const { beWorker, startWorkers } = await import("./workers.ts");
  return cluster.isPrimary ? startWorkers(settings, config) : beWorker(settings, start);
}

/** Puts a sidecar together and opens its ports. What was opened is closed again if a later part fails. */
export async function startSidecar(parts: SidecarParts): Promise<Sidecar> {
  const { settings, config } = parts;
  // As its spans are called, so that the two are found together.
  const logger = createLogger(settings, { service: serviceName, pod: settings.podId });
  const closers = new Closers();
  const onCloseError = (part: string, error: unknown) => logger.warn({ part, error }, "a part failed to close");
  try {
    const resource = resourceOf(serviceName, settings, config.environment);
    const warn = (message: string) => logger.warn(message);
    const cells = new CallCells();
    const metrics = new Metrics();
    metrics.add(buildInfo(version), ...callMetrics(cells), ...litellmMetrics(cells), ...processMetrics());
    const exported = await startTelemetryExport({ settings, resource, metrics, callbacks: config.callbacks, warn });
    closers.add("telemetry export", () => exported.close());
    const telemetry = new LiveTelemetry({
      tracing: exported.tracing,
      forwardTraceparent: config.callbacks.forwardTraceparent,
      clock: systemClock,
      ...{ cells, logger },
    });
    const onError = ({ message }: Error) => logger.error(`${message}; what was there before is used on`);
    const tlsOf = (files: TlsFiles) => tlsMaterial(files, { clock: systemClock, onError });
    const { ports, coversAdminPort, keyService } = settings.tls;
    const material = ports && tlsOf(ports);
    const toKeyService = settings.keyserviceUrl.startsWith("https:") ? tlsOf(keyService) : undefined;
    if (material ?? toKeyService) metrics.add(...certificateMetrics({ ports: material, keyservice: toKeyService }));
    const running = createGateway({
      keyService: {
        url: settings.keyserviceUrl,
        token: settings.keyserviceToken ?? config.masterKey,
        tls: toKeyService,
      },
      clock: systemClock,
      random: systemRandom,
      ...settings,
      ...{ config, telemetry, metrics },
      reading: config.reading,
    });
    closers.add("gateway", () => running.close(settings.graceMs));
    const watch = new ConfigWatch({
      ...{ settings, reading: config.reading, clock: systemClock },
      reload: (read) => running.reload(read),
    });
    await watch.start();
    closers.add("configuration", () => watch.close());
    let draining = false;
    const onBug = (error: unknown, facts: object = {}) => logger.error({ ...facts, error }, "bug");
    const openAdmin =
      parts.openAdmin ?? ((facts) => openAdminDoor(settings, facts, coversAdminPort ? material : undefined, onBug));
    const admin = await openAdmin({
      readiness: () => ({
        started: running.ready(),
        ready: running.ready() && !draining,
        checks: running.checks(),
      }),
      expose: (accept) => metrics.expose(accept),
      checkReader: config.guardsMetrics ? running.checkMetricsReader : undefined,
    });
    closers.add("admin port", () => admin.close());
    const data = await openDataPort({
      ...settings,
      tls: material && { material, requiresClient: true },
      ...{ gateway: running.gateway, explainer: running.explainer, answers: running.answers },
      ...{ masterKey: config.masterKey, healthReport: running.healthReport },
      storedResponses: running.storedResponses,
      clock: systemClock,
      random: systemRandom,
      version,
      ready: running.ready,
      managementUrl: parts.management ? settings.keyserviceUrl : undefined,
      onBug,
    });
    closers.add("data port", () => {
      draining = true;
      return data.close(settings.graceMs);
    });
    logger.info({ host: data.host, port: data.port, adminPort: admin.port }, "sidecar listens");
    return {
      ...{ host: data.host, port: data.port, adminPort: admin.port },
      reload: () => watch.reload(),
      close: () => closers.close(onCloseError),
    };
  } catch (error) {
    await closers.close(onCloseError);
    throw error;
  }
}
