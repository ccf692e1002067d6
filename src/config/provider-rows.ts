/** What is known of each provider: data, not code. */

import type { ProviderWire } from "../completion.ts";
import type { Deployment } from "./config.ts";

/** A provider as LiteLLM names it. */
export interface ProviderRow {
  readonly wire: ProviderWire;
  /** Whether it takes OpenAI's responses as well; in Azure that depends on the address. */
  readonly speaksResponses: boolean;
  /** Undefined: the operator must say. */
  readonly apiBase: string | undefined;
  /** Where LiteLLM takes the address from when the deployment has none. */
  readonly baseVariable: string | undefined;
  /** Comes behind an address that does not end with it; "" for none. */
  readonly basePath: string;
  /** Where LiteLLM takes the key from when the deployment has none: the first that is set. */
  readonly keyVariables: readonly string[];
  /** Whether it is called without a key where there is none. */
  readonly isKeyless: boolean;
  /** The cloud whose accounts are asked instead of a key; it also decides the address. */
  readonly cloud: "aws" | "azure" | "google" | undefined;
  /** Comes before names of models that have no slash; "" for none. */
  readonly modelFolder: string;
  /** The output cap's name at `apiBase`; elsewhere it is `max_tokens`. */
  readonly outputCapField: Deployment["outputCapField"];
  /** OpenAI's parameters it has no place for. What is not OpenAI's is never asked about and passes. */
  readonly lacks: readonly string[];
  /** OpenAI's parameters that it calls something else. */
  readonly renames: Readonly<Record<string, string>>;
}

const row = (parts: Partial<ProviderRow>): ProviderRow => ({
  wire: "openai-chat",
  speaksResponses: false,
  apiBase: undefined,
  baseVariable: undefined,
  basePath: "",
  keyVariables: [],
  isKeyless: false,
  cloud: undefined,
  modelFolder: "",
  outputCapField: "max_tokens",
  lacks: [],
  renames: {},
  ...parts,
});

/** A provider that speaks OpenAI's wire at an address of its own. */
const compatible = (name: string, apiBase: string, parts: Partial<ProviderRow> = {}): ProviderRow =>
  row({ apiBase, baseVariable: `${name}_API_BASE`, keyVariables: [`${name}_API_KEY`], ...parts });

const words = (text: string): readonly string[] => text.split(/\s+/);

export const lackedByAnthropic =
  words(`n seed logprobs top_logprobs logit_bias frequency_penalty presence_penalty audio modalities
  prediction functions function_call store verbosity prompt_cache_key prompt_cache_retention safety_identifier`);

/** What Google's models are not told. Hints that change no answer (`user`, `metadata`) are left out at all of them. */
const geminiLacks = ["logit_bias", "prediction", "verbosity", "store"];
const geminiRow = row({ wire: "gemini", lacks: geminiLacks });
const bedrockRow = row({
  wire: "bedrock-converse",
  cloud: "aws",
  lacks:
    words(`n seed logprobs top_logprobs logit_bias frequency_penalty presence_penalty prediction verbosity store modalities
    audio web_search_options`),
});

/** Its address for who comes from OpenAI's. */
const cohereRow = compatible("COHERE", "https://api.cohere.ai/compatibility/v1", {
  keyVariables: ["COHERE_API_KEY", "CO_API_KEY"],
  lacks: words(`n store metadata logit_bias top_logprobs modalities prediction audio service_tier parallel_tool_calls
    verbosity prompt_cache_key safety_identifier web_search_options`),
});
const ollamaRow = compatible("OLLAMA", "http://localhost:11434/v1", {
  basePath: "/v1",
  isKeyless: true,
  lacks: ["n", "logit_bias"],
});
const azureRow = row({
  cloud: "azure",
  keyVariables: ["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"],
});

/** By LiteLLM's prefix. */
export const providerRows: ReadonlyMap<string, ProviderRow> = new Map(
  Object.entries({
    // No baseVariable: in a pod OPENAI_BASE_URL points the application at this very gateway.
    openai: row({
      speaksResponses: true,
      apiBase: "https://api.openai.com/v1",
      keyVariables: ["OPENAI_API_KEY"],
      outputCapField: "max_completion_tokens",
    }),
    // No baseVariable, for the same reason.
    anthropic: row({
      wire: "anthropic-messages",
      apiBase: "https://api.anthropic.com",
      keyVariables: ["ANTHROPIC_API_KEY"],
      lacks: lackedByAnthropic,
    }),
    azure: azureRow,
    azure_ai: { ...azureRow, keyVariables: ["AZURE_AI_API_KEY"] },
    gemini: {
      ...geminiRow,
      apiBase: "https://generativelanguage.googleapis.com/v1beta",
      keyVariables: ["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    },
    vertex_ai: { ...geminiRow, cloud: "google" },
    vertex_ai_beta: { ...geminiRow, cloud: "google" },
    bedrock: bedrockRow,
    bedrock_converse: bedrockRow,
    hosted_vllm: row({ baseVariable: "HOSTED_VLLM_API_BASE", keyVariables: ["HOSTED_VLLM_API_KEY"] }),
    vllm: row({ baseVariable: "VLLM_API_BASE", keyVariables: ["VLLM_API_KEY"] }),
    openai_like: row({ baseVariable: "OPENAI_LIKE_API_BASE", keyVariables: ["OPENAI_LIKE_API_KEY"] }),
    custom_openai: row({ baseVariable: "OPENAI_LIKE_API_BASE", keyVariables: ["OPENAI_LIKE_API_KEY"] }),
    litellm_proxy: row({
      speaksResponses: true,
      baseVariable: "LITELLM_PROXY_API_BASE",
      keyVariables: ["LITELLM_PROXY_API_KEY"],
    }),
    lm_studio: compatible("LM_STUDIO", "http://localhost:1234/v1", { isKeyless: true }),
    llamafile: compatible("LLAMAFILE", "http://127.0.0.1:8080/v1", { isKeyless: true }),
    ollama: ollamaRow,
    ollama_chat: ollamaRow,
    cerebras: compatible("CEREBRAS", "https://api.cerebras.ai/v1", {
      outputCapField: "max_completion_tokens",
      lacks: words("n frequency_penalty presence_penalty logit_bias parallel_tool_calls service_tier store metadata"),
    }),
    cohere: cohereRow,
    cohere_chat: cohereRow,
    deepinfra: compatible("DEEPINFRA", "https://api.deepinfra.com/v1/openai"),
    deepseek: compatible("DEEPSEEK", "https://api.deepseek.com"),
    fireworks_ai: compatible("FIREWORKS", "https://api.fireworks.ai/inference/v1", {
      keyVariables: words("FIREWORKS_API_KEY FIREWORKS_AI_API_KEY FIREWORKSAI_API_KEY FIREWORKS_AI_TOKEN"),
      modelFolder: "accounts/fireworks/models/",
    }),
    friendliai: compatible("FRIENDLI", "https://api.friendli.ai/serverless/v1", {
      keyVariables: ["FRIENDLIAI_API_KEY", "FRIENDLI_TOKEN"],
    }),
    galadriel: compatible("GALADRIEL", "https://api.galadriel.com/v1"),
    groq: compatible("GROQ", "https://api.groq.com/openai/v1", {
      outputCapField: "max_completion_tokens",
      lacks: ["n", "logprobs", "top_logprobs", "logit_bias"],
    }),
    meta_llama: compatible("LLAMA", "https://api.llama.com/compat/v1"),
    mistral: compatible("MISTRAL", "https://api.mistral.ai/v1", {
      // It refuses every word it does not know; of usage it tells without being asked.
      lacks:
        words(`stream_options logprobs top_logprobs logit_bias user store metadata modalities audio prediction service_tier
        verbosity prompt_cache_key safety_identifier web_search_options functions function_call`),
      renames: { seed: "random_seed" },
    }),
    moonshot: compatible("MOONSHOT", "https://api.moonshot.ai/v1", { lacks: ["functions", "function_call"] }),
    nscale: compatible("NSCALE", "https://inference.api.nscale.com/v1"),
    nvidia_nim: compatible("NVIDIA_NIM", "https://integrate.api.nvidia.com/v1"),
    openrouter: compatible("OPENROUTER", "https://openrouter.ai/api/v1", {
      keyVariables: ["OPENROUTER_API_KEY", "OR_API_KEY"],
    }),
    perplexity: compatible("PERPLEXITY", "https://api.perplexity.ai", {
      keyVariables: ["PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"],
      lacks:
        words(`n seed stop logprobs top_logprobs logit_bias tools tool_choice parallel_tool_calls user store metadata
        functions function_call`),
    }),
    sambanova: compatible("SAMBANOVA", "https://api.sambanova.ai/v1", {
      lacks: words("n logprobs top_logprobs logit_bias seed frequency_penalty presence_penalty"),
    }),
    together_ai: compatible("TOGETHER_AI", "https://api.together.xyz/v1", {
      keyVariables: words("TOGETHERAI_API_KEY TOGETHER_API_KEY TOGETHER_AI_API_KEY TOGETHER_AI_TOKEN"),
    }),
    volcengine: compatible("VOLCENGINE", "https://ark.cn-beijing.volces.com/api/v3"),
    xai: compatible("XAI", "https://api.x.ai/v1", {
      speaksResponses: true,
      lacks: ["logit_bias", "store", "metadata", "prediction"],
    }),
  }),
);

/** LiteLLM's other prefixes, which are not served. */
export const foreignProviders: ReadonlySet<string> = new Set(
  words(`ai21 ai21_chat aiml aleph_alpha anthropic_text azure_text baseten
   clarifai cloudflare codestral compactifai custom dashscope databricks datarobot deepgram
   elevenlabs empower featherless_ai gigachat github github_copilot gradient_ai heroku
   huggingface hyperbolic infinity jina_ai lambda_ai langgraph maritalk minimax morph nebius nlp_cloud
   novita oci oobabooga ovhcloud palm petals predibase recraft replicate sagemaker sagemaker_chat
   snowflake text-completion-codestral text-completion-openai topaz triton v0 vercel_ai_gateway
   voyage wandb watsonx watsonx_text xinference zai`),
);
