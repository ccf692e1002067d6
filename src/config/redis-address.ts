import type { Secret } from "../secret.ts";

/** Where something listens. */
export interface RedisNode {
  readonly host: string;
  readonly port: number;
}

/** Where the shared counters are. */
export interface RedisAddress {
  /** One server, a Redis Cluster, or servers whose master is known to sentinels. */
  readonly kind: "server" | "cluster" | "sentinels";
  /** At least one: the server, or those nodes of the Cluster or those sentinels that are asked first. */
  readonly nodes: readonly RedisNode[];
  readonly password: Secret | undefined;
  readonly username: string | undefined;
  readonly db: number;
  /** Undefined: in the clear. */
  readonly tls: RedisTls | undefined;
  /** What the sentinels call the servers, and what they want to be shown. */
  readonly sentinel: { readonly serviceName: string; readonly password: Secret | undefined } | undefined;
}

/** Whether two addresses are the same but for their passwords, which may change while it is used. */
export function isSameRedis(one: RedisAddress | undefined, other: RedisAddress | undefined): boolean {
  // All that a secret's JSON says is that there is one.
  return JSON.stringify(one) === JSON.stringify(other);
}

/** How a Redis is known to be the right one, and this process to it. Files are in PEM. */
export interface RedisTls {
  /** Whose certificates are trusted; undefined: the authorities Node trusts. */
  readonly caFile: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  /** False: whoever answers is believed. */
  readonly verifies: boolean;
  /** Whether the certificate must be for the host that was asked for. */
  readonly checksHost: boolean;
}
