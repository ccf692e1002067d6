import { Secret } from "../secret.ts";
import type { RedisNode } from "./redis-address.ts";

export const defaultRedisPort = 6379;

/** What to write where the address of a Redis is wanted. */
export const writeRedisUrl =
  "an address such as redis://user:password@host:6379/0, or rediss:// for TLS, best as os.environ/REDIS_URL";

/** What the address of a Redis says. */
export interface RedisUrl extends RedisNode {
  readonly username: string | undefined;
  readonly password: Secret | undefined;
  readonly db: number;
  readonly isTls: boolean;
  /** As redis-py reads them: `ssl_ca_certs`, `ssl_cert_reqs` and the like. */
  readonly query: Readonly<Record<string, string>>;
}

/** @returns undefined if it is no such address. */
export function readRedisUrl(value: unknown): RedisUrl | undefined {
  if (typeof value !== "string" || !URL.canParse(value)) return undefined;
  const url = new URL(value);
  const database = /^\/?(\d{0,4})$/.exec(url.pathname)?.[1];
  if (!/^rediss?:$/.test(url.protocol) || url.hostname === "" || database === undefined) return undefined;
  const username = decode(url.username);
  const password = decode(url.password);
  if (username === undefined || password === undefined) return undefined;
  return {
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? defaultRedisPort : Number(url.port),
    username: username === "" ? undefined : username,
    password: password === "" ? undefined : new Secret(password),
    db: Number(database),
    isTls: url.protocol === "rediss:",
    query: Object.fromEntries(url.searchParams),
  };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
