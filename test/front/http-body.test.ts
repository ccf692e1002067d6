import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { after, before, test } from "node:test";
import { readBody } from "../../src/front/http-body.ts";

const server = createServer();
before(async () => once(server.listen(0, "127.0.0.1"), "listening"));
after(() => server.close());

/** What a request's body is read as, and the pieces it came in. */
async function sent(pieces: readonly string[]) {
  const { port } = server.address() as AddressInfo;
  const socket = connect(port, "127.0.0.1");
  const length = pieces.join("").length;
  socket.write(`POST / HTTP/1.1\r\nhost: here\r\ncontent-length: ${length}\r\n\r\n`);
  const [req] = (await once(server, "request")) as [IncomingMessage];
  const came: Buffer[] = [];
  req.on("data", (piece: Buffer) => came.push(piece));
  const reading = readBody(req, 1_000_000);
  for (const piece of pieces) {
    const arrival = once(req, "data");
    socket.write(piece);
    await arrival;
  }
  const body = await reading;
  socket.destroy();
  assert.ok(Buffer.isBuffer(body));
  return { body: body.toString(), came };
}

test("a body that came in pieces is whole, and the memory of its pieces is given back", async () => {
  const pieces = ["a", "b", "c"].map((letter) => letter.repeat(50_000));
  const { body, came } = await sent(pieces);
  assert.equal(body, pieces.join(""));
  assert.ok(came.length >= 3);
  assert.deepEqual([...new Set(came.map((piece) => piece.length))], [0]);
});

test("a body that came in one piece is that piece", async () => {
  const { body, came } = await sent(["short"]);
  assert.equal(body, "short");
  assert.deepEqual(came.map(String), ["short"]);
});
