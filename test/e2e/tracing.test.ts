import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { TracerProvider } from "@opentelemetry/sdk-trace";
import { Redis } from "ioredis";
import OpenAI from "openai";
import { createCompletionClient, Role } from "../../src/client.ts";
import { Collector, type ExportedSpan } from "../collector.ts";
import { testRedis } from "../redis.ts";
import { ResponsesServer } from "../responses-server.ts";
import { type Script, sendJson, Upstream } from "../upstream.ts";
import { masterKey, Stack } from "./stack.ts";

const canary = "canary-4711-what-was-asked";
const answerCanary = "canary-4712-what-was-answered";
const upstreamKey = "sk-upstream-canary-4713";
const langfuseKeys = { LANGFUSE_PUBLIC_KEY: "pk-lf-4714", LANGFUSE_SECRET_KEY: "sk-lf-canary-4715" };
const planted = [
  upstreamKey,
  masterKey,
  langfuseKeys.LANGFUSE_SECRET_KEY,
  "runtime-token-of-the-tests",
  "pepper-of-the-tests",
];

const models = (base: string) => `
  - model_name: pair
    litellm_params: { model: openai/down, api_base: "http://127.0.0.1:1/v1", api_key: ${upstreamKey}, order: 1,
      input_cost_per_token: 0.000001, output_cost_per_token: 0.000002 }
  - model_name: pair
    litellm_params: { model: openai/teller, api_base: "${base}", api_key: ${upstreamKey}, order: 2,
      input_cost_per_token: 0.000001, output_cost_per_token: 0.000002 }
  - model_name: teller
    litellm_params: { model: azure_ai/teller, api_base: "${base}", api_key: ${upstreamKey},
      input_cost_per_token: 0.000001, output_cost_per_token: 0.000002, cache_read_input_token_cost: 0.0000005 }
  - model_name: quoter
    litellm_params: { model: openai/quoter, api_base: "${base}", api_key: ${upstreamKey},
      input_cost_per_token: 0.000001, output_cost_per_token: 0.000002 }
  - model_name: responder
    litellm_params: { model: openai/responder, api_base: "${base}", api_key: ${upstreamKey},
      input_cost_per_token: 0.000001, output_cost_per_token: 0.000002 }
  - model_name: embedder
    litellm_params: { model: openai/embedder, api_base: "${base}", api_key: ${upstreamKey}, input_cost_per_token: 0.000001 }
    model_info: { mode: embedding }`;

const usage = {
  ...{ prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 },
  ...{ prompt_tokens_details: { cached_tokens: 40 }, completion_tokens_details: { reasoning_tokens: 5 } },
};

/** Answers with a tool's call if it is given tools, and with a text else; whole, or as a stream. */
const teller: Script = (call, res) => {
  const body = JSON.parse(call.body);
  const calls = [{ index: 0, id: "call_1", type: "function", function: { name: "look", arguments: '{"at":"sky"}' } }];
  const said = body.tools === undefined ? { content: answerCanary } : { content: null, tool_calls: calls };
  const reason = body.tools === undefined ? "stop" : "tool_calls";
  const head = { id: "chatcmpl-told", created: 1, model: "teller-2026" };
  const message = { role: "assistant", ...said };
  if (body.stream !== true) {
    return sendJson(res, 200, { ...head, choices: [{ index: 0, message, finish_reason: reason }], usage });
  }
  res.writeHead(200, { "content-type": "text/event-stream" });
  const chunk = (fields: object) =>
    res.write(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", ...fields })}\n\n`);
  chunk({ choices: [{ index: 0, delta: message, finish_reason: null }] });
  chunk({ choices: [{ index: 0, delta: {}, finish_reason: reason }] });
  chunk({ choices: [], usage });
  res.end("data: [DONE]\n\n");
};

/** The same by OpenAI's responses. */
const responder = new ResponsesServer({
  name: "told",
  saying: ({ body }) => [
    { type: "reasoning", summary: "It wants to know." },
    body.tools === undefined
      ? { type: "message", text: answerCanary }
      : { type: "function_call", name: "look", arguments: '{"at":"sky"}', call_id: "call_1" },
  ],
  usage: { input_tokens: 100, output_tokens: 20, total_tokens: 120 },
});

/** One pod tells a collector by HTTP and hides what is said; the other tells another by gRPC, and may tell what is said. */
describe("what a real mixed run leaves behind", () => {
  const app = new TracerProvider({}).getTracer("app");
  const reports = mkdtempSync(join(tmpdir(), "tollgate-reports-"));
  let redis: Awaited<ReturnType<typeof testRedis>>;
  let collectors: readonly [Collector, Collector];
  let langfuses: readonly [Collector, Collector];
  let upstream: Upstream;
  let stack: Stack;
  let key: string;
  let shyKey: string;
  const errorBodies: string[] = [];
  before(async () => {
    collectors = [await Collector.start(), await Collector.start()];
    langfuses = [await Collector.start(), await Collector.start()];
    upstream = await Upstream.start();
    upstream.scripts.set("teller", teller);
    upstream.responses = responder;
    upstream.scripts.set("quoter", (call, res) =>
      sendJson(res, 500, {
        error: { message: `Cannot read ${JSON.parse(call.body).messages[0].content} by ${upstreamKey}` },
      }),
    );
    upstream.scripts.set("embedder", (_call, res) =>
      sendJson(res, 200, { object: "list", model: "embedder", data: [], usage: { prompt_tokens: 8, total_tokens: 8 } }),
    );
    redis = await testRedis();
    stack = await Stack.start({
      ...{ sidecars: 2, retries: 1, models: models(upstream.baseUrl) },
      config: `litellm_settings:
  success_callback: [langfuse]
  failure_callback: [langfuse]
  cache: true
  cache_params: { type: redis, host: ${redis.host}, port: ${redis.port}, ttl: 600, mode: default_off }
`,
      redis: `  redis_host: ${redis.host}\n  redis_port: ${redis.port}\n  redis_db: ${redis.db}`,
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: collectors[0].url,
        OTEL_EXPORTER_OTLP_HEADERS: "x-collector-key=of-the-collector-alone",
        OTEL_BSP_SCHEDULE_DELAY: "50",
        NODE_OPTIONS: `--report-on-signal --report-directory=${reports}`,
        ...langfuseKeys,
      },
      sidecarEnv: (index) => ({
        LANGFUSE_HOST: langfuses[index]?.url ?? "",
        ...(index === 1 && {
          OTEL_EXPORTER_OTLP_ENDPOINT: collectors[1].grpcUrl,
          OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
          OTEL_SEMCONV_STABILITY_OPT_IN: "gen_ai_latest_experimental",
          OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: "SPAN_ONLY",
        }),
      }),
    });
    key = await stack.generateKey({ max_budget: 1, rpm_limit: 1_000, key_alias: "mixed" });
    shyKey = await stack.generateKey({ max_budget: 1, turn_off_message_logging: true });
  });
  after(async () => {
    await stack.close();
    await upstream.close();
    for (const each of [...collectors, ...langfuses]) await each.close();
    rmSync(reports, { recursive: true, force: true });
  });

  const headersOf = (pod: number, apiKey = key) => ({ url: stack.sidecars[pod]?.url ?? "", apiKey });

  /** Asks from inside a span of an app's own. @returns that span's ids, and what the pod has made of it, once there are `count` spans. */
  async function traced(pod: number, count: number, ask: (headers: Record<string, string>) => Promise<unknown>) {
    const own = app.startSpan("the app's own work");
    const headers: Record<string, string> = { baggage: "user.id=nobody-else-may-know" };
    new W3CTraceContextPropagator().inject(trace.setSpan(ROOT_CONTEXT, own), headers, {
      set: (carrier, name, value) => void Object.assign(carrier as object, { [name]: value }),
    });
    const answer = await ask(headers).catch((error: unknown) => {
      errorBodies.push(JSON.stringify(error) + String(error));
      return error;
    });
    own.end();
    const { traceId, spanId } = own.spanContext();
    const spans = await (collectors[pod] ?? collectors[0]).wait(
      count,
      (span) => span.traceId === traceId && ofPod(span),
      // The first call of a key asks for more: its spans may be in one export, the call's own in the next.
      ({ kind }) => kind === "SERVER",
    );
    const server = spans.find(({ kind }) => kind === "SERVER");
    assert.equal(server?.parentId, spanId, "the app's own span is the parent");
    assert.equal(
      spans.filter(({ attributes }) => "gen_ai.usage.cost" in attributes).every(({ kind }) => kind === "CLIENT"),
      true,
    );
    return { answer, traceId, server, spans };
  }

  const ofPod = ({ resource }: ExportedSpan) => resource["service.name"] === "tollgate";

  const chat =
    (pod: number, model: string, fields: object = {}, apiKey = key) =>
    (headers: Record<string, string>) => {
      const { url } = headersOf(pod);
      const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
      const body = { model, messages: [{ role: "user" as const, content: canary }], ...fields };
      return client.chat.completions.create(body, { headers });
    };

  /** The spans of a call in the order they began, each with its place: "SERVER", "tollgate.authorize", "chat teller". */
  const shape = (spans: readonly ExportedSpan[]) =>
    spans
      .filter(({ name }) => !/EVALSHA|KeyService|^GET$/.test(name))
      .toSorted((a, b) => Number(a.startNs - b.startNs))
      .map(({ kind, name }) => (kind === "SERVER" ? "SERVER" : name));

  test("a chat is a SERVER span with its authorization, its attempt and its booking below it", async () => {
    const { answer, server, spans } = await traced(0, 6, chat(0, "teller"));
    assert.deepEqual(shape(spans), ["SERVER", "tollgate.authorize", "chat teller", "tollgate.settle"]);
    const [authorize, attempt, settle] = ["tollgate.authorize", "chat teller", "tollgate.settle"].map((name) =>
      spans.find((span) => span.name === name),
    );
    for (const span of [authorize, attempt, settle]) assert.equal(span?.parentId, server?.spanId);
    assert.deepEqual(settle?.links, [attempt?.spanId]);
    assert.equal(server?.name, "POST /v1/chat/completions");
    const { attributes } = server ?? { attributes: {} };
    assert.equal(attributes["http.response.status_code"], 200);
    assert.equal(attributes["tollgate.model.alias"], "teller");
    assert.match(String(attributes["tollgate.key.id"]), /^key_/);
    assert.match(String(attributes["tollgate.call.id"]), /^[0-9a-f-]{36}$/);
    const { "tollgate.deployment.id": _, "tollgate.lease.id": lease, ...told } = attempt?.attributes ?? {};
    assert.match(String(lease), /^[0-9a-f-]{36}$/);
    const port = Number(new URL(upstream.baseUrl).port);
    assert.deepEqual(told, {
      ...{ "gen_ai.operation.name": "chat", "gen_ai.provider.name": "azure.ai.inference" },
      ...{ "gen_ai.request.model": "teller", "gen_ai.request.stream": false },
      ...{ "gen_ai.response.id": "chatcmpl-told", "gen_ai.response.model": "teller-2026" },
      ...{ "gen_ai.response.finish_reasons": ["stop"], "server.address": "127.0.0.1", "server.port": port },
      ...{ "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20 },
      ...{ "gen_ai.usage.cache_read.input_tokens": 40, "gen_ai.usage.reasoning.output_tokens": 5 },
      // 60 at $1, 40 at $0.5 and 20 at $2 a million.
      ...{ "gen_ai.usage.cost": 0.00012, "tollgate.usage.estimated": false, "tollgate.attempt": 1 },
    });
    assert.ok((answer as OpenAI.ChatCompletion).id);
    const { headers = {} } = upstream.calls.at(-1) ?? {};
    for (const name of ["traceparent", "tracestate", "baggage"]) assert.equal(name in headers, false, name);
  });

  test("what the KeyService, its database and Redis were asked for a call is below its authorization", async () => {
    const fresh = await stack.generateKey({ rpm_limit: 1_000, max_budget: 1 });
    const { traceId, spans } = await traced(0, 6, chat(0, "teller", {}, fresh));
    const authorize = spans.find(({ name }) => name === "tollgate.authorize");
    const below = (span: ExportedSpan | undefined, among: readonly ExportedSpan[]) =>
      among.filter(({ parentId }) => parentId === span?.spanId);
    const asked = below(authorize, spans);
    // A lease that is nearly used up is renewed beside the call: then there are two.
    assert.deepEqual([...new Set(asked.map(({ name, kind }) => `${kind} ${name}`))].sort(), [
      "CLIENT EVALSHA",
      "CLIENT tollgate.keys.v1.KeyService/AcquireLease",
      "CLIENT tollgate.keys.v1.KeyService/ResolveKey",
    ]);
    const all = await collectors[0].trace(traceId, 12);
    const resolve = asked.find(({ name }) => name.endsWith("ResolveKey"));
    const [served] = below(resolve, all);
    assert.deepEqual([served?.kind, served?.resource["service.name"]], ["SERVER", "tollgate-keyservice"]);
    const [query] = below(served, all);
    assert.deepEqual([query?.name, query?.attributes["db.system.name"]], ["SELECT", "postgresql"]);
    const [lent] = below(
      asked.find(({ name }) => name.endsWith("AcquireLease")),
      all,
    );
    // The first lease of a period makes the period: that is taken back and done anew, and nothing has failed.
    const transactions = below(lent, all).filter(({ name }) => name === "transaction");
    assert.ok(transactions.some(({ attributes }) => attributes["tollgate.db.taken_back"] === true));
    assert.deepEqual(
      all.filter(({ isError }) => isError).map(({ name }) => name),
      [],
    );
  });

  test("a stream tells when its first output came, and streams by their ends", async () => {
    const { spans } = await traced(0, 5, async (headers) => {
      const stream = (await chat(0, "teller", { stream: true, temperature: 0.5, max_tokens: 50 })(
        headers,
      )) as unknown as AsyncIterable<unknown>;
      for await (const _ of stream);
    });
    const attempt = spans.find(({ name }) => name === "chat teller");
    assert.ok(Number(attempt?.attributes["gen_ai.response.time_to_first_chunk"]) > 0);
    assert.equal(attempt?.attributes["gen_ai.request.temperature"], 0.5);
    assert.equal(attempt?.attributes["gen_ai.request.max_tokens"], 50);
    assert.deepEqual(attempt?.attributes["gen_ai.response.finish_reasons"], ["stop"]);
    assert.equal(attempt?.attributes["gen_ai.response.model"], "teller-2026");
  });

  test("each attempt is a CLIENT span of its own, the one that failed without usage", async () => {
    const { spans, server } = await traced(0, 7, chat(0, "pair"));
    const attempts = spans
      .filter(({ name }) => name.startsWith("chat "))
      .toSorted((a, b) => Number(a.startNs - b.startNs));
    assert.deepEqual(
      attempts.map(({ attributes, isError }) => [attributes["tollgate.attempt"], attributes["error.type"], isError]),
      [
        [1, "provider_unavailable", true],
        [2, undefined, false],
      ],
    );
    assert.deepEqual(attempts[0]?.attributes["gen_ai.response.finish_reasons"], ["error"]);
    assert.equal(server?.attributes["tollgate.attempts"], 2);
    assert.equal(server?.isError, false);
  });

  test("an answer given again has no attempt, and its look into Redis is there", async () => {
    const fields = { cache: { "use-cache": true }, seed: 7 };
    await traced(0, 6, chat(0, "teller", fields));
    const { spans, server } = await traced(0, 4, chat(0, "teller", fields));
    assert.deepEqual(shape(spans), ["SERVER", "tollgate.authorize", "tollgate.cache"]);
    assert.equal(server?.attributes["tollgate.cache.hit"], true);
    const lookUp = spans.find(({ name }) => name === "tollgate.cache");
    assert.equal(spans.find(({ name }) => name === "GET")?.parentId, lookUp?.spanId);
  });

  test("a refused call is no error of this service; one that a provider failed is", async () => {
    const refused = await traced(0, 2, chat(0, "nobody-has-this"));
    assert.deepEqual(shape(refused.spans), ["SERVER", "tollgate.authorize"]);
    assert.deepEqual([refused.server?.attributes["error.type"], refused.server?.isError], ["model_not_found", false]);
    assert.equal(refused.server?.attributes["http.response.status_code"], 404);
    const stranger = await traced(0, 2, chat(0, "teller", {}, "sk-nobody-knows-this-key"));
    assert.equal(stranger.server?.attributes["error.type"], "invalid_api_key");
    const failed = await traced(0, 7, chat(0, "quoter"));
    assert.deepEqual([failed.server?.attributes["error.type"], failed.server?.isError], ["provider_error", true]);
  });

  test("tools, messages, embeddings and gRPC leave the same", async () => {
    const tools = [{ type: "function", function: { name: "look", parameters: { type: "object" } } }];
    const called = await traced(0, 5, chat(0, "teller", { tools }));
    const reasons = called.spans.find(({ name }) => name === "chat teller")?.attributes[
      "gen_ai.response.finish_reasons"
    ];
    assert.deepEqual(reasons, ["tool_calls"]);
    const { url, apiKey } = headersOf(0);
    const anthropic = new Anthropic({ baseURL: url, authToken: apiKey, apiKey: null, maxRetries: 0 });
    const messages = await traced(0, 5, (headers) =>
      anthropic.messages.create(
        { model: "teller", max_tokens: 50, messages: [{ role: "user", content: canary }] },
        { headers },
      ),
    );
    assert.equal(messages.server?.name, "POST /v1/messages");
    assert.deepEqual(shape(messages.spans), ["SERVER", "tollgate.authorize", "chat teller", "tollgate.settle"]);
    const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
    const embedded = await traced(0, 5, (headers) =>
      openai.embeddings.create({ model: "embedder", input: canary }, { headers }),
    );
    assert.deepEqual(shape(embedded.spans), ["SERVER", "tollgate.authorize", "embeddings embedder", "tollgate.settle"]);
    const rpc = createCompletionClient({ baseUrl: url, apiKey, retries: 0 });
    const asked = await traced(0, 5, (headers) =>
      rpc.complete({ chat: { model: "teller", messages: [{ role: Role.USER, text: canary }] } }, { headers }),
    );
    assert.equal(asked.server?.name, "tollgate.completion.v1.CompletionService/Complete");
    assert.equal(asked.server?.attributes["rpc.response.status_code"], "OK");
    assert.deepEqual(shape(asked.spans), ["SERVER", "tollgate.authorize", "chat teller", "tollgate.settle"]);
  });

  test("by gRPC the spans come as well, with what was said where that is allowed, unless a key forbids it", async () => {
    const { spans } = await traced(1, 5, chat(1, "teller", { metadata: { session_id: "s-1" } }));
    assert.ok(spans.every(({ via }) => via === "grpc"));
    const said = spans.find(({ name }) => name === "chat teller")?.attributes ?? {};
    assert.deepEqual(JSON.parse(String(said["gen_ai.input.messages"])), [
      { role: "user", parts: [{ type: "text", content: canary }] },
    ]);
    assert.deepEqual(JSON.parse(String(said["gen_ai.output.messages"])), [
      { role: "assistant", parts: [{ type: "text", content: answerCanary }], finish_reason: "stop" },
    ]);
    assert.equal(said["gen_ai.conversation.id"], "s-1");
    const streamed = await traced(1, 5, async (headers) => {
      const stream = (await chat(1, "teller", { stream: true })(headers)) as unknown as AsyncIterable<unknown>;
      for await (const _ of stream);
    });
    const last = streamed.spans.find(({ name }) => name === "chat teller")?.attributes ?? {};
    assert.match(String(last["gen_ai.output.messages"]), new RegExp(answerCanary));
    const shy = await traced(1, 5, chat(1, "teller", {}, shyKey));
    assert.equal(JSON.stringify(shy.spans.map(({ attributes }) => attributes)).includes(canary), false);
  });

  test("responses that pass as bytes say why they ended, and what was said where that is allowed", async () => {
    const ask =
      (pod: number, fields: object, apiKey = key) =>
      async (headers: Record<string, string>) => {
        const client = new OpenAI({ baseURL: `${headersOf(pod).url}/v1`, apiKey, maxRetries: 0 });
        const body = { model: "responder", input: canary, instructions: "Answer briefly.", ...fields };
        const answer = await client.responses.create(body, { headers });
        if (Symbol.asyncIterator in answer) for await (const _ of answer as AsyncIterable<unknown>);
      };
    const tools = [{ type: "function", name: "look", parameters: { type: "object" }, strict: false }];
    const reasoning = { type: "reasoning", content: "It wants to know." };
    const text = { type: "text", content: answerCanary };
    const call = { type: "tool_call", id: "call_1", name: "look", arguments: { at: "sky" } };
    for (const stream of [false, true]) {
      for (const [fields, reason, part] of [
        [{ stream }, "stop", text],
        [{ stream, tools }, "tool_calls", call],
      ] as const) {
        const { spans, server } = await traced(1, 5, ask(1, fields));
        assert.equal(server?.name, "POST /v1/responses");
        const told = spans.find(({ name }) => name === "chat responder")?.attributes ?? {};
        assert.deepEqual(told["gen_ai.response.finish_reasons"], [reason]);
        assert.equal(told["gen_ai.response.model"], "responder");
        assert.deepEqual(JSON.parse(String(told["gen_ai.input.messages"])), [
          { role: "user", parts: [{ type: "text", content: canary }] },
        ]);
        assert.deepEqual(JSON.parse(String(told["gen_ai.system_instructions"])), [
          { type: "text", content: "Answer briefly." },
        ]);
        assert.deepEqual(JSON.parse(String(told["gen_ai.output.messages"])), [
          { role: "assistant", parts: [reasoning, part], finish_reason: reason },
        ]);
      }
    }
    const shy = await traced(1, 5, ask(1, {}, shyKey));
    assert.equal(JSON.stringify(shy.spans.map(({ attributes }) => attributes)).includes(canary), false);
  });

  test("Langfuse is told of each attempt once, and of calls without one, as it wants to hear it", async () => {
    const [langfuse, open] = langfuses;
    const metadata = { trace_name: "nightly", trace_user_id: "u-1", session_id: "s-2", tags: ["red", "blue"] };
    const { traceId } = await traced(1, 5, chat(1, "teller", { stream: false, metadata, temperature: 0.25 }));
    const [generation, ...others] = await open.trace(traceId, 1);
    assert.deepEqual(others, []);
    const { attributes: told = {} } = generation ?? {};
    assert.equal(told["langfuse.observation.type"], "generation");
    assert.deepEqual(
      ["trace.name", "user.id", "session.id", "trace.tags"].map((name) => told[`langfuse.${name}`]),
      ["nightly", "u-1", "s-2", ["red", "blue"]],
    );
    assert.equal(told["langfuse.trace.metadata.key_alias"], "mixed");
    assert.equal(told["langfuse.observation.model.name"], "teller-2026");
    assert.deepEqual(JSON.parse(String(told["langfuse.observation.model.parameters"])), { temperature: 0.25 });
    assert.deepEqual(JSON.parse(String(told["langfuse.observation.usage_details"])), {
      ...{ input: 60, output: 15, cache_read_input_tokens: 40, output_reasoning_tokens: 5, total: 120 },
    });
    assert.deepEqual(JSON.parse(String(told["langfuse.observation.cost_details"])), { total: 0.00012 });
    assert.match(String(told["langfuse.observation.output"]), new RegExp(answerCanary));
    const { path, headers } = langfuse.requests[0] ?? { path: "", headers: {} };
    assert.equal(path, "/api/public/otel/v1/traces");
    const login = Buffer.from(`${langfuseKeys.LANGFUSE_PUBLIC_KEY}:${langfuseKeys.LANGFUSE_SECRET_KEY}`).toString(
      "base64",
    );
    assert.equal(headers.authorization, `Basic ${login}`);
    assert.equal(headers["x-langfuse-ingestion-version"], "4");
    assert.equal(headers["x-collector-key"], undefined, "what is for the collector is not for Langfuse");
    const levels = langfuse.spans.map(({ attributes }) => attributes["langfuse.observation.status_message"]);
    for (const code of ["model_not_found", "provider_unavailable", "provider_error"])
      assert.ok(levels.includes(code), code);
    const streams = langfuse.spans.filter(({ attributes }) => attributes["gen_ai.request.stream"] === true);
    const starts = streams.map(({ attributes }) => attributes["langfuse.observation.completion_start_time"]);
    assert.ok(starts.length > 0 && starts.every((text) => !Number.isNaN(Date.parse(String(text)))));
    const hits = langfuse.spans.filter(
      ({ attributes }) => attributes["langfuse.observation.metadata.cache_hit"] === true,
    );
    assert.deepEqual(
      hits.map(({ attributes }) => attributes["langfuse.observation.type"]),
      ["span"],
    );
  });

  test("what the attempts' spans cost is what the books say, and so is what Langfuse was told", async () => {
    const isAttempt = (span: ExportedSpan) => "gen_ai.operation.name" in span.attributes;
    const count = collectors.flatMap(({ spans }) => spans.filter(isAttempt)).length;
    const books = "SELECT sum(cost_nanos)::text AS nanos, count(*)::int AS count FROM spend_log WHERE NOT cache_hit";
    let { rows } = await stack.database.query(books);
    for (let tries = 0; rows[0].count < count && tries < 100; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      rows = (await stack.database.query(books)).rows;
    }
    const costOf = ({ attributes }: ExportedSpan) => Math.round(Number(attributes["gen_ai.usage.cost"] ?? 0) * 1e9);
    for (const told of [collectors, langfuses]) {
      const spans = told.flatMap(({ spans }) => spans.filter(isAttempt));
      const nanos = spans.reduce((sum, span) => sum + costOf(span), 0);
      assert.deepEqual([spans.length, nanos], [rows[0].count, Number(rows[0].nanos)]);
      assert.ok(nanos > 0);
    }
  });

  test("no secret is anywhere, and nothing of what was said where that was not asked for", async () => {
    process.kill(stack.sidecars[0]?.process.pid ?? 0, "SIGUSR2");
    for (let tries = 0; readdirSync(reports).length === 0 && tries < 100; tries++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    const redisKeys = new Redis({ host: redis.host, port: redis.port, db: redis.db });
    const keys = await redisKeys.keys("*");
    redisKeys.disconnect();
    assert.ok(keys.length > 0);
    const filesIn = (directory: string) =>
      readdirSync(directory).map((file) => readFileSync(join(directory, file), "latin1"));
    const [quiet, open] = stack.sidecars;
    const metrics = await fetch(`${quiet?.adminUrl}/metrics`);
    const dumps = filesIn(reports);
    assert.match(dumps.join(), /"javascriptStack"/);
    const left = {
      logs: quiet?.process.output ?? "",
      "KeyService's log": stack.keyService.output,
      spans: collectors[0].bytes.toString("latin1"),
      Langfuse: langfuses[0].bytes.toString("latin1"),
      metrics: await metrics.text(),
      errors: errorBodies.join(),
      journal: filesIn(join(quiet?.dataDir ?? "", "journal")).join(),
      "Redis's keys": keys.join(),
      "a crash dump": dumps.join(),
    };
    for (const [where, text] of Object.entries(left)) {
      assert.ok(text.length > 0, where);
      for (const secret of [
        key,
        shyKey,
        ...planted,
        canary,
        answerCanary,
        "nobody-else-may-know",
        "of-the-collector-alone",
      ])
        assert.equal(text.includes(secret), false, `${secret} in ${where}`);
    }
    const told = open?.process.output ?? "";
    for (const secret of [key, ...planted, canary, answerCanary]) assert.equal(told.includes(secret), false, secret);
  });

  test("the log has one line a call, with its ids and what it cost", async () => {
    const lines = (stack.sidecars[0]?.process.output ?? "")
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line))
      .filter(({ msg }) => /^call (answered|refused|failed)$/.test(msg));
    const servers = collectors[0].spans.filter((span) => span.kind === "SERVER" && ofPod(span));
    assert.deepEqual(
      lines.map(({ requestId }) => requestId).sort(),
      servers.map(({ attributes }) => attributes["tollgate.request.id"]).sort(),
    );
    const [line] = lines.filter(({ code, model }) => code === "ok" && model === "teller");
    const span = servers.find(({ attributes }) => attributes["tollgate.request.id"] === line.requestId);
    assert.deepEqual(
      [line.traceId, line.keyId, line.callId, line.costUsd, line.level],
      [span?.traceId, span?.attributes["tollgate.key.id"], span?.attributes["tollgate.call.id"], "0.00012", "info"],
    );
  });
});
