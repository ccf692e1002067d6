import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { GatewayError } from "../../src/errors.ts";
import { completionMethods } from "../../src/front/completion-methods.ts";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "../../src/gen/google/rpc/error_details_pb.ts";
import {
  type ChatSchema,
  CompletionService,
  FinishReason,
  Role,
  StreamCompleteRequestSchema,
} from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import type { ListenOptions } from "../../src/server/listen.ts";
import { errorInfo } from "../../src/server/rpc-error.ts";
import { openPort, readResponse, Wire } from "../server/port.ts";
import { accepted, hello, type Script, ScriptedGateway, settled, start } from "./scripted-gateway.ts";

const chat: MessageInitShape<typeof ChatSchema> = { model: "m", messages: [{ role: Role.USER, text: "hi" }] };
const path = `/${CompletionService.typeName}`;

const transports: [string, (baseUrl: string) => Transport][] = [
  ["Connect over HTTP/1.1", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" })],
  ["Connect over HTTP/2", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2" })],
  ["Connect in binary", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: true })],
  ["gRPC", (baseUrl) => createGrpcTransport({ baseUrl })],
  ["gRPC-Web over HTTP/1.1", (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
];

async function openDoor(t: TestContext, gateway: ScriptedGateway, options: Partial<ListenOptions> = {}) {
  return openPort(t, {
    services: [CompletionService],
    methods: completionMethods(gateway),
    ...options,
  });
}

async function grpcClient(t: TestContext, script?: Script, options: Partial<ListenOptions> = {}) {
  const gateway = new ScriptedGateway(script);
  const port = await openDoor(t, gateway, options);
  return { gateway, port, client: createClient(CompletionService, createGrpcTransport({ baseUrl: port.url })) };
}

for (const [name, transport] of transports) {
  test(`${name}: unary, stream, list of models, and errors with their details`, async (t) => {
    const gateway = new ScriptedGateway(({ model }) =>
      model === "no" ? [new GatewayError("model_not_allowed", "Not: it's 100% off ✓", { metadata: { model } })] : hello,
    );
    const { url, bugs } = await openDoor(t, gateway);
    const client = createClient(CompletionService, transport(url));
    await checkUnary(client);
    await checkStream(client);
    const models = await client.listModels({}, { headers: { authorization: "Bearer sk-1" } });
    assert.deepEqual(
      models.models.map((model) => model.id),
      ["a", "b"],
    );
    const refused = { ...chat, model: "no" };
    for (const call of [
      () => client.complete({ chat: refused }),
      () => drain(client.streamComplete({ chat: refused })),
    ]) {
      const error = await failureOf(call());
      assert.equal(error.code, Code.PermissionDenied);
      assert.equal(error.rawMessage, "Not: it's 100% off ✓");
      assert.deepEqual(reasonOf(error), { reason: "MODEL_NOT_ALLOWED", metadata: { model: "no" } });
      assert.equal(error.metadata.get("x-should-retry"), "false");
      assert.match(error.metadata.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
    }
    assert.deepEqual(bugs, []);
  });
}

async function checkUnary(client: Client<typeof CompletionService>): Promise<void> {
  const headers = new Headers();
  const keep = (value: string, key: string): void => headers.set(key, value);
  const answer = await client.complete(
    { chat },
    {
      headers: { "x-request-id": "my-id.1" },
      onHeader: (received) => received.forEach(keep),
    },
  );
  assert.equal(answer.id, "chatcmpl-1");
  assert.equal(answer.model, "provider-model");
  assert.equal(answer.createTime?.seconds, 1_700_000_000n);
  assert.equal(answer.choices.length, 1);
  assert.equal(answer.choices[0]?.text, "Hello ✓");
  assert.equal(answer.choices[0]?.finishReason, FinishReason.STOP);
  assert.equal(answer.usage?.inputTokens, 11n);
  assert.equal(answer.usage?.reasoningOutputTokens, 1n);
  assert.deepEqual(
    { ...answer.call, $typeName: undefined },
    {
      $typeName: undefined,
      callId: "call-1",
      deploymentId: "deployment-1",
      attempts: 2,
      costUsd: "0.0015",
    },
  );
  assert.equal(headers.get("x-request-id"), "my-id.1");
  assert.equal(headers.get("x-litellm-call-id"), "call-1");
  assert.equal(headers.get("x-litellm-model-id"), "deployment-1");
}

async function checkStream(client: Client<typeof CompletionService>): Promise<void> {
  const headers = new Headers();
  const keep = (value: string, key: string): void => headers.set(key, value);
  const events = await drain(client.streamComplete({ chat }, { onHeader: (received) => received.forEach(keep) }));
  assert.deepEqual(
    events.map(({ event }) => event.case),
    ["started", "delta", "delta", "finished", "ended"],
  );
  const text = events.map(({ event }) => (event.case === "delta" ? event.value.text : "")).join("");
  assert.equal(text, "Hello ✓");
  const ended = events.at(-1)?.event;
  assert.equal(ended?.case === "ended" && ended.value.call?.costUsd, "0.0015");
  assert.equal(headers.get("x-litellm-call-id"), "call-1");
  assert.match(headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
}

async function drain<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of messages) all.push(message);
  return all;
}

async function failureOf(promise: Promise<unknown>): Promise<ConnectError> {
  return promise.then(
    () => assert.fail("succeeded"),
    (error: unknown) => {
      assert.ok(error instanceof ConnectError, String(error));
      return error;
    },
  );
}

function reasonOf(error: ConnectError) {
  const info = errorInfo(error);
  return info && { reason: info.reason, metadata: info.metadata };
}

test("the caller's key, trace, tags and id reach the gateway, from wherever they may stand", async (t) => {
  const { gateway, client } = await grpcClient(t);
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  await client.complete(
    { chat: { ...chat, tags: ["one"], user: "u" } },
    { headers: { authorization: "bearer sk-a", traceparent, tracestate: "k=v", "x-litellm-tags": "two, three," } },
  );
  await client.complete({ chat }, { headers: { "x-api-key": "sk-b", "x-request-id": "not fit" } });
  const [first, second] = gateway.calls;
  assert.equal(first?.caller.token, "sk-a");
  assert.equal(first?.caller.traceparent, traceparent);
  assert.equal(first?.caller.tracestate, "k=v");
  assert.deepEqual(first?.caller.tags, ["two", "three"]);
  assert.deepEqual(first?.request.tags, ["one"]);
  assert.equal(first?.request.endUser, "u");
  assert.equal(first?.caller.route, `${path}/Complete`);
  assert.equal(second?.caller.token, "sk-b");
  assert.match(second?.caller.requestId ?? "", /^[0-9a-f-]{36}$/);
  assert.equal(second?.caller.traceparent, undefined);
});

test("a limit says how long to wait and which quota, in details and in headers", async (t) => {
  const facts = { retryAfterMs: 1500, metadata: { scope: "key", scopeId: "k1" } };
  const { client } = await grpcClient(t, [new GatewayError("rate_limit_exceeded", "Too fast.", facts)]);
  const error = await failureOf(client.complete({ chat }));
  assert.equal(error.code, Code.ResourceExhausted);
  assert.equal(error.findDetails(QuotaFailureSchema)[0]?.violations[0]?.subject, "key:k1");
  assert.equal(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.nanos, 500_000_000);
  assert.equal(error.metadata.get("x-should-retry"), "true");
  assert.equal(error.metadata.get("retry-after"), "2");
  assert.equal(error.metadata.get("retry-after-ms"), "1500");
});

test("a message against the schema's rules is refused with every field at fault", async (t) => {
  const { gateway, client } = await grpcClient(t);
  for (const call of [
    () => client.complete({ chat: { model: "", messages: [] } }),
    () => drain(client.streamComplete({ chat: { model: "", messages: [] } })),
  ]) {
    const error = await failureOf(call());
    assert.equal(error.code, Code.InvalidArgument);
    assert.equal(reasonOf(error)?.reason, "INVALID_REQUEST");
    const fields = error.findDetails(BadRequestSchema)[0]?.fieldViolations.map((violation) => violation.field);
    assert.deepEqual(fields, ["chat.model", "chat.messages"]);
    assert.ok(error.metadata.get("x-request-id"));
  }
  const missing = await failureOf(client.complete({}));
  assert.equal(missing.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field, "chat");
  assert.equal(gateway.calls.length, 0);
});

test("a bug is told to the log and not to the caller", async (t) => {
  const bug = new TypeError("secret detail");
  const { client, port } = await grpcClient(t, [accepted, start, bug]);
  for (const call of [() => client.complete({ chat }), () => drain(client.streamComplete({ chat }))]) {
    const error = await failureOf(call());
    assert.equal(error.code, Code.Internal);
    assert.doesNotMatch(error.message, /secret/);
    assert.equal(reasonOf(error)?.reason, "INTERNAL_ERROR");
  }
  assert.deepEqual(port.bugs, [bug, bug]);
});

test("a stream that breaks in the middle ends with an error status", async (t) => {
  const { client } = await grpcClient(t, [...hello.slice(0, 3), new GatewayError("stream_interrupted", "Cut off.")]);
  const seen: string[] = [];
  const error = await failureOf(
    (async () => {
      for await (const { event } of client.streamComplete({ chat })) seen.push(event.case ?? "");
    })(),
  );
  assert.deepEqual(seen, ["started", "delta"]);
  assert.equal(error.code, Code.Unavailable);
  assert.equal(reasonOf(error)?.reason, "STREAM_INTERRUPTED");
});

for (const [name, transport] of transports) {
  test(`${name}: a deadline aborts the call with its reason`, async (t) => {
    const gateway = new ScriptedGateway([accepted, start, "wait"]);
    const { url } = await openDoor(t, gateway);
    const client = createClient(CompletionService, transport(url));
    const error = await failureOf(client.complete({ chat }, { timeoutMs: 100 }));
    assert.equal(error.code, Code.DeadlineExceeded);
    const call = await gateway.firstCall();
    // Whichever of the two, the deadline and the client that gives up at it, comes first.
    assert.ok(["deadline_exceeded", "client_closed_request"].includes(call.caller.signal.reason.code));
    assert.equal(call.ended, "failed");
  });

  test(`${name}: a caller that goes away ends the call`, async (t) => {
    const gateway = new ScriptedGateway([...hello.slice(0, 3), "wait"]);
    const { url, bugs } = await openDoor(t, gateway);
    const client = createClient(CompletionService, transport(url));
    const gone = new AbortController();
    const error = await failureOf(
      (async () => {
        for await (const { event } of client.streamComplete({ chat }, { signal: gone.signal })) {
          if (event.case === "delta") gone.abort();
        }
      })(),
    );
    assert.equal(error.code, Code.Canceled);
    const call = await gateway.firstCall();
    assert.equal(call.ended, "failed");
    assert.equal(call.caller.signal.reason.code, "client_closed_request");
    assert.deepEqual(bugs, []);
  });
}

test("the server keeps the deadline itself when the client does not", async (t) => {
  const { gateway, port } = await grpcClient(t, [accepted, start, "wait"]);
  const response = await fetch(`${port.url}${path}/Complete`, {
    method: "POST",
    headers: { "content-type": "application/json", "connect-timeout-ms": "50" },
    body: JSON.stringify({ chat: { model: "m", messages: [{ role: "ROLE_USER", text: "hi" }] } }),
  });
  assert.equal(response.status, 504);
  const body = (await response.json()) as { code: string; details: { type: string; debug: { reason: string } }[] };
  assert.equal(body.code, "deadline_exceeded");
  assert.equal(body.details[0]?.type, ErrorInfoSchema.typeName);
  assert.equal(body.details[0]?.debug.reason, "DEADLINE_EXCEEDED");
  assert.equal((await gateway.firstCall()).caller.signal.reason.code, "deadline_exceeded");
});

test("a caller that stops reading is cut off, and its call is left", async (t) => {
  const delta = { type: "delta", choice: 0, text: "x".repeat(100_000) } as const;
  const endless = [accepted, start, ...Array.from({ length: 1000 }, () => delta), settled];
  const { gateway, port } = await grpcClient(t, endless, { limits: { stallTimeoutMs: 200 } });
  const message = toBinary(StreamCompleteRequestSchema, create(StreamCompleteRequestSchema, { chat }));
  const session = connectHttp2(port.url).on("error", () => {});
  const stream = session.request({
    ":method": "POST",
    ":path": `${path}/StreamComplete`,
    "content-type": "application/grpc",
  });
  // Never read, so that the flow-control window fills and stays full.
  stream.on("error", () => {});
  stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]));
  const call = await gateway.firstCall();
  session.destroy();
  assert.equal(call.ended, "returned");
  assert.equal(call.caller.signal.reason.code, "client_closed_request");
  assert.deepEqual(port.bugs, []);
});

test("closing the port lets a stream in flight finish", async (t) => {
  const gateway = new ScriptedGateway();
  let finish = (): void => {};
  const slow = {
    listModels: () => gateway.listModels("x"),
    async *complete(...args: Parameters<ScriptedGateway["complete"]>) {
      for await (const event of gateway.complete(...args)) {
        yield event;
        if (event.type === "start")
          await new Promise<void>((resolve) => {
            finish = resolve;
          });
      }
    },
  };
  const port = await openPort(t, { methods: completionMethods(slow) });
  const client = createClient(CompletionService, createGrpcTransport({ baseUrl: port.url }));
  const stream = client.streamComplete({ chat })[Symbol.asyncIterator]();
  assert.equal((await stream.next()).value?.event.case, "started");
  const closed = port.close(5_000);
  await sleep(50);
  finish();
  const rest = [];
  for (let next = await stream.next(); !next.done; next = await stream.next()) rest.push(next.value.event.case);
  assert.deepEqual(rest, ["delta", "delta", "finished", "ended"]);
  await closed;
});

test("closing the port ends what is not done in time with `shutting_down`", async (t) => {
  const { gateway, client, port } = await grpcClient(t, [accepted, start, "wait"]);
  const stream = client.streamComplete({ chat })[Symbol.asyncIterator]();
  await stream.next();
  const failure = failureOf(stream.next());
  await port.close(50);
  const error = await failure;
  assert.equal(error.code, Code.Unavailable);
  assert.equal(reasonOf(error)?.reason, "SHUTTING_DOWN");
  assert.equal((await gateway.firstCall()).caller.signal.reason.code, "shutting_down");
});

test("two hundred calls at once on one connection", async (t) => {
  const { gateway, client } = await grpcClient(t);
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) =>
      i % 2 === 0
        ? client.complete({ chat }).then((answer) => answer.choices.length)
        : drain(client.streamComplete({ chat })),
    ),
  );
  assert.equal(answers.length, 200);
  assert.ok(gateway.calls.every((call) => call.ended === "finished"));
});

test("a message over the size limit is refused with its reason, before it has been read", async (t) => {
  const big = { chat: { ...chat, messages: [{ role: Role.USER, text: "x".repeat(300_000) }] } };
  const gateway = new ScriptedGateway();
  const { url } = await openDoor(t, gateway, { readMaxBytes: 100_000 });
  for (const [name, transport] of transports) {
    const client = createClient(CompletionService, transport(url));
    for (const call of [() => client.complete(big), () => drain(client.streamComplete(big))]) {
      const error = await failureOf(call());
      assert.equal(error.code, Code.ResourceExhausted, name);
      assert.equal(reasonOf(error)?.reason, "BODY_TOO_LARGE", name);
      assert.equal(error.metadata.get("x-should-retry"), "false", name);
      assert.ok(error.metadata.get("x-request-id"), name);
    }
    assert.equal((await client.complete({ chat })).id, "chatcmpl-1");
  }
});

test("what is no message, no method or no host is an error of the right shape", async (t) => {
  const gateway = new ScriptedGateway();
  const { url, bugs } = await openDoor(t, gateway);
  const post = (method: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    fetch(`${url}${path}/${method}`, {
      method: "POST",
      body,
      headers: { "content-type": "application/json", ...headers },
    });
  for (const body of ["{broken", new Uint8Array([0x7b, 0xff, 0xfe]), "[]", '{"chat":1}', '{"chat":{"nonsense":1}}']) {
    const response = await post("Complete", body);
    assert.equal(response.status, 400, String(body));
    assert.ok(response.headers.get("x-request-id"));
    const error = (await response.json()) as { code: string; details: { debug: { reason: string } }[] };
    assert.equal(error.code, "invalid_argument");
    assert.equal(error.details.at(-1)?.debug.reason ?? error.details[0]?.debug.reason, "INVALID_REQUEST");
  }
  assert.equal((await post("Complete", "{}", { "content-type": "text/html" })).status, 415);
  const lone = await post(
    "Complete",
    '{"chat":{"model":"\\ud800","messages":[{"role":"ROLE_USER","text":"\\ud800"}]}}',
  );
  assert.ok([200, 400].includes(lone.status));
  const { port } = await openDoor(t, gateway);
  for (const host of ["a b", "[", ""]) {
    const wire = new Wire(port);
    wire.send(`POST ${path}/Complete HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    const { status, headers, body } = readResponse(await wire.ended());
    assert.ok(status === 400 || status === 415, `${host} ${status}`);
    if (status === 400) assert.equal(JSON.parse(body).error.code, "invalid_request");
    if (status === 400) assert.ok(headers.get("x-request-id"));
  }
  assert.deepEqual(bugs, []);
});
