import type { FallbackTarget, JsonObject } from "../completion.ts";
import { matchWildcard } from "../wildcard.ts";
import type { ByFailureClass, Config, FallbackMap, HedgeRules, RouterConfig } from "./config.ts";
import { byClass } from "./failure-policy.ts";
import type { Path, Remarks } from "./remarks.ts";
import type { ConfigFile } from "./schema.ts";

/** LiteLLM's, as its code has it. */
const defaultRetries = 2;
const defaultFallbacksMax = 5;
/** LiteLLM takes exactly this for "not given", so an operator who wrote it down sees no difference. */
const unsetAllowedFails = 3;

/** LiteLLM's lists of fallbacks: `[{"gpt-4o": ["gpt-4o-mini"]}]`. */
type FallbackLists = readonly Readonly<Record<string, readonly (string | Readonly<Record<string, unknown>>)[]>>[];

/** How often calls are repeated, and where else. `litellm_settings` has some of it where `router_settings` does not. */
export function compileReliability(
  file: ConfigFile,
  groups: Pick<Config, "modelGroups" | "aliases">,
  remarks: Remarks,
): Omit<RouterConfig, "strategy"> {
  const { router_settings: router, litellm_settings: settings, general_settings: general } = file;
  const inRouter = (key: keyof NonNullable<typeof router>) => router?.[key] !== undefined;
  const at = (key: "fallbacks" | "context_window_fallbacks" | "content_policy_fallbacks" | "default_fallbacks") => [
    inRouter(key) ? "router_settings" : "litellm_settings",
    key,
  ];
  const mapAt = (key: "fallbacks" | "context_window_fallbacks" | "content_policy_fallbacks") => {
    const lists = router?.[key] ?? settings?.[key];
    if (lists === undefined) return undefined;
    const map = compileFallbacks(lists);
    noticeMissing(map, at(key), groups, remarks);
    return map;
  };
  const byGroup = mapAt("fallbacks") ?? (new Map() as FallbackMap);
  const anyGroup = (router?.default_fallbacks ?? settings?.default_fallbacks ?? []).map(
    (model): FallbackTarget => ({ model }),
  );
  const fallbacks: FallbackMap =
    anyGroup.length === 0 ? byGroup : new Map<string, readonly FallbackTarget[]>([...byGroup, ["*", anyGroup]]);
  noticeMissing(new Map([["*", anyGroup]]), at("default_fallbacks"), groups, remarks);
  return {
    retries: router?.num_retries ?? settings?.num_retries ?? defaultRetries,
    retriesByClass: byClass(router?.retry_policy, "Retries"),
    retriesByGroup: retriesByGroup(router?.model_group_retry_policy),
    fallbacks,
    contextWindowFallbacks: mapAt("context_window_fallbacks"),
    contentPolicyFallbacks: mapAt("content_policy_fallbacks"),
    retryPauseMs: router?.retry_after ?? 0,
    fallbacksMax: router?.max_fallbacks ?? settings?.max_fallbacks ?? defaultFallbacksMax,
    checksFallbackAccess: general?.enforce_fallback_model_access ?? false,
    hedge: hedgeOf(file.tollgate?.hedging),
    continuesStreams: file.tollgate?.continue_streams ?? false,
    weightedFailover: router?.enable_weighted_failover ?? false,
    cooldown: {
      disabled: router?.disable_cooldowns ?? false,
      cooldownMs: router?.cooldown_time,
      allowedFails: allowedFailsOf(router?.allowed_fails ?? settings?.allowed_fails),
      allowedFailsByClass: byClass(router?.allowed_fails_policy, "AllowedFails"),
    },
  };
}

function hedgeOf(given: NonNullable<ConfigFile["tollgate"]>["hedging"]): HedgeRules | undefined {
  if (given === undefined) return undefined;
  return { quantile: given.quantile ?? 0.95, afterMsMin: given.min_delay ?? 200, shareMax: given.max_ratio ?? 0.1 };
}

/** What `allowed_fails` says; undefined if it says nothing. */
function allowedFailsOf(given: number | undefined): number | undefined {
  return given === unsetAllowedFails ? undefined : given;
}

/** Reads `model_group_retry_policy`, whose types have been checked. */
export function retriesByGroup(
  policies: Readonly<Record<string, Readonly<Record<string, unknown>>>> | undefined,
): ReadonlyMap<string, ByFailureClass> {
  return new Map(Object.entries(policies ?? {}).map(([group, policy]) => [group, byClass(policy, "Retries")]));
}

/** Reads LiteLLM's lists, whose types have been checked. */
export function compileFallbacks(lists: FallbackLists): FallbackMap {
  const map = new Map<string, readonly FallbackTarget[]>();
  for (const entry of lists) {
    for (const [group, targets] of Object.entries(entry)) {
      map.set(group, [...(map.get(group) ?? []), ...targets.flatMap(targetOf)]);
    }
  }
  return map;
}

/** A fallback as LiteLLM writes it: a name, or a map with `model` and what differs of the request. */
function targetOf(target: unknown): readonly FallbackTarget[] {
  if (typeof target === "string") return target === "" ? [] : [{ model: target }];
  if (typeof target !== "object" || target === null || Array.isArray(target)) return [];
  const { model, ...overrides } = target as JsonObject;
  if (typeof model !== "string" || model === "") return [];
  return [Object.keys(overrides).length === 0 ? { model } : { model, overrides }];
}

function noticeMissing(
  map: FallbackMap,
  path: Path,
  { modelGroups, aliases }: Pick<Config, "modelGroups" | "aliases">,
  remarks: Remarks,
): void {
  const exists = (name: string) =>
    modelGroups.has(name) ||
    aliases.has(name) ||
    [...modelGroups.keys()].some((group) => matchWildcard(group, name) !== undefined);
  const missing = new Set([...map.values()].flat().flatMap(({ model }) => (exists(model) ? [] : [model])));
  for (const model of missing) remarks.notice(path, `there is no model ${model} that can be called: it is passed over`);
}
