import type { Admission } from "./admission/admission.ts";
import { modelNotAllowed, modelNotFound } from "./admission/refusals.ts";
import type { Ticket } from "./admission/ticket.ts";
import { mayUse } from "./admission/whitelist.ts";
import { Attempt } from "./attempt.ts";
import { type Clock, pause, type Random } from "./clock.ts";
import type { CallEvent, Caller, CompletionRequest, EndEvent, SettledEvent } from "./completion.ts";
import type { Deployment } from "./config/config.ts";
import { GatewayError, ProviderFailure } from "./errors.ts";
import type { Grant } from "./keys/authority.ts";
import type { Provider } from "./providers/provider.ts";
import { afterAttempts, isWorthRepeating, pauseMs } from "./routing/repeats.ts";
import type { Route, Router } from "./routing/router.ts";
import type { Snapshots } from "./routing/snapshots.ts";
import type { AttemptFacts, CallTrace, Telemetry } from "./telemetry/telemetry.ts";

const abandoned = new GatewayError("client_closed_request", "The caller went away.");

/** What all attempts of a call share. */
interface Call {
  readonly request: CompletionRequest;
  readonly caller: Caller;
  readonly callId: string;
  readonly router: Router;
  readonly route: Route;
  readonly ticket: Ticket;
  readonly trace: CallTrace;
}

/**
 * THE WALK: the way of one call through the house.
 *
 *   2 authenticate   token -> Grant
 *   3 admit          whitelist, limits, money -> Ticket
 *   4 choose         route -> Deployment
 *   5 call           provider attempts, repeated elsewhere until the first event
 *   6 stream back    events pass to the door; a meter counts
 *   7 settle         real tokens, real money; the rest goes back
 *   8 record         journal, span, metrics
 *
 * Doors do step 1 (decode) before, and write the events after. Everything that was taken on the way down is given back on
 * the way up by the `finally`s of this file, whether the answer ended, broke, or its reader went away.
 */
export class Gateway {
  readonly #admission: Admission;
  readonly #snapshots: Pick<Snapshots, "current">;
  readonly #providerOf: (deployment: Deployment) => Provider;
  readonly #telemetry: Telemetry;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #newCallId: () => string;

  constructor(parts: {
    admission: Admission;
    snapshots: Pick<Snapshots, "current">;
    providerOf: (deployment: Deployment) => Provider;
    telemetry: Telemetry;
    clock: Clock;
    random: Random;
    newCallId: () => string;
  }) {
    this.#admission = parts.admission;
    this.#snapshots = parts.snapshots;
    this.#providerOf = parts.providerOf;
    this.#telemetry = parts.telemetry;
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#newCallId = parts.newCallId;
  }

  /**
   * Answers a completion. The last event is `settled`; an iteration that ends otherwise throws a GatewayError. Ending it
   * early (`return()`) cancels the call and books what came; abort `caller.signal` first, so that a waiting attempt wakes.
   */
  async *complete(request: CompletionRequest, caller: Caller): AsyncGenerator<CallEvent, void, undefined> {
    const { requestId, door, route: path, traceparent, tracestate } = caller;
    const trace = this.#telemetry.startCall({
      requestId,
      door,
      route: path,
      traceparent,
      tracestate,
      stream: request.stream,
    });
    // Stands if the reader ends the iteration between two events.
    let failure: GatewayError | undefined = abandoned;
    let ticket: Ticket | undefined;
    const { router } = this.#snapshots.current;
    try {
      const grant = await this.#admission.authenticate(caller.token);
      trace.identify({ keyId: grant.keyId, teamId: grant.teamId });
      grant.policy?.checkCompletion(path, () => request.chat());
      const { route, models } = routeFor(router, grant, request.model);
      trace.identify({ modelGroup: route.modelGroup });
      const callId = this.#newCallId();
      ticket = await this.#admission.admit({
        grant,
        request,
        caller,
        callId,
        models,
        ...route,
        traceId: trace.traceId,
      });
      yield* this.#attempts({ request, caller, callId, router, route, ticket, trace });
      failure = undefined;
    } catch (thrown) {
      failure = GatewayError.from(thrown);
      throw failure;
    } finally {
      ticket?.close();
      trace.end(failure);
    }
  }

  /** Names of the models a key may use, sorted. */
  async listModels(token: string | undefined): Promise<string[]> {
    const { router } = this.#snapshots.current;
    const grant = await this.#admission.authenticate(token);
    grant.policy?.checkModelList();
    const names = new Set([...router.listModels(), ...grant.aliases.keys()]);
    const isUsable = (name: string) => {
      const path = namesOf(router, grant, name);
      return mayUse(grant, path) && router.route(path.at(-1) ?? name) !== undefined;
    };
    return [...names].filter(isUsable).sort();
  }

  /** One loop with one counter: an attempt that fails before its first event is repeated, elsewhere if there is elsewhere. */
  async *#attempts(call: Call): AsyncGenerator<CallEvent, void, undefined> {
    const tried: Deployment[] = [];
    let failure: GatewayError | undefined;
    for (let number = 1; ; number++) {
      const { deployment, again } = call.router.choose(call.route, tried);
      if (failure !== undefined) {
        if (!isWorthRepeating(failure, again)) throw afterAttempts(failure, number - 1);
        if (again) await pause(this.#clock, pauseMs(number - 1, failure, this.#random), call.caller.signal);
      }
      tried.push(deployment);
      let begun = false;
      try {
        for await (const event of this.#attempt(call, deployment, number)) {
          begun = true;
          yield event;
        }
        return;
      } catch (thrown) {
        failure = GatewayError.from(thrown);
        if (begun || number > call.router.retries || call.caller.signal.aborted) throw afterAttempts(failure, number);
      }
    }
  }

  /** One attempt at one deployment. Reserving (`begin`) and settling stand here together. */
  async *#attempt(call: Call, deployment: Deployment, number: number): AsyncGenerator<CallEvent, void, undefined> {
    const { request, caller, ticket } = call;
    await ticket.begin(number, deployment);
    const trace = call.trace.attempt(attemptFacts(request, deployment, number));
    const attempt = new Attempt({ ticket, trace, clock: this.#clock, deployment, number });
    try {
      const events = this.#providerOf(deployment).complete({
        request,
        deployment,
        outputTokensMax: ticket.outputTokensMaxAt(deployment),
        traceparent: trace.traceparent,
        signal: caller.signal,
      });
      for await (const event of events) {
        const accepted = attempt.answered ? undefined : attempt.begin(call);
        // Counted before it is handed on: the reader may leave at any yield.
        const passed = event.type === "end" ? settle(attempt, ticket, event) : attempt.meter(event);
        if (accepted !== undefined) yield accepted;
        yield passed;
        if (passed.type === "settled") return;
      }
      throw new ProviderFailure("stream_interrupted", "The provider broke off before the answer was whole.", {
        billable: true,
      });
    } catch (thrown) {
      throw attempt.fail(thrown, caller.signal);
    } finally {
      attempt.abandon();
    }
  }
}

function routeFor(router: Router, grant: Grant, model: string): { route: Route; models: readonly string[] } {
  const models = namesOf(router, grant, model);
  if (!mayUse(grant, models)) throw modelNotAllowed(model);
  const route = router.route(models.at(-1) ?? model);
  if (route === undefined) throw modelNotFound(model);
  return { route, models };
}

/** The names of a model from the caller's spelling to the group it ends in. */
function namesOf(router: Router, grant: Grant, model: string): readonly string[] {
  const target = grant.aliases.get(model) ?? model;
  return [model, target, router.groupOf(target)];
}

/** Before the last byte leaves: whoever has the whole answer finds it in the books, and its slot free. */
function settle(attempt: Attempt, ticket: Ticket, end: EndEvent): SettledEvent {
  const { usage, cost } = attempt.succeed(end);
  ticket.close();
  return { type: "settled", usage, cost, raw: end.raw };
}

function attemptFacts(request: CompletionRequest, deployment: Deployment, number: number): AttemptFacts {
  const { provider, model, apiBase, id } = deployment;
  return { number, operation: request.operation, provider, model, apiBase, deploymentId: id, stream: request.stream };
}
