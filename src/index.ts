/** Tollgate as a library: what the programs in `sidecar/` are put together from. */

export { type Clock, type Random, systemClock, systemRandom } from "./clock.ts";
export type { AlertChannel, AlertRouting } from "./config/alert-routing.ts";
export { isAlertChannel } from "./config/alerting.ts";
export type { Config, Fault } from "./config/config.ts";
export type { KeyRules } from "./config/creation-rules.ts";
export { ConfigReading, loadConfig, readConfigFile } from "./config/load.ts";
export { remarkText } from "./config/remarks.ts";
export { type ConfigSummary, type DeploymentSummary, type RedisSummary, summarise } from "./config/summary.ts";
export { createGateway, type GatewayOptions, type RunningGateway } from "./create-gateway.ts";
export { durationMs, parseDuration } from "./duration.ts";
export { GatewayError } from "./errors.ts";
export { FileValue } from "./file-value.ts";
export { FileWatch } from "./file-watch.ts";
export { openAdminPort } from "./front/admin-port.ts";
export { openDataPort } from "./front/data-port.ts";
export { Closers } from "./lifecycle.ts";
export { Secret } from "./secret.ts";
export { errorInfo } from "./server/rpc-error.ts";
export { CallCells } from "./telemetry/call-cells.ts";
export { callMetrics } from "./telemetry/call-metrics.ts";
export { litellmMetrics } from "./telemetry/litellm-metrics.ts";
export { LiveTelemetry } from "./telemetry/live.ts";
export { startMetricExport } from "./telemetry/metric-export.ts";
export { Metrics } from "./telemetry/metrics.ts";
export { buildInfo, processMetrics } from "./telemetry/process-metrics.ts";
export { createTracing } from "./telemetry/tracing.ts";
export { http2Connector, type TlsFiles, tlsMaterial } from "./tls-files.ts";
