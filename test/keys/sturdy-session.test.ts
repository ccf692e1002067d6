import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, createServer, type Http2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { SturdySession } from "../../src/keys/sturdy-session.ts";

let server: Http2Server;
const uncaught: Error[] = [];
const note = (error: Error) => uncaught.push(error);

before(async () => {
  server = createServer();
  server.on("sessionError", () => {});
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200 });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  process.on("uncaughtExceptionMonitor", note);
});

after(() => {
  process.off("uncaughtExceptionMonitor", note);
  server.close();
});

async function survivesTheEnd(session: SturdySession, connection: ClientHttp2Session): Promise<void> {
  const ended = new Promise((resolve) => connection.on("close", resolve));
  // As the manager does when a ping is not answered; the next request comes before the error is told.
  connection.destroy(new Error("PING timed out"));
  const next = await session.request("GET", "/", {}, {});
  next.on("error", () => {});
  await once(next, "response");
  await ended;
  assert.notEqual(next.session, connection);
  assert.deepEqual(uncaught, []);
  session.abort();
}

test("a connection that is replaced before it tells of its end does not end the process", async () => {
  const session = new SturdySession(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const first = await session.request("GET", "/", {}, {});
  first.on("error", () => {});
  await survivesTheEnd(session, first.session as ClientHttp2Session);
});

test("nor does one that dies before it was ever used", async () => {
  const session = new SturdySession(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  assert.equal(await session.connect(), "idle");
  const { conn } = Reflect.get(session, "s") as { conn: ClientHttp2Session };
  await survivesTheEnd(session, conn);
});
