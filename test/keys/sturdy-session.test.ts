import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { SturdySession } from "../../src/keys/sturdy-session.ts";

test("a connection that is replaced before it tells of its end does not end the process", async () => {
  const server = createServer();
  server.on("sessionError", () => {});
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200 });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const uncaught: Error[] = [];
  const note = (error: Error) => uncaught.push(error);
  process.on("uncaughtExceptionMonitor", note);
  const session = new SturdySession(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  try {
    const first = await session.request("GET", "/", {}, {});
    first.on("error", () => {});
    const ended = new Promise((resolve) => first.session?.on("close", resolve));
    // As the manager does when a ping is not answered; the next request comes before the error is told.
    first.session?.destroy(new Error("PING timed out"));
    const second = await session.request("GET", "/", {}, {});
    second.on("error", () => {});
    await once(second, "response");
    await ended;
    assert.notEqual(second.session, first.session);
    assert.deepEqual(uncaught, []);
  } finally {
    process.off("uncaughtExceptionMonitor", note);
    session.abort();
    server.close();
  }
});
