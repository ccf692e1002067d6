/** What a call means, whichever protocol it comes by: two implementations serve them, and must not drift apart. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, createClient, type Transport } from "@connectrpc/connect";
import { GatewayError } from "../../src/errors.ts";
import { BadRequestSchema, QuotaFailureSchema, RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import {
  type ChatSchema,
  CompletionService,
  FinishReason,
  Role,
} from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import type { ListenOptions } from "../../src/server/listen.ts";
import { chat, drain, failureOf, openDoor, reasonOf, servicePath, transports } from "./rpc-door.ts";
import { accepted, hello, type Script, ScriptedGateway, settled, start } from "./scripted-gateway.ts";

type Completions = Client<typeof CompletionService>;

async function open(
  t: TestContext,
  transport: (baseUrl: string) => Transport,
  script?: ConstructorParameters<typeof ScriptedGateway>[0],
  options: Partial<ListenOptions> = {},
) {
  const gateway = new ScriptedGateway(script);
  const port = await openDoor(t, gateway, options);
  return { gateway, port, client: createClient(CompletionService, transport(port.url)) };
}

/** The same request by the unary method and by the stream. */
function bothWays(
  client: Completions,
  asked: { chat: MessageInitShape<typeof ChatSchema> },
): (() => Promise<unknown>)[] {
  return [() => client.complete(asked), () => drain(client.streamComplete(asked))];
}

function keptIn(headers: Headers) {
  return (received: Headers): void => {
    for (const [name, value] of received) headers.set(name, value);
  };
}

for (const [name, transport] of transports) {
  test(`${name}: a unary call`, async (t) => {
    const { client, port } = await open(t, transport);
    const headers = new Headers();
    const answer = await client.complete(
      { chat },
      { headers: { "x-request-id": "my-id.1" }, onHeader: keptIn(headers) },
    );
    assert.equal(answer.id, "chatcmpl-1");
    assert.equal(answer.model, "provider-model");
    assert.equal(answer.createTime?.seconds, 1_700_000_000n);
    assert.equal(answer.choices.length, 1);
    assert.equal(answer.choices[0]?.text, "Hello ✓");
    assert.equal(answer.choices[0]?.finishReason, FinishReason.STOP);
    assert.equal(answer.usage?.inputTokens, 11n);
    assert.equal(answer.usage?.reasoningOutputTokens, 1n);
    const { callId, deploymentId, attempts, costUsd } = answer.call ?? {};
    assert.deepEqual([callId, deploymentId, attempts, costUsd], ["call-1", "deployment-1", 2, "0.0015"]);
    assert.equal(headers.get("x-request-id"), "my-id.1");
    assert.equal(headers.get("x-litellm-call-id"), "call-1");
    assert.equal(headers.get("x-litellm-model-id"), "deployment-1");
    assert.deepEqual(port.bugs, []);
  });

  test(`${name}: a stream`, async (t) => {
    const { client, port } = await open(t, transport);
    const headers = new Headers();
    const events = await drain(client.streamComplete({ chat }, { onHeader: keptIn(headers) }));
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
    assert.deepEqual(port.bugs, []);
  });

  test(`${name}: the list of models, which wants a key`, async (t) => {
    const { client } = await open(t, transport);
    const { models } = await client.listModels({}, { headers: { authorization: "Bearer sk-1" } });
    assert.deepEqual(
      models.map(({ id }) => id),
      ["a", "b"],
    );
    const error = await failureOf(client.listModels({}));
    assert.equal(error.code, Code.Unauthenticated);
    assert.equal(reasonOf(error)?.reason, "MISSING_API_KEY");
  });

  test(`${name}: long messages, both ways`, async (t) => {
    const text = "word ✓ ".repeat(60_000);
    const long: Script = [accepted, start, { type: "delta", choice: 0, text }, ...hello.slice(4)];
    const { client, gateway } = await open(t, transport, long);
    const asked = { chat: { ...chat, messages: [{ role: Role.USER, text }] } };
    assert.equal((await client.complete(asked)).choices[0]?.text, text);
    const events = await drain(client.streamComplete(asked));
    assert.equal(
      events.some(({ event }) => event.case === "delta" && event.value.text === text),
      true,
    );
    for (const { request } of gateway.calls)
      assert.deepEqual(request.chat().messages, [{ role: "user", content: text }]);
  });

  test(`${name}: who calls, and on what terms, reaches the gateway`, async (t) => {
    const { client, gateway } = await open(t, transport);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await client.complete(
      { chat: { ...chat, tags: ["one"], user: "u" } },
      {
        headers: {
          ...{ authorization: "bearer sk-a", traceparent, tracestate: "k=v", "x-litellm-tags": "two, three," },
          ...{ "idempotency-key": "once", "x-litellm-num-retries": "3", "x-litellm-session-id": "s-1" },
        },
      },
    );
    await drain(client.streamComplete({ chat }, { headers: { "x-api-key": "sk-b", "x-request-id": "not fit" } }));
    const [first, second] = gateway.calls;
    const { signal: _, requestId, ...caller } = first?.caller ?? assert.fail("was not called");
    assert.match(requestId, /^[0-9a-f-]{36}$/);
    assert.deepEqual(caller, {
      ...{ token: "sk-a", door: "connect", route: `${servicePath}/Complete`, traceparent, tracestate: "k=v" },
      ...{ tags: ["two", "three"], repeat: { retries: 3 }, sessionId: "s-1", idempotencyKey: "once" },
      cacheControl: undefined,
    });
    assert.deepEqual(first?.request.tags, ["one"]);
    assert.equal(first?.request.endUser, "u");
    assert.equal(second?.caller.token, "sk-b");
    assert.equal(second?.caller.route, `${servicePath}/StreamComplete`);
    assert.match(second?.caller.requestId ?? "", /^[0-9a-f-]{36}$/);
    assert.equal(second?.caller.traceparent, undefined);
  });

  test(`${name}: a refusal before any message, with its details and its id`, async (t) => {
    const metadata = { model: "no" };
    const refusal = new GatewayError("model_not_allowed", "Not: it's 100% off ✓", { metadata });
    const { client, port } = await open(t, transport, [refusal]);
    for (const call of bothWays(client, { chat })) {
      const error = await failureOf(call());
      assert.equal(error.code, Code.PermissionDenied);
      assert.equal(error.rawMessage, "Not: it's 100% off ✓");
      assert.deepEqual(reasonOf(error), { reason: "MODEL_NOT_ALLOWED", metadata });
      assert.equal(error.metadata.get("x-should-retry"), "false");
      assert.match(error.metadata.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
    }
    assert.deepEqual(port.bugs, []);
  });

  test(`${name}: a limit says how long to wait and which quota, in details and in headers`, async (t) => {
    const facts = { retryAfterMs: 1500, metadata: { scope: "key", scopeId: "k1" } };
    const { client } = await open(t, transport, [new GatewayError("rate_limit_exceeded", "Too fast.", facts)]);
    for (const call of bothWays(client, { chat })) {
      const error = await failureOf(call());
      assert.equal(error.code, Code.ResourceExhausted);
      assert.equal(error.findDetails(QuotaFailureSchema)[0]?.violations[0]?.subject, "key:k1");
      assert.equal(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.nanos, 500_000_000);
      assert.equal(error.metadata.get("x-should-retry"), "true");
      assert.equal(error.metadata.get("retry-after"), "2");
      assert.equal(error.metadata.get("retry-after-ms"), "1500");
    }
  });

  test(`${name}: a message against the schema's rules is refused with every field at fault`, async (t) => {
    const { gateway, client, port } = await open(t, transport);
    for (const call of bothWays(client, { chat: { model: "", messages: [] } })) {
      const error = await failureOf(call());
      assert.equal(error.code, Code.InvalidArgument);
      assert.equal(reasonOf(error)?.reason, "INVALID_REQUEST");
      const fields = error.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field);
      assert.deepEqual(fields, ["chat.model", "chat.messages"]);
      assert.ok(error.details.some((detail) => "type" in detail && detail.type === "buf.validate.Violations"));
      assert.ok(error.metadata.get("x-request-id"));
    }
    const missing = await failureOf(client.complete({}));
    assert.equal(missing.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field, "chat");
    assert.equal(gateway.calls.length, 0);
    assert.deepEqual(port.bugs, []);
  });

  test(`${name}: a bug is told to the log and not to the caller`, async (t) => {
    const bug = new TypeError("secret detail");
    const { client, port } = await open(t, transport, [accepted, start, bug]);
    for (const call of bothWays(client, { chat })) {
      const error = await failureOf(call());
      assert.equal(error.code, Code.Internal);
      assert.doesNotMatch(error.message, /secret/);
      assert.equal(reasonOf(error)?.reason, "INTERNAL_ERROR");
    }
    assert.deepEqual(port.bugs, [bug, bug]);
  });

  test(`${name}: a stream that breaks in the middle ends with an error status`, async (t) => {
    const broken = [...hello.slice(0, 3), new GatewayError("stream_interrupted", "Cut off.")];
    const { client } = await open(t, transport, broken);
    const seen: string[] = [];
    const error = await failureOf(
      (async () => {
        for await (const { event } of client.streamComplete({ chat })) seen.push(event.case ?? "");
      })(),
    );
    assert.deepEqual(seen, ["started", "delta"]);
    assert.equal(error.code, Code.Unavailable);
    assert.equal(reasonOf(error)?.reason, "STREAM_INTERRUPTED");
    assert.equal(error.metadata.get("x-should-retry"), "true");
  });

  test(`${name}: a deadline aborts the call with its reason`, async (t) => {
    const { client, gateway } = await open(t, transport, [accepted, start, "wait"]);
    const error = await failureOf(client.complete({ chat }, { timeoutMs: 100 }));
    assert.equal(error.code, Code.DeadlineExceeded);
    const call = await gateway.firstCall();
    // Whichever of the two, the deadline and the client that gives up at it, comes first.
    assert.ok(["deadline_exceeded", "client_closed_request"].includes(call.caller.signal.reason.code));
    assert.equal(call.ended, "failed");
  });

  test(`${name}: a caller that goes away ends the call`, async (t) => {
    const { client, gateway, port } = await open(t, transport, [...hello.slice(0, 3), "wait"]);
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
    assert.deepEqual(port.bugs, []);
  });

  test(`${name}: a call that has ended aborts nothing`, async (t) => {
    const { client, gateway } = await open(t, transport);
    await client.complete({ chat });
    await drain(client.streamComplete({ chat }));
    await client.listModels({}, { headers: { authorization: "Bearer sk-1" } });
    for (const { caller, ended } of gateway.calls)
      assert.deepEqual([ended, caller.signal.aborted], ["finished", false]);
  });

  test(`${name}: closing the port ends what is not done in time with \`shutting_down\``, async (t) => {
    const { gateway, client, port } = await open(t, transport, [accepted, start, "wait"]);
    const stream = client.streamComplete({ chat })[Symbol.asyncIterator]();
    await stream.next();
    const failure = failureOf(stream.next());
    await port.close(50);
    const error = await failure;
    assert.equal(error.code, Code.Unavailable);
    assert.equal(reasonOf(error)?.reason, "SHUTTING_DOWN");
    assert.equal((await gateway.firstCall()).caller.signal.reason.code, "shutting_down");
  });

  test(`${name}: a message over the size limit is refused with its reason`, async (t) => {
    // Of chance, so that it is over the limit compressed, too.
    const text = Array.from({ length: 20_000 }, () => Math.random().toString(36).slice(2)).join("");
    const { client, gateway } = await open(t, transport, undefined, { readMaxBytes: 100_000 });
    for (const call of bothWays(client, { chat: { ...chat, messages: [{ role: Role.USER, text }] } })) {
      const error = await failureOf(call());
      assert.equal(error.code, Code.ResourceExhausted);
      assert.equal(reasonOf(error)?.reason, "BODY_TOO_LARGE");
      assert.equal(error.metadata.get("x-should-retry"), "false");
      assert.ok(error.metadata.get("x-request-id"));
    }
    assert.equal(gateway.calls.length, 0);
    assert.equal((await client.complete({ chat })).id, "chatcmpl-1");
  });

  test(`${name}: two hundred calls at once`, async (t) => {
    const { client, gateway } = await open(t, transport);
    const calls = Array.from({ length: 100 }, () => bothWays(client, { chat })).flat();
    await Promise.all(calls.map((call) => call()));
    assert.equal(gateway.calls.length, 200);
    assert.ok(gateway.calls.every(({ ended }) => ended === "finished"));
  });

  test(`${name}: a stream is as fast as its reader`, async (t) => {
    const delta = { type: "delta", choice: 0, text: "x".repeat(100_000) } as const;
    const long = [accepted, start, ...Array.from({ length: 100 }, () => delta), settled];
    const { client, gateway } = await open(t, transport, long);
    const stream = client.streamComplete({ chat })[Symbol.asyncIterator]();
    await stream.next();
    assert.equal(gateway.calls[0]?.ended, "open");
    let bytes = 0;
    for (let next = await stream.next(); !next.done; next = await stream.next()) {
      if (next.value.event.case === "delta") bytes += next.value.event.value.text.length;
    }
    assert.equal(bytes, 10_000_000);
    assert.equal(gateway.calls[0]?.ended, "finished");
  });
}
