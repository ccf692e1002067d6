/** Models before they are stored: the same verdict a file with them would get. */

import type { Fault, Notice, Price } from "./config.ts";
import type { Tree } from "./document.ts";
import { ConfigReading } from "./load.ts";
import { findPrice } from "./prices.ts";
import type { PrivateHosts } from "./private-hosts.ts";
import { findTarget, providerVariables } from "./providers.ts";
import { referenceOf } from "./references.ts";
import { type Path, pathText } from "./remarks.ts";
import { modelEntry } from "./schema-model.ts";
import type { StoredCredential } from "./stored-models.ts";

/** What there is to say of an entry of `model_list`; paths are relative to it. */
export interface EntryVerdict {
  readonly faults: readonly Fault[];
  readonly notices: readonly Notice[];
}

/** What an entry says of its deployments to those who ask which models there are. */
export interface ModelFacts {
  /** Undefined: nobody can say. */
  readonly provider: string | undefined;
  /** The model's name as the provider knows it. */
  readonly model: string;
  readonly price: Price | undefined;
  readonly maxInputTokens: number | undefined;
  readonly maxOutputTokens: number | undefined;
  readonly rpm: number | undefined;
  readonly tpm: number | undefined;
  readonly mode: string | undefined;
}

/** Keys and addresses from the environment are each pod's own: here they count as given. */
const assumed: Readonly<Record<string, string>> = Object.fromEntries(
  providerVariables.map((name) => [name, name.endsWith("_BASE") ? "http://assumed.invalid" : "assumed"]),
);
/** What only a pod can say, because it depends on its environment. */
const ofPods: ReadonlySet<string> = new Set(["model_info.supported_environments"]);

/**
 * What the configuration's own rules say of an entry. What it takes from a pod's environment (`os.environ/NAME`) is taken on
 * trust.
 */
export async function checkEntry(parts: {
  readonly entry: Tree;
  readonly credentials: readonly StoredCredential[];
  readonly privateHosts: PrivateHosts;
  readonly nowMs: number;
}): Promise<EntryVerdict> {
  const { entry, credentials, privateHosts, nowMs } = parts;
  const tree = { tollgate: { stored_models_private_hosts: privateHosts.items } };
  const reading = new ConfigReading({ tree, digest: "", place: () => ({ file: "", line: 0 }) }, assumed);
  const result = await reading.compile({ stored: { models: [{ id: "", entry }], credentials }, nowMs });
  const trusted = new Set(referencesIn(entry, []).map(pathText));
  const isOfEntry = ({ modelId, path }: Notice) => modelId !== undefined && !trusted.has(path) && !ofPods.has(path);
  return {
    faults: result.ok ? [] : result.faults.filter(isOfEntry),
    notices: result.ok ? result.config.notices.filter(isOfEntry) : [],
  };
}

/** What the configuration's own rules refuse of what a credential lends to a deployment; paths begin with `litellm_params`. */
export async function checkLent(parts: {
  readonly values: Tree;
  readonly privateHosts: PrivateHosts;
  readonly nowMs: number;
}): Promise<readonly Fault[]> {
  const entry = { model_name: "borrower", litellm_params: { model: "openai/borrower", ...parts.values } };
  return (await checkEntry({ ...parts, entry, credentials: [] })).faults;
}

/** @returns undefined for an entry that says too little, or says it in a pod's environment. */
export function factsOf(entry: Tree, nowMs: number): ModelFacts | undefined {
  const parsed = modelEntry.safeParse(entry);
  if (!parsed.success) return undefined;
  const { litellm_params: params, model_info: info, rpm, tpm } = parsed.data;
  const hasApiBase = params.api_base !== undefined || params.base_url !== undefined;
  const { provider, model } = findTarget(params.model, { custom: params.custom_llm_provider, hasApiBase });
  const overrides = [...(info?.prices ?? []), ...params.prices];
  return {
    ...{ provider, model },
    price: findPrice({ overrides, provider, model, baseModel: info?.base_model, nowMs }).price,
    maxInputTokens: info?.max_input_tokens,
    maxOutputTokens: info?.max_output_tokens ?? info?.max_tokens ?? params.max_tokens,
    rpm: params.rpm ?? rpm ?? info?.rpm,
    tpm: params.tpm ?? tpm ?? info?.tpm,
    mode: info?.mode,
  };
}

function referencesIn(value: unknown, path: Path): Path[] {
  if (referenceOf(value) !== undefined) return [path];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) =>
    referencesIn(item, [...path, Array.isArray(value) ? Number(key) : key]),
  );
}
