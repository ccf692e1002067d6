import { createHash } from "node:crypto";
import { Secret } from "../secret.ts";
import { abilitiesOf } from "./abilities.ts";
import { readApiBase, writeApiBase } from "./api-base.ts";
import { findAzure } from "./azure-address.ts";
import { budgetsOf } from "./budget-config.ts";
import { findAws, findGoogle } from "./cloud-address.ts";
import type { Deployment, PriceEntry, UnpricedModels } from "./config.ts";
import type { ConfiguredBudget } from "./configured-budget.ts";
import { canonical, isTree, type Tree } from "./document.ts";
import { byClass } from "./failure-policy.ts";
import type { MockAnswer } from "./mock-answer.ts";
import type { ParamPolicy } from "./param-policy.ts";
import { contextTokensOf, findPrice, type PriceFinding } from "./prices.ts";
import type { PrivateHosts } from "./private-hosts.ts";
import type { ProviderRow } from "./provider-rows.ts";
import { findTarget, type Target } from "./providers.ts";
import type { ResolvedTree } from "./references.ts";
import { regionOf } from "./regions.ts";
import { type Path, pathText, type Remarks } from "./remarks.ts";
import { responsesSupport } from "./responses-support.ts";
import type { ModelEntry } from "./schema-model.ts";

const defaultOutputTokensMax = 4096;

/** The order of deployments without one, which LiteLLM tries after all that have one. */
export const lastOrder = Number.MAX_SAFE_INTEGER;

/** LiteLLM's table has the price of images that are made under the name of those in an input. */
const imageMode = "image_generation";

/** Models without an output need no price for it. */
const outputlessModes: ReadonlySet<string> = new Set(["embedding", "moderation", "rerank"]);

const untilPriced: Readonly<Record<UnpricedModels, string>> = {
  refuse: "callers with a budget are refused",
  flag: "its calls are booked at $0",
};

/** What deployments have in common. */
export interface DeploymentContext {
  readonly resolved: ResolvedTree;
  readonly remarks: Remarks;
  /** The router's times, in milliseconds. */
  readonly timeoutMs: number;
  readonly streamTimeoutMs: number | undefined;
  /** So many attempts at once, at deployments without any limit of their own. */
  readonly parallelMax: number | undefined;
  readonly environment: string | undefined;
  readonly unpricedModels: UnpricedModels;
  readonly providerBudgets: ReadonlyMap<string, ConfiguredBudget>;
  /** Whether it matters how much a model takes (`enable_pre_call_checks`). */
  readonly checksCalls: boolean;
  /** `litellm_settings.drop_params` and `modify_params`. */
  readonly dropParams: boolean;
  readonly modifyParams: boolean;
  /** Names that `litellm_credential_name` may have. */
  readonly credentials: ReadonlySet<string>;
  readonly nowMs: number;
  /** As in Compilation. */
  readonly fileEntries: number;
  readonly storedAddresses: ReadonlySet<number>;
  /** Where entries with such an address may be called that is private. */
  readonly privateHosts: PrivateHosts;
}

/** Why a deployment cannot be called. */
interface LeftOut {
  readonly path: Path;
  readonly reason: string;
  /** Whether the entry is refused for it. Absent: no. */
  readonly isFault?: boolean;
}

/** Where and how a deployment is called. */
type Address = Pick<
  Deployment,
  | "provider"
  | "wire"
  | "speaksResponses"
  | "model"
  | "apiBase"
  | "privateHosts"
  | "apiKey"
  | "access"
  | "outputCapField"
  | "params"
>;

/**
 * Compiles one entry of `model_list`.
 *
 * @returns one deployment, or one for each of its organizations; none if it cannot be called, with a notice that says why.
 */
export async function compileEntry(
  entry: ModelEntry,
  index: number,
  context: DeploymentContext,
): Promise<Deployment[]> {
  const path = ["model_list", index];
  const unavailable = wrongEnvironment(entry, path, context) ?? missingCredential(entry, path, context);
  const address = unavailable ?? withinReach(addressOf(entry, path, context), entry, index, context);
  if ("reason" in address) {
    if (address.isFault) context.remarks.fault(address.path, address.reason);
    else context.remarks.notice(address.path, address.reason);
    return [];
  }
  const pricing = priceOf(entry, address, context.nowMs);
  if (pricing.remark !== undefined) {
    const remark = `${pricing.remark}; until then ${untilPriced[context.unpricedModels]}`;
    context.remarks.notice([...path, "litellm_params", "model"], remark);
  }
  const { organization } = entry.litellm_params;
  const organizations = typeof organization === "string" || organization === undefined ? [organization] : organization;
  const idFor = (name: string | undefined) =>
    idOf(entryAt(context.resolved.tree, index), organizations.length > 1 ? name : undefined);
  return organizations.map((name) => ({
    id: idFor(name),
    ...budgetsOf({ id: idFor(name), provider: address.provider }, entry.litellm_params, context.providerBudgets),
    modelGroup: entry.model_name,
    ...address,
    headers: {
      ...entry.litellm_params.headers,
      ...entry.litellm_params.extra_headers,
      ...(name === undefined ? {} : { "OpenAI-Organization": name }),
    },
    ...figuresOf(entry, context),
    ...abilitiesOf(entry.model_info),
    ...(entry.model_info?.access_groups !== undefined && { accessGroups: entry.model_info.access_groups }),
    ...(entry.model_info?.mode !== undefined && { mode: entry.model_info.mode }),
    ...windowOf(entry, address, context),
    ...placeOf(entry, address),
    ...(entry.litellm_params.tags !== undefined && { tags: entry.litellm_params.tags }),
    price: pricing.price,
    ...(pricing.isLater && { ownPrices: ownPricesOf(entry) }),
    mock: mockOf(entry),
  }));
}

function wrongEnvironment(entry: ModelEntry, path: Path, context: DeploymentContext): LeftOut | undefined {
  const supported: readonly string[] | undefined = entry.model_info?.supported_environments;
  if (supported === undefined) return undefined;
  if (context.environment !== undefined && supported.includes(context.environment)) return undefined;
  const here = context.environment === undefined ? "no environment is set" : `this is ${context.environment}`;
  const reason = `the deployment is for ${supported.join(", ")}, and ${here} (general_settings.environment or LITELLM_ENVIRONMENT): left out`;
  return { path: [...path, "model_info", "supported_environments"], reason };
}

function missingCredential(entry: ModelEntry, path: Path, context: DeploymentContext): LeftOut | undefined {
  const { litellm_credential_name: name } = entry.litellm_params;
  if (name === undefined || context.credentials.has(name)) return undefined;
  const reason = `there is no credential ${JSON.stringify(name)}: the deployment is left out; write it under credential_list, or make it with POST /credentials`;
  return { path: [...path, "litellm_params", "litellm_credential_name"], reason };
}

function addressOf(entry: ModelEntry, path: Path, context: DeploymentContext): Address | LeftOut {
  const params = entry.litellm_params;
  const ownBase = params.api_base ?? params.base_url;
  const at = (key: string) => [...path, "litellm_params", key];
  const target = findTarget(params.model, { custom: params.custom_llm_provider, hasApiBase: ownBase !== undefined });
  if (params.mock_response !== undefined) {
    const common = { wire: undefined, apiBase: undefined, apiKey: undefined, outputCapField: "max_tokens" as const };
    return {
      ...common,
      params: paramsOf(entry, { lacks: [], renames: {} }, context),
      provider: target.provider ?? "mock",
      model: target.model,
    };
  }
  for (const key of ["api_base", "base_url"]) {
    // Going to the provider's default address instead would send prompts where the operator did not mean them to go.
    const unset = context.resolved.unset.get(pathText(at(key)));
    if (unset !== undefined)
      return { path: at(key), reason: `${unsetText(unset.name)}: the deployment has no address and is left out` };
  }
  if (!target.ok) return { path: at("model"), reason: target.reason };
  const { cloud } = target.row;
  if (cloud !== undefined) return cloudAddressOf(entry, path, context, { ...target, cloud });
  const environmentBase = readApiBase(baseOfEnvironment(target.row, context));
  const found = ownBase ?? environmentBase ?? target.row.apiBase;
  if (found === undefined) return { path: at("model"), reason: missingBase(target.provider, target.row) };
  const base = found.endsWith(target.row.basePath) ? found : found + target.row.basePath;
  const atHome = base === target.row.apiBase;
  // A key from the environment is the default provider's, or that of the environment's address: it goes to no other.
  const isForKey = atHome || ownBase === undefined || target.row.apiBase === undefined;
  const fallback = isForKey ? keyOfEnvironment(target.row, context) : undefined;
  const unsetKey = context.resolved.unset.get(pathText(at("api_key")));
  const apiKey =
    params.api_key ?? (fallback === undefined || unsetKey !== undefined ? undefined : new Secret(fallback));
  if (apiKey === undefined && atHome && !(target.row.isKeyless && unsetKey === undefined)) {
    const name = unsetKey?.name ?? target.row.keyVariables[0] ?? "";
    return { path: at("api_key"), reason: `${unsetText(name)}: the deployment has no key and is left out` };
  }
  if (apiKey === undefined && unsetKey !== undefined) {
    context.remarks.notice(at("api_key"), `${unsetText(unsetKey.name)}: calls are made without a key`);
  }
  const outputCapField = atHome ? target.row.outputCapField : "max_tokens";
  const { provider, model, row } = target;
  const called = { provider, wire: row.wire, model, apiBase: base, apiKey, outputCapField };
  return { ...called, ...responsesSupport(entry, row, called), params: paramsOf(entry, row, context) };
}

/** Who writes to the database must not have the pods call into their network: an address that stands there leads to what is allowed. */
function withinReach(
  address: Address | LeftOut,
  { litellm_params: params }: ModelEntry,
  index: number,
  { storedAddresses, privateHosts, fileEntries }: DeploymentContext,
): Address | LeftOut {
  if ("reason" in address || !storedAddresses.has(index)) return address;
  for (const key of ["api_base", "base_url", "aws_bedrock_runtime_endpoint"] as const) {
    const { hostname } = new URL(params[key] ?? "https://provider.example");
    if (privateHosts.allowsHost(hostname)) continue;
    const reason = `${hostname} is a private host: the database's models are called there only where tollgate.stored_models_private_hosts allows it, in the KeyService's configuration and in the sidecars'`;
    return { path: ["model_list", index, "litellm_params", key], reason, isFault: index >= fileEntries };
  }
  const { access } = address;
  if (access?.cloud !== "google" || access.account.kind !== "json") return { ...address, privateHosts };
  return { ...address, privateHosts, access: { ...access, account: { ...access.account, privateHosts } } };
}

function cloudAddressOf(
  entry: ModelEntry,
  path: Path,
  context: DeploymentContext,
  { provider, model, row, cloud }: Extract<Target, { ok: true }> & { cloud: NonNullable<ProviderRow["cloud"]> },
): Address | LeftOut {
  const at = (key: string) => [...path, "litellm_params", key];
  for (const { path: asked, name } of context.resolved.unset.values()) {
    // Other credentials instead of these would be whoever's the pod is.
    const key = asked.at(-1);
    if (
      typeof key !== "string" ||
      !/^(aws|azure|vertex)_|^(api_key|api_version|tenant_id|client_id|client_secret)$/.test(key) ||
      pathText(asked) !== pathText(at(key))
    )
      continue;
    return { path: asked, reason: `${unsetText(name)}: the deployment is left out` };
  }
  const find = { aws: findAws, azure: findAzure, google: findGoogle }[cloud];
  const found = find(model, entry.litellm_params, context.resolved.lookup, provider);
  if ("reason" in found) return { path: at(found.key), reason: `${found.reason}; the deployment is left out` };
  const { outputCapField, wire } = row;
  const called = { provider, wire, outputCapField, ...found };
  return { ...called, ...responsesSupport(entry, row, called), params: paramsOf(entry, row, context) };
}

function keyOfEnvironment({ keyVariables }: ProviderRow, context: DeploymentContext): string | undefined {
  return keyVariables.map((name) => context.resolved.lookup(name)).find((value) => value !== undefined);
}

function paramsOf(
  entry: ModelEntry,
  { lacks, renames }: Pick<ProviderRow, "lacks" | "renames">,
  context: DeploymentContext,
): ParamPolicy {
  const params = entry.litellm_params;
  const allowed = params.allowed_openai_params ?? [];
  return {
    lacks: new Set(lacks.filter((name) => !allowed.includes(name))),
    ...(Object.keys(renames).length > 0 && { renames }),
    drops: params.drop_params ?? context.dropParams,
    leavesOut: params.additional_drop_params ?? [],
    modifies: params.modify_params ?? context.modifyParams,
  };
}

/** What to say of a variable that is not set. */
export function unsetText(name: string): string {
  return `neither ${name} nor ${name}_FILE is set`;
}

function baseOfEnvironment(provider: ProviderRow, context: DeploymentContext): string | undefined {
  return provider.baseVariable === undefined ? undefined : context.resolved.lookup(provider.baseVariable);
}

function missingBase(provider: string, row: ProviderRow): string {
  const variable = row.baseVariable === undefined ? "" : `, or set ${row.baseVariable},`;
  return `provider "${provider}" has no address of its own, the deployment is left out; write api_base${variable} with ${writeApiBase}`;
}

function figuresOf(entry: ModelEntry, context: DeploymentContext) {
  const params = entry.litellm_params;
  const info = entry.model_info;
  const timeoutMs = params.timeout ?? context.timeoutMs;
  const rpm = params.rpm ?? entry.rpm ?? info?.rpm;
  const tpm = params.tpm ?? entry.tpm ?? info?.tpm;
  const isUnlimited = rpm === undefined && tpm === undefined;
  return {
    timeoutMs,
    streamTimeoutMs: params.stream_timeout ?? context.streamTimeoutMs ?? timeoutMs,
    firstTokenTimeoutMs: params.ttft_timeout,
    streamIdleTimeoutMs: params.stream_idle_timeout,
    ...{ rpm, tpm },
    weight: params.weight,
    order: params.order ?? info?.order ?? lastOrder,
    parallelMax: params.max_parallel_requests ?? (isUnlimited ? context.parallelMax : undefined),
    retries: params.num_retries,
    cooldown: cooldownOf(entry),
    ...checkOf(entry),
    outputTokensMax: params.max_tokens ?? info?.max_output_tokens ?? info?.max_tokens ?? defaultOutputTokensMax,
  };
}

function cooldownOf({ litellm_params: params, model_info: info }: ModelEntry): Deployment["cooldown"] {
  const cooldownMs = params.cooldown_time ?? info?.cooldown_time;
  const allowedFails = params.allowed_fails ?? info?.allowed_fails;
  const policy = params.allowed_fails_policy ?? info?.allowed_fails_policy;
  if (cooldownMs === undefined && allowedFails === undefined && policy === undefined) return undefined;
  return {
    ...(cooldownMs !== undefined && { cooldownMs }),
    ...(allowedFails !== undefined && { allowedFails }),
    ...(policy !== undefined && { allowedFailsByClass: byClass(policy, "AllowedFails") }),
  };
}

function checkOf({ model_info: info }: ModelEntry): Pick<Deployment, "check"> {
  const { disable_background_health_check: disabled, health_check_model: model, health_check_timeout } = info ?? {};
  if (disabled === undefined && model === undefined && health_check_timeout === undefined) return {};
  return {
    check: {
      ...(disabled !== undefined && { disabled }),
      ...(model !== undefined && { model }),
      ...(health_check_timeout !== undefined && { timeoutMs: health_check_timeout }),
    },
  };
}

function priceOf(entry: ModelEntry, address: Address, nowMs: number): PriceFinding {
  const { provider, model } = address;
  const baseModel = entry.model_info?.base_model;
  return findPrice({ overrides: ownPricesOf(entry), provider, model, baseModel, nowMs });
}

function windowOf(entry: ModelEntry, address: Address, context: DeploymentContext): Pick<Deployment, "contextTokens"> {
  if (!context.checksCalls) return {};
  const { max_input_tokens: own, base_model: baseModel } = entry.model_info ?? {};
  const { provider, model } = address;
  const contextTokens = own ?? contextTokensOf({ provider, model, baseModel, nowMs: context.nowMs });
  return contextTokens === undefined ? {} : { contextTokens };
}

function placeOf({ litellm_params: { region_name: said } }: ModelEntry, address: Address): Pick<Deployment, "region"> {
  const region = regionOf(said, address);
  return region === undefined ? {} : { region };
}

function ownPricesOf(entry: ModelEntry): readonly PriceEntry[] {
  const mode = entry.model_info?.mode ?? "";
  const given = [...(entry.model_info?.prices ?? []), ...entry.litellm_params.prices];
  const isForImages = mode === imageMode && !given.some(({ kind }) => kind === "generatedImage");
  const own = given.map((each) =>
    isForImages && each.kind === "image" ? { ...each, kind: "generatedImage" as const } : each,
  );
  const isOutputless = outputlessModes.has(mode);
  return isOutputless && own.length > 0 ? [{ kind: "output", picos: 0n }, ...own] : own;
}

function mockOf(entry: ModelEntry): MockAnswer | undefined {
  const params = entry.litellm_params;
  if (params.mock_response === undefined) return undefined;
  const usage = params.mock_usage;
  return {
    ...params.mock_response,
    delayMs: params.mock_delay ?? 0,
    chunkDelayMs: params.mock_chunk_delay ?? 0,
    usage: usage && { inputTokens: usage.prompt_tokens, outputTokens: usage.completion_tokens },
  };
}

/** What `idOf` needs of an entry of `model_list`, with its references resolved. */
export interface EntryFacts {
  readonly model_name?: unknown;
  readonly litellm_params?: unknown;
  readonly model_info?: unknown;
}

/**
 * The operator's id, or a digest of everything the deployment is called with, so that pods with the same file agree. Its
 * secrets go in only through the digest; what a credential lends it does not, so that the id outlives a new key.
 *
 * @param organization where an entry stands for one deployment for each of several.
 */
export function idOf(entry: EntryFacts, organization: string | undefined): string {
  const own = isTree(entry.model_info) ? entry.model_info.id : undefined;
  if (typeof own === "string") return organization === undefined ? own : `${own}-${organization}`;
  const input = canonical([entry.model_name, entry.litellm_params, organization ?? null]);
  return createHash("sha256").update(input).digest("hex");
}

function entryAt(tree: Tree, index: number): EntryFacts {
  return (tree.model_list as readonly EntryFacts[])[index] ?? {};
}
