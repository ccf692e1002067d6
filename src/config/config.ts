/** The configuration as the gateway uses it: compiled from LiteLLM's YAML once, then read-only. */

import type { FallbackTarget, Piece, ProviderWire } from "../completion.ts";
import type { Secret } from "../secret.ts";
import type { AlertRouting } from "./alert-routing.ts";
import type { AnswerCacheConfig } from "./answer-cache-config.ts";
import type { CallbackConfig } from "./callback-config.ts";
import type { AwsAccess, AzureAccess, GoogleAccess } from "./cloud-access.ts";
import type { ConfiguredBudget } from "./configured-budget.ts";
import type { KeyRules } from "./creation-rules.ts";
import type { DeploymentCheck, HealthCheckRules } from "./health-check-rules.ts";
import type { MockAnswer } from "./mock-answer.ts";
import type { ParamPolicy } from "./param-policy.ts";
import type { PrivateHosts } from "./private-hosts.ts";
import type { RedisAddress } from "./redis-address.ts";

/**
 * What things cost, in pico-dollars (1e-12 USD) each, so that every published price is a whole number: $0.0375 per million
 * tokens is 37_500 a token.
 */
export interface Rates extends PieceRates {
  /** A token of input that is none of the special kinds below. */
  readonly inputPicos: bigint;
  /** A token of output that is none of the special kinds below. */
  readonly outputPicos: bigint;
  readonly cacheReadPicos: bigint;
  readonly cacheWritePicos: bigint;
  /** A token written to a cache that lasts an hour; absent: as any other written token. */
  readonly cacheWrite1hPicos?: bigint;
  /** Absent, these tokens cost what others of their direction cost. */
  readonly reasoningOutputPicos?: bigint;
  readonly audioInputPicos?: bigint;
  readonly audioOutputPicos?: bigint;
  readonly imageInputPicos?: bigint;
  readonly imageOutputPicos?: bigint;
  /** The request itself, on top of everything; absent: nothing. */
  readonly requestPicos?: bigint;
}

/** A second of audio that is heard costs, without a figure, what one that is spoken costs; else what has none costs nothing. */
type PieceRates = { readonly [Each in Piece as `${Each}Picos`]?: bigint };

/** Rates that may rise with the length of the input. */
export interface Tariff extends Rates {
  /** For **all** tokens of a request whose input has more than `aboveTokens`; ascending, the last that fits applies. */
  readonly longInput?: readonly (Rates & { readonly aboveTokens: number })[];
}

/** Ways a provider may treat a request other than the standard one, each at its own price. */
export type ServiceTier = "flex" | "priority" | "batch";

/** What a model costs. */
export interface Price extends Tariff {
  /** Where a tier has no tariff: the standard one, and half of it for a batch. */
  readonly serviceTiers?: Readonly<Partial<Record<ServiceTier, Tariff>>>;
  /** Other prices that take this one's place at times; the last that applies counts. */
  readonly changes?: readonly PriceChange[];
  /** Where it is from, stored with every spend row: the price table and its version, or "config". */
  readonly version: string;
}

/** A price from a day on, or between two times of every day (UTC). */
export interface PriceChange {
  readonly when:
    | { readonly fromMs: number }
    /** In milliseconds since midnight; over midnight where `untilMs` is the smaller. */
    | { readonly dailyFromMs: number; readonly dailyUntilMs: number };
  readonly price: Price;
}

/** What a figure is for: a member of Rates without its unit. */
export type PriceKind = keyof Rates extends `${infer Kind}Picos` ? Kind : never;

/** One figure. */
export interface PriceEntry {
  readonly kind: PriceKind;
  /** Absent: the standard tier. */
  readonly tier?: ServiceTier;
  /** Only for inputs of more tokens. Absent: for every input. */
  readonly aboveTokens?: number;
  /** Pico-dollars. */
  readonly picos: bigint;
}

/** What some models can do and others cannot; LiteLLM's names without `supports_`. */
export type Ability =
  | "function_calling"
  | "parallel_function_calling"
  | "tool_choice"
  | "response_schema"
  | "vision"
  | "audio_input"
  | "audio_output"
  | "pdf_input"
  | "web_search"
  | "reasoning"
  | "system_messages";

/** One place a model can be called at. */
export interface Deployment {
  /** `model_info.id`, or a digest of the deployment's parameters, the same on every pod. */
  readonly id: string;
  /** The public name, `model_name`. */
  readonly modelGroup: string;
  /** LiteLLM's provider name, the part of `litellm_params.model` before the slash: "openai", "hosted_vllm". */
  readonly provider: string;
  /** How it is spoken to; undefined for a mock, which speaks no wire. */
  readonly wire: ProviderWire | undefined;
  /** Whether it takes OpenAI's responses as well. Absent: no. */
  readonly speaksResponses?: boolean;
  /** Whether its model is asked by nothing but OpenAI's responses. Absent: no. */
  readonly lacksChat?: boolean;
  /** The model name the provider knows. */
  readonly model: string;
  /** Without a trailing slash, "https://api.openai.com/v1" for instance. */
  readonly apiBase: string | undefined;
  /** Where its address is the database's: the private places that may lead to. Absent: any. */
  readonly privateHosts?: PrivateHosts;
  readonly apiKey: Secret | undefined;
  /** How a cloud is called that wants more than a key. */
  readonly access?: AwsAccess | AzureAccess | GoogleAccess;
  /** Sent with each request besides our own. */
  readonly headers: Readonly<Record<string, string>>;
  /** The whole call, in milliseconds. */
  readonly timeoutMs: number;
  /** Until the first byte of a stream and between its bytes, in milliseconds. */
  readonly streamTimeoutMs: number;
  /** Until a stream's first event, in milliseconds; undefined: `streamTimeoutMs` is enough. */
  readonly firstTokenTimeoutMs?: number | undefined;
  /** Between the bytes of a stream, where that differs, in milliseconds. */
  readonly streamIdleTimeoutMs?: number | undefined;
  readonly rpm: number | undefined;
  readonly tpm: number | undefined;
  readonly weight: number | undefined;
  /** Lower is tried first. */
  readonly order: number;
  /** So many attempts at once; undefined: any number. */
  readonly parallelMax?: number | undefined;
  /** What attempts at it are charged to besides: its own and its provider's. Absent: nothing. */
  readonly budgets?: readonly ConfiguredBudget[];
  /** Repetitions of a call after it failed here, instead of the router's. */
  readonly retries?: number | undefined;
  /** What differs here from the router's rules. */
  readonly cooldown?: Partial<CooldownRules> | undefined;
  /** What differs here of background health checks. Absent: nothing. */
  readonly check?: DeploymentCheck;
  /** Which calls it is for, where tags decide. Absent: none. */
  readonly tags?: readonly string[];
  /** Where it answers: a provider's region, or an area such as "eu". Absent: nobody knows. */
  readonly region?: string | undefined;
  /** What whitelists may name in place of its model. Absent: nothing. */
  readonly accessGroups?: readonly string[];
  /** What its model is for (`model_info.mode`), in LiteLLM's words. Absent: nobody says. */
  readonly mode?: string;
  /** What its model is known not to do. Absent: nothing is known. */
  readonly lacks?: ReadonlySet<Ability>;
  /** More input than this does not fit into its model. Absent: nobody knows, or nobody asks. */
  readonly contextTokens?: number | undefined;
  /** The only parameters it takes (`supported_openai_params`). Absent: any. */
  readonly takesOnly?: ReadonlySet<string>;
  /** The cap sent upstream when the caller named none and money depends on it. */
  readonly outputTokensMax: number;
  /** The name of the cap in requests to it: newer OpenAI models refuse `max_tokens`. */
  readonly outputCapField: "max_tokens" | "max_completion_tokens";
  readonly params: ParamPolicy;
  /** Undefined: nobody knows, or `model` has a `*` and each model behind it has its own. */
  readonly price: Price | undefined;
  /** Only where each model behind a `*` has its own price: the deployment's figures, which go before the table's. */
  readonly ownPrices?: readonly PriceEntry[];
  readonly mock: MockAnswer | undefined;
}

/**
 * What becomes of limits while Redis is away: each pod enforces the limit divided by the live pods ("local_share"), calls with
 * limits are refused ("closed"), or limits are not enforced ("open").
 */
export type RedisUnavailable = "local_share" | "closed" | "open";

/**
 * What becomes of calls while the KeyService is away: known keys are served from what their pod has borrowed, or not at all, or on
 * overdraft.
 */
export type KeyServiceUnavailable =
  | { readonly mode: "lease_only" | "closed" }
  /** `max`: in nano-dollars, the most that calls of one key on one pod may cost beyond what was borrowed, until it is in the books. */
  | { readonly mode: "open"; readonly max: bigint };

/** What limits on tokens count: LiteLLM's `token_rate_limit_type`. */
export type CountedTokens = "total" | "input" | "output";

/** What becomes of calls to models nobody knows the price of: refused to callers with a budget, or served and booked at $0. */
export type UnpricedModels = "refuse" | "flag";

/** LiteLLM's ways of choosing among deployments. */
export type RoutingStrategy =
  | "simple-shuffle"
  | "least-busy"
  | "usage-based-routing"
  | "usage-based-routing-v2"
  | "latency-based-routing"
  | "cost-based-routing"
  | "provider-budget-routing";

/** What `latency-based-routing` goes by. */
export interface LatencyRouting {
  /** How long a measurement counts, in milliseconds. */
  readonly ttlMs: number;
  /** Deployments that are slower than the quickest by at most this part of its time count as equal to it. */
  readonly bufferRatio: number;
}

/** Kinds of failed attempts, in LiteLLM's words without their "Error". */
export type FailureClass =
  | "BadRequest"
  | "Authentication"
  | "Timeout"
  | "RateLimit"
  | "ContentPolicyViolation"
  | "InternalServer"
  | "ServiceUnavailable"
  | "BadGateway"
  | "NotFound";

/** A figure for each of some kinds of failure. */
export type ByFailureClass = Readonly<Partial<Record<FailureClass, number>>>;

/** When a deployment that fails is left alone, and for how long. */
export interface CooldownRules {
  readonly disabled: boolean;
  /** Where neither the deployment nor its provider says; undefined: five seconds. */
  readonly cooldownMs: number | undefined;
  /** So many failures a minute are allowed; undefined: judged by their rate. */
  readonly allowedFails: number | undefined;
  readonly allowedFailsByClass: ByFailureClass;
}

/** What is tried instead of a group, by the group's name; "*" stands for any. */
export type FallbackMap = ReadonlyMap<string, readonly FallbackTarget[]>;

/** How often a call is repeated and where it goes then. A key or a team may have its own. */
export interface RepeatRules {
  /** Further attempts in the same group after the first. */
  readonly retries: number;
  /** Goes before what deployments say of that, as `retries` does not; absent: nothing does. */
  readonly ownRetries?: number;
  /** Go before `retries`. */
  readonly retriesByClass: ByFailureClass;
  /** By group; go before both. */
  readonly retriesByGroup: ReadonlyMap<string, ByFailureClass>;
  readonly fallbacks: FallbackMap;
  /** Undefined: as other failures. */
  readonly contextWindowFallbacks: FallbackMap | undefined;
  /** Undefined: as other failures. */
  readonly contentPolicyFallbacks: FallbackMap | undefined;
}

/** What of this a key or a team says itself; what is absent is as configured. */
export interface OwnRepeatRules
  extends Partial<
    Pick<
      RepeatRules,
      "ownRetries" | "retriesByGroup" | "fallbacks" | "contextWindowFallbacks" | "contentPolicyFallbacks"
    >
  > {
  /** How long a call may take that does not say so itself, in milliseconds. */
  readonly timeoutMs?: number;
}

/** LiteLLM's words for what calls may have in common: a session, a long beginning, a key. */
export type AffinityCheck = "session_affinity" | "prompt_caching" | "deployment_affinity";

/** How deployments are chosen and how often. */
export interface RouterConfig extends RepeatRules {
  readonly strategy: RoutingStrategy;
  /** Absent: another strategy is used, and nobody needs measurements. */
  readonly latency?: LatencyRouting;
  /** Calls that have something in common go to the same deployment; absent: none do. */
  readonly affinity?: {
    readonly checks: readonly AffinityCheck[];
    /** What holds for some models in place of it. */
    readonly groups: readonly { readonly modelGroup: string; readonly checks: readonly AffinityCheck[] }[];
  };
  /** Calls go where their tags say (`enable_tag_filtering`); absent: tags are for the books only. */
  readonly tagRouting?: {
    /** Whether one tag of the call is enough; else a deployment must have all of them. */
    readonly matchAny: boolean;
  };
  /** Whether deployments are passed over that cannot take a call as it is (`enable_pre_call_checks`). Absent: no. */
  readonly checksCalls?: boolean;
  /** The least pause before a deployment is tried again, in milliseconds. */
  readonly retryPauseMs: number;
  /** So often a call leaves for another group, or for other deployments of its own once its retries are used up. */
  readonly fallbacksMax: number;
  /** Whether configured fallbacks have to be on the key's whitelist, as those that callers ask for always have. */
  readonly checksFallbackAccess: boolean;
  /** Whether, once retries are used up, the other deployments of the group are tried before other groups. */
  readonly weightedFailover: boolean;
  readonly cooldown: CooldownRules;
  /** Undefined: no attempt is made beside another. */
  readonly hedge?: HedgeRules | undefined;
  /** Absent: a call that finds all deployments full is refused at once. */
  readonly queue?: QueueRules;
  /** Whether background health checks say where calls go; absent: they are only told of. */
  readonly checksSteer?: boolean;
  /** Whether another model goes on with a stream that broke off. */
  readonly continuesStreams?: boolean;
}

/** How calls wait for a deployment that has room. */
export interface QueueRules {
  /** The longest wait, in milliseconds. */
  readonly waitMs: number;
  /** So many calls may wait for one model on each pod. */
  readonly lengthMax: number;
  /** The first in line tries so often, in milliseconds, besides whenever an attempt of its pod has ended. */
  readonly pollMs: number;
  /** Of calls that do not say theirs; lower goes first. */
  readonly defaultPriority: number;
}

/** When a second attempt is made beside one whose answer is late. */
export interface HedgeRules {
  /** Once it is later than this part of its deployment's answers, from 0 to 1. */
  readonly quantile: number;
  /** But not before, in milliseconds. */
  readonly afterMsMin: number;
  /** The largest part of all attempts that second ones may be, from 0 to 1. */
  readonly shareMax: number;
}

/** Everything a gateway needs to know. */
export interface Config {
  /** Deployments by public name, each list in the file's order. Names may hold `*`. */
  readonly modelGroups: ReadonlyMap<string, readonly Deployment[]>;
  /** Other public names for groups. */
  readonly aliases: ReadonlyMap<string, { readonly group: string; readonly hidden: boolean }>;
  readonly router: RouterConfig;
  readonly redis: RedisAddress | undefined;
  readonly redisUnavailable: RedisUnavailable;
  /** Undefined: no answers are kept. */
  readonly answerCache: AnswerCacheConfig | undefined;
  /** Absent: deployments are judged by what becomes of calls alone. */
  readonly healthChecks?: HealthCheckRules;
  readonly unpricedModels: UnpricedModels;
  /** By the tag (`litellm_settings.tag_budget_config`). */
  readonly tagBudgets: ReadonlyMap<string, ConfiguredBudget>;
  readonly countedTokens: CountedTokens;
  readonly keyServiceUnavailable: KeyServiceUnavailable;
  readonly masterKey: Secret | undefined;
  /** Whether models may be kept in the database (`general_settings.store_model_in_db`); undefined: the file does not say. */
  readonly storesModels: boolean | undefined;
  /** The private places that models of the database may be called at (`tollgate.stored_models_private_hosts`). */
  readonly privateHosts: PrivateHosts;
  readonly databaseUrl: Secret | undefined;
  /** Whose calendar budget periods follow (`litellm_settings.timezone`), an IANA name. */
  readonly timeZone: string | undefined;
  /** How long rows of the spend log are kept, in milliseconds; undefined: for ever. */
  readonly spendLogRetentionMs: number | undefined;
  /** `general_settings.alerting`; undefined: the file does not say. */
  readonly alerting: AlertRouting | undefined;
  /** `general_settings.environment`, for the resource of traces and metrics. */
  readonly environment: string | undefined;
  readonly keyRules: KeyRules;
  /** Whether metrics are read with a key only (`litellm_settings.require_auth_for_metrics_endpoint`). */
  readonly guardsMetrics: boolean;
  /** Processes of a sidecar that share its port. */
  readonly workers: number;
  readonly callbacks: CallbackConfig;
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
  /** The model of the database that is meant, if one is. */
  readonly modelId?: string;
}

/** Something wrong with the configuration, so that it cannot be used. `line` is 0 when no line is to blame. */
export type Fault = Notice;
