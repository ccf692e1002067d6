/** Where calls by OpenAI's responses can go. */

import type { Deployment } from "../config/config.ts";
import type { Exclusion, Filter, PreviousResponse } from "./candidate.ts";

const nothing: readonly Exclusion[] = [];

/**
 * Passes over deployments that would not understand the call. One that goes on with an answer goes to the deployment that made it;
 * where that is not one of the model's, to those of the same account, for providers keep answers by account. What the neutral form
 * cannot say goes to deployments of the same wire, if there are any.
 */
export const responsesFilter: Filter = (deployments, { request, previous }) => {
  const isOwnWire = request.wire === "openai-responses";
  // A fallback's overrides have made chat of it, which cannot go on.
  if (previous !== undefined) return isOwnWire ? awayFrom(previous, deployments) : lost(deployments);
  if (!isOwnWire) return nothing;
  const others = deployments.filter(({ speaksResponses }) => speaksResponses !== true);
  if (others.length === 0 || others.length === deployments.length) return nothing;
  const [unsayable] = request.unsayable?.() ?? [];
  return unsayable === undefined ? nothing : excluded(others, `is behind a wire without \`${unsayable.param}\``);
};

function awayFrom({ deployment: home }: PreviousResponse, deployments: readonly Deployment[]): readonly Exclusion[] {
  const isThere = deployments.some(({ id }) => id === home.id);
  const isAway = (each: Deployment) => (isThere ? each.id !== home.id : !isSameAccount(each, home));
  return lost(deployments.filter(isAway));
}

function lost(deployments: readonly Deployment[]): readonly Exclusion[] {
  return excluded(deployments, "does not have the response that `previous_response_id` names");
}

function excluded(deployments: readonly Deployment[], detail: string): readonly Exclusion[] {
  return deployments.map((deployment) => ({ deployment, reason: "unsupported", detail }));
}

function isSameAccount(a: Deployment, b: Deployment): boolean {
  const facts = ({ apiBase, apiKey, headers, speaksResponses = false }: Deployment) =>
    JSON.stringify([speaksResponses, apiBase, apiKey?.reveal(), headers]);
  return facts(a) === facts(b);
}
