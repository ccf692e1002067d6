import type { Ticket } from "./admission/ticket.ts";
import type { AdmittedCall } from "./cache/answer-cache.ts";
import type { CacheTerms } from "./cache/cache-terms.ts";
import type { Caller } from "./completion.ts";
import type { Grant } from "./keys/authority.ts";
import type { Itinerary } from "./routing/itinerary.ts";
import type { CallTrace } from "./telemetry/telemetry.ts";

/** A call that was let through, as the cache sees it. */
export function cacheableCall(call: {
  readonly terms: CacheTerms;
  readonly caller: Caller;
  readonly callId: string;
  readonly grant: Grant;
  readonly itinerary: Itinerary;
  readonly ticket: Ticket;
  readonly trace: CallTrace;
}): AdmittedCall {
  const { terms, callId, grant, itinerary, ticket } = call;
  const { route, names, ask } = itinerary;
  const { request } = ask;
  const { modelGroup, deployments } = route;
  return {
    ...{ terms, request, callId, modelGroup, limits: ticket.limits, outputTokensMax: ticket.leg.outputTokensMax },
    timeoutMs: deployments[0]?.timeoutMs ?? 0,
    signal: call.caller.signal,
    keyId: grant.keyId,
    teamId: grant.teamId,
    model: names.at(-1) ?? request.model,
    lookUp: (work) => call.trace.lookUp(work),
    giveAgain: ({ deploymentId: id, ...again }) => {
      // The configuration may have changed since it was kept.
      const former = { id, model: "", provider: "", price: undefined };
      ticket.giveAgain({ ...again, deployment: deployments.find((deployment) => deployment.id === id) ?? former });
      ticket.close();
      call.trace.identify({ cacheHit: true });
    },
  };
}
