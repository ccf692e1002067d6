/** From a model's deployments to those that a call is tried at, and in which order. */

import type { Random } from "../clock.ts";
import type { Deployment, RouterConfig } from "../config/config.ts";
import type { ConfiguredBudget } from "../config/configured-budget.ts";
import { abilityCheck } from "./abilities.ts";
import type {
  Ask,
  Candidate,
  Check,
  DeploymentFacts,
  Exclusion,
  Filter,
  HealthState,
  Selection,
  Strategy,
} from "./candidate.ts";
import { contextWindowCheck } from "./context-window.ts";
import { operationFilter } from "./operations.ts";
import { regionCheck } from "./regions.ts";
import { responsesFilter } from "./responses.ts";
import { tagFilter } from "./tags.ts";

/** What a configuration says of which deployments fit a call. */
export function filtersOf({ tagRouting, checksCalls }: RouterConfig): readonly Filter[] {
  return [
    operationFilter,
    eachBy(regionCheck),
    responsesFilter,
    ...(tagRouting === undefined ? [] : [tagFilter(tagRouting)]),
    ...(checksCalls === true ? [eachBy(contextWindowCheck), eachBy(abilityCheck)] : []),
  ];
}

function eachBy(check: Check): Filter {
  return (deployments, ask) => deployments.flatMap((deployment) => check(deployment, ask) ?? []);
}

/**
 * Sorts out the deployments a call may be tried at. Those that do not fit it are told apart from those that only have to get well.
 *
 * @param deployments all of the model: what fits a call must not depend on where it has been.
 * @param isOpen whether one that fits is to be looked at.
 * @param parts.filters as `filtersOf` has them.
 */
export function candidatesOf(
  deployments: readonly Deployment[],
  isOpen: (deployment: Deployment) => boolean,
  ask: Ask,
  { facts, filters }: { readonly facts: DeploymentFacts; readonly filters: readonly Filter[] },
): Selection {
  const excluded: Exclusion[] = [];
  let left = deployments;
  for (const filter of filters) {
    const out = filter(left, ask);
    if (out.length === 0) continue;
    excluded.push(...out);
    left = left.filter((deployment) => !out.some((exclusion) => exclusion.deployment === deployment));
  }
  const candidates: Candidate[] = [];
  const spent: { candidate: Candidate; budget: ConfiguredBudget }[] = [];
  for (const deployment of left) {
    if (!isOpen(deployment)) continue;
    const health = facts.stateOf(deployment);
    if (typeof health === "object") {
      excluded.push(cooling(deployment, health, ask.nowMs));
      continue;
    }
    const candidate = { deployment, load: facts.loadOf(deployment), isProbe: health === "probing" };
    const budget = facts.spentOf?.(deployment);
    if (budget === undefined) candidates.push(candidate);
    else spent.push({ candidate, budget });
  }
  // Where nothing else is left its budget is asked again: a shorter call may have room.
  if (candidates.length === 0) return { candidates: spent.map(({ candidate }) => candidate), excluded };
  return { candidates, excluded: [...excluded, ...spent.map(overBudget)] };
}

function overBudget({ candidate, budget }: { candidate: Candidate; budget: ConfiguredBudget }): Exclusion {
  const { scope, id, window } = budget;
  const period = window === undefined ? "" : ` of ${window}`;
  return {
    deployment: candidate.deployment,
    reason: "budget",
    detail: `the budget${period} of the ${scope} ${id} has no room`,
  };
}

function cooling(
  deployment: Deployment,
  { coolingForMs, cause }: Exclude<HealthState, string>,
  nowMs: number,
): Exclusion {
  const until = new Date(nowMs + coolingForMs).toISOString().slice(11, 19);
  return {
    deployment,
    reason: "cooling",
    detail: `cooling until ${until} UTC after ${cause}`,
    retryAfterMs: Math.ceil(coolingForMs),
    cause,
  };
}

/**
 * The candidates in the order they are to be tried: the lowest `order` first, within an order as the strategy has it, none twice.
 * Each is chosen when it is asked for; mostly the first is the last.
 */
export function* rank(
  candidates: readonly Candidate[],
  strategy: Strategy,
  random: Random,
  ask: Ask,
): Generator<Candidate, void, undefined> {
  let left = candidates;
  while (left.length > 0) {
    const order = Math.min(...left.map(({ deployment }) => deployment.order));
    const level = left.filter(({ deployment }) => deployment.order === order);
    const next = strategy(level, random, ask);
    yield next;
    left = left.filter((candidate) => candidate !== next);
  }
}
