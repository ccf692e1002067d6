/** What keys and teams may say themselves of how their calls are repeated: their `router_settings`, in LiteLLM's words. */

import { z } from "zod";
import type { JsonObject } from "../completion.ts";
import type { FallbackMap, OwnRepeatRules } from "./config.ts";
import { failurePolicy } from "./failure-policy.ts";
import { map, seconds, whole } from "./fields.ts";
import { routerKeys } from "./known-keys.ts";
import { compileFallbacks, retriesByGroup } from "./reliability.ts";
import { pathText } from "./remarks.ts";
import { fallbacks } from "./schema.ts";

const policy = z.strictObject(failurePolicy("Retries").shape, { error: "figures such as RateLimitErrorRetries: 3" });

const settings = {
  num_retries: whole(0, 2),
  timeout: seconds,
  fallbacks,
  context_window_fallbacks: fallbacks,
  content_policy_fallbacks: fallbacks,
  model_group_retry_policy: map(policy),
} as const;

type Name = keyof typeof settings;
const names = Object.keys(settings) as readonly Name[];

/** What is wrong with somebody's settings, as it follows "`router_settings`"; undefined: nothing. LiteLLM's others are let pass. */
export function complaintAbout(given: JsonObject): string | undefined {
  for (const [name, value] of Object.entries(given)) {
    if (!routerKeys.served.has(name) && !routerKeys.later.has(name)) {
      return `has no ${JSON.stringify(name.slice(0, 100))}. Of a key or a team act ${names.join(", ")}.`;
    }
    const schema = (settings as Readonly<Record<string, z.ZodType>>)[name];
    const issue = value === null ? undefined : schema?.safeParse(value).error?.issues[0];
    if (issue === undefined) continue;
    const path = [name, ...issue.path.map((step) => (typeof step === "symbol" ? String(step) : step))];
    return `is wrong at ${pathText(path)}: write ${issue.message}.`;
  }
  return undefined;
}

/** Of somebody's settings, those that act. */
export function actingSettings(given: JsonObject): JsonObject {
  return Object.fromEntries(names.flatMap((name) => (given[name] == null ? [] : [[name, given[name]]])));
}

/** The rules in somebody's settings. What is not of its form, as another version may have let it pass, says nothing. */
export function compileOwnRules(given: JsonObject | undefined): OwnRepeatRules | undefined {
  if (given === undefined) return undefined;
  const read = <Of extends Name>(name: Of): z.output<(typeof settings)[Of]> | undefined => {
    const result = settings[name].safeParse(given[name]);
    return result.success ? (result.data as z.output<(typeof settings)[Of]>) : undefined;
  };
  const mapOf = (name: "fallbacks" | "context_window_fallbacks" | "content_policy_fallbacks") => {
    const lists = read(name);
    return lists && onlyAllowed(compileFallbacks(lists));
  };
  const [ownRetries, timeoutMs, policies] = [read("num_retries"), read("timeout"), read("model_group_retry_policy")];
  const [generic, contextWindow, contentPolicy] = [
    mapOf("fallbacks"),
    mapOf("context_window_fallbacks"),
    mapOf("content_policy_fallbacks"),
  ];
  return {
    ...(ownRetries !== undefined && { ownRetries }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(policies && { retriesByGroup: retriesByGroup(policies) }),
    ...(generic && { fallbacks: generic }),
    ...(contextWindow && { contextWindowFallbacks: contextWindow }),
    ...(contentPolicy && { contentPolicyFallbacks: contentPolicy }),
  };
}

/** Whoever may write a key must not lead its calls to models it may not use. */
function onlyAllowed(fallbackMap: FallbackMap): FallbackMap {
  return new Map(
    [...fallbackMap].map(([group, targets]) => [group, targets.map((target) => ({ ...target, mustBeAllowed: true }))]),
  );
}
