import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { health } from "../../sidecar/health.ts";
import { readSettings, SettingsError } from "../../sidecar/settings.ts";
import { TestAuthority } from "../certificates.ts";

test("a program's health is asked at its own port and path, and is the exit code", async (context) => {
  const asked: string[] = [];
  let status = 200;
  const server = createServer((req, res) => {
    asked.push(req.url ?? "");
    res.writeHead(status).end("as it is\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => server.close());
  const port = String((server.address() as AddressInfo).port);
  // 0.0.0.0 is where containers listen, and no address to ask at.
  const all = { TOLLGATE_ADMIN_HOST: "0.0.0.0", TOLLGATE_KEYSERVICE_HOST: "0.0.0.0" };
  const settings = readSettings({ ...all, TOLLGATE_ADMIN_PORT: port, TOLLGATE_KEYSERVICE_PORT: port }, "h");
  const printed: string[] = [];
  const stdout = { write: (text: string) => printed.push(text) };

  assert.equal(await health(["sidecar"], { settings, stdout }), 0);
  status = 503;
  assert.equal(await health(["keyservice"], { settings, stdout }), 1);
  assert.deepEqual(asked, ["/readyz", "/health/readiness"]);
  assert.deepEqual(printed, ["as it is\n", "as it is\n"]);
});

test("a program whose port is over TLS is asked over TLS, by whatever name its certificate is", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "tollgate-health-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const { certFile, keyFile } = new TestAuthority(folder).issue("own", "DNS:tollgate-keyservice.tollgate.svc");
  const asked: string[] = [];
  const server = createTlsServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, (req, res) => {
    asked.push(req.url ?? "");
    res.end("as it is\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => server.close());
  const port = String((server.address() as AddressInfo).port);
  const ports = { TOLLGATE_ADMIN_PORT: port, TOLLGATE_KEYSERVICE_PORT: port };
  const certificate = { TOLLGATE_TLS_CERT_FILE: certFile, TOLLGATE_TLS_KEY_FILE: keyFile };
  const stdout = { write: () => {} };
  const healthOf = (program: string, env: Readonly<Record<string, string>>) =>
    health([program], { settings: readSettings({ ...ports, ...certificate, ...env }, "h"), stdout });

  assert.equal(await healthOf("keyservice", {}), 0);
  assert.equal(await healthOf("sidecar", { TOLLGATE_ADMIN_TLS: "true" }), 0);
  assert.deepEqual(asked, ["/health/readiness", "/readyz"]);
  // The sidecar's health port is in the clear unless that is said, whatever its data port is.
  assert.equal(await healthOf("sidecar", {}), 1);
});

test("a program that is not there is not healthy, and one that does not exist is a wrong use", async () => {
  const settings = readSettings({ TOLLGATE_ADMIN_PORT: "1", TOLLGATE_ADMIN_HOST: "127.0.0.1" }, "h");
  const printed: string[] = [];
  const stdout = { write: (text: string) => printed.push(text) };
  assert.equal(await health([], { settings, stdout }), 1);
  assert.match(printed.join(""), /127\.0\.0\.1:1\/readyz does not answer: .*ECONNREFUSED/);
  await assert.rejects(health(["postgres"], { settings, stdout }), SettingsError);
});
