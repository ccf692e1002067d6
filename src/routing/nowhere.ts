import { GatewayError } from "../errors.ts";
import type { Exclusion } from "./candidate.ts";
import { misfitError } from "./misfit.ts";
import type { Route } from "./router.ts";

/** Why there is no deployment a call can be tried at, as its caller sees it. */
export function nowhere(route: Route, excluded: readonly Exclusion[]): GatewayError {
  const misfit = misfitError(route.modelGroup, excluded);
  if (misfit !== undefined) return misfit;
  const cooling = excluded.filter(({ reason }) => reason === "cooling");
  const soonestMs = Math.min(...cooling.map(({ retryAfterMs }) => retryAfterMs ?? Number.POSITIVE_INFINITY));
  const retryAfterMs = Number.isFinite(soonestMs) ? Math.max(1, soonestMs) : 1_000;
  const isLimited = cooling.length > 0 && cooling.every(({ cause }) => cause === "provider_rate_limited");
  const why = isLimited ? "their providers' rate limits are reached" : "all have failed lately";
  return new GatewayError(
    isLimited ? "provider_rate_limited" : "provider_unavailable",
    `No deployments available for model "${route.modelGroup}": ${why}. Try again in ${Math.ceil(retryAfterMs / 1000)} s.`,
    { retryAfterMs, metadata: { model: route.modelGroup } },
  );
}
