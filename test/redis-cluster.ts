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
  /** Of each master one, if there are any. */
  readonly replicas: readonly RedisServer[];
  /** Starts a master that has ended, with what it has learnt of the others. */
  restart(index: number): Promise<void>;
  stop(): Promise<void>;
}

/** Starts three masters, with a replica each if `options.hasReplicas`, and waits until they agree. */
export async function startCluster(options: { hasReplicas?: boolean } = {}): Promise<RedisCluster> {
  const directory = await mkdtemp(join(tmpdir(), "tollgate-cluster-"));
  const startNode = (index: number, port?: number) => {
    const timeout = ["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"];
    const replication = ["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"];
    const file = ["--dir", directory, "--cluster-config-file", `${index}.conf`];
    return startRedis({
      args: ["--cluster-enabled", "yes", ...file, ...timeout, ...replication],
      ...(port !== undefined && { port }),
    });
  };
  let masters = await Promise.all([0, 1, 2].map((index) => startNode(index)));
  const replicas = options.hasReplicas === true ? await Promise.all([3, 4, 5].map((index) => startNode(index))) : [];
  await formCluster(masters, replicas);
  return {
    get masters() {
      return masters;
    },
    replicas,
    restart: async (index) => {
      masters = masters.with(index, await startNode(index, masters[index]?.port));
    },
    stop: async () => {
      await Promise.all([...masters, ...replicas].map((server) => server.stop()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function formCluster(masters: readonly RedisServer[], replicas: readonly RedisServer[]): Promise<void> {
  const servers = [...masters, ...replicas];
  const clients = servers.map(({ host, port }) => new Redis({ host, port }));
  try {
    for (const [index, client] of clients.entries()) {
      await client.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1);
      if (index >= masters.length) continue;
      const first = Math.ceil((slotCount * index) / masters.length);
      const last = Math.ceil((slotCount * (index + 1)) / masters.length) - 1;
      await client.call("CLUSTER", "ADDSLOTSRANGE", first, last);
    }
    for (const { host, port } of servers) await clients[0]?.call("CLUSTER", "MEET", host, port);
    const agreed = new RegExp(`cluster_state:ok.*cluster_known_nodes:${servers.length}\\b`, "s");
    for (const client of clients) while (!agreed.test(String(await client.cluster("INFO")))) await sleep(50);
    for (const [index, replica] of clients.slice(masters.length).entries()) {
      await replica.call("CLUSTER", "REPLICATE", String(await clients[index]?.call("CLUSTER", "MYID")));
      while (!/master_link_status:up/.test(await replica.info("replication"))) await sleep(50);
    }
  } finally {
    for (const client of clients) client.disconnect();
  }
}
