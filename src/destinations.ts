/** Where the models lead that a call may name. */

import { modelNotAllowed, modelNotFound } from "./admission/refusals.ts";
import { mayUse } from "./admission/whitelist.ts";
import type { FallbackTarget } from "./completion.ts";
import type { Grant } from "./keys/authority.ts";
import type { Destination } from "./routing/itinerary.ts";
import type { Router } from "./routing/router.ts";

/** The names of a model from the caller's spelling to the group it ends in. */
export function namesOf(router: Router, grant: Grant, model: string): readonly string[] {
  const target = grant.aliases.get(model) ?? model;
  return [model, target, router.routeToDeployment(target)?.modelGroup ?? router.groupOf(target)];
}

/** Whether a key may use a model of the configuration. */
export function mayReach(router: Router, grant: Grant, model: string): boolean {
  const names = namesOf(router, grant, model);
  return mayUse(grant, { names, deployments: router.configured(names.at(-1) ?? model) });
}

/**
 * Where a call begins.
 *
 * @throws GatewayError model_not_allowed, model_not_found.
 */
export function startFor(router: Router, grant: Grant, model: string): Destination {
  if (!mayReach(router, grant, model)) throw modelNotAllowed(model);
  const destination = destinationOf(router, grant, { model });
  if (destination === undefined) throw modelNotFound(model);
  return destination;
}

/** @returns undefined if the configuration has no such model. */
function destinationOf(router: Router, grant: Grant, { model, overrides }: FallbackTarget): Destination | undefined {
  const names = namesOf(router, grant, model);
  const [, target = model, group = model] = names;
  const route = router.routeToDeployment(target) ?? router.route(group);
  return route && { route, names, overrides };
}

/**
 * Where fallbacks lead. Those that a call asks for itself must all be allowed to its key; configured ones are passed over if they are
 * not, where the configuration wants that.
 *
 * @param wished those the call asks for.
 * @throws GatewayError model_not_allowed.
 */
export function fallbackResolver(
  router: Router,
  grant: Grant,
  wished: readonly FallbackTarget[] | undefined,
): (target: FallbackTarget) => Destination | undefined {
  const isAllowed = (model: string) => mayReach(router, grant, model);
  const forbidden = wished?.find(({ model }) => !isAllowed(model));
  if (forbidden !== undefined) throw modelNotAllowed(forbidden.model);
  const isChecked = router.config.checksFallbackAccess;
  return (target) => {
    const mustBeAllowed = isChecked || target.mustBeAllowed === true;
    return mustBeAllowed && !isAllowed(target.model) ? undefined : destinationOf(router, grant, target);
  };
}
