import type { Caller, CompletionRequest } from "../src/completion.ts";
import type { Config, Deployment, Price, RouterConfig } from "../src/config/config.ts";
import { noPrivateHosts } from "../src/config/private-hosts.ts";
import { GatewayError } from "../src/errors.ts";
import { decodeChatRequest } from "../src/wires/openai-chat.ts";

/** One micro-dollar a token read, two a token written. */
export const samplePrice: Price = {
  inputPicos: 1_000_000n,
  outputPicos: 2_000_000n,
  cacheReadPicos: 1_000_000n,
  cacheWritePicos: 1_000_000n,
  version: "v1",
};

/** A place a model can be called at. */
export function sampleDeployment(facts: Partial<Deployment> = {}): Deployment {
  return {
    id: "d1",
    modelGroup: "m",
    provider: "openai",
    wire: "openai-chat",
    model: "provider-model",
    apiBase: "http://127.0.0.1:1/v1",
    apiKey: undefined,
    headers: {},
    timeoutMs: 5_000,
    streamTimeoutMs: 5_000,
    rpm: undefined,
    tpm: undefined,
    weight: undefined,
    order: 1,
    outputTokensMax: 100,
    outputCapField: "max_tokens",
    params: { lacks: new Set(), drops: false, leavesOut: [], modifies: false },
    price: samplePrice,
    mock: undefined,
    ...facts,
  };
}

/** A router's settings where a configuration says nothing. */
export function sampleRouter(facts: Partial<RouterConfig> = {}): RouterConfig {
  return {
    strategy: "simple-shuffle",
    retries: 2,
    retriesByClass: {},
    retriesByGroup: new Map(),
    fallbacks: new Map(),
    contextWindowFallbacks: undefined,
    contentPolicyFallbacks: undefined,
    retryPauseMs: 0,
    fallbacksMax: 5,
    checksFallbackAccess: false,
    weightedFailover: false,
    cooldown: { disabled: false, cooldownMs: undefined, allowedFails: undefined, allowedFailsByClass: {} },
    ...facts,
  };
}

/** A configuration with these deployments, grouped by their `modelGroup`. */
export function sampleConfig(deployments: readonly Deployment[], facts: Partial<Config> = {}): Config {
  return {
    modelGroups: Map.groupBy(deployments, (deployment) => deployment.modelGroup),
    aliases: new Map(),
    router: sampleRouter(),
    redis: undefined,
    redisUnavailable: "local_share",
    answerCache: undefined,
    unpricedModels: "refuse",
    tagBudgets: new Map(),
    countedTokens: "total",
    keyServiceUnavailable: { mode: "lease_only" },
    spendLogRetentionMs: undefined,
    storesModels: undefined,
    privateHosts: noPrivateHosts,
    masterKey: undefined,
    databaseUrl: undefined,
    timeZone: undefined,
    alerting: undefined,
    environment: undefined,
    keyRules: { defaults: {}, bounds: {} },
    guardsMetrics: false,
    workers: 1,
    callbacks: { langfuse: undefined, hidesContent: false, forwardTraceparent: false },
    notices: [],
    digest: "0",
    ...facts,
  };
}

/** A chat request as OpenAI's door decodes it. */
export function sampleRequest(fields: object = {}): CompletionRequest {
  const body = { model: "m", messages: [{ role: "user", content: "Hello" }], ...fields };
  const request = decodeChatRequest(Buffer.from(JSON.stringify(body)));
  if (request instanceof GatewayError) throw request;
  return request;
}

/** The same request as a door without a wire of its own decodes it. */
export function neutralRequest(fields: object = {}): CompletionRequest {
  return { ...sampleRequest(fields), wire: undefined, raw: undefined };
}

/** Who asks. */
export function sampleCaller(signal: AbortSignal = new AbortController().signal): Caller {
  return {
    token: "sk-caller",
    requestId: "request-1",
    door: "openai",
    route: "/v1/chat/completions",
    idempotencyKey: undefined,
    cacheControl: undefined,
    traceparent: undefined,
    tracestate: undefined,
    tags: [],
    repeat: {},
    signal,
  };
}

/** Everything an iteration gives. */
export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const given: T[] = [];
  for await (const item of items) given.push(item);
  return given;
}
