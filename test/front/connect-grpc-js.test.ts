import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type CallOptions,
  Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { GatewayError } from "../../src/errors.ts";
import { completionMethods } from "../../src/front/completion-methods.ts";
import {
  CompleteRequestSchema,
  type CompleteResponse,
  CompleteResponseSchema,
  CompletionService,
  Role,
  StreamCompleteRequestSchema,
  type StreamCompleteResponse,
  StreamCompleteResponseSchema,
} from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import { openPort } from "../server/port.ts";
import { accepted, hello, type Script, ScriptedGateway, start } from "./scripted-gateway.ts";

const chat = { model: "m", messages: [{ role: Role.USER, text: "hi" }] };

/** The service through grpc-js, which shares no code with the server. */
class GrpcJs {
  readonly #client: Client;

  constructor(t: TestContext, port: number) {
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
    t.after(() => this.#client.close());
  }

  complete(
    request: MessageInitShape<typeof CompleteRequestSchema>,
    options: CallOptions = {},
    method = "Complete",
  ): Promise<{ answer: CompleteResponse; headers: Metadata }> {
    return new Promise((resolve, reject) => {
      let headers = new Metadata();
      this.#client
        .makeUnaryRequest(
          `/${CompletionService.typeName}/${method}`,
          serialize(CompleteRequestSchema),
          deserialize(CompleteResponseSchema),
          create(CompleteRequestSchema, request),
          new Metadata(),
          options,
          (error, answer) => (answer === undefined ? reject(error) : resolve({ answer, headers })),
        )
        .on("metadata", (metadata) => {
          headers = metadata;
        });
    });
  }

  stream(
    request: MessageInitShape<typeof StreamCompleteRequestSchema>,
    options: CallOptions = {},
  ): ClientReadableStream<StreamCompleteResponse> {
    return this.#client.makeServerStreamRequest(
      `/${CompletionService.typeName}/StreamComplete`,
      serialize(StreamCompleteRequestSchema),
      deserialize(StreamCompleteResponseSchema),
      create(StreamCompleteRequestSchema, request),
      new Metadata(),
      options,
    );
  }
}

function serialize<D extends DescMessage>(schema: D): (message: MessageShape<D>) => Buffer {
  return (message) => Buffer.from(toBinary(schema, message));
}

function deserialize<D extends DescMessage>(schema: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(schema, bytes);
}

async function open(t: TestContext, script?: Script, readMaxBytes = 1_000_000) {
  const gateway = new ScriptedGateway(script);
  const openStreams = { count: 0 };
  const port = await openPort(t, {
    services: [CompletionService],
    methods: completionMethods(gateway),
    readMaxBytes,
  });
  return { gateway, port, openStreams, client: new GrpcJs(t, port.port) };
}

async function failureOf(promise: Promise<unknown>): Promise<ServiceError> {
  return promise.then(
    () => assert.fail("succeeded"),
    (error: ServiceError) => error,
  );
}

test("grpc-js completes and streams", async (t) => {
  const { client } = await open(t);
  const { answer, headers } = await client.complete({ chat });
  assert.equal(answer.choices[0]?.text, "Hello ✓");
  assert.deepEqual(headers.get("x-litellm-call-id"), ["call-1"]);
  assert.equal(headers.get("x-request-id").length, 1);
  const events: string[] = [];
  for await (const { event } of client.stream({ chat })) events.push(event.case);
  assert.deepEqual(events, ["started", "delta", "delta", "finished", "ended"]);
});

test("grpc-js reads an error's message, details and trailers", async (t) => {
  const error = new GatewayError("rate_limit_exceeded", "Limit: 5/min, 100% used – wait.", { retryAfterMs: 700 });
  const { client } = await open(t, [error]);
  const failure = await failureOf(client.complete({ chat }));
  assert.equal(failure.code, status.RESOURCE_EXHAUSTED);
  assert.equal(failure.details, "Limit: 5/min, 100% used – wait.");
  const [details] = failure.metadata.get("grpc-status-details-bin");
  assert.ok(details instanceof Buffer);
  for (const part of ["google.rpc.ErrorInfo", "RATE_LIMIT_EXCEEDED", "tollgate.dev", "google.rpc.RetryInfo"]) {
    assert.ok(details.includes(part), part);
  }
  assert.deepEqual(failure.metadata.get("retry-after-ms"), ["700"]);
  assert.equal(failure.metadata.get("x-request-id").length, 1);
});

test("a deadline of grpc-js ends the call on both sides", async (t) => {
  const { gateway, client } = await open(t, [accepted, start, "wait"]);
  const failure = await failureOf(client.complete({ chat }, { deadline: Date.now() + 100 }));
  assert.equal(failure.code, status.DEADLINE_EXCEEDED);
  assert.equal((await gateway.firstCall()).ended, "failed");
});

test("a cancel of grpc-js in the middle of a stream ends the call", async (t) => {
  const { gateway, client, port } = await open(t, [...hello.slice(0, 3), "wait"]);
  const stream = client.stream({ chat });
  const failed = new Promise<ServiceError>((resolve) =>
    stream.once("error", (error) => resolve(error as ServiceError)),
  );
  stream.on("data", ({ event }: StreamCompleteResponse) => {
    if (event.case === "delta") stream.cancel();
  });
  assert.equal((await failed).code, status.CANCELLED);
  const call = await gateway.firstCall();
  assert.equal(call.ended, "failed");
  assert.equal(call.caller.signal.reason.code, "client_closed_request");
  assert.deepEqual(port.bugs, []);
});

test("a method that does not exist is UNIMPLEMENTED, with a reason", async (t) => {
  const { client } = await open(t);
  const failure = await failureOf(client.complete({ chat }, {}, "Guess"));
  assert.equal(failure.code, status.UNIMPLEMENTED);
  assert.match(failure.details, /no method \/tollgate\.completion\.v1\.CompletionService\/Guess/);
  assert.equal(failure.metadata.get("x-request-id").length, 1);
});

test("requests over the size limit leave no stream open that a shutdown would wait for", async (t) => {
  const { client, port } = await open(t, undefined, 100_000);
  const text = "x".repeat(2_000_000);
  const failures = await Promise.all(
    Array.from({ length: 20 }, () =>
      failureOf(client.complete({ chat: { ...chat, messages: [{ role: Role.USER, text }] } })),
    ),
  );
  for (const failure of failures) {
    assert.equal(failure.code, status.RESOURCE_EXHAUSTED);
    assert.ok((failure.metadata.get("grpc-status-details-bin")[0] as Buffer).includes("BODY_TOO_LARGE"));
  }
  assert.equal((await client.complete({ chat })).answer.id, "chatcmpl-1");
  const begun = Date.now();
  await port.close(5_000);
  assert.ok(Date.now() - begun < 1_000);
});
