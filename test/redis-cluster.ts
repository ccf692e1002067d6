import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { type RedisServer, startRedis } from "./redis.ts";

const slotCount = 16_384;

/** A Redis Cluster of a test's own, which serves what it has when a node is lost. */
export interface RedisCluster {
  /** Each has a third of the slots. */
  readonly masters: readonly RedisServer[];
  /** Starts a master that has ended, with what it has learnt of the others. */
  restart(index: number): Promise<void>;
  stop(): Promise<void>;
}

/** Starts three masters and waits until they agree. */
export async function startCluster(): Promise<RedisCluster> {
  const directory = await mkdtemp(join(tmpdir(), "tollgate-cluster-"));
  const startNode = (index: number, port?: number) => {
    const timeout = ["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"];
    const file = ["--dir", directory, "--cluster-config-file", `${index}.conf`];
    return startRedis({ args: ["--cluster-enabled", "yes", ...file, ...timeout], ...(port !== undefined && { port }) });
  };
  let masters = await Promise.all([0, 1, 2].map((index) => startNode(index)));
  await formCluster(masters);
  return {
    get masters() {
      return masters;
    },
    restart: async (index) => {
      masters = masters.with(index, await startNode(index, masters[index]?.port));
    },
    stop: async () => {
      await Promise.all(masters.map((master) => master.stop()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

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
