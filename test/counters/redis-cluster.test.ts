import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { CountersUnavailable } from "../../src/counters/counters.ts";
import { type RedisServer, startRedis } from "../redis.ts";
import { keepsThePromises } from "./contract.ts";
import { connect } from "./redis-pod.ts";
import { granted, windowClaim } from "./sample-claims.ts";

const slotCount = 16_384;
let directory: string;
let masters: readonly RedisServer[];

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "tollgate-cluster-"));
  const options = ["--cluster-enabled", "yes", "--dir", directory, "--cluster-node-timeout", "1000"];
  const start = (name: string) => startRedis({ args: [...options, "--cluster-config-file", `${name}.conf`] });
  masters = await Promise.all(["one", "two", "three"].map(start));
  await formCluster(masters);
});

after(async () => {
  await Promise.all(masters.map((master) => master.stop()));
  await rm(directory, { recursive: true, force: true });
});

/** Gives each master a third of the hash slots and waits until all of them agree. */
async function formCluster(servers: readonly RedisServer[]): Promise<void> {
  const clients = servers.map(({ host, port }) => new Redis({ host, port }));
  try {
    for (const [index, client] of clients.entries()) {
      const first = Math.ceil((slotCount * index) / servers.length);
      const last = Math.ceil((slotCount * (index + 1)) / servers.length) - 1;
      await client.call("CLUSTER", "ADDSLOTSRANGE", first, last);
      await client.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1);
    }
    for (const { host, port } of servers) await clients[0]?.call("CLUSTER", "MEET", host, port);
    for (const client of clients) {
      while (!/cluster_state:ok.*cluster_known_nodes:3/s.test(String(await client.cluster("INFO")))) await sleep(50);
    }
  } finally {
    for (const client of clients) client.disconnect();
  }
}

function pod() {
  const [seed] = masters;
  assert.ok(seed);
  return connect(seed, { isCluster: true });
}

keepsThePromises("counters in a Redis Cluster of three masters", async () => {
  const counters = [pod(), pod(), pod()] as const;
  return { counters, close: async () => void (await Promise.all(counters.map((each) => each.close()))) };
});

test("when one master is away, what others had granted is given back, and their groups go on", async () => {
  const [, , lost] = masters;
  assert.ok(lost);
  const counters = pod();
  try {
    const claims = Array.from({ length: 12 }, (_, index) => windowClaim({ group: `key:${index}`, ceiling: 1 }));
    const cautious = connect(lost, { isCluster: true, timeoutMs: 200 });
    assert.ok(await cautious.ping());
    lost.kill("SIGSTOP");
    await assert.rejects(cautious.take(claims), CountersUnavailable);
    lost.kill("SIGCONT");
    await sleep(300);
    await cautious.close();
    await granted(counters, ...claims);
  } finally {
    lost.kill("SIGCONT");
    await counters.close();
  }
});
