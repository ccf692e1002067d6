import { Secret } from "../secret.ts";
import type { RedisAddress } from "./config.ts";

const defaultPort = 6379;

/** What to write where the address of a Redis is wanted. */
export const writeRedisUrl =
  "an address such as redis://user:password@host:6379/0, best as os.environ/REDIS_URL (rediss:// is not served yet: the password would travel in the clear)";

/** @returns undefined if it is no such address. */
export function readRedisUrl(value: unknown): RedisAddress | undefined {
  if (typeof value !== "string" || !URL.canParse(value)) return undefined;
  const url = new URL(value);
  const database = /^\/?(\d{0,4})$/.exec(url.pathname)?.[1];
  if (url.protocol !== "redis:" || url.hostname === "" || database === undefined) return undefined;
  const username = decode(url.username);
  const password = decode(url.password);
  if (username === undefined || password === undefined) return undefined;
  return {
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? defaultPort : Number(url.port),
    username: username === "" ? undefined : username,
    password: password === "" ? undefined : new Secret(password),
    db: Number(database),
  };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
