/** What is known of each provider: data, not code. */

import type { Wire } from "../completion.ts";
import { cloudVariables } from "./cloud-address.ts";
import type { Deployment } from "./config.ts";
import { nearest } from "./strangers.ts";

/** A provider as LiteLLM names it. */
export interface ProviderRow {
  readonly wire: Wire;
  /** Undefined: the operator must say. */
  readonly apiBase: string | undefined;
  /** Where LiteLLM takes the address from when the deployment has none. */
  readonly baseVariable: string | undefined;
  /** Where LiteLLM takes the key from when the deployment has none. */
  readonly keyVariable: string | undefined;
  /** Where else, if that is not set. */
  readonly otherKeyVariable: string | undefined;
  /** The cloud whose accounts are asked instead of a key; it also decides the address. */
  readonly cloud: "aws" | "google" | undefined;
  /** The output cap's name at `apiBase`; elsewhere it is `max_tokens`. */
  readonly outputCapField: Deployment["outputCapField"];
  /** OpenAI's parameters it has no place for. What is not OpenAI's is never asked about and passes. */
  readonly lacks: readonly string[];
  /** Whether calls can go there in this version. The others are rows whose wire is served but which were never tried. */
  readonly served: boolean;
}

const row = (parts: Partial<ProviderRow>): ProviderRow => ({
  wire: "openai-chat",
  apiBase: undefined,
  baseVariable: undefined,
  keyVariable: undefined,
  otherKeyVariable: undefined,
  cloud: undefined,
  outputCapField: "max_tokens",
  lacks: [],
  served: false,
  ...parts,
});

const lackedByAnthropic = `n seed logprobs top_logprobs logit_bias frequency_penalty presence_penalty audio modalities
  prediction functions function_call store verbosity prompt_cache_key prompt_cache_retention safety_identifier`.split(
  /\s+/,
);

/** What Google's models are not told. Hints that change no answer (`user`, `metadata`) are left out at all of them. */
const geminiLacks = ["logit_bias", "prediction", "verbosity", "store"];
const geminiRow = row({ wire: "gemini", lacks: geminiLacks, served: true });
const bedrockRow = row({
  wire: "bedrock-converse",
  cloud: "aws",
  lacks: [
    ...["n", "seed", "logprobs", "top_logprobs", "logit_bias", "frequency_penalty", "presence_penalty", "prediction"],
    ...["verbosity", "store", "modalities", "audio", "web_search_options"],
  ],
  served: true,
});

/** By LiteLLM's prefix. */
const providers: ReadonlyMap<string, ProviderRow> = new Map([
  // No baseVariable: in a pod OPENAI_BASE_URL points the application at this very gateway.
  [
    "openai",
    row({
      apiBase: "https://api.openai.com/v1",
      keyVariable: "OPENAI_API_KEY",
      outputCapField: "max_completion_tokens",
      served: true,
    }),
  ],
  // No baseVariable, for the same reason.
  [
    "anthropic",
    row({
      wire: "anthropic-messages",
      apiBase: "https://api.anthropic.com",
      keyVariable: "ANTHROPIC_API_KEY",
      lacks: lackedByAnthropic,
      served: true,
    }),
  ],
  ["hosted_vllm", row({ baseVariable: "HOSTED_VLLM_API_BASE", keyVariable: "HOSTED_VLLM_API_KEY", served: true })],
  ["openai_like", row({ baseVariable: "OPENAI_LIKE_API_BASE", keyVariable: "OPENAI_LIKE_API_KEY", served: true })],
  ["cerebras", row({ apiBase: "https://api.cerebras.ai/v1", keyVariable: "CEREBRAS_API_KEY" })],
  ["deepinfra", row({ apiBase: "https://api.deepinfra.com/v1/openai", keyVariable: "DEEPINFRA_API_KEY" })],
  ["deepseek", row({ apiBase: "https://api.deepseek.com", keyVariable: "DEEPSEEK_API_KEY" })],
  ["fireworks_ai", row({ apiBase: "https://api.fireworks.ai/inference/v1", keyVariable: "FIREWORKS_API_KEY" })],
  [
    "gemini",
    {
      ...geminiRow,
      apiBase: "https://generativelanguage.googleapis.com/v1beta",
      keyVariable: "GEMINI_API_KEY",
      otherKeyVariable: "GOOGLE_API_KEY",
    },
  ],
  ["vertex_ai", { ...geminiRow, cloud: "google" }],
  ["vertex_ai_beta", { ...geminiRow, cloud: "google" }],
  ["bedrock", bedrockRow],
  ["bedrock_converse", bedrockRow],
  ["groq", row({ apiBase: "https://api.groq.com/openai/v1", keyVariable: "GROQ_API_KEY" })],
  ["litellm_proxy", row({ baseVariable: "LITELLM_PROXY_API_BASE", keyVariable: "LITELLM_PROXY_API_KEY" })],
  ["lm_studio", row({ baseVariable: "LM_STUDIO_API_BASE", keyVariable: "LM_STUDIO_API_KEY" })],
  ["mistral", row({ apiBase: "https://api.mistral.ai/v1", keyVariable: "MISTRAL_API_KEY" })],
  ["moonshot", row({ apiBase: "https://api.moonshot.ai/v1", keyVariable: "MOONSHOT_API_KEY" })],
  ["nvidia_nim", row({ apiBase: "https://integrate.api.nvidia.com/v1", keyVariable: "NVIDIA_NIM_API_KEY" })],
  ["openrouter", row({ apiBase: "https://openrouter.ai/api/v1", keyVariable: "OPENROUTER_API_KEY" })],
  ["perplexity", row({ apiBase: "https://api.perplexity.ai", keyVariable: "PERPLEXITYAI_API_KEY" })],
  ["sambanova", row({ apiBase: "https://api.sambanova.ai/v1", keyVariable: "SAMBANOVA_API_KEY" })],
  ["together_ai", row({ apiBase: "https://api.together.xyz/v1", keyVariable: "TOGETHERAI_API_KEY" })],
  ["xai", row({ apiBase: "https://api.x.ai/v1", keyVariable: "XAI_API_KEY" })],
]);

/** LiteLLM's other prefixes, which take more than a row. */
const foreign: ReadonlySet<string> = new Set(
  `ai21 ai21_chat aiml aleph_alpha anthropic_text azure azure_ai azure_text baseten
   clarifai cloudflare codestral cohere cohere_chat compactifai custom custom_openai dashscope databricks datarobot deepgram
   elevenlabs empower featherless_ai friendliai galadriel gigachat github github_copilot gradient_ai heroku
   huggingface hyperbolic infinity jina_ai lambda_ai langgraph llamafile maritalk meta_llama minimax morph nebius nlp_cloud
   novita nscale oci ollama ollama_chat oobabooga ovhcloud palm petals predibase recraft replicate sagemaker sagemaker_chat
   snowflake text-completion-codestral text-completion-openai topaz triton v0 vercel_ai_gateway
   vllm volcengine voyage wandb watsonx watsonx_text xinference zai`.split(/\s+/),
);

/** What OpenAI calls its own models. */
const openaiNames = /^(gpt-|chatgpt-|o\d|ft:gpt-|text-embedding-|davinci-|babbage-)/;
const otherNames: readonly (readonly [RegExp, string])[] = [
  [/^claude-/, "anthropic"],
  [/^gemini-/, "vertex_ai"],
  [/^command-/, "cohere_chat"],
];

/** Who is meant by a `litellm_params.model`. */
export type Target =
  | { readonly ok: true; readonly provider: string; readonly model: string; readonly row: ProviderRow }
  | {
      readonly ok: false;
      /** Undefined if nobody can say. */
      readonly provider: string | undefined;
      readonly model: string;
      readonly reason: string;
    };

/**
 * Finds the provider of a model: `custom_llm_provider`, else the prefix, else OpenAI for its known names, else whatever
 * answers OpenAI's wire at the deployment's own address.
 */
export function findTarget(name: string, parts: { custom: string | undefined; hasApiBase: boolean }): Target {
  const slash = name.indexOf("/");
  const prefix = parts.custom ?? (slash === -1 ? undefined : name.slice(0, slash));
  const model = prefix !== undefined && name.startsWith(`${prefix}/`) ? name.slice(prefix.length + 1) : name;
  const known = prefix === undefined ? undefined : providers.get(prefix);
  if (prefix !== undefined && known?.served === true)
    return { ok: true, provider: prefix, model, row: rowFor(model, known) };
  if (prefix !== undefined && (known !== undefined || foreign.has(prefix))) return notServed(prefix, model);
  if (parts.custom === undefined) {
    if (openaiNames.test(name)) return served("openai", name);
    if (parts.hasApiBase) return served("openai_like", name);
    const inferred = otherNames.find(([pattern]) => pattern.test(name))?.[1];
    if (inferred !== undefined) {
      return providers.get(inferred)?.served === true ? served(inferred, name) : notServed(inferred, name);
    }
  }
  return { ok: false, provider: prefix, model, reason: unknownReason(prefix) };
}

/** In Google's cloud Claude speaks its maker's wire. */
function rowFor(model: string, known: ProviderRow): ProviderRow {
  if (known.cloud !== "google" || !model.startsWith("claude")) return known;
  return { ...known, wire: "anthropic-messages", lacks: lackedByAnthropic };
}

function served(provider: string, model: string): Target {
  return { ok: true, provider, model, row: providers.get(provider) ?? row({}) };
}

function notServed(provider: string, model: string): Target {
  return {
    ok: false,
    provider,
    model,
    reason: `provider "${provider}" is not served yet; its deployments are left out`,
  };
}

function unknownReason(prefix: string | undefined): string {
  if (prefix === undefined) {
    return "no provider is known for this model, the deployment is left out; write provider/model, or set api_base";
  }
  const meant = nearest(prefix, [...providers.keys(), ...foreign]);
  const question = meant === undefined ? "" : `; did you mean "${meant}"?`;
  return `provider "${prefix}" is not known, the deployment is left out${question}`;
}

/** Every variable `lookup` may be asked for on a provider's behalf. */
export const providerVariables: readonly string[] = [...providers.values()]
  .flatMap(({ served, keyVariable, otherKeyVariable, baseVariable }) =>
    served ? [keyVariable, otherKeyVariable, baseVariable].filter((name) => name !== undefined) : [],
  )
  .concat(cloudVariables);
