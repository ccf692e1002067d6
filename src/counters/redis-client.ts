import type { ConnectionOptions } from "node:tls";
import { Cluster, Redis } from "ioredis";
import type { Random } from "../clock.ts";
import type { RedisAddress, RedisTls } from "../config/redis-address.ts";
import type { FileValue } from "../file-value.ts";
import type { TlsMaterial } from "../tls-files.ts";

const connectTimeoutMs = 1000;
const reconnectDelayMaxMs = 500;
/** A connection that owes an answer for so long is dead. Answers that come earlier, but too late, are still made good. */
const silenceMaxMs = 3000;

/** What a client is made of. */
export interface RedisClientParts {
  /** The passwords of each new connection are those it then has. */
  readonly address: () => RedisAddress;
  /** And these are its certificates, if it is over TLS. */
  readonly material: FileValue<TlsMaterial> | undefined;
  readonly random: Random;
}

/** A client for the Redis at an address, not connected yet. It queues nothing and sends nothing twice. */
export function redisClient(parts: RedisClientParts): Redis | Cluster {
  const client = newClient(parts);
  if (client instanceof Cluster) {
    client.on("+node", (node: Redis) => {
      outliveErrors(node);
      Object.assign(node.options, changingOptions(parts));
    });
  } else outliveErrors(client);
  return client;
}

/** ioredis hears a socket's first error only; a second one, as a handshake that failed may have, would end this process. */
function outliveErrors(client: Redis): void {
  client.on("error", () => client.stream?.on("error", () => {}));
}

function newClient(parts: RedisClientParts): Redis | Cluster {
  const { kind, nodes, sentinel, db, username, tls } = parts.address();
  const retryStrategy = (attempt: number) =>
    Math.min(25 * 2 ** Math.min(attempt, 10), reconnectDelayMaxMs) * (0.5 + parts.random() / 2);
  const common = { lazyConnect: true, enableOfflineQueue: false };
  const options = { ...fixedOptions, db, username, ...changingOptions(parts) };
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
  // Asked before each connection but the first.
  const renewing = (attempt: number) => {
    Object.assign(client.options, changingOptions(parts));
    return retryStrategy(attempt);
  };
  const client =
    kind === "sentinels"
      ? new Redis({
          ...{ ...common, ...options, retryStrategy: renewing },
          ...{ sentinels: [...nodes], name: sentinel?.serviceName ?? "", sentinelRetryStrategy: renewing },
          ...(tls && { enableTLSForSentinelMode: true }),
        })
      : new Redis({ ...common, ...options, ...nodes[0], retryStrategy: renewing });
  return client;
}

const fixedOptions = {
  ...{ connectTimeout: connectTimeoutMs, socketTimeout: silenceMaxMs },
  ...{ autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 },
  // After a failover the old master is a replica: look for the new one.
  reconnectOnError: (error: Error) => error.message.includes("READONLY"),
};

/** What may be another at the next connection: ioredis reads it when it makes one. */
function changingOptions({ address, material }: RedisClientParts) {
  const { password, tls: settings, sentinel } = address();
  const tls = settings && material && tlsOptions(settings, material);
  return {
    ...(password && { password: password.reveal() }),
    ...(tls && { tls }),
    ...(sentinel?.password && { sentinelPassword: sentinel.password.reveal() }),
    ...(sentinel && tls && { sentinelTLS: tls }),
  };
}

function tlsOptions({ verifies, checksHost }: RedisTls, material: FileValue<TlsMaterial>): ConnectionOptions {
  return {
    ...material.current,
    rejectUnauthorized: verifies,
    ...(!checksHost && { checkServerIdentity: () => undefined }),
  };
}
