import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import { createSecureServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { systemClock } from "../../src/clock.ts";
import { ProviderHttp, type ProviderRequest } from "../../src/providers/http.ts";
import { TestAuthority } from "../certificates.ts";

const callTo = (url: string): ProviderRequest => ({
  url: new URL(url),
  headers: {},
  body: Buffer.from("{}"),
  signal: new AbortController().signal,
  headTimeoutMs: 20_000,
  idleTimeoutMs: 20_000,
});

test("no call waits for another's connection, however many are under way", async () => {
  const callCount = 1_000;
  const held: ServerResponse[] = [];
  const server = createServer((_req, res) => {
    held.push(res);
    // None is answered before all are there.
    if (held.length === callCount) for (const each of held) each.end("{}");
  });
  server.listen(0, "127.0.0.1", 1_024);
  await once(server, "listening");
  const http = new ProviderHttp({ clock: systemClock });
  const { port } = server.address() as AddressInfo;
  try {
    const call = callTo(`http://127.0.0.1:${port}/`);
    const answers = await Promise.all(Array.from({ length: callCount }, () => http.post(call)));
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  } finally {
    await http.close();
    server.close();
  }
});

test("a provider is asked by TLS and HTTP/1.1, also where it would speak HTTP/2, and its certificate must be good", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tollgate-provider-tls-"));
  const authority = new TestAuthority(folder);
  const { certFile, keyFile } = authority.issue("localhost", "DNS:localhost");
  const versions: string[] = [];
  const server = createSecureServer(
    { allowHTTP1: true, cert: readFileSync(certFile), key: readFileSync(keyFile) },
    (req, res) => {
      versions.push(req.httpVersion);
      res.writeHead(200, { "content-type": "application/json" });
      res.end('{"said":1}');
    },
  );
  server.listen(0, "localhost");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const http = new ProviderHttp({ clock: systemClock });
  const trusted = getCACertificates("default");
  try {
    await assert.rejects(http.post(callTo(`https://localhost:${port}/`)), { code: "provider_unavailable" });
    setDefaultCACertificates([...trusted, readFileSync(authority.file, "utf8")]);
    const answer = await http.post(callTo(`https://localhost:${port}/`));
    assert.equal(answer.status, 200);
    assert.equal((await answer.read(1_000, 5_000)).toString(), '{"said":1}');
    assert.deepEqual(versions, ["1.1"]);
    await assert.rejects(http.post(callTo(`https://127.0.0.1:${port}/`)), { code: "provider_unavailable" });
  } finally {
    setDefaultCACertificates(trusted);
    await http.close();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
