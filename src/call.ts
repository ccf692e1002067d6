import type { Named } from "./admission/payer.ts";
import type { Ticket } from "./admission/ticket.ts";
import type { AcceptedEvent, Caller, CompletionRequest, EventSink } from "./completion.ts";
import type { Deployment } from "./config/config.ts";
import type { Continuation } from "./continuation.ts";
import type { GatewayError } from "./errors.ts";
import type { Grant } from "./keys/authority.ts";
import type { Itinerary } from "./routing/itinerary.ts";
import { afterAttempts } from "./routing/retries.ts";
import type { Router } from "./routing/router.ts";
import type { CallTrace } from "./telemetry/telemetry.ts";

interface CallParts {
  readonly caller: Caller;
  readonly callId: string;
  readonly grant: Grant;
  readonly named: Named;
  readonly router: Router;
  readonly itinerary: Itinerary;
  readonly trace: CallTrace;
  /** As it began. */
  readonly request: CompletionRequest;
  /** Undefined: a stream that breaks off is not gone on with. */
  readonly continuation: Continuation | undefined;
}

/** One call under way: who makes it, where it goes, and how far it has come. */
export class Call implements CallParts {
  readonly caller: Caller;
  readonly callId: string;
  readonly grant: Grant;
  /** What it names besides its key, in the group it is at: a fallback may say something else. */
  named: Named;
  readonly router: Router;
  readonly itinerary: Itinerary;
  readonly trace: CallTrace;
  readonly request: CompletionRequest;
  readonly continuation: Continuation | undefined;
  /** Undefined until the call is admitted. */
  ticket: Ticket | undefined;
  /** Takes the events between a stream's first and its last, where nothing here is to be done with them. */
  sink: EventSink | undefined;
  /** How the last attempt in the group that was asked for failed. */
  failure: GatewayError | undefined;
  #attempts = 0;
  #last: { readonly deployment: Deployment; readonly timeoutMs: number } | undefined;

  constructor(parts: CallParts) {
    this.caller = parts.caller;
    this.callId = parts.callId;
    this.grant = parts.grant;
    this.named = parts.named;
    this.router = parts.router;
    this.itinerary = parts.itinerary;
    this.trace = parts.trace;
    this.request = parts.request;
    this.continuation = parts.continuation;
  }

  /** The ticket of a call that is admitted. */
  get admitted(): Ticket {
    if (this.ticket === undefined) throw new Error("an attempt needs a ticket");
    return this.ticket;
  }

  /** Another attempt begins. @returns its number, from 1. */
  begin(deployment: Deployment, timeoutMs: number): number {
    this.#last = { deployment, timeoutMs };
    return ++this.#attempts;
  }

  /** The failure as the caller shall see it: how far his call came, and whether it is worth another. */
  told(failure: GatewayError): GatewayError {
    const { failovers: fallbacks, fallbackModels, route } = this.itinerary;
    const attempts = this.#attempts;
    if (attempts === 0 && fallbacks === 0) return failure;
    return afterAttempts(failure, fallbackModels, {
      ...{ callId: this.callId, attempts, fallbacks, modelGroup: route.modelGroup },
      deploymentId: this.#last?.deployment.id,
      timeoutMs: this.#last?.timeoutMs,
    });
  }

  /** What the door puts into its head when the answer begins. */
  acceptedBy(deployment: Deployment, timeoutMs: number): AcceptedEvent {
    const { failovers: fallbacks, route } = this.itinerary;
    return {
      type: "accepted",
      callId: this.callId,
      deploymentId: deployment.id,
      modelGroup: route.modelGroup,
      ...(deployment.region !== undefined && { region: deployment.region }),
      attempts: this.#attempts,
      ...{ fallbacks, timeoutMs },
      limits: this.admitted.limits,
    };
  }
}
