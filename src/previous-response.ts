/** Answers that providers keep: how a call finds the one it goes on with, and how its own is named. */

import type { Call } from "./call.ts";
import type { CompletionRequest } from "./completion.ts";
import type { Deployment } from "./config/config.ts";
import { GatewayError } from "./errors.ts";
import type { Grant } from "./keys/authority.ts";
import type { ResponseIds } from "./response-ids.ts";
import type { PreviousResponse } from "./routing/candidate.ts";
import type { Router } from "./routing/router.ts";
import { documentTokensMax } from "./wires/request-body.ts";

/** The longest conversation a provider keeps, in tokens: the longest context there is. */
const conversationTokensMax = 2 * documentTokensMax;

/** By what answers are found. */
interface Finder {
  readonly ids: ResponseIds;
  readonly grant: Grant;
  readonly router: Router;
}

/**
 * The answer a caller names.
 *
 * @param param the field that names it; undefined: the path does.
 * @throws GatewayError response_not_found, of somebody else's too.
 */
export function findResponse(name: string, { ids, grant, router }: Finder, param?: string): PreviousResponse {
  const found = ids.find(name, grant);
  const deployment = found && router.deployment(found.deploymentId);
  if (found !== undefined && deployment !== undefined) {
    const { responseId, tokensMax } = found;
    return { deployment, responseId, tokensMax: Math.min(tokensMax, conversationTokensMax) };
  }
  const why = "it was not stored, was made by another team, or its deployment is gone";
  throw new GatewayError("response_not_found", `There is no such response for this key: ${why}.`, {
    ...(param !== undefined && { param }),
  });
}

/** The answer a call goes on with. @returns undefined if there is none. @throws GatewayError response_not_found. */
export function previousOf(
  { previousResponse: name }: CompletionRequest,
  finder: Finder,
): PreviousResponse | undefined {
  return name === undefined ? undefined : findResponse(name, finder, "previous_response_id");
}

/** What an attempt's provider is told of answers that are kept. */
export interface Keeping {
  /** The provider's id of the answer that the call goes on with. */
  readonly previousResponseId?: string | undefined;
  /** Names the attempt's own answer for its caller, by the provider's id of it; absent: it is not kept. */
  readonly nameOf?: (responseId: string) => string;
}

/** What goes with an attempt of a call at a deployment. */
export function keepingFor({ itinerary, grant, admitted }: Call, deployment: Deployment, ids: ResponseIds): Keeping {
  const { request, previous } = itinerary.ask;
  const kept = previous && { previousResponseId: previous.responseId };
  if (request.isStored !== true) return { ...kept };
  const cap = admitted.outputTokensMaxAt(deployment) ?? request.outputTokensMax ?? Number.POSITIVE_INFINITY;
  const facts = { deploymentId: deployment.id, tokensMax: request.inputTokensMax + cap };
  return { ...kept, nameOf: (responseId) => ids.nameFor({ ...facts, responseId }, grant) };
}
