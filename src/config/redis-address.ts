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
