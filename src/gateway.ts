import type { Admission } from "./admission/admission.ts";
import type { Option } from "./admission/option.ts";
import { regionOf } from "./admission/payer.ts";
import { neededOf, type Place } from "./admission/place.ts";
import type { Ticket } from "./admission/ticket.ts";
import { WaitingRoom } from "./admission/waiting-room.ts";
import { Attempt } from "./attempt.ts";
import { AttemptSignal } from "./attempt-signal.ts";
import type { AnswerCache, Found } from "./cache/answer-cache.ts";
import type { CacheTerms } from "./cache/cache-terms.ts";
import type { Recording } from "./cache/recording.ts";
import { cacheableCall } from "./cacheable-call.ts";
import { Call } from "./call.ts";
import { type Clock, pause, type Random } from "./clock.ts";
import type { CallEvent, Caller, CompletionRequest, EndEvent, PretendedFailure, SettledEvent } from "./completion.ts";
import type { Deployment } from "./config/config.ts";
import { continuationFor } from "./continuation.ts";
import type { Board } from "./counters/board.ts";
import { mayReach, namesOf, startFor } from "./destinations.ts";
import { GatewayError, ProviderFailure } from "./errors.ts";
import { type Runner, race } from "./hedge.ts";
import type { Grant } from "./keys/authority.ts";
import { Planner } from "./planner.ts";
import { keepingFor, previousOf } from "./previous-response.ts";
import type { Provider } from "./providers/provider.ts";
import type { ResponseIds } from "./response-ids.ts";
import type { Health } from "./routing/health.ts";
import { Hedging } from "./routing/hedging.ts";
import { countInput } from "./routing/input-count.ts";
import type { Timeouts } from "./routing/itinerary.ts";
import { nowhere } from "./routing/nowhere.ts";
import type { Snapshots } from "./routing/snapshots.ts";
import type { TokenCounter } from "./routing/token-counter.ts";
import type { AttemptFacts, CallFacts, Telemetry } from "./telemetry/telemetry.ts";

const quicker = new GatewayError("client_closed_request", "Another attempt was quicker.");
const abandoned = new GatewayError("client_closed_request", "The caller went away.");

/**
 * THE WALK: the way of one call through the house.
 *
 *   2 authenticate   token -> Grant
 *   3 admit          whitelist, limits, money -> Ticket
 *     (cache)        an answer that was given before ends the walk here, and costs nothing
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
  readonly #health: Health;
  readonly #board: Board;
  readonly #tokenCounter: TokenCounter | undefined;
  readonly #cache: AnswerCache | undefined;
  readonly #telemetry: Telemetry;
  readonly #clock: Clock;
  readonly #planner: Planner;
  readonly #hedging = new Hedging();
  readonly #waitingRoom: WaitingRoom;
  readonly #responseIds: ResponseIds;
  readonly #newCallId: () => string;

  constructor(parts: {
    admission: Admission;
    snapshots: Pick<Snapshots, "current">;
    providerOf: (deployment: Deployment) => Provider;
    health: Health;
    board: Board;
    /** Counts long inputs exactly; undefined: they are estimated. */
    tokenCounter?: TokenCounter | undefined;
    /** Undefined: no answers are kept. */
    cache?: AnswerCache | undefined;
    telemetry: Telemetry;
    clock: Clock;
    random: Random;
    /** Names the answers that providers keep. */
    responseIds: ResponseIds;
    newCallId: () => string;
  }) {
    this.#admission = parts.admission;
    this.#snapshots = parts.snapshots;
    this.#providerOf = parts.providerOf;
    this.#health = parts.health;
    this.#board = parts.board;
    this.#tokenCounter = parts.tokenCounter;
    this.#cache = parts.cache;
    this.#telemetry = parts.telemetry;
    this.#clock = parts.clock;
    this.#planner = new Planner(parts);
    this.#waitingRoom = new WaitingRoom(parts);
    this.#responseIds = parts.responseIds;
    this.#newCallId = parts.newCallId;
  }

  /**
   * Answers a completion. The last event is `settled`; an iteration that ends otherwise throws a GatewayError. Ending it
   * early (`return()`) cancels the call and books what came; abort `caller.signal` first, so that a waiting attempt wakes.
   */
  async *complete(request: CompletionRequest, caller: Caller): AsyncGenerator<CallEvent, void, undefined> {
    const trace = this.#telemetry.startCall(request, caller);
    // Stands if the reader ends the iteration between two events.
    let failure: GatewayError | undefined = abandoned;
    let call: Call | undefined;
    let recording: Recording | undefined;
    const { router } = this.#snapshots.current;
    try {
      const grant = await trace.authorize(() => this.#admission.authenticate(caller.token));
      trace.identify(ownerFacts(grant));
      grant.policy?.checkCompletion(caller.route, () => request.chat());
      const start = startFor(router, grant, request.model);
      const continuation = continuationFor(request, router.config);
      const terms = this.#cache?.termsOf(request, caller, grant.allowedCacheControls);
      const callId = this.#newCallId();
      trace.identify({ callId, modelGroup: start.route.modelGroup });
      // Bytes cannot be gone on with by another model.
      const sent = continuation === undefined ? request : { ...request, wire: undefined, raw: undefined };
      const previous = previousOf(request, { ids: this.#responseIds, grant, router });
      const named = await trace.authorize(() => this.#admission.named(grant, sent, caller.tags));
      const itinerary = await this.#planner.plan({ request: sent, previous, caller, grant, named, router, start });
      call = new Call({ caller, callId, grant, named, router, itinerary, trace, request: sent, continuation });
      const found = this.#cache && terms && (await this.#find(call, this.#cache, terms));
      if (found?.kept !== undefined) {
        yield* found.kept;
        failure = undefined;
        return;
      }
      recording = found?.recording;
      if (recording === undefined && continuation === undefined) call.sink = caller.sink;
      let refused = found?.refused;
      // One loop with one counter: an attempt that fails before its first event is repeated, elsewhere if there is elsewhere. It stands
      // here since a generator of its own took about a twentieth of the CPU of each chunk.
      let begun = false;
      for (;;) {
        const goesOn = begun;
        try {
          if (refused !== undefined) throw refused;
          const place = await this.#place(call);
          for await (const event of this.#run(call, place)) {
            if (goesOn && continuation?.isRepeated(event) === true) continue;
            begun = true;
            const passed = continuation?.pass(event) ?? event;
            yield recording?.pass(passed) ?? passed;
            recording?.goOn();
          }
          break;
        } catch (thrown) {
          refused = undefined;
          await this.#again(call, GatewayError.from(thrown), begun);
        }
      }
      failure = undefined;
    } catch (thrown) {
      failure = GatewayError.from(thrown);
      throw failure;
    } finally {
      recording?.close();
      call?.ticket?.close();
      trace.end(failure);
    }
  }

  /** Calls of this pod that wait for a deployment with room. */
  get waiting(): number {
    return this.#waitingRoom.size;
  }

  /** Names of the models a key may use, sorted. */
  async listModels(token: string | undefined): Promise<string[]> {
    const { router } = this.#snapshots.current;
    const grant = await this.#admission.authenticate(token);
    grant.policy?.checkModelList();
    const names = new Set([...router.listModels(), ...grant.aliases.keys()]);
    const isUsable = (name: string) => {
      const group = namesOf(router, grant, name).at(-1) ?? name;
      return router.route(group) !== undefined && mayReach(router, grant, name);
    };
    return [...names].filter(isUsable).sort();
  }

  /** How many tokens a request's input has, exactly or about. Who may use the model may ask; nothing is charged or limited. */
  async countTokens(request: CompletionRequest, caller: Caller): Promise<number> {
    const { router } = this.#snapshots.current;
    const grant = await this.#admission.authenticate(caller.token);
    grant.policy?.checkCompletion(caller.route, () => request.chat());
    const { route } = startFor(router, grant, request.model);
    // A provider that counts reads the request, too.
    const region = regionOf(await this.#admission.named(grant, request, []));
    const ask = { request, tags: [], region, nowMs: this.#clock.nowMs() };
    const { candidates } = router.select(route, ask, () => true);
    const [providerOf, tokens, { signal }] = [this.#providerOf, this.#tokenCounter, caller];
    return countInput({ request, route, candidates, providerOf, tokens, signal });
  }

  /** The answer that is kept, if there is one, once the call is let through; what was not used of its ticket goes back as ever. */
  async #find(call: Call, cache: AnswerCache, terms: CacheTerms): Promise<Found & { readonly refused?: unknown }> {
    try {
      await this.#inTurn(call, () => this.#admit(call));
    } catch (refused) {
      // Another group may take it; that has other answers.
      return { refused };
    }
    return cache.find(cacheableCall({ ...call, terms, ticket: call.admitted }));
  }

  /** After an attempt that failed: where the call goes next. @throws GatewayError as its caller shall see it, if it goes nowhere. */
  async #again(call: Call, failure: GatewayError, begun: boolean): Promise<void> {
    const { itinerary, caller, continuation } = call;
    if (itinerary.fallbackModels.length === 0) call.failure = failure;
    if (caller.signal.aborted) throw failure;
    if (begun && continuation?.isPossible !== true) throw call.told(failure);
    const step = itinerary.after(failure);
    if (step.kind === "stop") throw call.told(begun ? failure : (call.failure ?? failure));
    if (begun && continuation !== undefined) itinerary.goOnWith(continuation.request(call.request));
    if (step.kind === "fallback") {
      call.trace.fellBack(itinerary.route.modelGroup, step.destination.route.modelGroup, failure.code);
      await this.#planner.enter(itinerary, call.router, step.destination);
      // What differs there may be the end user.
      call.named = await this.#admission.named(call.grant, itinerary.ask.request, caller.tags);
    } else if (step.pauseMs > 0) await pause(this.#clock, step.pauseMs, caller.signal);
  }

  /** An attempt; and if so configured, another one beside it when its answer is late. */
  #run(call: Call, place: Place): AsyncGenerator<CallEvent, void, undefined> {
    const { hedge } = call.router.config;
    const isStream = call.request.stream;
    if (hedge === undefined) return this.#attempt(call, place);
    this.#hedging.save(hedge);
    const afterMs = this.#hedging.waitMs(place.deployment, isStream, hedge);
    if (afterMs === undefined) return this.#attempt(call, place);
    const runnerAt = (at: Place): Runner => {
      const control = new AttemptSignal(call.caller.signal);
      return { events: this.#attempt(call, at, control), cancel: () => control.abort(quicker) };
    };
    return race(runnerAt(place), {
      afterMs,
      second: async () => {
        const other = await this.#otherPlace(call);
        return other && runnerAt(other);
      },
      clock: this.#clock,
    });
  }

  /** A place where the call has not been, if there is one and second attempts are not too many already. */
  async #otherPlace(call: Call): Promise<Place | undefined> {
    const candidates = call.itinerary.others();
    // Who waits for a first attempt goes before second ones.
    if (candidates.length === 0 || this.waiting > 0 || !this.#hedging.spend()) return undefined;
    try {
      return await this.#admission.takePlace(
        call.admitted,
        neededOf(call.router.ranked(candidates, call.itinerary.ask)),
      );
    } catch {
      // The attempt that is under way is not worse for it.
      return undefined;
    }
  }

  /** Step 4, and for a group that was not asked before, step 3. */
  #place(call: Call): Promise<Place> {
    return this.#inTurn(call, async () => {
      const options = await this.#admit(call);
      const { trace, ticket } = call;
      return ticket?.takePlace() ?? trace.authorize(() => this.#admission.takePlace(call.admitted, options));
    });
  }

  /** Something that needs room at a deployment: where calls wait for it, when it is this one's turn. */
  #inTurn<Result>({ router, itinerary, ticket, caller }: Call, work: () => Promise<Result>): Promise<Result> {
    const { queue: rules } = router.config;
    if (rules === undefined || ticket?.hasPlace === true) return work();
    const { leftMs, ask, route } = itinerary;
    const { priority } = ask.request.repeat ?? {};
    return this.#waitingRoom.inTurn({ group: route.modelGroup, priority, rules, leftMs, signal: caller.signal }, work);
  }

  /** Step 3, unless the group was asked before. @returns where the next attempt can go, the best first. */
  async #admit(call: Call): Promise<readonly Option[]> {
    const { itinerary, ticket, grant, named } = call;
    const { route, names, ask } = itinerary;
    const { request } = ask;
    const pretended = request.repeat?.pretends;
    if (pretended !== undefined && itinerary.fallbackModels.length === 0) throw pretendedFailure(pretended);
    const { candidates, excluded } = itinerary.candidates();
    if (candidates.length === 0) throw nowhere(route, excluded);
    const options = neededOf(call.router.ranked(candidates, ask));
    const leg = { named, request, models: names, ...route, options };
    if (ticket === undefined) {
      const { caller, callId, trace } = call;
      const asked = { ...leg, grant, caller, callId, traceId: trace.traceId };
      call.ticket = await trace.authorize(() => this.#admission.admit(asked));
    } else if (ticket.leg.modelGroup !== route.modelGroup || ticket.leg.request !== request) {
      await call.trace.authorize(() => this.#admission.move(ticket, grant, leg));
    }
    return options;
  }

  /** One attempt at one deployment. Reserving (`begin`) and settling stand here together. */
  async *#attempt(call: Call, place: Place, control?: AttemptSignal): AsyncGenerator<CallEvent, void, undefined> {
    const { caller, itinerary } = call;
    const { request } = itinerary.ask;
    const { deployment, isProbe } = place;
    const ticket = call.admitted;
    const timeouts = itinerary.timeoutsAt(deployment, request.stream);
    const number = call.begin(deployment, timeouts.timeoutMs);
    itinerary.begin(deployment);
    const spending = ticket.begin(number, place);
    const trace = call.trace.attempt(attemptFacts(request, place, number));
    const attempt = new Attempt({ spending, trace, clock: this.#clock, board: this.#board, request });
    const limit = this.#firstEventLimit(caller, timeouts, control);
    const signal = limit?.signal ?? control?.signal ?? caller.signal;
    const { sink } = call;
    try {
      const events = this.#providerOf(deployment).complete({
        request,
        deployment,
        ...timeouts,
        outputTokensMax: ticket.outputTokensMaxAt(deployment),
        ...keepingFor(call, deployment, this.#responseIds),
        traceparent: trace.traceparent,
        signal,
        sink: sink && ((event) => sink(attempt.meter(event))),
      });
      for await (const event of events) {
        const isFirst = !attempt.answered;
        if (isFirst) {
          limit?.cancel();
          const waitMs = attempt.begin();
          if (call.router.config.hedge !== undefined) this.#hedging.observe(deployment, request.stream, waitMs);
          this.#health.succeeded(deployment, isProbe);
        }
        // Counted before it is handed on: the reader may leave at any yield.
        const passed = event.type === "end" ? settle(attempt, ticket, event) : attempt.meter(event);
        if (isFirst) yield call.acceptedBy(deployment, timeouts.timeoutMs);
        yield passed;
        if (passed.type === "settled") return;
      }
      throw new ProviderFailure("stream_interrupted", "The provider broke off before the answer was whole.", {
        billable: true,
      });
    } catch (thrown) {
      const failure = attempt.fail(thrown, signal);
      call.continuation?.broke(attempt.usage);
      const hasSiblings = itinerary.route.deployments.length > 1;
      if (!attempt.isCancelled) this.#health.failed(deployment, failure, call.router.config.cooldown, hasSiblings);
      throw failure;
    } finally {
      limit?.cancel();
      limit?.release();
      control?.release();
      attempt.abandon();
      this.#waitingRoom.wake(deployment.modelGroup);
    }
  }

  /** Gives an attempt up whose answer does not begin in time, where that time is not its connection's. */
  #firstEventLimit({ signal }: Caller, { firstEventMs }: Timeouts, control: AttemptSignal | undefined) {
    if (firstEventMs === undefined) return undefined;
    const limit = new AttemptSignal(control?.signal ?? signal);
    const cancel = this.#clock.after(firstEventMs, () => limit.abort(late()));
    return { signal: limit.signal, release: () => limit.release(), cancel };
  }
}

function late(): ProviderFailure {
  return new ProviderFailure("provider_timeout", "The provider did not begin to answer in time.", { billable: true });
}

function pretendedFailure(code: PretendedFailure): GatewayError {
  return new GatewayError(code, "The failure that the request asked for, to try its fallbacks.", { retry: false });
}

/** Before the last byte leaves: whoever has the whole answer finds it in the books, and its slot free. */
function settle(attempt: Attempt, ticket: Ticket, end: EndEvent): SettledEvent {
  const { usage, cost } = attempt.succeed(end);
  ticket.close();
  const { raw, mediaType } = end;
  return { type: "settled", usage, cost, raw, ...(mediaType !== undefined && { mediaType }) };
}

function attemptFacts(request: CompletionRequest, { deployment, paid }: Place, number: number): AttemptFacts {
  const { provider, model, apiBase, modelGroup, id: deploymentId } = deployment;
  const { leaseId } = paid.reservation;
  return { number, request, provider, model, apiBase, modelGroup, deploymentId, leaseId };
}

function ownerFacts({ keyId, keyAlias, teamId, userId, hidesContent = false }: Grant): CallFacts {
  return { keyId, keyAlias, teamId, userId, hidesContent };
}
