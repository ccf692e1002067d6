/** The schema of what `router_settings` says of the choice among deployments. */

import type { RoutingStrategy } from "./config.ts";
import { number, seconds, section } from "./fields.ts";

/** The strategies of LiteLLM's router. */
export const routingStrategies = [
  "simple-shuffle",
  "least-busy",
  "usage-based-routing",
  "usage-based-routing-v2",
  "latency-based-routing",
  "cost-based-routing",
  "provider-budget-routing",
] as const satisfies readonly RoutingStrategy[];

/** What `latency-based-routing` may be told. */
export const strategyArgs = section({
  ttl: seconds.optional(),
  lowest_latency_buffer: number(0, 0.5).optional(),
});
