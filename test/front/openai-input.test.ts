import assert from "node:assert/strict";
import { once } from "node:events";
import type { Socket } from "node:net";
import { after, before, test } from "node:test";
import { openPort, readResponse, Wire } from "../server/port.ts";
import { accepted, chatBody, hear, settled, TestDoor } from "./openai-door.ts";

let door: TestDoor;

before(async () => {
  door = await new TestDoor().open();
  door.gateway.scripts.set("ok", async function* () {
    yield accepted;
    yield settled('{"choices":[]}');
  });
});

after(() => door.close());

const post = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n";

async function errorOf(response: Response): Promise<{ status: number; code: string; param: string | null }> {
  assert.equal(response.headers.get("content-type"), "application/json");
  assert.equal(response.headers.get("x-should-retry"), "false");
  assert.ok(response.headers.get("x-request-id"));
  const { error } = (await response.json()) as { error: { code: string; param: string | null } };
  return { status: response.status, code: error.code, param: error.param };
}

test("broken JSON, a missing model and invalid UTF-8 are refused", async () => {
  assert.deepEqual(await errorOf(await door.post('{"model":')), { status: 400, code: "invalid_json", param: null });
  assert.deepEqual(await errorOf(await door.post({ messages: [1] })), {
    status: 400,
    code: "invalid_request",
    param: "model",
  });
  assert.deepEqual(await errorOf(await door.post(new Uint8Array([0x7b, 0xff, 0x7d]))), {
    status: 400,
    code: "invalid_json",
    param: null,
  });
  assert.deepEqual(await errorOf(await door.post("")), { status: 400, code: "invalid_json", param: null });
  assert.equal(door.gateway.calls.length, 0);
});

test("a body that is not JSON, or compressed, is refused by its head", async () => {
  const refused = { status: 415, code: "unsupported_media_type", param: null };
  assert.deepEqual(await errorOf(await door.post(chatBody("ok"), { "content-type": "text/plain" })), refused);
  assert.deepEqual(await errorOf(await door.post(chatBody("ok"), { "content-encoding": "gzip" })), refused);
  assert.equal((await door.post(chatBody("ok"), { "content-type": "application/json; charset=utf-8" })).status, 200);
});

const mebibyte = Buffer.alloc(1_048_576, "x");

/** Sends 40 MB as a client does that looks at the answer only when it has sent everything. */
async function send40Mb(socket: Socket, chunked: boolean): Promise<void> {
  for (let sent = 0; sent < 40; sent += 1) {
    if (chunked) socket.write(`${mebibyte.length.toString(16)}\r\n`);
    const room = socket.write(mebibyte);
    if (chunked) socket.write("\r\n");
    if (!room) await once(socket, "drain");
  }
  if (chunked) socket.write("0\r\n\r\n");
}

test("a body of 40 MB gets a clean 413, with and without a length", async () => {
  for (const chunked of [false, true]) {
    const socket = await door.connect();
    const length = chunked ? "transfer-encoding: chunked" : `content-length: ${40 * mebibyte.length}`;
    socket.write(`${post}content-type: application/json\r\n${length}\r\n\r\n`);
    await send40Mb(socket, chunked);
    const heard = await hear(socket);
    assert.match(heard, /^HTTP\/1\.1 413 /);
    assert.match(heard, /"code":"body_too_large"/);
    assert.match(heard, /larger than 32 MiB/);
    assert.equal(socket.errored, null);
  }
});

test("the 413 is sent at once, before the body has been read", async () => {
  const socket = await door.connect();
  socket.write(`${post}content-type: application/json\r\ncontent-length: ${40 * mebibyte.length}\r\n\r\n`);
  assert.match(await hear(socket, "body_too_large"), /^HTTP\/1\.1 413 /);
  socket.destroy();
});

test("an endless body is not read for ever", async () => {
  const small = await new TestDoor({ bodyBytes: 10_000 }).open();
  try {
    const socket = await small.connect();
    socket.on("error", () => {});
    socket.write(`${post}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`);
    let closed = false;
    socket.once("close", () => {
      closed = true;
    });
    let heard = "";
    socket.on("data", (chunk) => {
      heard += String(chunk);
    });
    for (let sent = 0; sent < 64 && !closed; sent += 1) {
      socket.write(`${mebibyte.length.toString(16)}\r\n`);
      socket.write(mebibyte);
      socket.write("\r\n");
      // Whoever reads has the answer before the connection is cut under what he still sends.
      for (let waitedMs = 0; heard === "" && waitedMs < 2_000; waitedMs += 5) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.ok(closed);
    assert.match(heard, /^HTTP\/1\.1 413 /);
  } finally {
    await small.close();
  }
});

test("a caller that leaves in the middle of its body leaves nothing behind", async () => {
  const before = door.gateway.calls.length;
  const socket = await door.connect();
  socket.write(`${post}content-type: application/json\r\ncontent-length: 100\r\n\r\n{"model":`);
  await new Promise((resolve) => setTimeout(resolve, 20));
  socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(door.gateway.calls.length, before);
  assert.deepEqual(door.bugs, []);
  const open = await new Promise((resolve) => door.server.getConnections((_error, count) => resolve(count)));
  assert.equal(open, 0);
});

test("a body in many small pieces is put together", async () => {
  const socket = await door.connect();
  const body = Buffer.from(JSON.stringify(chatBody("ok", { note: "ü" })));
  socket.write(`${post}connection: close\r\ncontent-length: ${body.length}\r\n\r\n`);
  for (const byte of body) {
    socket.write(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.match(await hear(socket), /^HTTP\/1\.1 200 /);
  assert.equal(door.gateway.calls.at(-1)?.request.chat().note, "ü");
});

test("a key of almost the header's limit is passed on as it is, and one of 1 MB is refused", async (t) => {
  const key = `sk-${"k".repeat(12_000)}`;
  await door.post(chatBody("ok"), { authorization: `Bearer ${key}` });
  assert.equal(door.gateway.calls.at(-1)?.caller.token, key);
  const calls = door.gateway.calls.length;
  const port = await openPort(t, { fallback: door.handler });
  const wire = new Wire(port.port);
  wire.send(`${post}authorization: Bearer ${"k".repeat(1_048_576)}\r\n\r\n`);
  const response = readResponse(await wire.until(/"code"/));
  assert.equal(response.status, 431);
  assert.equal(JSON.parse(response.body).error.code, "invalid_request");
  assert.ok(response.headers.get("x-request-id"));
  assert.equal(door.gateway.calls.length, calls);
});
