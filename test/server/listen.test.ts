import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { chmod, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import { connect as connectHttp2, constants } from "node:http2";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { collectAll } from "../../sidecar/quiet-collection.ts";
import { openPort, readResponse, Wire } from "./port.ts";

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

test("HTTP/1.1 goes to the fallback, and a connection is kept for the next request", async (t) => {
  const { port } = await openPort(t);
  const wire = new Wire(port);
  wire.send("GET /one HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await wire.until(/GET \/one/);
  wire.send("POST /two?x=1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc");
  await wire.until(/POST \/two\?x=1/);
  wire.socket.destroy();
});

test("pipelined requests are answered in order", async (t) => {
  const { port } = await openPort(t);
  const wire = new Wire(port);
  wire.send(Array.from({ length: 20 }, (_, i) => `GET /${i}. HTTP/1.1\r\nhost: localhost\r\n\r\n`).join(""));
  const text = await wire.until(/GET \/19\./);
  assert.deepEqual(
    [...text.matchAll(/GET \/(\d+)\./g)].map((match) => Number(match[1])),
    Array.from({ length: 20 }, (_, i) => i),
  );
  wire.socket.destroy();
});

test("a request sent byte by byte is read", async (t) => {
  const { port } = await openPort(t);
  const wire = new Wire(port);
  for (const byte of "POST /slow HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nab") {
    wire.send(byte);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await wire.until(/POST \/slow/);
  wire.socket.destroy();
});

test("HTTP/2 goes to the fallback too, also when its preface comes byte by byte", async (t) => {
  const { port } = await openPort(t);
  const socket = connect(port, "127.0.0.1");
  socket.setNoDelay(true);
  for (const byte of preface.slice(0, 23)) {
    socket.write(byte);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  socket.write(preface.slice(23));
  // An empty SETTINGS frame, to which the server owes one of its own and an acknowledgement.
  socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  const settings = await new Promise<Buffer>((resolve) => socket.once("data", resolve));
  assert.equal(settings[3], 4);
  socket.destroy();

  assert.deepEqual(await http2Get(port, "/v1/models"), { status: 200, body: "GET /v1/models" });
});

test("what begins like HTTP/2 and is not gets an error in JSON", async (t) => {
  const { port } = await openPort(t);
  for (const bytes of [
    "PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "hello\r\n\r\n",
    "\0\0\0",
  ]) {
    const wire = new Wire(port);
    wire.send(Buffer.from(bytes, "latin1"));
    const { status, headers, body } = readResponse(await wire.ended());
    assert.equal(status, 400, JSON.stringify(bytes));
    assert.match(headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
    assert.deepEqual(JSON.parse(body), {
      error: {
        message: "This is not valid HTTP.",
        type: "invalid_request_error",
        param: null,
        code: "invalid_request",
      },
    });
  }
});

test("a header of a megabyte gets 431, in JSON, before the connection ends", async (t) => {
  const { port } = await openPort(t);
  const wire = new Wire(port);
  wire.send(`GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${"k".repeat(1_000_000)}\r\n\r\n`);
  const { status, headers, body } = readResponse(await wire.ended());
  assert.equal(status, 431);
  assert.equal(headers.get("content-type"), "application/json");
  assert.ok(headers.get("x-request-id"));
  assert.match(JSON.parse(body).error.message, /larger than 16384 bytes/);
});

test("a header of a megabyte over HTTP/2 is refused, and the port serves on", async (t) => {
  const { port } = await openPort(t);
  await assert.rejects(http2Get(port, "/", { authorization: `Bearer ${"k".repeat(1_000_000)}` }));
  assert.equal((await http2Get(port, "/")).status, 200);
});

test("garbage in the middle of a response ends the connection and does not enter the response", async (t) => {
  const { port } = await openPort(t, {
    fallback: (_req, res) => {
      res.write("first");
    },
  });
  const wire = new Wire(port);
  wire.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await wire.until(/first/);
  wire.send("garbage\r\n\r\n");
  assert.doesNotMatch(await wire.ended(), /400/);
});

test("garbage behind a second request does not enter the response to the first", async (t) => {
  const { port } = await openPort(t, {
    fallback: (req, res) => {
      if (req.url === "/first") res.write("first");
    },
  });
  const wire = new Wire(port);
  wire.send("GET /first HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await wire.until(/first/);
  wire.send("GET /second HTTP/1.1\r\nhost: localhost\r\n\r\ngarbage\r\n\r\n");
  assert.doesNotMatch(await wire.ended(), /400/);
});

test("an idle connection holds on to nothing of its last call", async (t) => {
  const responses: WeakRef<object>[] = [];
  const { port } = await openPort(t, {
    fallback: (req, res) => {
      responses.push(new WeakRef(res));
      req.resume().on("end", () => res.end(`${req.method} ${req.url}`));
    },
  });
  const wire = new Wire(port);
  wire.send("POST /last HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc");
  await wire.until(/POST \/last/);
  // A WeakRef holds until what is running now has ended.
  await new Promise((resolve) => setTimeout(resolve, 50));
  collectAll();
  assert.deepEqual(
    responses.map((response) => response.deref()),
    [undefined],
  );
  wire.send("GET /next HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await wire.until(/GET \/next/);
  wire.socket.destroy();
});

test("a connection without HTTP, or with half a header, is closed in time", async (t) => {
  const { port } = await openPort(t, { limits: { headersTimeoutMs: 200 } });
  const silent = new Wire(port);
  const halfPreface = new Wire(port);
  halfPreface.send(preface.slice(0, 10));
  const halfHeader = new Wire(port);
  halfHeader.send("GET / HTTP/1.1\r\nhost: localhost\r\n");
  const dripping = setInterval(() => halfHeader.send("x: y\r\n"), 50);
  t.after(() => clearInterval(dripping));
  assert.equal(await silent.ended(), "");
  assert.equal(await halfPreface.ended(), "");
  const { status, body } = readResponse(await halfHeader.ended());
  assert.equal(status, 400);
  assert.match(JSON.parse(body).error.message, /did not arrive in time/);
});

test("a body that never ends is refused in time", async (t) => {
  const { port } = await openPort(t, { limits: { headersTimeoutMs: 200, requestTimeoutMs: 300 } });
  const wire = new Wire(port);
  wire.send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nab");
  assert.match(await wire.ended(), /did not arrive in time/);
});

test("an idle connection is closed after the keep-alive time, a silent answer is not", async (t) => {
  const { port } = await openPort(t, {
    limits: { keepAliveTimeoutMs: 100, stallTimeoutMs: 100 },
    fallback: (_req, res) => void setTimeout(() => res.end("late"), 400),
  });
  const wire = new Wire(port);
  wire.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
  assert.match(await wire.ended(), /late/);
});

test("a reader that stops reading is cut off, over HTTP/1.1 and HTTP/2", async (t) => {
  let gone = 0;
  const { port } = await openPort(t, {
    limits: { stallTimeoutMs: 200 },
    fallback: (_req, res) => {
      res.on("close", () => {
        gone += 1;
      });
      res.write(Buffer.alloc(20_000_000));
    },
  });
  const http1 = connect(port, "127.0.0.1").pause();
  http1.on("error", () => {}).write("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
  const session = connectHttp2(`http://127.0.0.1:${port}`).on("error", () => {});
  session
    .request({ ":path": "/" })
    .on("error", () => {})
    .pause();
  await eventually(() => gone === 2);
  http1.destroy();
  session.destroy();
});

test("closing lets calls in flight finish, on every protocol, and says goodbye to idle connections", async (t) => {
  const finish: (() => void)[] = [];
  const port = await openPort(t, {
    fallback: (_req, res) => {
      res.write("begun ");
      finish.push(() => res.end("done"));
    },
  });
  const wire = new Wire(port.port);
  wire.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
  const answer = http2Get(port.port, "/");
  const undecided = new Wire(port.port);
  await eventually(() => finish.length === 2);
  const idle = new Wire(port.port);
  const begun = Date.now();
  const closed = port.close(5_000);
  await undecided.ended();
  await idle.ended();
  await assert.rejects(http2Get(port.port, "/"));
  for (const end of finish) end();
  assert.deepEqual(await answer, { status: 200, body: "begun done" });
  assert.match(await wire.ended(), /done/);
  await closed;
  assert.ok(Date.now() - begun < 2_000);
});

test("closing cuts off what is not done in time", async (t) => {
  const port = await openPort(t, { fallback: (_req, res) => void res.write("for ever") });
  const wire = new Wire(port.port);
  wire.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await wire.until(/for ever/);
  const session = connectHttp2(port.url).on("error", () => {});
  const stream = session.request({ ":path": "/" }).on("error", () => {});
  await new Promise((resolve) => stream.once("data", resolve));
  const begun = Date.now();
  await port.close(100);
  assert.ok(Date.now() - begun < 1_500);
  await wire.ended();
});

test("a unix socket serves the same, with mode 0660, in place of one that a dead process left", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "socket-"));
  t.after(() => rm(directory, { recursive: true }));
  const socketPath = join(directory, "api.sock");
  await leaveStaleSocket(socketPath);
  const port = await openPort(t, { socketPath });
  assert.equal((await stat(socketPath)).mode & 0o777, 0o660);
  assert.equal(await get({ socketPath, path: "/over/socket" }), "GET /over/socket");

  await assert.rejects(openPort(t, { socketPath }), /Another process listens/);
  assert.equal(await get({ socketPath, path: "/still" }), "GET /still");
  await port.close(1_000);
  await assert.rejects(stat(socketPath), { code: "ENOENT" });

  const file = join(directory, "file");
  await writeFile(file, "precious");
  await chmod(file, 0o600);
  await assert.rejects(openPort(t, { socketPath: file }), /is not a socket/);
});

test("a port that is taken is an error", async (t) => {
  const { port } = await openPort(t);
  await assert.rejects(openPort(t, { port }), { code: "EADDRINUSE" });
});

test("TCP_NODELAY is set on every connection", async (t) => {
  const { port } = await openPort(t);
  const accepted: Socket[] = [];
  const onSocket = (message: unknown) => accepted.push((message as { socket: Socket }).socket);
  subscribe("net.server.socket", onSocket);
  t.after(() => unsubscribe("net.server.socket", onSocket));
  const wire = new Wire(port);
  wire.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await wire.until(/GET/);
  await http2Get(port, "/");
  wire.socket.destroy();
  assert.equal(accepted.length, 2);
  for (const socket of accepted) {
    const flag = Object.getOwnPropertySymbols(socket).find((symbol) => symbol.description === "kSetNoDelay");
    assert.equal(flag !== undefined && Reflect.get(socket, flag), true);
  }
});

test("one connection carries many requests, one after another", async (t) => {
  const { port } = await openPort(t);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  for (let i = 0; i < 100; i++) assert.equal(await get({ port, path: `/${i}`, agent }), `GET /${i}`);
  assert.equal(Object.values(agent.freeSockets).flat().length, 1);
});

async function http2Get(port: number, path: string, headers: Record<string, string> = {}) {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  try {
    return await new Promise<{ status: number; body: string }>((resolve, reject) => {
      session.on("error", reject);
      const stream = session.request({ ...headers, ":path": path });
      let status = 0;
      let body = "";
      stream.setEncoding("utf8");
      stream.on("response", (response) => {
        status = Number(response[constants.HTTP2_HEADER_STATUS]);
      });
      stream.on("data", (chunk: string) => {
        body += chunk;
      });
      stream.on("error", reject);
      stream.on("end", () => (status === 0 ? reject(new Error("no response")) : resolve({ status, body })));
    });
  } finally {
    session.close();
  }
}

function get(options: { port?: number; socketPath?: string; path: string; agent?: Agent }): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ host: "127.0.0.1", ...options }, (res) => {
      let body = "";
      res.setEncoding("utf8");
      res.on("data", (chunk: string) => {
        body += chunk;
      });
      res.on("end", () => resolve(body));
    })
      .on("error", reject)
      .end();
  });
}

/** Binds a socket and forgets it without removing its file, as a killed process does. */
async function leaveStaleSocket(path: string): Promise<void> {
  const { execFileSync } = await import("node:child_process");
  const program = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
  try {
    execFileSync(process.execPath, ["-e", program], { stdio: "ignore" });
  } catch {
    // Killed, as intended.
  }
  assert.ok((await stat(path)).isSocket());
}

async function eventually(condition: () => boolean, timeoutMs = 5_000): Promise<void> {
  const begun = Date.now();
  while (!condition()) {
    if (Date.now() - begun > timeoutMs) throw new Error("never happened");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
