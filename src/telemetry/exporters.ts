/** What spans leave by. Loaded when it is needed: without a collector nothing of it is in memory. */

import { OTLPExporterBase } from "@opentelemetry/otlp-exporter-base";
import {
  convertLegacyHttpOptions,
  createOtlpHttpExportDelegate,
  httpAgentFactoryFromOptions,
} from "@opentelemetry/otlp-exporter-base/node-http";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import type { LangfuseSettings } from "../config/callback-config.ts";
import type { SpanBatch } from "./span-encoder.ts";
import type { SpanExporter } from "./span-queue.ts";

const langfuseTimeoutMs = 10_000;
const contentType = "application/x-protobuf";
const httpExporter = "otlp_http_span_exporter";

/** For the exporters' figures of themselves. */
const counting = { name: "span" as const, countItems: ({ count }: SpanBatch) => count };

const serializer = {
  serializeRequest: ({ bytes }: SpanBatch) => bytes,
  deserializeResponse: (data: Uint8Array) => ProtobufTraceSerializer.deserializeResponse(data),
};

/**
 * To a collector. Endpoint, headers, timeout, compression and certificates are read from the environment of the process, as
 * OpenTelemetry's specification says.
 *
 * @param protocol OpenTelemetry's word: "grpc", "http/protobuf".
 */
export async function createCollectorExporter(
  protocol: string,
  warn: (message: string) => void,
): Promise<SpanExporter> {
  if (protocol === "grpc") {
    const { convertLegacyOtlpGrpcOptions, createOtlpGrpcExportDelegate } = await import(
      "@opentelemetry/otlp-grpc-exporter-base"
    );
    const delegate = createOtlpGrpcExportDelegate(
      convertLegacyOtlpGrpcOptions({}, "TRACES"),
      serializer,
      ...(["otlp_grpc_span_exporter", counting, undefined] as const),
      "TraceExportService",
      "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    );
    return new OTLPExporterBase(delegate);
  }
  if (protocol !== "http/protobuf") {
    warn(
      `OTEL_EXPORTER_OTLP_PROTOCOL is "${protocol}": spans are exported by http/protobuf; "grpc" is the other choice.`,
    );
  }
  const options = convertLegacyHttpOptions({}, "TRACES", "v1/traces", { "Content-Type": contentType });
  return createHttpExporter(options);
}

/** To a Langfuse, which takes OTLP by HTTP alone. What the environment says of the collector is not for it. */
export function createLangfuseExporter({ host, publicKey, secretKey }: LangfuseSettings): SpanExporter {
  const login = Buffer.from(`${publicKey}:${secretKey.reveal()}`).toString("base64");
  return createHttpExporter({
    url: `${host.replace(/\/+$/, "")}/api/public/otel/v1/traces`,
    headers: async () => ({
      "content-type": contentType,
      authorization: `Basic ${login}`,
      // With it, what is told shows at once, and not ten minutes later.
      "x-langfuse-ingestion-version": "4",
    }),
    agentFactory: httpAgentFactoryFromOptions({ keepAlive: true }),
    ...{ timeoutMillis: langfuseTimeoutMs, concurrencyLimit: 8, compression: "none" },
  });
}

function createHttpExporter(options: Parameters<typeof createOtlpHttpExportDelegate>[0]): SpanExporter {
  const ofMetrics = [httpExporter, counting, undefined] as const;
  return new OTLPExporterBase(createOtlpHttpExportDelegate(options, serializer, ...ofMetrics));
}
