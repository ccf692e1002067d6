/** Models and credentials in the shape of LiteLLM's rows. */

import type { Json, JsonObject } from "../completion.ts";
import { factsOf, type ModelFacts } from "../config/model-check.ts";
import type { CredentialRecord } from "./credentials.ts";
import { isoOf } from "./http-key-rows.ts";
import type { ModelRecord } from "./model-records.ts";
import { entryOf } from "./models.ts";

const picosPerUsd = 1e12;

/** A model as it is kept. */
export function modelRow(model: ModelRecord): JsonObject {
  return {
    model_id: model.id,
    model_name: model.name,
    litellm_params: model.params,
    model_info: { ...model.info, id: model.id, db_model: model.isStored },
    created_at: isoOf(model.createdAtMs),
    created_by: model.createdBy,
    updated_at: isoOf(model.updatedAtMs),
    updated_by: model.updatedBy,
  };
}

/** A model as clients ask for it: with what is known of it besides. */
export function modelInfoRow(model: ModelRecord, nowMs: number): JsonObject {
  return {
    model_name: model.name,
    litellm_params: model.params,
    model_info: {
      ...knownInfo(model, nowMs),
      ...model.info,
      ...(model.isStored
        ? { created_at: isoOf(model.createdAtMs), updated_at: isoOf(model.updatedAtMs), created_by: model.createdBy }
        : {}),
      id: model.id,
      db_model: model.isStored,
    },
  };
}

/** What is known of a model that its operator need not say: prices from the table, for instance. */
export function knownInfo(model: ModelRecord, nowMs: number): JsonObject {
  const facts = factsOf(entryOf(model.id, model), nowMs);
  const price = facts?.price;
  return {
    key: facts?.model ?? null,
    litellm_provider: facts?.provider ?? null,
    mode: facts?.mode ?? "chat",
    max_input_tokens: facts?.maxInputTokens ?? null,
    max_output_tokens: facts?.maxOutputTokens ?? null,
    max_tokens: facts?.maxOutputTokens ?? null,
    input_cost_per_token: usdOf(price?.inputPicos),
    output_cost_per_token: usdOf(price?.outputPicos),
    cache_read_input_token_cost: usdOf(price?.cacheReadPicos),
    cache_creation_input_token_cost: usdOf(price?.cacheWritePicos),
  };
}

/** Models of one name together. */
export function modelGroupRow(name: string, models: readonly ModelRecord[], nowMs: number): JsonObject {
  const facts = models.flatMap((model) => factsOf(entryOf(model.id, model), nowMs) ?? []);
  const most = (figure: (of: ModelFacts) => number | undefined) => {
    const figures = facts.flatMap((each) => figure(each) ?? []);
    return figures.length === 0 ? null : Math.max(...figures);
  };
  const sum = (figure: (of: ModelFacts) => number | undefined) => {
    const figures = facts.flatMap((each) => figure(each) ?? []);
    return figures.length === 0 ? null : figures.reduce((total, each) => total + each, 0);
  };
  const dearest = (picos: (of: ModelFacts) => bigint | undefined) => most((of) => usdOf(picos(of)) ?? undefined);
  return {
    model_group: name,
    providers: providersOf(models, nowMs),
    max_input_tokens: most(({ maxInputTokens }) => maxInputTokens),
    max_output_tokens: most(({ maxOutputTokens }) => maxOutputTokens),
    input_cost_per_token: dearest(({ price }) => price?.inputPicos),
    output_cost_per_token: dearest(({ price }) => price?.outputPicos),
    mode: facts[0]?.mode ?? "chat",
    tpm: sum(({ tpm }) => tpm),
    rpm: sum(({ rpm }) => rpm),
    supports_parallel_function_calling: anySupports(models, "supports_parallel_function_calling"),
    supports_vision: anySupports(models, "supports_vision"),
    supports_function_calling: anySupports(models, "supports_function_calling"),
    supports_reasoning: anySupports(models, "supports_reasoning"),
    supports_web_search: anySupports(models, "supports_web_search"),
    supported_openai_params: null,
    is_public_model_group: false,
  };
}

/** The providers of models, each once. */
export function providersOf(models: readonly ModelRecord[], nowMs: number): string[] {
  const facts = models.flatMap((model) => factsOf(entryOf(model.id, model), nowMs) ?? []);
  return [...new Set(facts.flatMap(({ provider }) => provider ?? []))];
}

/** A credential. */
export function credentialRow({ name, values, info }: CredentialRecord): JsonObject {
  return { credential_name: name, credential_values: values, credential_info: info };
}

function anySupports(models: readonly ModelRecord[], name: string): Json {
  return models.some(({ info }) => info[name] === true);
}

function usdOf(picos: bigint | undefined): number | null {
  return picos === undefined ? null : Number(picos) / picosPerUsd;
}
