import type { Deployment } from "./config.ts";
import { contextTokensOf, priceBehindWildcard } from "./prices.ts";
import { regionBehindWildcard } from "./regions.ts";

/**
 * A deployment with a `*` as the one model that is called behind it: what the operator says of all of them, and what is known of this
 * one.
 *
 * @param model as the provider knows it.
 * @param nowMs wall-clock time, milliseconds: prices have dates.
 */
export function behindWildcard(wildcard: Deployment, model: string, nowMs: number): Deployment {
  const { provider } = wildcard;
  return {
    ...wildcard,
    model,
    price: priceBehindWildcard(wildcard, model, nowMs),
    contextTokens: wildcard.contextTokens ?? contextTokensOf({ provider, model, baseModel: undefined, nowMs }),
    region: regionBehindWildcard(wildcard, model),
  };
}
