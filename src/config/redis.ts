import type { z } from "zod";
import type { RedisAddress, RedisNode, RedisTls } from "./redis-address.ts";
import { defaultRedisPort } from "./redis-url.ts";
import type { Path, Remarks } from "./remarks.ts";
import type { ConfigFile } from "./schema.ts";
import { redisConnection } from "./schema-redis.ts";

/** The keys of a connection, and the variables they are taken from when the file has none. Lists of nodes are JSON. */
const variables = {
  url: "REDIS_URL",
  host: "REDIS_HOST",
  port: "REDIS_PORT",
  username: "REDIS_USERNAME",
  password: "REDIS_PASSWORD",
  db: "REDIS_DB",
  ssl: "REDIS_SSL",
  ssl_ca_certs: "REDIS_SSL_CA_CERTS",
  ssl_certfile: "REDIS_SSL_CERTFILE",
  ssl_keyfile: "REDIS_SSL_KEYFILE",
  ssl_cert_reqs: "REDIS_SSL_CERT_REQS",
  ssl_check_hostname: "REDIS_SSL_CHECK_HOSTNAME",
  startup_nodes: "REDIS_CLUSTER_NODES",
  service_name: "REDIS_SERVICE_NAME",
  sentinel_nodes: "REDIS_SENTINEL_NODES",
  sentinel_password: "REDIS_SENTINEL_PASSWORD",
} as const;

export const redisVariables: readonly string[] = Object.values(variables);

type Keys = z.output<typeof redisConnection>;

/**
 * Where the shared counters are: `router_settings`, else the cache's Redis, else LiteLLM's variables. And where answers are kept:
 * the cache's Redis, else the counters'. A section that says how, but not where, is used with the variables' place.
 */
export function compileRedis(
  file: ConfigFile,
  lookup: (name: string) => string | undefined,
  remarks: Remarks,
): { readonly counters: RedisAddress | undefined; readonly answers: RedisAddress | undefined } {
  const { router_settings: router, litellm_settings: settings } = file;
  const ofRouter = routerKeys(router);
  const ofCache = (settings?.cache_params?.type ?? "redis") === "redis" ? (settings?.cache_params ?? {}) : {};
  // Faults are found in nothing else than what is used. How the router's is connected is written in `cache_kwargs`.
  const ownCounters = hasPlace(ofRouter)
    ? addressOf(ofRouter, ["router_settings", "cache_kwargs"], remarks)
    : undefined;
  const isCacheUsed = hasPlace(ofCache) && (ownCounters === undefined || settings?.cache === true);
  const ownAnswers = isCacheUsed ? addressOf(ofCache, ["litellm_settings", "cache_params"], remarks) : undefined;
  const counters = ownCounters ?? ownAnswers ?? ofEnvironment({ ...ofCache, ...ofRouter }, lookup, remarks);
  return { counters, answers: ownAnswers ?? counters };
}

function ofEnvironment(
  said: Keys,
  lookup: (name: string) => string | undefined,
  remarks: Remarks,
): RedisAddress | undefined {
  const keys = environmentKeys(lookup, remarks);
  return hasPlace(keys) ? addressOf({ ...keys, ...said }, [], remarks) : undefined;
}

function routerKeys(settings: ConfigFile["router_settings"]): Keys {
  const { redis_url, redis_host, redis_port, redis_username, redis_password, redis_db, cache_kwargs } = settings ?? {};
  const own = {
    url: redis_url,
    host: redis_host,
    port: redis_port,
    username: redis_username,
    password: redis_password,
  };
  return withoutHoles({ ...cache_kwargs, ...withoutHoles({ ...own, db: redis_db }) });
}

function withoutHoles(keys: Keys): Keys {
  return Object.fromEntries(Object.entries(keys).filter(([, value]) => value !== undefined));
}

function hasPlace(keys: Keys): boolean {
  return keys.url !== undefined || keys.host !== undefined || nodesOf(keys) !== undefined;
}

function nodesOf({ redis_startup_nodes, startup_nodes, sentinel_nodes }: Keys): readonly RedisNode[] | undefined {
  return redis_startup_nodes ?? startup_nodes ?? sentinel_nodes;
}

function addressOf(keys: Keys, path: Path, remarks: Remarks): RedisAddress {
  const { url, service_name: serviceName } = keys;
  const kind = nodesOf(keys) === undefined ? "server" : nodesOf(keys) === keys.sentinel_nodes ? "sentinels" : "cluster";
  const fault = (key: keyof Keys, message: string) =>
    path.length === 0
      ? remarks.fault([], `the variables of Redis: ${key}: ${message}`)
      : remarks.fault([...path, key], message);
  const nodes = nodesOf(keys) ?? [
    { host: url?.host ?? keys.host ?? "", port: url?.port ?? keys.port ?? defaultRedisPort },
  ];
  const db = url?.db || keys.db || 0;
  if (nodes.length === 0)
    fault(kind === "sentinels" ? "sentinel_nodes" : "startup_nodes", "names no node; write at least one");
  if (kind === "cluster" && db !== 0) fault("db", "a Redis Cluster has no numbered databases; leave db out");
  if (kind === "sentinels" && serviceName === undefined)
    fault("service_name", "sentinel_nodes need service_name: what the sentinels call the master, such as mymaster");
  return {
    ...{ kind, nodes, db },
    username: url?.username ?? keys.username,
    password: url?.password ?? keys.password,
    tls: tlsOf(keys, fault),
    sentinel: kind === "sentinels" ? { serviceName: serviceName ?? "", password: keys.sentinel_password } : undefined,
  };
}

function tlsOf(keys: Keys, fault: (key: keyof Keys, message: string) => void): RedisTls | undefined {
  const asked = { ...tlsKeysOf(keys.url?.query ?? {}), ...keys };
  const isOn = keys.url?.isTls === true || asked.ssl === true;
  if (!isOn) {
    if (asked.ssl_ca_certs !== undefined)
      fault(
        "ssl_ca_certs",
        "is of use with TLS only, and without it the password travels in the clear; write ssl: true",
      );
    return undefined;
  }
  if (asked.ssl_keyfile !== undefined && asked.ssl_certfile === undefined)
    fault("ssl_keyfile", "needs ssl_certfile, the certificate it is the key of");
  return {
    caFile: asked.ssl_ca_certs,
    certFile: asked.ssl_certfile,
    keyFile: asked.ssl_keyfile,
    verifies: !/none$/i.test(asked.ssl_cert_reqs ?? ""),
    checksHost: asked.ssl_check_hostname !== false,
  };
}

/** The settings for TLS in an address; what does not fit is as if it were not there, which is the safe side. */
function tlsKeysOf(query: Readonly<Record<string, string>>): Keys {
  const { ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs, ssl_check_hostname } = query;
  const read = redisConnection.safeParse({
    ssl_ca_certs,
    ssl_certfile,
    ssl_keyfile,
    ssl_cert_reqs,
    ssl_check_hostname,
  });
  return withoutHoles(read.data ?? {});
}

function environmentKeys(lookup: (name: string) => string | undefined, remarks: Remarks): Keys {
  const keys: Keys = {};
  for (const [key, name] of Object.entries(variables)) {
    const value = lookup(name);
    if (value === undefined || value === "") continue;
    const isList = key.endsWith("_nodes");
    const read = redisConnection.safeParse({ [key]: isList ? readJson(value) : value });
    if (read.success) Object.assign(keys, read.data);
    // Kubernetes sets REDIS_PORT=tcp://10.0.0.1:6379 for a Service that is called redis.
    else if (key === "port")
      remarks.fault([], `the variable ${name} is no port; write a number such as 6379, or router_settings.redis_port`);
    else {
      const cure = isList ? `JSON such as [{"host": "redis-1", "port": 6379}]` : read.error.issues[0]?.message;
      remarks.fault([], `the variable ${name} does not fit; write ${cure}`);
    }
  }
  return keys;
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
