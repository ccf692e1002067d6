import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { type TestContext, test } from "node:test";
import { GatewayError } from "../../src/errors.ts";
import { openPort } from "../server/port.ts";
import { accepted, chatBody, settled, TestDoor } from "./openai-door.ts";

const frame = Buffer.from('data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n');

/** The door behind the real listener, whose HTTP/2 requests are node's compatibility objects. */
async function open(t: TestContext, door: TestDoor): Promise<ClientHttp2Session> {
  const port = await openPort(t, { fallback: door.handler });
  const session = connect(port.url);
  t.after(() => session.destroy());
  return session;
}

function post(session: ClientHttp2Session, body: unknown): ClientHttp2Stream {
  const headers = { ":method": "POST", ":path": "/v1/chat/completions", "content-type": "application/json" };
  const request = session.request(headers);
  request.setEncoding("utf8");
  request.end(JSON.stringify(body));
  return request;
}

test("the door answers and streams over HTTP/2", async (t) => {
  const door = new TestDoor();
  door.gateway.scripts.set("m", async function* (request) {
    yield accepted;
    if (request.stream) yield { type: "raw", bytes: frame, outputTokens: 1 };
    yield settled(request.stream ? "data: [DONE]\n\n" : '{"choices":[]}');
  });
  const session = await open(t, door);
  for (const [body, status, text] of [
    [chatBody("m"), 200, '{"choices":[]}'],
    [chatBody("m", { stream: true }), 200, `${frame}data: [DONE]\n\n`],
    [{}, 400, /"param":"model"/],
  ] as const) {
    const request = post(session, body);
    const [head] = await once(request, "response");
    assert.equal(head[":status"], status);
    assert.ok(head["x-request-id"]);
    const heard = (await request.toArray()).join("");
    if (typeof text === "string") assert.equal(heard, text);
    else assert.match(heard, text);
  }
});

test("a body that is too large is refused over HTTP/2 too", async (t) => {
  const session = await open(t, new TestDoor({ bodyBytes: 1000 }));
  const request = post(session, chatBody("m", { note: "x".repeat(500_000) }));
  const [head] = await once(request, "response");
  assert.equal(head[":status"], 413);
  assert.match((await request.toArray()).join(""), /body_too_large/);
});

test("a stream that is reset, or not read, ends the call", async (t) => {
  const door = new TestDoor({ stallMs: 200 });
  const reasons: unknown[] = [];
  let finished: () => void = () => {};
  door.gateway.scripts.set("flood", async function* (_request, caller) {
    const big = Buffer.from(`data: {"x":"${"y".repeat(1_000_000)}"}\n\n`);
    try {
      yield accepted;
      for (;;) yield { type: "raw", bytes: big, outputTokens: 1 };
    } finally {
      reasons.push(caller.signal.reason);
      finished();
    }
  });
  const session = await open(t, door);
  for (const reset of [true, false]) {
    const over = new Promise<void>((resolve) => {
      finished = resolve;
    });
    const request = post(session, chatBody("flood", { stream: true }));
    request.on("error", () => {});
    await once(request, "response");
    if (reset) request.close();
    await over;
    request.destroy();
  }
  assert.equal(reasons.length, 2);
  for (const reason of reasons) {
    assert.ok(reason instanceof GatewayError);
    assert.equal(reason.code, "client_closed_request");
  }
  assert.deepEqual(door.bugs, []);
});
