import { usdFromNumber } from "../money.ts";
import { Secret } from "../secret.ts";
import { matchWildcard } from "../wildcard.ts";
import { compileAlerting } from "./alerting.ts";
import { compileAnswerCache } from "./answer-cache.ts";
import { compileBudgets } from "./budget-config.ts";
import { callbackVariables, compileCallbacks } from "./callbacks.ts";
import type { Config, Deployment, UnpricedModels } from "./config.ts";
import { compileEntry, unsetText } from "./deployments.ts";
import { compileKeyRules } from "./key-rules.ts";
import { noPrivateHosts, PrivateHosts } from "./private-hosts.ts";
import { providerVariables } from "./providers.ts";
import { compileRedis, redisVariables } from "./redis.ts";
import type { ResolvedTree } from "./references.ts";
import { compileReliability } from "./reliability.ts";
import type { Remarks } from "./remarks.ts";
import { compileChoice } from "./routing.ts";
import type { ConfigFile } from "./schema.ts";

/** LiteLLM's own default is 6000 s, its documentation says 600. */
const defaultTimeoutMs = 600_000;
/** LiteLLM's. */
const defaultCheckIntervalMs = 300_000;

/** Variables that take effect without being mentioned in the file. */
export const effectiveVariables: readonly string[] = [
  "LITELLM_MASTER_KEY",
  "DATABASE_URL",
  "LITELLM_ENVIRONMENT",
  ...redisVariables,
  ...callbackVariables,
  ...providerVariables,
];

/** What is compiled: the file's values, and where they came from. */
export interface Compilation {
  readonly file: ConfigFile;
  readonly resolved: ResolvedTree;
  readonly remarks: Remarks;
  readonly digest: string;
  readonly nowMs: number;
  /** How many entries of `model_list` the file has; the others are the database's. */
  readonly fileEntries: number;
  /** Which entries have an address that stands in the database. */
  readonly storedAddresses: ReadonlySet<number>;
}

/** Makes a configuration of a file whose types are right. Check `remarks` for faults before using it. */
export async function compile(parts: Compilation): Promise<Config> {
  const { file, resolved, remarks } = parts;
  const { router_settings: router, litellm_settings: settings, general_settings: general } = file;
  const environment = general?.environment ?? resolved.lookup("LITELLM_ENVIRONMENT");
  const privateHosts = privateHostsOf(file);
  const { modelGroups, compiled } = await compileGroups(parts, environment, privateHosts);
  const aliases = compileAliases(router?.model_group_alias, modelGroups, remarks);
  const redis = compileRedis(file, resolved.lookup, remarks);
  noticeUnset(resolved, compiled, remarks);
  return {
    modelGroups,
    aliases,
    router: { ...compileReliability(file, { modelGroups, aliases }, remarks), ...compileChoice(file, remarks) },
    redis: redis.counters,
    answerCache: compileAnswerCache(file, redis.answers, remarks),
    redisUnavailable: file.tollgate?.redis_unavailable ?? "local_share",
    keyServiceUnavailable: keyServiceUnavailableOf(file, remarks),
    unpricedModels: unpricedModelsOf(file),
    tagBudgets: compileBudgets("tag", settings?.tag_budget_config),
    ...compileChecks(file, remarks),
    countedTokens: general?.token_rate_limit_type ?? "total",
    storesModels: general?.store_model_in_db,
    privateHosts,
    masterKey: general?.master_key ?? secretOf(resolved.lookup("LITELLM_MASTER_KEY")),
    databaseUrl: general?.database_url ?? secretOf(resolved.lookup("DATABASE_URL")),
    alerting: compileAlerting(file, remarks),
    environment,
    timeZone: settings?.timezone,
    spendLogRetentionMs: general?.maximum_spend_logs_retention_period,
    keyRules: compileKeyRules(settings, remarks),
    workers: file.tollgate?.workers ?? 1,
    guardsMetrics: settings?.require_auth_for_metrics_endpoint ?? false,
    callbacks: compileCallbacks(file, resolved.lookup, remarks),
    notices: remarks.notices,
    digest: parts.digest,
  };
}

/** @returns nothing if no checks are made. */
function compileChecks(
  { general_settings: general, router_settings: router }: ConfigFile,
  remarks: Remarks,
): Pick<Config, "healthChecks"> {
  const intervalMs = general?.health_check_interval;
  if (general?.background_health_checks === true) {
    return { healthChecks: { intervalMs: intervalMs ?? defaultCheckIntervalMs } };
  }
  const without = "acts only with general_settings.background_health_checks: true";
  if (intervalMs !== undefined) remarks.notice(["general_settings", "health_check_interval"], without);
  if (router?.enable_health_check_routing === true) {
    remarks.notice(["router_settings", "enable_health_check_routing"], without);
  }
  return {};
}

function unpricedModelsOf(file: ConfigFile): UnpricedModels {
  return file.tollgate?.unpriced_models ?? "refuse";
}

function privateHostsOf({ tollgate }: ConfigFile): PrivateHosts {
  const items = tollgate?.stored_models_private_hosts;
  return items === undefined ? noPrivateHosts : new PrivateHosts(items);
}

function keyServiceUnavailableOf({ tollgate }: ConfigFile, remarks: Remarks): Config["keyServiceUnavailable"] {
  const { keyservice_unavailable: mode = "lease_only", keyservice_open_max_budget: dollars } = tollgate ?? {};
  if (mode !== "open") {
    if (dollars !== undefined) {
      remarks.notice(["tollgate", "keyservice_open_max_budget"], "acts only with keyservice_unavailable: open");
    }
    return { mode };
  }
  const max = dollars === undefined ? undefined : usdFromNumber(dollars);
  if (max !== undefined) return { mode, max };
  remarks.fault(
    ["tollgate", "keyservice_unavailable"],
    "open needs keyservice_open_max_budget, the dollars a key may overspend on each pod, such as 1",
  );
  return { mode: "lease_only" };
}

function secretOf(value: string | undefined): Secret | undefined {
  return value === undefined ? undefined : new Secret(value);
}

/** Deployments by group, and the entries of `model_list` they are made of. */
interface Groups {
  readonly modelGroups: ReadonlyMap<string, readonly Deployment[]>;
  readonly compiled: ReadonlySet<number>;
}

async function compileGroups(
  parts: Compilation,
  environment: string | undefined,
  privateHosts: PrivateHosts,
): Promise<Groups> {
  const { file, resolved, remarks, nowMs, fileEntries, storedAddresses } = parts;
  const context = {
    resolved,
    remarks,
    timeoutMs: file.router_settings?.timeout ?? file.litellm_settings?.request_timeout ?? defaultTimeoutMs,
    streamTimeoutMs: file.router_settings?.stream_timeout,
    parallelMax: file.router_settings?.default_max_parallel_requests,
    environment,
    unpricedModels: unpricedModelsOf(file),
    providerBudgets: compileBudgets("provider", file.router_settings?.provider_budget_config),
    checksCalls: file.router_settings?.enable_pre_call_checks ?? false,
    dropParams: file.litellm_settings?.drop_params ?? false,
    modifyParams: file.litellm_settings?.modify_params ?? false,
    credentials: new Set((file.credential_list ?? []).map((credential) => credential.credential_name)),
    ...{ nowMs, privateHosts, fileEntries, storedAddresses },
  };
  const modelGroups = new Map<string, Deployment[]>();
  const compiled = new Set<number>();
  const ids = new Map<string, number>();
  for (const [index, entry] of (file.model_list ?? []).entries()) {
    const deployments = await compileEntry(entry, index, context);
    for (const deployment of deployments) {
      const twin = ids.get(deployment.id);
      if (twin !== undefined) {
        noteTwin(entry.model_info?.id, index, twin, parts);
        continue;
      }
      ids.set(deployment.id, index);
      compiled.add(index);
      modelGroups.set(deployment.modelGroup, [...(modelGroups.get(deployment.modelGroup) ?? []), deployment]);
    }
  }
  if (modelGroups.size === 0)
    remarks.notice([], "no model can be called; write a model_list with a deployment that has a key");
  return { modelGroups, compiled };
}

function noteTwin(
  id: string | undefined,
  index: number,
  twin: number,
  { remarks, fileEntries }: Pick<Compilation, "remarks" | "fileEntries">,
): void {
  const other = `model_list[${twin}]`;
  const isStored = index >= fileEntries;
  if (isStored) remarks.notice(["model_list", index], `${other} of the file has this id too: the file's is served`);
  else if (id === undefined) remarks.notice(["model_list", index], `the same as ${other}: left out`);
  else remarks.fault(["model_list", index, "model_info", "id"], `${other} has this id too; write another one`);
}

function compileAliases(
  given: Readonly<Record<string, string | { model: string; hidden?: boolean | undefined }>> | undefined,
  groups: ReadonlyMap<string, unknown>,
  remarks: Remarks,
): Config["aliases"] {
  const aliases = new Map<string, { group: string; hidden: boolean }>();
  for (const [alias, target] of Object.entries(given ?? {})) {
    const { model: group, hidden = false } = typeof target === "string" ? { model: target } : target;
    aliases.set(alias, { group, hidden });
    const exists = groups.has(group) || [...groups.keys()].some((name) => matchWildcard(name, group) !== undefined);
    if (!exists) {
      remarks.notice(
        ["router_settings", "model_group_alias", alias],
        `there is no model ${group} that can be called: calls get model_not_found`,
      );
    }
  }
  return aliases;
}

/** Variables the file asks for in vain. What that means for a deployment's key and address has been told already. */
function noticeUnset(resolved: ResolvedTree, compiled: ReadonlySet<number>, remarks: Remarks): void {
  for (const { path, name } of resolved.unset.values()) {
    const [section, index, , key] = path;
    const ofDeployment = section === "model_list" && typeof index === "number";
    if (ofDeployment && (!compiled.has(index) || key === "api_key" || key === "api_base" || key === "base_url"))
      continue;
    remarks.notice(path, `${unsetText(name)}: treated as not written`);
  }
}
