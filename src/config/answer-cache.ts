import type { AnswerCacheConfig } from "./answer-cache-config.ts";
import type { RedisAddress } from "./redis-address.ts";
import type { Remarks } from "./remarks.ts";
import type { ConfigFile } from "./schema.ts";

/** LiteLLM's own. */
const defaultTtlS = { local: 600, redis: 60 } as const;

/** LiteLLM's names of the calls whose answers can be kept. */
const callTypesOf = { chat: ["completion", "acompletion"], responses: ["responses", "aresponses"] } as const;
const kinds = ["chat", "responses"] as const;

/**
 * How answers are kept: `litellm_settings.cache` and its `cache_params`.
 *
 * @param redis where answers would be kept in a Redis, if one is named.
 * @returns undefined if they are not kept: `cache` is off, or no call type is supported and Redis is for limits only.
 */
export function compileAnswerCache(
  file: ConfigFile,
  redis: RedisAddress | undefined,
  remarks: Remarks,
): AnswerCacheConfig | undefined {
  const { cache, cache_params: params = {} } = file.litellm_settings ?? {};
  const { type = "redis", supported_call_types: callTypes } = params;
  const kept = kinds.filter(
    (kind) => callTypes === undefined || callTypesOf[kind].some((name) => callTypes.includes(name)),
  );
  const [only] = kept;
  if (cache !== true || only === undefined) return undefined;
  if (type !== "redis" && type !== "local") {
    remarks.notice(
      ["litellm_settings", "cache_params", "type"],
      `${type} is understood, but not served yet: no answers are kept; local and redis are served`,
    );
    return undefined;
  }
  if (type === "redis" && redis === undefined) {
    remarks.notice(
      ["litellm_settings", "cache"],
      "no Redis is named, so no answers are kept; write cache_params.host, or cache_params: {type: local}",
    );
    return undefined;
  }
  const ofType = type === "redis" ? params.default_in_redis_ttl : params.default_in_memory_ttl;
  return {
    redis: type === "redis" ? redis : undefined,
    ttlMs: (params.ttl ?? ofType ?? defaultTtlS[type]) * 1000,
    namespace: params.namespace ?? "",
    isDefaultOn: params.mode !== "default_off",
    ...(kept.length === 1 && { keepsOnly: only }),
    sharing: file.tollgate?.cache_sharing ?? "all",
  };
}
