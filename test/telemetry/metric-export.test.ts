import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { systemClock } from "../../src/clock.ts";
import { startMetricExport } from "../../src/telemetry/metric-export.ts";
import { Histogram } from "../../src/telemetry/metric-family.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";

/** Takes OTLP over HTTP and keeps what was sent. */
class MetricCollector {
  readonly bodies: Buffer[] = [];
  readonly paths: string[] = [];
  readonly headers: Record<string, unknown>[] = [];
  status = 200;
  readonly #server: Server = createServer(async (req, res) => {
    const pieces: Buffer[] = [];
    for await (const piece of req) pieces.push(piece as Buffer);
    this.bodies.push(Buffer.concat(pieces));
    this.paths.push(req.url ?? "");
    this.headers.push(req.headers);
    res.writeHead(this.status).end();
  });

  async open(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

/** A message's fields by number; those of the wire types that are no bytes as numbers. */
function fieldsOf(bytes: Uint8Array): Map<number, (Uint8Array | number)[]> {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, (Uint8Array | number)[]>();
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    const value =
      type === 2
        ? reader.bytes()
        : type === 1
          ? reader.double()
          : type === 5
            ? reader.fixed32()
            : Number(reader.uint64());
    fields.set(field, [...(fields.get(field) ?? []), value]);
  }
  return fields;
}

const child = (bytes: Uint8Array, field: number) => (fieldsOf(bytes).get(field) ?? []) as Uint8Array[];
const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString();

/** Metrics of an ExportMetricsServiceRequest (opentelemetry/proto/metrics/v1/metrics.proto), by name. */
function metricsIn(body: Uint8Array): Map<string, Uint8Array> {
  const scopes = child(body, 1).flatMap((resourceMetrics) => child(resourceMetrics, 2));
  return new Map(scopes.flatMap((scope) => child(scope, 2)).map((metric) => [text(child(metric, 1)[0]), metric]));
}

describe("metrics by OTLP", () => {
  const collector = new MetricCollector();
  let url = "";
  before(async () => {
    url = await collector.open();
    // The exporter itself reads the process's environment.
    process.env.OTEL_EXPORTER_OTLP_ENDPOINT = url;
    process.env.OTEL_EXPORTER_OTLP_HEADERS = "x-tenant=blue";
  });
  after(async () => {
    await collector.close();
    delete process.env.OTEL_EXPORTER_OTLP_ENDPOINT;
    delete process.env.OTEL_EXPORTER_OTLP_HEADERS;
  });

  function start(env: Readonly<Record<string, string>>, warnings: string[] = []) {
    const metrics = new Metrics();
    const histogram = new Histogram([0.1, 1]);
    for (const value of [0.05, 0.5, 5]) histogram.observe(value);
    metrics.counters("tollgate_things_total", "Things.", "kind", () => ({ big: 3 }));
    metrics.gauge("tollgate_level", "A level.", () => 7);
    metrics.add({
      ...{ name: "tollgate_time_seconds", help: "A time.", type: "histogram" },
      read: () => [{ labels: { model: "m" }, histogram }],
    });
    const resource = { "service.name": "tollgate", "service.instance.id": "pod-1" };
    return startMetricExport({ metrics, env, resource, clock: systemClock, warn: (warning) => warnings.push(warning) });
  }

  async function received(count: number): Promise<void> {
    for (let tries = 0; collector.bodies.length < count && tries < 200; tries++)
      await new Promise((resolve) => setTimeout(resolve, 25));
    assert.ok(collector.bodies.length >= count, `${collector.bodies.length} of ${count}`);
  }

  test("go to the collector again and again, and once more at the end", async () => {
    const pushed = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_METRIC_EXPORT_INTERVAL: "50" });
    await received(2);
    await pushed?.close();
    const sent = collector.bodies.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(collector.bodies.length, sent);
    assert.equal(collector.paths[0], "/v1/metrics");
    assert.equal(collector.headers[0]?.["content-type"], "application/x-protobuf");
    assert.equal(collector.headers[0]?.["x-tenant"], "blue");
    const body = collector.bodies.at(-1) ?? Buffer.alloc(0);
    assert.match(text(child(child(body, 1)[0] ?? Buffer.alloc(0), 1)[0]), /pod-1/);
    const metrics = metricsIn(body);
    assert.deepEqual([...metrics.keys()], ["tollgate_things_total", "tollgate_level", "tollgate_time_seconds"]);
    const [sum] = child(metrics.get("tollgate_things_total") ?? Buffer.alloc(0), 7);
    assert.ok(sum);
    // Cumulative, and only growing.
    assert.deepEqual([fieldsOf(sum).get(2), fieldsOf(sum).get(3)], [[2], [1]]);
    const [point] = child(sum, 1);
    assert.ok(point);
    assert.deepEqual(fieldsOf(point).get(4), [3]);
    assert.match(text(child(point, 7)[0]), /kind.*big/s);
    const [gauge] = child(metrics.get("tollgate_level") ?? Buffer.alloc(0), 5);
    assert.deepEqual(fieldsOf(child(gauge ?? Buffer.alloc(0), 1)[0] ?? Buffer.alloc(0)).get(4), [7]);
    const [histogram] = child(metrics.get("tollgate_time_seconds") ?? Buffer.alloc(0), 9);
    const fields = fieldsOf(child(histogram ?? Buffer.alloc(0), 1)[0] ?? Buffer.alloc(0));
    assert.deepEqual(fields.get(5), [5.55]);
  });

  test("are not pushed where nobody asked for it, or somebody asked for none", async () => {
    assert.equal(await start({}), undefined);
    const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: url };
    assert.equal(await start({ ...endpoint, OTEL_METRICS_EXPORTER: "none" }), undefined);
    assert.equal(await start({ ...endpoint, OTEL_SDK_DISABLED: "true" }), undefined);
    const warnings: string[] = [];
    assert.equal(await start({ ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, warnings), undefined);
    assert.match(warnings.join(), /http\/protobuf, not by grpc/);
  });

  test("that are not taken are complained of once, and the next are sent all the same", async () => {
    const warnings: string[] = [];
    collector.status = 400;
    const sent = collector.bodies.length;
    const pushed = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_METRIC_EXPORT_INTERVAL: "20" }, warnings);
    await received(sent + 3);
    collector.status = 200;
    await pushed?.close();
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? "", /cannot be pushed/);
  });
});
