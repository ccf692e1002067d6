import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { systemClock } from "../../src/clock.ts";
import { StandbyCounters } from "../../src/counters/standby.ts";
import { Secret } from "../../src/secret.ts";
import { type RedisServer, startRedis } from "../redis.ts";
import { connect } from "./redis-pod.ts";
import { granted, windowClaim } from "./sample-claims.ts";

let directory: string;
let master: RedisServer;
let replica: RedisServer;
let sentinels: readonly RedisServer[];

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "tollgate-sentinel-"));
  const password = [
    "--requirepass",
    "of-the-servers",
    "--masterauth",
    "of-the-servers",
    "--repl-diskless-sync-delay",
    "0",
  ];
  master = await startRedis({ args: password });
  replica = await startRedis({ args: [...password, "--replicaof", `127.0.0.1 ${master.port}`] });
  await eventually("the replica is in step", async () => /master_link_status:up/.test(await info(replica)));
  sentinels = await Promise.all([startSentinel("one"), startSentinel("two"), startSentinel("three")]);
  for (const { port } of sentinels) await eventually("the sentinels know each other", () => knowsAll(port));
});

after(async () => {
  await Promise.all([...(sentinels ?? []), replica, master].map((server) => server?.stop()));
  await rm(directory, { recursive: true, force: true });
});

async function eventually(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (const startMs = performance.now(); !(await isSo()); await sleep(50)) {
    assert.ok(performance.now() - startMs < 20_000, what);
  }
}

async function info({ port }: RedisServer): Promise<string> {
  const client = new Redis({ port, password: "of-the-servers" });
  try {
    return await client.info("replication");
  } finally {
    client.disconnect();
  }
}

async function knowsAll(port: number): Promise<boolean> {
  const client = new Redis({ port, password: "of-the-sentinels" });
  try {
    return /slaves=1,sentinels=3/.test(await client.info("sentinel"));
  } finally {
    client.disconnect();
  }
}

/** A sentinel is a Redis server with another task; it writes what it learns into its file. */
async function startSentinel(name: string): Promise<RedisServer> {
  const file = join(directory, `${name}.conf`);
  await writeFile(
    file,
    [
      `sentinel monitor the-limits 127.0.0.1 ${master.port} 2`,
      "sentinel auth-pass the-limits of-the-servers",
      "sentinel down-after-milliseconds the-limits 500",
      "sentinel failover-timeout the-limits 3000",
      "requirepass of-the-sentinels",
      "sentinel sentinel-pass of-the-sentinels",
    ].join("\n"),
  );
  return startRedis({ sentinelFile: file });
}

test("the sentinels say who is the master, and after a failover who has taken its place", async () => {
  const [seed] = sentinels;
  assert.ok(seed);
  const secret = (text: string) => new Secret(text);
  const store = connect(seed, {
    timeoutMs: 50,
    at: {
      kind: "sentinels",
      // One that is not there is no harm.
      nodes: [{ host: "127.0.0.1", port: 1 }, ...sentinels.map(({ host, port }) => ({ host, port }))],
      password: secret("of-the-servers"),
      sentinel: { serviceName: "the-limits", password: secret("of-the-sentinels") },
    },
  });
  const counters = new StandbyCounters({ store, livePods: () => 1, mode: "local_share", clock: systemClock });
  try {
    await eventually("the master is found", () => store.ping());
    await granted(store, windowClaim());
    const killedMs = performance.now();
    master.kill("SIGKILL");
    let backMs: number | undefined;
    const slowestMs = [];
    while (backMs === undefined) {
      const startMs = performance.now();
      await granted(counters, windowClaim());
      slowestMs.push(performance.now() - startMs);
      await sleep(10);
      if (store.isUp && (await store.take([windowClaim()]).catch(() => undefined))?.ok)
        backMs = performance.now() - killedMs;
      assert.ok(performance.now() - killedMs < 15_000, "no new master");
    }
    slowestMs.sort((one, other) => other - one);
    assert.ok((slowestMs[0] ?? 0) < 50 + 60, `${slowestMs.slice(0, 5)}`);
    assert.match(await info(replica), /role:master/);
    // Sentinels that did not agree at once vote again after some seconds.
    assert.ok(backMs < 500 + 10_000, `${backMs} after the kill, of which the sentinels wait 500`);
  } finally {
    await counters.close();
  }
});
