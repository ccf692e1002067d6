import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { RedisTls } from "../../src/config/redis-address.ts";
import { CountersUnavailable } from "../../src/counters/counters.ts";
import { type RedisServer, startRedis } from "../redis.ts";
import { connect } from "./redis-pod.ts";
import { granted, windowClaim } from "./sample-claims.ts";

const byFile = { certFile: undefined, keyFile: undefined, verifies: true, checksHost: true };

describe("counters in a Redis that speaks TLS only", () => {
  let directory: string;
  let redis: RedisServer;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "tollgate-tls-"));
    certify("server", "DNS:localhost");
    certify("stranger", "DNS:localhost");
    redis = await startRedis({
      args: [
        ...["--tls-replication", "no", "--tls-auth-clients", "optional"],
        ...[
          "--tls-cert-file",
          file("server.crt"),
          "--tls-key-file",
          file("server.key"),
          "--tls-ca-cert-file",
          file("server.crt"),
        ],
      ],
      tls: true,
    });
  });
  after(async () => {
    await redis.stop();
    await rm(directory, { recursive: true, force: true });
  });

  const file = (name: string) => join(directory, name);

  /** A certificate that has signed itself. */
  function certify(name: string, subject: string): void {
    const files = ["-keyout", file(`${name}.key`), "-out", file(`${name}.crt`)];
    const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    execFileSync("openssl", [...kind, ...files, "-subj", `/CN=${name}`, "-addext", `subjectAltName=${subject}`], {
      stdio: "ignore",
    });
  }

  const podAt = (host: string, tls: Partial<RedisTls> | undefined) =>
    connect(
      { host, port: redis.port },
      { at: { tls: tls && { ...byFile, caFile: undefined, ...tls } }, timeoutMs: 500 },
    );

  async function isServed(host: string, tls: Partial<RedisTls> | undefined): Promise<void> {
    const counters = podAt(host, tls);
    try {
      await granted(counters, windowClaim());
    } finally {
      await counters.close();
    }
  }

  async function isRefused(host: string, tls: Partial<RedisTls> | undefined, why: RegExp): Promise<void> {
    const counters = podAt(host, tls);
    try {
      for (let call = 0; call < 4; call += 1) {
        await assert.rejects(counters.take([windowClaim()]), CountersUnavailable);
        await sleep(20);
      }
      const error = await counters.take([windowClaim()]).catch((thrown: unknown) => thrown);
      assert.ok(error instanceof CountersUnavailable && error.cause instanceof Error);
      assert.match(error.cause.message, why);
    } finally {
      await counters.close();
    }
  }

  test("a certificate that signed itself is trusted by its file", async () => {
    await isServed("localhost", { caFile: file("server.crt") });
  });

  test("without the file, or with another's, it is not trusted", async () => {
    await isRefused("localhost", {}, /self-signed certificate|no answer|closed|writeable/i);
    await isRefused("localhost", { caFile: file("stranger.crt") }, /self-signed|signature|verify|closed|writeable/i);
  });

  test("a certificate for another host is refused, unless the host is not to be checked", async () => {
    await isRefused("127.0.0.1", { caFile: file("server.crt") }, /altnames|does not match|closed|writeable/i);
    await isServed("127.0.0.1", { caFile: file("server.crt"), checksHost: false });
  });

  test("whoever answers is believed if nothing is to be verified", async () => {
    await isServed("127.0.0.1", { verifies: false });
  });

  test("this process shows its own certificate if it has one", async () => {
    await isServed("localhost", {
      caFile: file("server.crt"),
      certFile: file("server.crt"),
      keyFile: file("server.key"),
    });
  });

  test("in the clear it is unavailable", async () => {
    await isRefused("localhost", undefined, /./);
  });

  test("a file that is not there is named", () => {
    assert.throws(
      () => podAt("localhost", { caFile: file("missing.crt") }),
      /Redis cannot be reached: "[^"]+missing\.crt" cannot be read \(ENOENT\)/,
    );
  });
});
