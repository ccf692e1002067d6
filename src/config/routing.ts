import type { RouterConfig } from "./config.ts";
import type { Remarks } from "./remarks.ts";
import type { ConfigFile } from "./schema.ts";

/** LiteLLM's own: an hour. */
const defaultTtlMs = 3_600_000;

type RouterSettings = NonNullable<ConfigFile["router_settings"]>;
type Choice = Pick<RouterConfig, "strategy" | "latency" | "tagRouting" | "checksCalls">;

/** How the router chooses among the deployments of a model. */
export function compileChoice(router: RouterSettings = {}, remarks: Remarks): Choice {
  return {
    ...compileStrategy(router, remarks),
    ...(router.enable_tag_filtering === true && {
      tagRouting: { matchAny: router.tag_filtering_match_any ?? true },
    }),
    checksCalls: router.enable_pre_call_checks ?? false,
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
