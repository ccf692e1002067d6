import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { pino } from "pino";
import { systemClock } from "../../src/clock.ts";
import { GatewayError, ProviderFailure } from "../../src/errors.ts";
import { CallCells } from "../../src/telemetry/call-cells.ts";
import { LiveTelemetry } from "../../src/telemetry/live.ts";
import type { AttemptFacts, CallOrigin } from "../../src/telemetry/telemetry.ts";
import { createTracing, type Tracing } from "../../src/telemetry/tracing.ts";
import { Collector } from "../collector.ts";
import { sampleRequest } from "../sample-call.ts";

const origin: CallOrigin = {
  requestId: "request-1",
  door: "openai",
  route: "/v1/chat/completions",
  traceparent: undefined,
  tracestate: undefined,
  tags: [],
};
const request = sampleRequest({ stream: true });
const attemptFacts: AttemptFacts = {
  number: 1,
  request,
  provider: "openai",
  deploymentId: "d1",
  modelGroup: "gpt",
  model: "gpt-4o",
  apiBase: "https://api.example.com/v1",
  leaseId: "lease-1",
};
const usage = {
  inputTokens: 10,
  outputTokens: 7,
  cacheReadInputTokens: 3,
  cacheWriteInputTokens: 0,
  reasoningOutputTokens: 0,
  estimated: false,
};
const ended = { usage, cost: 24_000n, responseId: "up-1", error: undefined };
const traceId = "0af7651916cd43dd8448eb211c80319c";
const traceparent = `00-${traceId}-b7ad6b7169203331-01`;

/** Telemetry whose log lines are kept. */
function telemetryWith(parts: { tracing?: Tracing; forwardTraceparent?: boolean; level?: string }) {
  const lines: string[] = [];
  const telemetry = new LiveTelemetry({
    tracing: parts.tracing,
    cells: new CallCells(),
    logger: pino({ level: parts.level ?? "info" }, { write: (line: string) => void lines.push(line) }),
    clock: systemClock,
    forwardTraceparent: parts.forwardTraceparent ?? false,
  });
  return { telemetry, lines };
}

describe("spans", () => {
  let collector: Collector;
  let tracing: Tracing;
  before(async () => {
    collector = await Collector.start();
    // The exporter itself reads the process's environment.
    process.env.OTEL_EXPORTER_OTLP_ENDPOINT = collector.url;
    process.env.OTEL_RESOURCE_ATTRIBUTES = "team=blue";
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "20" };
    const created = await createTracing({
      env,
      clock: systemClock,
      resource: { "service.name": "tollgate" },
      warn: (message) => assert.fail(message),
    });
    assert.ok(created);
    tracing = created;
  });
  after(async () => {
    await tracing.close();
    await collector.close();
    delete process.env.OTEL_EXPORTER_OTLP_ENDPOINT;
    delete process.env.OTEL_RESOURCE_ATTRIBUTES;
  });

  test("a call is a SERVER span below the caller's, and each attempt a CLIENT span below that", async () => {
    const { telemetry } = telemetryWith({ tracing });
    const call = telemetry.startCall(request, { ...origin, traceparent });
    assert.equal(call.traceId, traceId);
    call.identify({ keyId: "key_1", teamId: "team_1" });
    call.identify({ modelGroup: "gpt" });
    const first = call.attempt(attemptFacts);
    first.end({ usage: undefined, cost: 0n, responseId: undefined, error: "provider_unavailable" });
    const second = call.attempt({ ...attemptFacts, number: 2, apiBase: "http://10.0.0.7:8000/v1" });
    assert.equal(second.traceparent, undefined, "providers are told nothing unless configured");
    second.firstOutput();
    second.end(ended);
    call.end(undefined);
    const spans = await collector.trace(traceId, 3);
    assert.equal(spans.length, 3);
    const server = spans.find(({ kind }) => kind === "SERVER");
    assert.equal(server?.parentId, "b7ad6b7169203331");
    assert.equal(server?.name, "POST /v1/chat/completions");
    assert.equal(server?.attributes["tollgate.key.id"], "key_1");
    assert.equal(server?.attributes["tollgate.team"], "team_1");
    assert.equal(server?.attributes["tollgate.model.alias"], "gpt");
    assert.equal(server?.isError, false);
    assert.equal(server?.resource["service.name"], "tollgate");
    assert.equal(server?.resource.team, "blue");
    const [failed, answered] = spans
      .filter(({ kind }) => kind === "CLIENT")
      .sort((a, b) => Number(a.attributes["tollgate.attempt"]) - Number(b.attributes["tollgate.attempt"]));
    assert.equal(failed?.parentId, server?.spanId);
    assert.equal(failed?.isError, true);
    assert.equal(failed?.attributes["error.type"], "provider_unavailable");
    assert.equal(failed?.attributes["server.address"], "api.example.com");
    assert.equal(failed?.attributes["server.port"], 443);
    assert.equal(answered?.parentId, server?.spanId);
    assert.equal(answered?.name, "chat gpt-4o");
    assert.equal(answered?.attributes["server.port"], 8000);
    assert.equal(answered?.attributes["gen_ai.usage.input_tokens"], 10);
    assert.equal(answered?.attributes["gen_ai.usage.cost"], 0.000024);
    assert.equal(answered?.attributes["gen_ai.response.id"], "up-1");
    assert.equal(answered?.attributes["tollgate.usage.estimated"], false);
  });

  test("without a caller's context, or with a broken one, a call is a root", async () => {
    for (const broken of [undefined, "nonsense", `00-${"0".repeat(32)}-b7ad6b7169203331-01`]) {
      const call = telemetryWith({ tracing }).telemetry.startCall(request, { ...origin, traceparent: broken });
      call.end(new GatewayError("invalid_api_key", "No."));
      assert.match(call.traceId, /^[0-9a-f]{32}$/);
      const [span] = await collector.trace(call.traceId, 1);
      assert.equal(span?.parentId, "");
      assert.equal(span?.isError, false, "a caller's mistake is no error of this service");
      assert.equal(span?.attributes["error.type"], "invalid_api_key");
    }
  });

  test("a caller that does not want its trace sampled gets no spans", async () => {
    const unwanted = "1".repeat(32);
    const { telemetry } = telemetryWith({ tracing });
    const call = telemetry.startCall(request, { ...origin, traceparent: `00-${unwanted}-b7ad6b7169203331-00` });
    call.attempt(attemptFacts).end(ended);
    call.end(undefined);
    const marker = telemetry.startCall(request, origin);
    marker.end(undefined);
    await collector.trace(marker.traceId, 1);
    assert.equal(collector.spans.filter((span) => span.traceId === unwanted).length, 0);
  });

  test("providers are sent the attempt's own context when that is configured", async () => {
    const { telemetry } = telemetryWith({ tracing, forwardTraceparent: true });
    const call = telemetry.startCall(request, origin);
    const attempt = call.attempt(attemptFacts);
    attempt.end(ended);
    call.end(undefined);
    const spans = await collector.trace(call.traceId, 2);
    const client = spans.find(({ kind }) => kind === "CLIENT");
    assert.equal(attempt.traceparent, `00-${call.traceId}-${client?.spanId}-01`);
  });

  test("by gRPC they come as well", async () => {
    process.env.OTEL_EXPORTER_OTLP_ENDPOINT = collector.grpcUrl;
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.grpcUrl, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" };
    const byGrpc = await createTracing({ env, clock: systemClock, resource: {}, warn: assert.fail });
    assert.ok(byGrpc);
    const call = telemetryWith({ tracing: byGrpc }).telemetry.startCall(request, origin);
    call.end(undefined);
    await byGrpc.close();
    const spans = await collector.trace(call.traceId, 1);
    assert.deepEqual(
      spans.map(({ via, kind }) => [via, kind]),
      [["grpc", "SERVER"]],
    );
  });

  test("an export that fails is told", async () => {
    const told: string[] = [];
    process.env.OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:1";
    process.env.OTEL_EXPORTER_OTLP_TIMEOUT = "200";
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_BSP_SCHEDULE_DELAY: "10",
    };
    const lost = await createTracing({
      env,
      clock: systemClock,
      resource: {},
      warn: (message) => void told.push(message),
    });
    assert.match(told[0] ?? "", /is "http\/json": spans are exported by http\/protobuf/);
    telemetryWith(lost === undefined ? {} : { tracing: lost })
      .telemetry.startCall(request, origin)
      .end(undefined);
    for (let tries = 0; told.length < 2 && tries < 100; tries++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    await lost?.close();
    delete process.env.OTEL_EXPORTER_OTLP_TIMEOUT;
    assert.match(told[1] ?? "", /ECONNREFUSED/);
  });
});

describe("without an endpoint", () => {
  test("nothing is traced, whatever switches it off", async () => {
    const set = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" };
    for (const env of [
      {},
      { OTEL_EXPORTER_OTLP_ENDPOINT: "" },
      { ...set, OTEL_SDK_DISABLED: "true" },
      { ...set, OTEL_TRACES_EXPORTER: "none" },
    ]) {
      assert.equal(await createTracing({ env, clock: systemClock, resource: {}, warn: assert.fail }), undefined);
    }
  });

  test("the SDK is not even loaded", () => {
    const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
    const program = `
      import { registerHooks } from "node:module";
      const loaded = [];
      registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
      await import(${url("../../src/telemetry/live.ts")});
      const { createTracing } = await import(${url("../../src/telemetry/tracing.ts")});
      await createTracing({ env: {}, resource: {}, clock: {}, warn: () => {} });
      console.log(loaded.join("\\n"));`;
    const args = ["--input-type=module", "--eval", program];
    const loaded = execFileSync(process.execPath, args, { encoding: "utf8", cwd: import.meta.dirname });
    assert.match(loaded, /@opentelemetry\/api\//);
    assert.doesNotMatch(loaded, /@opentelemetry\/(sdk-trace|exporter|otlp|resources)/);
  });

  test("a call keeps its caller's trace id, for the books", () => {
    const { telemetry } = telemetryWith({ forwardTraceparent: true });
    assert.equal(telemetry.startCall(request, origin).traceId, "");
    const call = telemetry.startCall(request, { ...origin, traceparent });
    assert.equal(call.traceId, traceId);
    assert.equal(call.attempt(attemptFacts).traceparent, traceparent);
  });
});

describe("log lines", () => {
  test("are written of our failures and the provider's, with causes and without credentials", () => {
    const { telemetry, lines } = telemetryWith({});
    const call = telemetry.startCall(request, origin);
    call.identify({ keyId: "key_1" });
    const cause = new Error("refused sk-live-abcdef123456");
    call.end(new ProviderFailure("provider_unavailable", "Down.", { billable: false, cause }));
    assert.equal(lines.length, 1);
    const line = JSON.parse(lines[0] ?? "");
    assert.equal(line.code, "provider_unavailable");
    assert.equal(line.requestId, "request-1");
    assert.equal(line.keyId, "key_1");
    assert.equal(line.cause, "Down. <- refused [secret]");
  });

  test("of a bug have its stack", () => {
    const { telemetry, lines } = telemetryWith({});
    telemetry.startCall(request, origin).end(GatewayError.from(new TypeError("x is not a function")));
    assert.match(JSON.parse(lines[0] ?? "").cause, /x is not a function.*live\.test\.ts/s);
  });

  test("name the model that was asked for where it leads to none that is there", () => {
    const { telemetry, lines } = telemetryWith({});
    const known = telemetry.startCall(request, origin);
    known.identify({ modelGroup: "gpt" });
    known.end(undefined);
    for (const model of ["gtp", "x".repeat(5_000), "sk-live-abcdef123456"])
      telemetry.startCall({ ...request, model }, origin).end(new GatewayError("model_not_found", "No such model."));
    const named = lines.map((line) => JSON.parse(line)).map(({ model, requestedModel }) => model ?? requestedModel);
    assert.deepEqual(named, ["gpt", "gtp", "x".repeat(100), "[secret]"]);
    assert.equal("requestedModel" in JSON.parse(lines[0] ?? ""), false);
  });

  test("are one for each call, and never quote what a provider said about the prompt", () => {
    const said = new GatewayError("provider_rejected", 'Bad word in "my secret prompt"');
    const quiet = telemetryWith({ level: "warn" });
    quiet.telemetry.startCall(request, origin).end(said);
    quiet.telemetry.startCall(request, origin).end(undefined);
    assert.deepEqual(quiet.lines, []);
    const loud = telemetryWith({});
    loud.telemetry.startCall(request, origin).end(said);
    loud.telemetry.startCall(request, origin).end(undefined);
    assert.equal(loud.lines.length, 2);
    assert.doesNotMatch(loud.lines.join(), /secret prompt/);
  });
});
