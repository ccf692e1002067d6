import { systemClock, systemRandom } from "../../src/clock.ts";
import type { RedisAddress } from "../../src/config/redis-address.ts";
import { createRedisCounters, type RedisCounters } from "../../src/counters/redis.ts";
import { Secret } from "../../src/secret.ts";

let podCount = 0;

/** What a pod logged. */
export type Log = { level: string; message: string; facts: unknown }[];

/**
 * A pod's counters. The time limit is long by default: a busy test machine is not what most tests are about.
 *
 * @param options.log is filled with what the pod logs.
 */
export function connect(
  redis: { host: string; port: number; db?: number },
  options: { log?: Log; password?: string; timeoutMs?: number; podId?: string; at?: Partial<RedisAddress> } = {},
): RedisCounters {
  const { log, password, timeoutMs = 2000, podId = `pod-${podCount++}`, at = {} } = options;
  return createRedisCounters({
    address: {
      ...{
        kind: "server",
        nodes: [redis],
        db: redis.db ?? 0,
        username: undefined,
        tls: undefined,
        sentinel: undefined,
      },
      password: password === undefined ? undefined : new Secret(password),
      ...at,
    },
    clock: systemClock,
    random: systemRandom,
    telemetry: { log: (level, message, facts) => log?.push({ level, message, facts }) },
    ...{ timeoutMs, podId },
  });
}
