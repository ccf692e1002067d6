import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type PeerCertificate } from "node:tls";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { type Clock, systemClock } from "../../src/clock.ts";
import { Health } from "../../src/gen/grpc/health/v1/health_pb.ts";
import { type TlsFiles, tlsMaterial } from "../../src/tls-files.ts";
import { TestAuthority } from "../certificates.ts";
import { openPort } from "./port.ts";

const folder = mkdtempSync(join(tmpdir(), "tollgate-tls-"));
let authority: TestAuthority;
let own: TlsFiles & { readonly certFile: string; readonly keyFile: string };
before(() => {
  authority = new TestAuthority(folder);
  own = authority.issue("port", "DNS:localhost");
});
after(() => rmSync(folder, { recursive: true, force: true }));

const faults: string[] = [];
const materialOf = (files: TlsFiles, clock = systemClock) =>
  tlsMaterial(files, { clock, onError: ({ message }) => faults.push(message) });
/** A hundred times as quick as ours, for who will not wait. */
const quick: Clock = {
  ...systemClock,
  monotonicMs: () => 100 * systemClock.monotonicMs(),
  after: (delayMs, task) => systemClock.after(delayMs / 100, task),
};

const caOf = () => materialOf({ certFile: undefined, keyFile: undefined, caFile: authority.file }).current;

/** One request over TLS by HTTP/1.1. */
function ask(port: number, client: object = {}): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: "localhost", port, path: "/hello", agent: false, ...caOf(), ...client }, (answer) => {
      let text = "";
      answer.on("data", (piece) => {
        text += piece;
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, text }));
    });
    asked.on("error", reject);
    asked.end();
  });
}

function certificateOf(port: number): Promise<PeerCertificate> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "localhost", port, servername: "localhost", ...caOf() }, () => {
      resolve(socket.getPeerCertificate());
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

describe("a port over TLS", () => {
  test("serves HTTP/1.1, gRPC, gRPC's health and Connect, and refuses plaintext", async (t) => {
    const port = await openPort(t, {
      tls: { material: materialOf({ ...own, caFile: undefined }), requiresClient: true },
    });
    assert.deepEqual(await ask(port.port), { status: 200, text: "GET /hello" });
    const baseUrl = `https://localhost:${port.port}`;
    const nodeOptions = caOf();
    for (const transport of [
      createGrpcTransport({ baseUrl, nodeOptions }),
      createConnectTransport({ baseUrl, httpVersion: "1.1", nodeOptions }),
      createConnectTransport({ baseUrl, httpVersion: "2", nodeOptions }),
    ]) {
      assert.equal((await createClient(Health, transport).check({ service: "" })).status, 1);
    }
    const plain = await new Promise<string>((resolve) => {
      const socket = connectTcp(port.port, "localhost");
      let text = "";
      socket.on("data", (piece) => {
        text += piece;
      });
      socket.on("error", () => {});
      socket.on("close", () => resolve(text));
      socket.write("GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n");
    });
    assert.doesNotMatch(plain, /hello/);
    assert.deepEqual(port.bugs, []);
  });

  test("that wants clients' certificates takes those of its authorities, and no others", async (t) => {
    const port = await openPort(t, { tls: { material: materialOf(own), requiresClient: true } });
    const client = authority.issue("client", "DNS:client");
    const stranger = new TestAuthority(folder, "strangers").issue("stranger", "DNS:client");
    assert.equal((await ask(port.port, materialOf(client).current)).status, 200);
    await assert.rejects(ask(port.port, { ...materialOf(stranger).current, ...caOf() }));
    await assert.rejects(ask(port.port));
    const grpc = createGrpcTransport({ baseUrl: `https://localhost:${port.port}`, nodeOptions: caOf() });
    const refused = await createClient(Health, grpc).check({}).catch(ConnectError.from);
    assert.ok(refused instanceof ConnectError);
    assert.notEqual(refused.code, Code.Unauthenticated);
  });

  test("shows a renewed certificate to new connections, and keeps the old one while a pair does not fit", async (t) => {
    const files = { ...authority.issue("renewing", "DNS:localhost"), caFile: undefined };
    const tls = { material: materialOf(files, quick), requiresClient: false };
    const port = await openPort(t, { tls, clock: quick });
    const first = await certificateOf(port.port);
    const next = authority.issue("next", "DNS:localhost");
    // As it looks while it is being written: the certificate is there, its key is not yet.
    copyFileSync(next.certFile, files.certFile);
    await sleep(200);
    assert.equal((await certificateOf(port.port)).serialNumber, first.serialNumber);
    assert.match(faults.at(-1) ?? "", /renewing\.crt.*not a PEM certificate and its key/);
    copyFileSync(next.keyFile, files.keyFile);
    const untilMs = Date.now() + 15_000;
    let shown = first.serialNumber;
    while (shown === first.serialNumber && Date.now() < untilMs) {
      await sleep(250);
      shown = (await certificateOf(port.port)).serialNumber;
    }
    assert.notEqual(shown, first.serialNumber);
  });

  test("closes at once while somebody dawdles over a handshake", async (t) => {
    const port = await openPort(t, {
      tls: { material: materialOf({ ...own, caFile: undefined }), requiresClient: false },
    });
    const socket = connectTcp(port.port, "localhost");
    socket.on("error", () => {});
    await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
    await sleep(50);
    const startMs = Date.now();
    await port.close(5_000);
    assert.ok(Date.now() - startMs < 2_000);
    socket.destroy();
  });
});

test("a certificate without its key, or of nothing, is refused at the start by its files' names", () => {
  const empty = join(folder, "empty.pem");
  writeFileSync(empty, "nothing");
  assert.throws(() => materialOf({ ...own, certFile: empty }), /"[^"]*empty\.pem".*not a PEM certificate/);
  assert.throws(() => materialOf({ ...own, keyFile: join(folder, "none") }), /none" cannot be read \(ENOENT\)/);
});
