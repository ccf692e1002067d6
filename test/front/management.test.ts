import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { ManagementForwarder } from "../../src/front/management.ts";
import { routes } from "../../src/keyservice/http.ts";
import { TestDoor } from "./openai-door.ts";

const seen: {
  method: string | undefined;
  url: string | undefined;
  headers: IncomingMessage["headers"];
  body: string;
}[] = [];
const keyService = createServer((req, res) => {
  let body = "";
  req.on("data", (chunk) => {
    body += String(chunk);
  });
  req.on("end", () => {
    seen.push({ method: req.method, url: req.url, headers: req.headers, body });
    res.writeHead(body === "" ? 200 : 201, {
      "content-type": "application/json",
      "x-request-id": "theirs",
      "x-extra": "1",
    });
    res.end('{"key":"sk-new"}');
  });
});
let forwarder: ManagementForwarder;
let door: TestDoor;

before(async () => {
  keyService.listen(0, "127.0.0.1");
  await once(keyService, "listening");
  const url = `http://127.0.0.1:${(keyService.address() as AddressInfo).port}`;
  forwarder = new ManagementForwarder({ url, random: () => 0 });
  door = await new TestDoor({}, forwarder).open();
});

after(async () => {
  await door.close();
  await forwarder.close();
  keyService.closeAllConnections();
  keyService.close();
});

test("a management request is passed on with its body, and its answer passed back", async () => {
  const response = await fetch(`${door.url}/key/generate?x=1`, {
    method: "POST",
    headers: { authorization: "Bearer sk-master", "content-type": "application/json", "x-request-id": "mine" },
    body: '{"models":[]}',
  });
  assert.equal(response.status, 201);
  assert.equal(response.headers.get("x-request-id"), "mine");
  assert.equal(response.headers.get("x-extra"), "1");
  assert.deepEqual(await response.json(), { key: "sk-new" });
  const request = seen.at(-1);
  assert.equal(request?.url, "/key/generate?x=1");
  assert.equal(request?.body, '{"models":[]}');
  assert.equal(request?.headers.authorization, "Bearer sk-master");
  assert.equal(request?.headers["x-request-id"], "mine");
});

test("GET and HEAD have no body, and headers of the connection stay behind", async () => {
  assert.equal((await fetch(`${door.url}/key/info?key=sk-1`)).status, 200);
  assert.equal((await fetch(`${door.url}/key/info`, { method: "HEAD" })).status, 200);
  const socket = await door.connect();
  socket.write(
    "GET /key/list HTTP/1.1\r\nhost: localhost\r\nconnection: close, x-private\r\nx-private: 1\r\nx-public: 2\r\n\r\n",
  );
  for await (const _ of socket);
  assert.equal(seen.at(-1)?.headers["x-private"], undefined);
  assert.equal(seen.at(-1)?.headers["x-public"], "2");
  assert.notEqual(seen.at(-1)?.headers.host, "x");
});

test("only management paths are passed on", () => {
  for (const path of [...routes.keys()].filter((each) => !each.startsWith("/health"))) {
    assert.equal(forwarder.serves(path.replace(/\{\w+\}/g, "x")), true, path);
  }
  for (const path of [
    "/",
    "/v1/models",
    "/models",
    "/models/x",
    "/key",
    "/keys/x",
    "/v1/chat/completions",
    "/x/key/info",
  ]) {
    assert.equal(forwarder.serves(path), false, path);
  }
});

test("a KeyService that is away is a 503 that may be repeated", async () => {
  const away = new ManagementForwarder({ url: "http://127.0.0.1:1", random: () => 0 });
  const lonely = await new TestDoor({}, away).open();
  try {
    const response = await fetch(`${lonely.url}/key/generate`, { method: "POST", body: "{}" });
    assert.equal(response.status, 503);
    assert.equal(response.headers.get("x-should-retry"), "true");
    const { error } = (await response.json()) as { error: { code: string } };
    assert.equal(error.code, "keyservice_unavailable");
  } finally {
    await lonely.close();
    await away.close();
  }
});
