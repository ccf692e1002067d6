/** Whose a model is, by its name. */

import { azureVariables } from "./azure-address.ts";
import { cloudVariables } from "./cloud-address.ts";
import { foreignProviders, lackedByAnthropic, type ProviderRow, providerRows } from "./provider-rows.ts";
import { nearest } from "./strangers.ts";

/** What OpenAI calls its own models. */
const openaiNames =
  /^(gpt-|chatgpt-|o\d|ft:gpt-|text-embedding-|davinci-|babbage-|dall-e-|tts-|whisper-|(omni|text)-moderation-)/;
const otherNames: readonly (readonly [RegExp, string])[] = [
  [/^claude-/, "anthropic"],
  [/^gemini-/, "vertex_ai"],
  [/^(command|c4ai|embed|rerank)-/, "cohere_chat"],
  [/^([a-z]{2,6}\.)?(ai21|amazon|anthropic|cohere|deepseek|meta|mistral|openai|qwen)\.[a-z]/, "bedrock"],
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
  const known = prefix === undefined ? undefined : providerRows.get(prefix);
  if (prefix !== undefined && known !== undefined) return served(prefix, model, known);
  if (prefix !== undefined && foreignProviders.has(prefix)) {
    const reason = `provider "${prefix}" is not served yet; its deployments are left out`;
    return { ok: false, provider: prefix, model, reason };
  }
  if (parts.custom === undefined) {
    const inferred = inferProvider(name, parts.hasApiBase);
    const inferredRow = inferred === undefined ? undefined : providerRows.get(inferred);
    if (inferred !== undefined && inferredRow !== undefined) return served(inferred, name, inferredRow);
  }
  return { ok: false, provider: prefix, model, reason: unknownReason(prefix) };
}

function inferProvider(name: string, hasApiBase: boolean): string | undefined {
  if (openaiNames.test(name)) return "openai";
  return hasApiBase ? "openai_like" : otherNames.find(([pattern]) => pattern.test(name))?.[1];
}

function served(provider: string, name: string, row: ProviderRow): Target {
  const model = name.includes("/") || name === "*" ? name : row.modelFolder + name;
  return { ok: true, provider, model, row: rowFor(model, row) };
}

/** In Google's cloud Claude speaks its maker's wire. */
function rowFor(model: string, known: ProviderRow): ProviderRow {
  if (known.cloud !== "google" || !model.startsWith("claude")) return known;
  return { ...known, wire: "anthropic-messages", lacks: lackedByAnthropic };
}

function unknownReason(prefix: string | undefined): string {
  if (prefix === undefined) {
    return "no provider is known for this model, the deployment is left out; write provider/model, or set api_base";
  }
  const meant = nearest(prefix, [...providerRows.keys(), ...foreignProviders]);
  const question = meant === undefined ? "" : `; did you mean "${meant}"?`;
  return `provider "${prefix}" is not known, the deployment is left out${question}`;
}

/** Every variable `lookup` may be asked for on a provider's behalf. */
export const providerVariables: readonly string[] = [...providerRows.values()]
  .flatMap(({ keyVariables, baseVariable }) => [...keyVariables, ...(baseVariable === undefined ? [] : [baseVariable])])
  .concat(cloudVariables, azureVariables);
