import type { RouterConfig } from "./config.ts";
import type { Remarks } from "./remarks.ts";
import type { ConfigFile } from "./schema.ts";

/** LiteLLM's own: an hour. */
const defaultTtlMs = 3_600_000;

/** How the router chooses among deployments. */
export function compileStrategy(
  router: ConfigFile["router_settings"],
  remarks: Remarks,
): Pick<RouterConfig, "strategy" | "latency"> {
  const { routing_strategy: strategy = "simple-shuffle", routing_strategy_args: args = {} } = router ?? {};
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
