/** What a configuration came to, fit to be shown: plain values, no secrets. */

import { formatUsd } from "../money.ts";
import type { Secret } from "../secret.ts";
import type { AnswerCacheConfig } from "./answer-cache-config.ts";
import type { Config, Deployment, Price } from "./config.ts";
import { lastOrder } from "./deployments.ts";
import type { RedisAddress } from "./redis-address.ts";

/** USD per million tokens, as decimal text. */
export interface PriceSummary {
  readonly input: string;
  readonly output: string;
  readonly cacheRead: string;
  readonly cacheWrite: string;
  /** What a request with more tokens of input costs, all its tokens. */
  readonly longInput: readonly { readonly aboveTokens: number; readonly input: string; readonly output: string }[];
  readonly version: string;
}

/** One deployment; null stands for what is not set. */
export interface DeploymentSummary {
  readonly id: string;
  readonly provider: string;
  readonly model: string;
  /** Host and port it is called at; null for a mock. */
  readonly host: string | null;
  readonly keyPresent: boolean;
  readonly order: number | null;
  readonly weight: number | null;
  readonly rpm: number | null;
  readonly tpm: number | null;
  readonly timeoutS: number;
  readonly streamTimeoutS: number;
  readonly outputTokensMax: number;
  readonly pricePerMillion: PriceSummary | null;
}

/** Where a Redis is. */
export interface RedisSummary {
  readonly kind: RedisAddress["kind"];
  /** Host and port of each; with sentinels theirs. */
  readonly nodes: readonly string[];
  readonly db: number;
  readonly tls: boolean;
  readonly passwordPresent: boolean;
}

/** The whole of it; null stands for what is not set. */
export interface ConfigSummary {
  readonly digest: string;
  readonly models: readonly { readonly name: string; readonly deployments: readonly DeploymentSummary[] }[];
  /** What becomes of calls to models without a price. */
  readonly unpricedModels: Config["unpricedModels"];
  readonly aliases: readonly { readonly name: string; readonly model: string; readonly hidden: boolean }[];
  readonly router: Config["router"];
  readonly redis:
    | (RedisSummary & {
        /** What becomes of limits while it is away. */
        readonly unavailable: Config["redisUnavailable"];
      })
    | null;
  /** How answers are kept; null: not at all. */
  readonly answerCache: {
    /** Where they are; null: in this process. */
    readonly redis: RedisSummary | null;
    readonly ttlS: number;
    readonly namespace: string;
    readonly isDefaultOn: boolean;
    readonly sharing: string;
  } | null;
  /** Host and port, and never more of the address. */
  readonly databaseHost: string | null;
  readonly masterKeyPresent: boolean;
  /** Where alerts go besides the log. */
  readonly alerting: readonly string[];
  readonly environment: string | null;
  /** Whose calendar budget periods follow. */
  readonly timeZone: string | null;
}

/** Sums a configuration up. */
export function summarise(config: Config): ConfigSummary {
  const { redis, redisUnavailable: unavailable } = config;
  return {
    digest: config.digest,
    models: [...config.modelGroups].map(([name, deployments]) => ({
      name,
      deployments: deployments.map(summariseDeployment),
    })),
    unpricedModels: config.unpricedModels,
    aliases: [...config.aliases].map(([name, { group, hidden }]) => ({ name, model: group, hidden })),
    router: config.router,
    redis: redis === undefined ? null : { ...summariseRedis(redis), unavailable },
    answerCache: config.answerCache === undefined ? null : summariseCache(config.answerCache),
    databaseHost: config.databaseUrl === undefined ? null : hostOf(config.databaseUrl),
    masterKeyPresent: config.masterKey !== undefined,
    alerting: config.alerting?.channels ?? [],
    environment: config.environment ?? null,
    timeZone: config.timeZone ?? null,
  };
}

function summariseCache({ redis, ttlMs, ...facts }: AnswerCacheConfig): ConfigSummary["answerCache"] {
  return { ...facts, ttlS: ttlMs / 1000, redis: redis === undefined ? null : summariseRedis(redis) };
}

function summariseRedis({ kind, nodes, db, tls, password }: RedisAddress): RedisSummary {
  return {
    ...{ kind, db, tls: tls !== undefined, passwordPresent: password !== undefined },
    nodes: nodes.map(({ host, port }) => `${host}:${port}`),
  };
}

function summariseDeployment(deployment: Deployment): DeploymentSummary {
  return {
    id: deployment.id,
    provider: deployment.provider,
    model: deployment.model,
    host: deployment.apiBase === undefined ? null : new URL(deployment.apiBase).host,
    keyPresent: deployment.apiKey !== undefined,
    order: deployment.order === lastOrder ? null : deployment.order,
    weight: deployment.weight ?? null,
    rpm: deployment.rpm ?? null,
    tpm: deployment.tpm ?? null,
    timeoutS: deployment.timeoutMs / 1000,
    streamTimeoutS: deployment.streamTimeoutMs / 1000,
    outputTokensMax: deployment.outputTokensMax,
    pricePerMillion: deployment.price === undefined ? null : summarisePrice(deployment.price),
  };
}

function summarisePrice(price: Price): PriceSummary {
  // A million tokens at n pico-dollars each are n thousand nano-dollars.
  const perMillion = (picos: bigint) => formatUsd(picos * 1_000n);
  return {
    input: perMillion(price.inputPicos),
    output: perMillion(price.outputPicos),
    cacheRead: perMillion(price.cacheReadPicos),
    cacheWrite: perMillion(price.cacheWritePicos),
    longInput: (price.longInput ?? []).map(({ aboveTokens, inputPicos, outputPicos }) => ({
      aboveTokens,
      input: perMillion(inputPicos),
      output: perMillion(outputPicos),
    })),
    version: price.version,
  };
}

/** Addresses with several hosts are valid for PostgreSQL and not for URL. */
function hostOf(address: Secret): string {
  const url = URL.parse(address.reveal());
  return url?.host || "set";
}
