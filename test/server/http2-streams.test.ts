import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { describe, it } from "node:test";
import { keepStreamsLightly, StreamSet, StreamTable } from "../../src/server/http2-streams.ts";

describe("the streams of an HTTP/2 session", () => {
  it("are kept in tables of ours by the node that this runs on, and are served as ever", {
    timeout: 20_000,
  }, async () => {
    const server = createServer();
    const kept: boolean[] = [];
    const sessions: ServerHttp2Session[] = [];
    server.on("session", (session) => {
      kept.push(keepStreamsLightly(session));
      sessions.push(session);
    });
    let held = 0;
    server.on("stream", (stream, headers) => {
      if (headers[":path"] === "/held") {
        held += 1;
        return;
      }
      stream.respond({ ":status": 200 });
      stream.end(String(headers[":path"]));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const ask = async (path: string) => {
      let text = "";
      for await (const piece of client.request({ ":path": path })) text += String(piece);
      return text;
    };
    const paths = Array.from({ length: 300 }, (_, index) => `/${index}`);
    assert.deepEqual(await Promise.all(paths.map(ask)), paths);
    assert.deepEqual(kept, [true]);

    // A session that closes waits for its streams, and one that is destroyed ends them.
    const open = client.request({ ":path": "/held" });
    open.on("error", () => {});
    open.resume();
    while (held === 0) await new Promise(setImmediate);
    const [session] = sessions;
    const closed = once(session as ServerHttp2Session, "close").then(() => "closed");
    session?.close();
    assert.equal(await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 50, "open"))]), "open");
    session?.destroy();
    assert.equal(await closed, "closed");
    client.destroy();
    server.close();
  });

  it("are found by their ids until they leave", () => {
    const table = new StreamTable();
    table.set(1, "a").set(3, "b").set(3, "c");
    assert.equal(table.size, 2);
    assert.equal(table.get(3), "c");
    assert.equal(table.delete(1), true);
    assert.equal(table.delete(1), false);
    const told: unknown[] = [];
    table.forEach((stream) => {
      told.push(stream);
      table.delete(3);
    });
    assert.deepEqual([told, table.size, table.get(3)], [["c"], 0, undefined]);
  });

  it("have no id at first, and are known all the same", () => {
    const set = new StreamSet();
    set.add("a").add("b").add("a");
    assert.equal(set.size, 2);
    const told: unknown[] = [];
    set.forEach((stream) => {
      told.push(stream);
      set.delete(stream);
    });
    assert.deepEqual([told, set.size, set.delete("a")], [["a", "b"], 0, false]);
  });
});
