import { readFileSync } from "node:fs";
import type { ConnectionOptions } from "node:tls";
import { Cluster, Redis } from "ioredis";
import type { Random } from "../clock.ts";
import type { RedisAddress, RedisTls } from "../config/redis-address.ts";

const connectTimeoutMs = 1000;
const reconnectDelayMaxMs = 500;
/** A connection that owes an answer for so long is dead. Answers that come earlier, but too late, are still made good. */
const silenceMaxMs = 3000;

/**
 * A client for the Redis at an address, not connected yet. It queues nothing and sends nothing twice.
 *
 * @throws Error naming the file of a certificate or a key that cannot be read.
 */
export function redisClient(parts: { address: RedisAddress; random: Random }): Redis | Cluster {
  const client = newClient(parts);
  if (client instanceof Cluster) client.on("+node", outliveErrors);
  else outliveErrors(client);
  return client;
}

/** ioredis hears a socket's first error only; a second one, as a handshake that failed may have, would end this process. */
function outliveErrors(client: Redis): void {
  client.on("error", () => client.stream?.on("error", () => {}));
}

function newClient({ address, random }: { address: RedisAddress; random: Random }): Redis | Cluster {
  const { kind, nodes, tls: settings, sentinel } = address;
  const tls = settings && tlsOptions(settings);
  const retryStrategy = (attempt: number) =>
    Math.min(25 * 2 ** Math.min(attempt, 10), reconnectDelayMaxMs) * (0.5 + random() / 2);
  const common = { lazyConnect: true, enableOfflineQueue: false };
  const options = { ...optionsFor(address), ...(tls && { tls }) };
  if (kind === "cluster") {
    return new Cluster([...nodes], {
      ...{ lazyConnect: true, clusterRetryStrategy: retryStrategy, redisOptions: options },
      // What was sent on a connection that was lost may have been carried out, and must not be sent again.
      retryDelayOnFailover: 0,
      // Of one node, while it is being connected. While the whole Cluster is away, Connection sends nothing.
      enableOfflineQueue: true,
      // A certificate is for a name, which ioredis would make an address of.
      ...(tls && { dnsLookup: (host, found) => found(null, host) }),
    });
  }
  if (kind === "sentinels") {
    return new Redis({
      ...{ ...common, ...options, retryStrategy },
      ...{ sentinels: [...nodes], name: sentinel?.serviceName ?? "", sentinelRetryStrategy: retryStrategy },
      ...(sentinel?.password && { sentinelPassword: sentinel.password.reveal() }),
      ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: tls }),
    });
  }
  return new Redis({ ...common, ...options, ...nodes[0], retryStrategy });
}

function optionsFor({ db, username, password }: RedisAddress) {
  return {
    ...{ db, username, password: password?.reveal() },
    ...{ connectTimeout: connectTimeoutMs, socketTimeout: silenceMaxMs },
    ...{ autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 },
    // After a failover the old master is a replica: look for the new one.
    reconnectOnError: (error: Error) => error.message.includes("READONLY"),
  };
}

function tlsOptions({ caFile, certFile, keyFile, verifies, checksHost }: RedisTls): ConnectionOptions {
  return {
    ...(caFile !== undefined && { ca: readPem("ssl_ca_certs", caFile) }),
    ...(certFile !== undefined && { cert: readPem("ssl_certfile", certFile) }),
    // One file may hold both.
    ...(certFile !== undefined && { key: readPem("ssl_keyfile", keyFile ?? certFile) }),
    rejectUnauthorized: verifies,
    ...(!checksHost && { checkServerIdentity: () => undefined }),
  };
}

function readPem(setting: string, file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Redis cannot be reached: the file of ${setting} cannot be read: ${reason}`, { cause: error });
  }
}
