import type { AffinityCheck, RouterConfig } from "./config.ts";
import type { Path, Remarks } from "./remarks.ts";
import type { ConfigFile } from "./schema.ts";
import { nearest } from "./strangers.ts";

/** LiteLLM's own: an hour. */
const defaultTtlMs = 3_600_000;

/** How long calls wait for room, if the file says only that they do. */
const defaultWaitMs = 10_000;
const defaultQueueLength = 100;
const defaultPollMs = 100;
/** LiteLLM's own 3 ms would make a Redis of many pods busy with nothing else. */
const shortestPollMs = 10;

const affinityChecks: readonly AffinityCheck[] = ["session_affinity", "prompt_caching", "deployment_affinity"];

/** What is checked in any case: budgets of providers and deployments, and the limits of deployments. */
const otherChecks = ["router_budget_limiting", "enforce_model_rate_limits"];
/** LiteLLM's checks that nobody makes yet. */
const laterChecks = [
  "responses_api_deployment_check",
  "encrypted_content_affinity",
  "forward_client_headers_by_model_group",
];
const allChecks: readonly string[] = [...affinityChecks, ...otherChecks, ...laterChecks];

type RouterSettings = NonNullable<ConfigFile["router_settings"]>;
type Choice = Pick<
  RouterConfig,
  "strategy" | "latency" | "affinity" | "tagRouting" | "checksCalls" | "checksSteer" | "queue"
>;

/** How the router chooses among the deployments of a model. */
export function compileChoice(
  { router_settings: router = {}, tollgate = {} }: Pick<ConfigFile, "router_settings" | "tollgate">,
  remarks: Remarks,
): Choice {
  return {
    ...compileQueue(router, tollgate, remarks),
    ...compileStrategy(router, remarks),
    ...compileAffinity(router, remarks),
    ...(router.enable_tag_filtering === true && {
      tagRouting: { matchAny: router.tag_filtering_match_any ?? true },
    }),
    checksCalls: router.enable_pre_call_checks ?? false,
    checksSteer: router.enable_health_check_routing ?? false,
  };
}

/** Calls wait if the file says for how long, or in which order; LiteLLM has only the order. */
function compileQueue(
  router: RouterSettings,
  { queue_timeout: waitMs, queue_length: lengthMax }: NonNullable<ConfigFile["tollgate"]>,
  remarks: Remarks,
): Pick<RouterConfig, "queue"> {
  const { default_priority: defaultPriority, polling_interval: pollMs } = router;
  if (waitMs === undefined && defaultPriority === undefined) {
    const without = "acts only with tollgate.queue_timeout or router_settings.default_priority";
    if (lengthMax !== undefined) remarks.notice(["tollgate", "queue_length"], without);
    if (pollMs !== undefined) remarks.notice(["router_settings", "polling_interval"], without);
    return {};
  }
  return {
    queue: {
      waitMs: waitMs ?? defaultWaitMs,
      lengthMax: lengthMax ?? defaultQueueLength,
      pollMs: Math.max(shortestPollMs, pollMs ?? defaultPollMs),
      defaultPriority: defaultPriority ?? 0,
    },
  };
}

function compileStrategy(router: RouterSettings, remarks: Remarks): Pick<RouterConfig, "strategy" | "latency"> {
  const { routing_strategy: strategy = "simple-shuffle", routing_strategy_args: args = {} } = router;
  if (strategy === "latency-based-routing") {
    return { strategy, latency: { ttlMs: args.ttl ?? defaultTtlMs, bufferRatio: args.lowest_latency_buffer ?? 0 } };
  }
  for (const key of Object.keys(args)) {
    remarks.notice(
      ["router_settings", "routing_strategy_args", key],
      "acts only with routing_strategy: latency-based-routing",
    );
  }
  return { strategy };
}

function compileAffinity(router: RouterSettings, remarks: Remarks): Pick<RouterConfig, "affinity"> {
  const checks = affinityOf(router.optional_pre_call_checks, ["router_settings", "optional_pre_call_checks"], remarks);
  const groups = Object.entries(router.model_group_affinity_config ?? {}).map(([modelGroup, names]) => {
    const path = ["router_settings", "model_group_affinity_config", modelGroup];
    return { modelGroup, checks: affinityOf(names, path, remarks) };
  });
  if (router.deployment_affinity_ttl_seconds !== undefined) {
    remarks.notice(
      ["router_settings", "deployment_affinity_ttl_seconds"],
      "has no effect: which deployment a session goes to is computed, and never forgotten",
    );
  }
  return checks.length === 0 && groups.length === 0 ? {} : { affinity: { checks, groups } };
}

function affinityOf(names: readonly string[] = [], path: Path, remarks: Remarks): readonly AffinityCheck[] {
  for (const [index, name] of names.entries()) {
    const isLater = laterChecks.includes(name);
    if (allChecks.includes(name) && !isLater) continue;
    const meant = isLater ? undefined : nearest(name, allChecks);
    const what = isLater ? "is understood, but not served yet" : "is not known";
    remarks.notice(
      [...path, index],
      `${name} ${what}: it has no effect${meant === undefined ? "" : `; did you mean ${meant}?`}`,
    );
  }
  return affinityChecks.filter((check) => names.includes(check));
}
