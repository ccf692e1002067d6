import { Secret } from "../secret.ts";
import type { RedisAddress } from "./config.ts";
import { readNumber } from "./decimal.ts";
import { readRedisUrl, writeRedisUrl } from "./redis-url.ts";
import type { Remarks } from "./remarks.ts";
import type { ConfigFile } from "./schema.ts";

/** The variables an address is taken from when the file has none. */
export const redisVariables = ["REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD"] as const;

const defaultPort = 6379;

/**
 * Where the shared counters are: `router_settings`, else the cache's Redis, else LiteLLM's variables. And where answers are kept:
 * the cache's Redis, else the counters'.
 */
export function compileRedis(
  file: ConfigFile,
  lookup: (name: string) => string | undefined,
  remarks: Remarks,
): { readonly counters: RedisAddress | undefined; readonly answers: RedisAddress | undefined } {
  const { router_settings: router, litellm_settings: settings } = file;
  const ownCounters = ofRouter(router);
  const isNeeded = ownCounters === undefined || settings?.cache === true;
  const ownAnswers = isNeeded ? ofCache(settings, remarks) : undefined;
  const counters = ownCounters ?? ownAnswers ?? ofEnvironment(lookup, remarks);
  return { counters, answers: ownAnswers ?? counters };
}

function ofRouter(settings: ConfigFile["router_settings"]): RedisAddress | undefined {
  if (settings?.redis_url !== undefined) return settings.redis_url;
  if (settings?.redis_host === undefined) return undefined;
  return {
    host: settings.redis_host,
    port: settings.redis_port ?? defaultPort,
    username: settings.redis_username,
    password: settings.redis_password,
    db: settings.redis_db ?? 0,
  };
}

function ofCache(settings: ConfigFile["litellm_settings"], remarks: Remarks): RedisAddress | undefined {
  const cache = settings?.cache_params;
  if (cache === undefined || (cache.type ?? "redis") !== "redis") return undefined;
  if (cache.url === undefined && cache.host === undefined) return undefined;
  if (cache.ssl === true) {
    remarks.fault(
      ["litellm_settings", "cache_params", "ssl"],
      "TLS to Redis is not served yet, and without it the password would travel in the clear; leave ssl out, or name another Redis",
    );
  }
  if (cache.url !== undefined) return cache.url;
  const { host = "", port = defaultPort, username, password, db = 0 } = cache;
  return { host, port, username, password, db };
}

function ofEnvironment(lookup: (name: string) => string | undefined, remarks: Remarks): RedisAddress | undefined {
  const url = lookup("REDIS_URL");
  if (url !== undefined) {
    const address = readRedisUrl(url);
    if (address === undefined)
      remarks.fault([], `the variable REDIS_URL holds no address that can be used; write ${writeRedisUrl}`);
    return address;
  }
  const host = lookup("REDIS_HOST");
  if (host === undefined) return undefined;
  const port = readNumber(lookup("REDIS_PORT") ?? defaultPort);
  if (port === undefined || !Number.isInteger(port) || port < 1 || port > 65_535) {
    // Kubernetes sets REDIS_PORT=tcp://10.0.0.1:6379 for a Service that is called redis.
    remarks.fault([], "the variable REDIS_PORT is no port; write a number such as 6379, or router_settings.redis_port");
    return undefined;
  }
  const password = lookup("REDIS_PASSWORD");
  return {
    host,
    port,
    username: lookup("REDIS_USERNAME"),
    password: password === undefined ? undefined : new Secret(password),
    db: 0,
  };
}
