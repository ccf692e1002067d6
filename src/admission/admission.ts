import type { Clock } from "../clock.ts";
import type { Caller, CompletionRequest } from "../completion.ts";
import type { CountedTokens, Deployment, UnpricedModels } from "../config/config.ts";
import { type Counters, CountersUnavailable, type Shortage } from "../counters/counters.ts";
import { GatewayError } from "../errors.ts";
import {
  AuthorityUnavailable,
  type BudgetRefusal,
  type Grant,
  type Limit,
  type PartyGrant,
  type Payer,
} from "../keys/authority.ts";
import type { Decisions } from "../keys/decisions.ts";
import type { Journal } from "../keys/journal.ts";
import type { Reservation } from "../keys/lease.ts";
import type { Leases } from "../keys/leases.ts";
import type { Overdraft } from "../keys/overdraft.ts";
import type { Nanos } from "../money.ts";
import { boundsOf } from "./estimate.ts";
import { foreseeLimits, type LimitAsk, type LimitHold, takeLimits, tokensOf } from "./limits.ts";
import { Need } from "./need.ts";
import type { Option } from "./option.ts";
import { partiesOf, payerOf } from "./payer.ts";
import { type Place, takePlace } from "./place.ts";
import { blocked, budgetExceeded, modelNotAllowed, partyBlocked } from "./refusals.ts";
import { type Leg, Ticket } from "./ticket.ts";
import { mayBeUsedFor } from "./whitelist.ts";

/** Shorter answers are not worth their input: the call is refused instead of shortened. */
const outputTokensMin = 16;
/** So often a call is shortened; others may take what a refusal said was left. */
const shortenedMax = 2;

/** What is asked for a call. */
interface CallAsk {
  readonly grant: Grant;
  readonly caller: Caller;
  /** Of the call and its key, without repeats. */
  readonly tags: readonly string[];
  readonly callId: string;
  readonly traceId: string;
}

/** What is asked for its attempts in one group. */
interface LegAsk {
  readonly request: CompletionRequest;
  readonly modelGroup: string;
  /** The names of the model, from the caller's spelling to the group it ends in. */
  readonly models: readonly string[];
  /** All the group has. */
  readonly deployments: readonly Deployment[];
  /** Where the first attempt may be made, the best first; at least one. */
  readonly options: readonly Option[];
}

/** What would become of a call. */
export interface Foresight {
  /** Why it would be refused; undefined: it would be let through. */
  readonly refusal: GatewayError | undefined;
  /** What each of the options lacks, in their order; undefined: nothing. */
  readonly shortages: readonly (Shortage | undefined)[];
}

/** May this call go ahead? Who asks, and whether limits and money have room. */
export class Admission {
  readonly #decisions: Decisions;
  readonly #leases: Leases;
  readonly #overdraft: Overdraft | undefined;
  readonly #isClosedAlone: boolean;
  readonly #journal: Journal;
  readonly #counters: Counters;
  readonly #clock: Clock;
  readonly #unpricedModels: UnpricedModels;
  readonly #countedTokens: CountedTokens;
  readonly #countUnpriced: (modelGroup: string) => void;

  constructor(parts: {
    decisions: Decisions;
    leases: Leases;
    /** What calls are paid from while the KeyService is away; undefined: nothing but what was borrowed. */
    overdraft?: Overdraft | undefined;
    /** Whether no call is let through while the KeyService is away. */
    isClosedAlone: boolean;
    journal: Journal;
    counters: Counters;
    clock: Clock;
    /** What becomes of budgets where nobody knows the price. */
    unpricedModels: UnpricedModels;
    /** What limits on tokens count. */
    countedTokens: CountedTokens;
    /** Told of each call that may reach a deployment without a price. */
    countUnpriced: (modelGroup: string) => void;
  }) {
    this.#decisions = parts.decisions;
    this.#leases = parts.leases;
    this.#overdraft = parts.overdraft;
    this.#isClosedAlone = parts.isClosedAlone;
    this.#journal = parts.journal;
    this.#counters = parts.counters;
    this.#clock = parts.clock;
    this.#unpricedModels = parts.unpricedModels;
    this.#countedTokens = parts.countedTokens;
    this.#countUnpriced = parts.countUnpriced;
  }

  /**
   * Who is asking. Without waiting when the key was seen before.
   *
   * @throws GatewayError missing_api_key, invalid_api_key, blocked_key, expired_key; keyservice_unavailable when nobody can say.
   */
  async authenticate(token: string | undefined): Promise<Grant> {
    if (token === undefined || token === "") {
      throw new GatewayError(
        "missing_api_key",
        "No api key passed in. Send your virtual key as `Authorization: Bearer sk-...`.",
      );
    }
    if (this.#isClosedAlone && !this.#decisions.connected) throw unavailable(new AuthorityUnavailable(undefined));
    let grant: Grant | undefined;
    try {
      grant = await this.#decisions.resolve(token);
    } catch (thrown) {
      throw unavailable(thrown);
    }
    if (grant === undefined) {
      throw new GatewayError(
        "invalid_api_key",
        "Invalid API key. Check it for typos, or ask your operator for a new one.",
      );
    }
    if (grant.blocked) throw new GatewayError("blocked_key", "Key is blocked. Ask your operator to unblock it.");
    for (const rule of grant.rules) if (rule.blocked) throw blocked(rule);
    if (grant.expiresAtMs !== undefined && grant.expiresAtMs <= this.#clock.monotonicMs()) {
      throw new GatewayError("expired_key", "Key has expired. Ask your operator for a new one.");
    }
    return grant;
  }

  /**
   * Takes a share of every limit, a place for the first attempt, and the money it may cost; all or nothing. Whoever gets the ticket
   * must close it.
   *
   * @throws GatewayError rate_limit_exceeded, deployments_full, duplicate_request, idempotency_key_reused, budget_exceeded,
   *   unpriced_model; model_not_allowed, permission_denied if what the call names besides its key forbids it; 503s when counters or
   *   KeyService cannot be asked.
   */
  async admit(ask: CallAsk & LegAsk): Promise<Ticket> {
    const { idempotencyKey } = ask.caller;
    const pricedAtMs = this.#clock.nowMs();
    const taken = await this.#enter({ ...ask, pricedAtMs }, idempotencyKey, []);
    const counted = this.#countedTokens;
    return new Ticket({ ...ask, ...taken, pricedAtMs, counted, journal: this.#journal, clock: this.#clock });
  }

  /**
   * The call goes on in another group: with a place there and money for it, and shares of those limits that hold only there. What it has
   * taken of other limits stays taken.
   *
   * @throws GatewayError as `admit`.
   */
  async move(ticket: Ticket, grant: Grant, ask: LegAsk): Promise<void> {
    const { tags, pricedAtMs } = ticket;
    const { leg, hold, reservation, place } = await this.#enter(
      { ...ask, grant, tags, pricedAtMs },
      undefined,
      ticket.limitsTaken,
    );
    ticket.move(leg, hold, reservation, place);
  }

  /**
   * A place for another attempt.
   *
   * @param options the best first; at least one.
   * @throws GatewayError deployments_full, counters_unavailable.
   */
  async takePlace(ticket: Ticket, options: readonly Option[]): Promise<Place> {
    try {
      return await takePlace(this.#counters, options, ticket.leg.tokens);
    } catch (thrown) {
      throw unavailable(thrown);
    }
  }

  /**
   * What `admit` would come to. Shares of limits are looked at and not taken; money is set aside, for only so is it known to be
   * there, and is free again at once.
   */
  async foresee(ask: LegAsk & { grant: Grant; tags: readonly string[] }): Promise<Foresight> {
    const { request, deployments, options } = ask;
    let shortages: Foresight["shortages"] = options.map(() => undefined);
    try {
      const payer = await this.#payerFor(ask, ask.tags);
      const counted = this.#countedTokens;
      const { bounds, need, capIsOurs } = needOf({ ...ask, payer, counted, pricedAtMs: this.#clock.nowMs() });
      const limits = await foreseeLimits(this.#counters, { limits: payer.limits, request, bounds, counted, options });
      shortages = limits.shortages;
      this.#checkPriced(payer, deployments);
      if (limits.refusal !== undefined) throw limits.refusal;
      (await this.#reserve(payer, need, bounds.outputTokensMax, capIsOurs)).reservation.release();
      return { refusal: undefined, shortages };
    } catch (thrown) {
      const refusal = unavailable(thrown);
      if (refusal.code === "internal_error") throw refusal;
      return { refusal, shortages };
    }
  }

  async #enter(
    ask: LegAsk & { grant: Grant; tags: readonly string[]; pricedAtMs: number },
    idempotencyKey: string | undefined,
    taken: readonly Limit[],
  ): Promise<{ leg: Leg; hold: LimitHold; reservation: Reservation; place: Place }> {
    const { request, deployments, modelGroup, options } = ask;
    const payer = await this.#payerFor(ask, ask.tags);
    const counted = this.#countedTokens;
    this.#checkPriced(payer, deployments);
    const { bounds, need, capIsOurs, metered } = needOf({ ...ask, payer, counted });
    const once = idempotencyKey === undefined ? undefined : { keyId: payer.keyId, idempotencyKey };
    const limits = taken.length === 0 ? payer.limits : payer.limits.filter((limit) => !taken.includes(limit));
    const { hold, place } = await this.#takeLimits({ limits, request, bounds, counted, once, options });
    try {
      const { reservation, outputTokensMax } = await this.#reserve(payer, need, bounds.outputTokensMax, capIsOurs);
      const leg = {
        ...{ payer, request, modelGroup },
        // A caller's own cap is sent as it is; without one, the promises need ours.
        outputTokensMax: capIsOurs && metered ? outputTokensMax : undefined,
        tokens: tokensOf({ request, bounds }, "total"),
        reserve: async () => (await this.#reserve(payer, need, outputTokensMax, false)).reservation,
      };
      return { leg, hold, reservation, place };
    } catch (thrown) {
      place.end(0);
      await hold.giveBack();
      throw thrown;
    }
  }

  /** Who pays. Without waiting when everything the call names was seen before. */
  async #payerFor(
    { grant, request, models }: { grant: Grant; request: CompletionRequest; models: readonly string[] },
    tags: readonly string[],
  ): Promise<Payer> {
    const parties = partiesOf(grant, request.endUser, tags);
    if (parties.length === 0) return payerOf(grant, [], models);
    let known: readonly PartyGrant[];
    try {
      known = await this.#decisions.resolveParties(parties);
    } catch (thrown) {
      // Not even on overdraft: what nobody here knows the budgets of could not be charged to them.
      throw unavailable(thrown);
    }
    const refused = known.find((party) => party.blocked);
    if (refused !== undefined) throw partyBlocked(refused);
    if (!mayBeUsedFor(known, models)) throw modelNotAllowed(request.model);
    return payerOf(grant, known, models);
  }

  async #takeLimits(ask: LimitAsk): Promise<{ hold: LimitHold; place: Place }> {
    try {
      return await takeLimits(this.#counters, ask);
    } catch (thrown) {
      throw unavailable(thrown);
    }
  }

  /**
   * Sets aside what an attempt may cost.
   *
   * @param mayShorten whether, if that is more than a budget has, choices may become as short as it can pay.
   * @returns also how long choices may become.
   */
  async #reserve(
    payer: Payer,
    need: Need,
    longest: number,
    mayShorten: boolean,
  ): Promise<{ reservation: Reservation; outputTokensMax: number }> {
    let outputTokensMax = longest;
    for (let shortened = 0; ; shortened++) {
      const amount = need.amountAt(outputTokensMax);
      const outcome = await this.#ask(payer, amount);
      if (!("budget" in outcome)) return { reservation: outcome, outputTokensMax };
      const { budget, spent, reserved } = outcome;
      const room = (budget.max ?? 0n) - spent - reserved + this.#leases.roomFor(payer);
      const affordable = mayShorten && shortened < shortenedMax ? need.outputTokensFor(room) : 0;
      if (affordable < outputTokensMin || affordable >= outputTokensMax) throw budgetExceeded(outcome, amount);
      outputTokensMax = affordable;
    }
  }

  async #ask(payer: Payer, amount: Nanos): Promise<Reservation | BudgetRefusal> {
    if (this.#overdraft !== undefined && !this.#decisions.connected && isLimited(payer)) {
      // Nobody waits for an answer that is not to be expected.
      const here = this.#leases.reserveHere(payer, amount) ?? this.#overdraft.take(payer, amount);
      if (here !== undefined) return here;
    }
    try {
      return await this.#leases.reserve(payer, amount);
    } catch (thrown) {
      const overdrawn = thrown instanceof AuthorityUnavailable ? this.#overdraft?.take(payer, amount) : undefined;
      if (overdrawn !== undefined) return overdrawn;
      throw unavailable(thrown);
    }
  }

  #checkPriced(payer: Payer, deployments: readonly Deployment[]): void {
    const unpriced = deployments.find(({ price }) => price === undefined);
    if (unpriced === undefined) return;
    const { modelGroup } = unpriced;
    this.#countUnpriced(modelGroup);
    if (this.#unpricedModels === "flag" || !isLimited(payer)) return;
    throw new GatewayError(
      "unpriced_model",
      `Model "${modelGroup}" has no price, so a budget cannot be held. Set input_cost_per_token and output_cost_per_token ` +
        "on its deployments (0 if it is free).",
      { param: "model", metadata: { model: modelGroup } },
    );
  }
}

/** What a call may use and cost. */
function needOf(
  ask: Pick<LegAsk, "request" | "deployments"> & { payer: Payer; counted: CountedTokens; pricedAtMs: number },
) {
  const { request, deployments, payer, counted, pricedAtMs } = ask;
  const bounds = boundsOf(request, deployments, payer.limits, counted);
  const metered = isMetered(payer, counted);
  const capIsOurs = request.outputTokensMax === undefined;
  return { bounds, capIsOurs, metered, need: new Need(bounds, deployments, capIsOurs && metered, pricedAtMs) };
}

function isLimited({ budgets }: Payer): boolean {
  return budgets.some((budget) => budget.max !== undefined);
}

/** Whether anything about the payer depends on how long answers become. */
function isMetered(payer: Payer, counted: CountedTokens): boolean {
  return isLimited(payer) || (counted !== "input" && payer.limits.some((limit) => limit.kind === "tokens"));
}

function unavailable(thrown: unknown): GatewayError {
  if (thrown instanceof AuthorityUnavailable) {
    return new GatewayError("keyservice_unavailable", "The key service cannot be reached. Try again shortly.", {
      retryAfterMs: 1000,
      cause: thrown,
    });
  }
  if (thrown instanceof CountersUnavailable) {
    return new GatewayError("counters_unavailable", "The rate limit store cannot be reached. Try again shortly.", {
      retryAfterMs: 1000,
      cause: thrown,
    });
  }
  return GatewayError.from(thrown);
}
