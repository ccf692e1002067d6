/** From what a caller asks to the way his call may take. Calls that are made and calls that are only explained are planned alike. */

import { type Named, regionOf } from "./admission/payer.ts";
import type { Clock, Random } from "./clock.ts";
import type { Caller, CompletionRequest } from "./completion.ts";
import { fallbackResolver } from "./destinations.ts";
import type { Grant } from "./keys/authority.ts";
import type { Ask, PreviousResponse } from "./routing/candidate.ts";
import { findOverflows } from "./routing/context-window.ts";
import { type Destination, Itinerary } from "./routing/itinerary.ts";
import { rulesFor } from "./routing/own-rules.ts";
import type { Route, Router } from "./routing/router.ts";
import type { TokenCounter } from "./routing/token-counter.ts";
import { withOverrides } from "./wires/overrides.ts";

/** What a way is planned for. */
interface PlanAsk {
  readonly request: CompletionRequest;
  /** The stored answer it goes on with; absent: none. */
  readonly previous?: PreviousResponse | undefined;
  readonly caller: Pick<Caller, "repeat" | "sessionId">;
  readonly grant: Grant;
  /** What it names besides its key. */
  readonly named: Named;
  readonly router: Router;
  /** Where it begins, as `startFor` says. */
  readonly start: Destination;
}

/** Plans ways of calls. */
export class Planner {
  readonly #tokenCounter: TokenCounter | undefined;
  readonly #clock: Clock;
  readonly #random: Random;

  /** @param parts.tokenCounter undefined: long inputs are estimated. */
  constructor(parts: { tokenCounter?: TokenCounter | undefined; clock: Clock; random: Random }) {
    this.#tokenCounter = parts.tokenCounter;
    this.#clock = parts.clock;
    this.#random = parts.random;
  }

  /** @throws GatewayError model_not_allowed, for a fallback the caller names. */
  plan({ request: own, previous, caller, grant, named, router, start }: PlanAsk): Itinerary | Promise<Itinerary> {
    // The provider reads again what it keeps.
    const request = previous ? { ...own, inputTokensMax: own.inputTokensMax + previous.tokensMax } : own;
    const [{ tags }, region] = [named, regionOf(named)];
    const asked = { request, previous, tags, region, keyId: grant.keyId, sessionId: caller.sessionId };
    const wishes = { ...request.repeat, ...caller.repeat };
    const { config } = router;
    const resolve = fallbackResolver(router, grant, wishes.fallbacks);
    const [clock, random] = [this.#clock, this.#random];
    const timeoutMs = wishes.timeoutMs ?? grant.repeat?.timeoutMs;
    const deadlineMs = timeoutMs === undefined ? undefined : clock.monotonicMs() + timeoutMs;
    const rules = rulesFor(config, grant.repeat);
    const parts = { router, rules, config, wishes, resolve, deadlineMs, clock, random };
    const ask = this.#askFor(asked, router, start.route);
    return ask instanceof Promise
      ? ask.then((counted) => new Itinerary(parts, start, counted))
      : new Itinerary(parts, start, ask);
  }

  /** The call goes on at another group, as the fallback says. */
  async enter(itinerary: Itinerary, router: Router, destination: Destination): Promise<void> {
    const { overflows: _, ...before } = itinerary.ask;
    const { overrides, route } = destination;
    const request = overrides === undefined ? before.request : withOverrides(before.request, overrides);
    itinerary.enter(destination, await this.#askFor({ ...before, request }, router, route));
  }

  /** What a call asks for in a group. Waits only where the length of the input has to be counted. */
  #askFor(asked: Omit<Ask, "nowMs" | "overflows">, router: Router, route: Route): Ask | Promise<Ask> {
    const ask = { ...asked, nowMs: this.#clock.nowMs() };
    if (router.config.checksCalls !== true) return ask;
    return findOverflows(ask.request, route.deployments, this.#tokenCounter).then((overflows) => ({
      ...ask,
      overflows,
    }));
  }
}
