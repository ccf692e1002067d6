import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { CompletionService, StreamCompleteRequestSchema } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import type { ListenOptions } from "../../src/server/listen.ts";
import { readResponse, Wire } from "../server/port.ts";
import { chat, openDoor, servicePath } from "./rpc-door.ts";
import { accepted, type Script, ScriptedGateway, settled, start } from "./scripted-gateway.ts";

async function grpcClient(t: TestContext, script?: Script, options: Partial<ListenOptions> = {}) {
  const gateway = new ScriptedGateway(script);
  const port = await openDoor(t, gateway, options);
  return { gateway, port, client: createClient(CompletionService, createGrpcTransport({ baseUrl: port.url })) };
}

test("the server keeps the deadline itself when the client does not", async (t) => {
  const { gateway, port } = await grpcClient(t, [accepted, start, "wait"]);
  const response = await fetch(`${port.url}${servicePath}/Complete`, {
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
    ":path": `${servicePath}/StreamComplete`,
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
  const port = await openDoor(t, slow);
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

test("what is no message, no method or no host is an error of the right shape", async (t) => {
  const gateway = new ScriptedGateway();
  const { url, bugs } = await openDoor(t, gateway);
  const post = (method: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    fetch(`${url}${servicePath}/${method}`, {
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
    wire.send(
      `POST ${servicePath}/Complete HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`,
    );
    const { status, headers, body } = readResponse(await wire.ended());
    assert.ok(status === 400 || status === 415, `${host} ${status}`);
    if (status === 400) assert.equal(JSON.parse(body).error.code, "invalid_request");
    if (status === 400) assert.ok(headers.get("x-request-id"));
  }
  assert.deepEqual(bugs, []);
});
