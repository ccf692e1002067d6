/** Passwords and certificates of Redis that change while it is used: the next connection is made with those of then. */

import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { RedisAddress, RedisNode } from "../../src/config/redis-address.ts";
import { Secret } from "../../src/secret.ts";
import { TestAuthority } from "../certificates.ts";
import { startRedis } from "../redis.ts";
import { startCluster } from "../redis-cluster.ts";
import { connect } from "./redis-pod.ts";
import { windowClaim } from "./sample-claims.ts";

const [former, next] = [new Secret("the-former-password"), new Secret("the-next-password")];

function addressOf(redis: RedisNode, more: Partial<RedisAddress>): RedisAddress {
  const nothing = { db: 0, username: undefined, password: undefined, tls: undefined, sentinel: undefined };
  return { kind: "server", nodes: [redis], ...nothing, ...more };
}

async function eventually(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (const startMs = performance.now(); !(await isSo()); await sleep(50)) {
    assert.ok(performance.now() - startMs < 20_000, what);
  }
}

/** One after the other, since a Redis that is away says so at once. */
async function counts(counters: ReturnType<typeof connect>): Promise<boolean> {
  return counters.take([windowClaim({ group: `key:${Math.random()}` })]).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** Sets another password, and cuts everybody off who came with the one of before. */
async function changePassword(redis: RedisNode, from: Secret | undefined, to: Secret): Promise<void> {
  const client = new Redis({ ...redis, ...(from && { password: from.reveal() }) });
  try {
    await client.config("SET", "requirepass", to.reveal());
    await client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  } finally {
    client.disconnect();
  }
}

test("a server's new password is shown by connections that are made after it is known, and the old one is of no use", async (t) => {
  const redis = await startRedis({ args: ["--requirepass", former.reveal()] });
  t.after(() => redis.stop());
  const at = { password: former };
  const counters = connect(redis, { at, timeoutMs: 300 });
  t.after(() => counters.close());
  await eventually("it counts", () => counts(counters));
  await changePassword(redis, former, next);
  await eventually("it has lost the connection", async () => !(await counts(counters)));
  counters.renew(addressOf(redis, { password: next }));
  await eventually("it counts again", () => counts(counters));
});

test("so is that of a Cluster's nodes", async (t) => {
  const cluster = await startCluster();
  t.after(() => cluster.stop());
  for (const master of cluster.masters) await changePassword(master, undefined, former);
  const [seed] = cluster.masters;
  assert.ok(seed);
  const at = { kind: "cluster", password: former } as const;
  const counters = connect(seed, { at, timeoutMs: 300 });
  t.after(() => counters.close());
  const countsEverywhere = async () => {
    for (let take = 0; take < 12; take++) if (!(await counts(counters))) return false;
    return true;
  };
  await eventually("it counts", countsEverywhere);
  for (const master of cluster.masters) await changePassword(master, former, next);
  await eventually("it has lost the connections", async () => !(await counts(counters)));
  counters.renew(addressOf(seed, { ...at, password: next }));
  await eventually("it counts again", countsEverywhere);
});

test("certificates are read again from their files", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "tollgate-renewal-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const authorities = [new TestAuthority(folder, "former"), new TestAuthority(folder, "next")] as const;
  const trusted = join(folder, "trusted.crt");
  const start = (authority: TestAuthority, name: string, port?: number) => {
    const { certFile, keyFile } = authority.issue(name, "DNS:localhost");
    const files = ["--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-ca-cert-file", authority.file];
    const args = [...files, "--tls-auth-clients", "no"];
    return startRedis({ args, tls: true, ...(port !== undefined && { port }) });
  };
  copyFileSync(authorities[0].file, trusted);
  const before = await start(authorities[0], "server-of-former");
  t.after(() => before.stop());
  const tls = { caFile: trusted, certFile: undefined, keyFile: undefined, verifies: true, checksHost: true };
  const counters = connect({ host: "localhost", port: before.port }, { at: { tls }, timeoutMs: 500 });
  t.after(() => counters.close());
  await eventually("it counts", () => counts(counters));
  await before.stop();
  const after = await start(authorities[1], "server-of-next", before.port);
  t.after(() => after.stop());
  await eventually("it does not trust the new server", async () => !(await counts(counters)));
  copyFileSync(authorities[1].file, trusted);
  await eventually("it counts again", () => counts(counters));
});
