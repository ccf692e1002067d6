/** The configuration as the gateway uses it: compiled from LiteLLM's YAML once, then read-only. */

import type { Wire } from "../completion.ts";
import type { Secret } from "../secret.ts";

/**
 * What tokens cost, in pico-dollars (1e-12 USD) per token, so that every published price is a whole number: $0.0375 per
 * million tokens is 37_500.
 */
export interface Price {
  readonly inputPicos: bigint;
  readonly outputPicos: bigint;
  readonly cacheReadPicos: bigint;
  readonly cacheWritePicos: bigint;
  /** Which table or override it is from; stored with every spend row. */
  readonly version: string;
}

/** An answer a `mock_response` deployment gives, without any provider. */
export interface MockAnswer {
  /** The pieces a stream is cut into; a unary answer is their concatenation. */
  readonly chunks: readonly string[];
  /** Fails instead of answering. */
  readonly error:
    | { readonly status: number; readonly message: string; readonly retryAfterMs: number | undefined }
    | undefined;
  /** Before the first piece, in milliseconds. */
  readonly delayMs: number;
  /** Between pieces, in milliseconds. */
  readonly chunkDelayMs: number;
  /** Usage to report; absent: counted from the text. */
  readonly usage: { readonly inputTokens: number; readonly outputTokens: number } | undefined;
}

/** One place a model can be called at. */
export interface Deployment {
  /** `model_info.id`, or a digest of the deployment's parameters, the same on every pod. */
  readonly id: string;
  /** The public name, `model_name`. */
  readonly modelGroup: string;
  /** LiteLLM's provider name, the part of `litellm_params.model` before the slash: "openai", "hosted_vllm". */
  readonly provider: string;
  /** How it is spoken to; undefined for a mock, which speaks no wire. */
  readonly wire: Wire | undefined;
  /** The model name the provider knows. */
  readonly model: string;
  /** Without a trailing slash, "https://api.openai.com/v1" for instance. */
  readonly apiBase: string | undefined;
  readonly apiKey: Secret | undefined;
  /** Sent with each request besides our own. */
  readonly headers: Readonly<Record<string, string>>;
  /** The whole call, in milliseconds. */
  readonly timeoutMs: number;
  /** Until the first byte of a stream and between its bytes, in milliseconds. */
  readonly streamTimeoutMs: number;
  readonly rpm: number | undefined;
  readonly tpm: number | undefined;
  readonly weight: number | undefined;
  /** Lower is tried first. */
  readonly order: number;
  /** The cap sent upstream when the caller named none and money depends on it. */
  readonly outputTokensMax: number;
  /** The name of the cap in requests to it: newer OpenAI models refuse `max_tokens`. */
  readonly outputCapField: "max_tokens" | "max_completion_tokens";
  /** Undefined: nobody knows. Callers with a budget are then refused. */
  readonly price: Price | undefined;
  readonly mock: MockAnswer | undefined;
}

/** Where the shared counters are. */
export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  readonly password: Secret | undefined;
  readonly username: string | undefined;
  readonly db: number;
}

/** How deployments are chosen and how often. */
export interface RouterConfig {
  readonly strategy: "simple-shuffle";
  /** Further attempts after the first. */
  readonly retries: number;
}

/** Everything a gateway needs to know. */
export interface Config {
  /** Deployments by public name, each list in the file's order. Names may hold `*`. */
  readonly modelGroups: ReadonlyMap<string, readonly Deployment[]>;
  /** Other public names for groups. */
  readonly aliases: ReadonlyMap<string, { readonly group: string; readonly hidden: boolean }>;
  readonly router: RouterConfig;
  readonly redis: RedisAddress | undefined;
  readonly masterKey: Secret | undefined;
  readonly databaseUrl: Secret | undefined;
  /** `general_settings.environment`, for the resource of traces and metrics. */
  readonly environment: string | undefined;
  /** What the reader should be told: unknown keys, keys that are understood but not served yet. */
  readonly notices: readonly Notice[];
  /** Digest of the file, for logs and metrics. */
  readonly digest: string;
}

/** Something odd about the configuration that does not stop it. */
export interface Notice {
  readonly file: string;
  readonly line: number;
  readonly path: string;
  readonly message: string;
}
