import type { Clock } from "../clock.ts";
import type { Caller, CompletionRequest } from "../completion.ts";
import type { CountedTokens, Deployment, UnpricedModels } from "../config/config.ts";
import type { ConfiguredBudget } from "../config/configured-budget.ts";
import type { Counters, Shortage } from "../counters/counters.ts";
import { GatewayError } from "../errors.ts";
import { AuthorityUnavailable, type Grant, type Limit, type Payer } from "../keys/authority.ts";
import type { Decisions } from "../keys/decisions.ts";
import type { Journal } from "../keys/journal.ts";
import type { Leases } from "../keys/leases.ts";
import type { Overdraft } from "../keys/overdraft.ts";
import type { SpentBudgets } from "../keys/spent-budgets.ts";
import { boundsOf } from "./estimate.ts";
import { foreseeLimits, freePlace, type LimitHold, takeLimits, tokensOf } from "./limits.ts";
import { isLimited, Money } from "./money.ts";
import { Need } from "./need.ts";
import type { Option } from "./option.ts";
import { type Named, partiesOf, payerOf } from "./payer.ts";
import { type FreePlace, type Place, takePlace } from "./place.ts";
import { blocked, modelNotAllowed, partyBlocked } from "./refusals.ts";
import { type Leg, Ticket } from "./ticket.ts";
import { unavailable } from "./unavailable.ts";
import { mayBeUsedFor } from "./whitelist.ts";

/** What is asked for a call. */
interface CallAsk {
  readonly grant: Grant;
  readonly caller: Caller;
  readonly callId: string;
  readonly traceId: string;
}

/** What is asked for its attempts in one group. */
interface LegAsk {
  readonly named: Named;
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
  readonly #money: Money;
  readonly #isClosedAlone: boolean;
  readonly #journal: Journal;
  readonly #counters: Counters;
  readonly #clock: Clock;
  readonly #unpricedModels: UnpricedModels;
  readonly #countedTokens: CountedTokens;
  readonly #tagBudgets: ReadonlyMap<string, ConfiguredBudget>;
  readonly #countUnpriced: (modelGroup: string) => void;

  constructor(parts: {
    decisions: Decisions;
    leases: Leases;
    /** What calls are paid from while the KeyService is away; undefined: nothing but what was borrowed. */
    overdraft?: Overdraft | undefined;
    /** Told of budgets of deployments and providers that have no room. */
    spent: SpentBudgets;
    /** Whether no call is let through while the KeyService is away. */
    isClosedAlone: boolean;
    journal: Journal;
    counters: Counters;
    clock: Clock;
    /** What becomes of budgets where nobody knows the price. */
    unpricedModels: UnpricedModels;
    /** What limits on tokens count. */
    countedTokens: CountedTokens;
    /** The configuration's, by tag. */
    tagBudgets: ReadonlyMap<string, ConfiguredBudget>;
    /** Told of each call that may reach a deployment without a price. */
    countUnpriced: (modelGroup: string) => void;
  }) {
    this.#decisions = parts.decisions;
    this.#money = new Money(parts);
    this.#isClosedAlone = parts.isClosedAlone;
    this.#journal = parts.journal;
    this.#counters = parts.counters;
    this.#clock = parts.clock;
    this.#unpricedModels = parts.unpricedModels;
    this.#countedTokens = parts.countedTokens;
    this.#tagBudgets = parts.tagBudgets;
    this.#countUnpriced = parts.countUnpriced;
  }

  /**
   * Who is asking. Without waiting when the key was seen before.
   *
   * @throws GatewayError missing_api_key, invalid_api_key, blocked_key, expired_key; keyservice_unavailable when nobody can say.
   */
  authenticate(token: string | undefined): Grant | Promise<Grant> {
    if (token === undefined || token === "") {
      throw new GatewayError(
        "missing_api_key",
        "No api key passed in. Send your virtual key as `Authorization: Bearer sk-...`.",
      );
    }
    if (this.#isClosedAlone && !this.#decisions.connected) throw unavailable(new AuthorityUnavailable(undefined));
    const found = this.#decisions.resolve(token);
    return found instanceof Promise ? found.then((grant) => this.#valid(grant), refuse) : this.#valid(found);
  }

  #valid(grant: Grant | undefined): Grant {
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
   * What a call names besides its key, and what holds for it. Without waiting when all of that was seen before.
   *
   * @param tags of the call, besides its request's and its key's.
   * @throws GatewayError keyservice_unavailable when nobody can say.
   */
  named(grant: Grant, request: CompletionRequest, tags: readonly string[]): Named | Promise<Named> {
    const all = tagsOf(grant, request, tags);
    const parties = partiesOf(grant, request.endUser, all, this.#tagBudgets);
    if (parties.length === 0) return { tags: all, parties: [] };
    const found = this.#decisions.resolveParties(parties);
    // Not even on overdraft: what nobody here knows the budgets of could not be charged to them.
    if (found instanceof Promise) return found.then((known) => ({ tags: all, parties: known }), refuse);
    return { tags: all, parties: found };
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
    const { tags } = ask.named;
    return new Ticket({ ...ask, ...taken, tags, pricedAtMs, counted, journal: this.#journal, clock: this.#clock });
  }

  /**
   * The call goes on in another group: with a place there and money for it, and shares of those limits that hold only there. What it has
   * taken of other limits stays taken.
   *
   * @throws GatewayError as `admit`.
   */
  async move(ticket: Ticket, grant: Grant, ask: LegAsk): Promise<void> {
    const { pricedAtMs } = ticket;
    const { leg, hold, place } = await this.#enter({ ...ask, grant, pricedAtMs }, undefined, ticket.limitsTaken);
    ticket.move(leg, hold, place);
  }

  /**
   * A place for another attempt, and the money for it.
   *
   * @param options the best first; at least one.
   * @throws GatewayError deployments_full, budget_exceeded, unavailable counters or KeyService.
   */
  async takePlace(ticket: Ticket, options: readonly Option[]): Promise<Place> {
    const { tokens, payAt } = ticket.leg;
    return payAt(await this.#takePlace(options, tokens), options);
  }

  #takePlace(options: readonly Option[], tokens: number): Promise<FreePlace> {
    return takePlace(this.#counters, options, tokens).catch(refuse);
  }

  /**
   * What `admit` would come to. Shares of limits are looked at and not taken; money is set aside, for only so is it known to be
   * there, and is free again at once.
   */
  async foresee(ask: LegAsk & { grant: Grant }): Promise<Foresight> {
    const { request, deployments, options } = ask;
    let shortages: Foresight["shortages"] = options.map(() => undefined);
    try {
      const payer = payerFor(ask);
      const counted = this.#countedTokens;
      const { bounds, need, capIsOurs } = needOf({ ...ask, payer, counted, pricedAtMs: this.#clock.nowMs() });
      const limits = await foreseeLimits(this.#counters, { limits: payer.limits, request, bounds, counted, options });
      shortages = limits.shortages;
      this.#checkPriced(payer, deployments);
      if (limits.refusal !== undefined) throw limits.refusal;
      const bill = { payer, need, longest: bounds.outputTokensMax, mayShorten: capIsOurs };
      // Nothing of a deployment is taken here.
      const takeNext = async (left: readonly Option[]) => freePlace(left);
      (await this.#money.payAt(bill, freePlace(options), options, takeNext)).place.giveBack();
      return { refusal: undefined, shortages };
    } catch (thrown) {
      const refusal = unavailable(thrown);
      if (refusal.code === "internal_error") throw refusal;
      return { refusal, shortages };
    }
  }

  async #enter(
    ask: LegAsk & { grant: Grant; pricedAtMs: number },
    idempotencyKey: string | undefined,
    taken: readonly Limit[],
  ): Promise<{ leg: Leg; hold: LimitHold; place: Place }> {
    const { request, deployments, modelGroup, options } = ask;
    const payer = payerFor(ask);
    const counted = this.#countedTokens;
    this.#checkPriced(payer, deployments);
    const { bounds, need, capIsOurs, metered } = needOf({ ...ask, payer, counted });
    const once = idempotencyKey === undefined ? undefined : { keyId: payer.keyId, idempotencyKey };
    const limits = taken.length === 0 ? payer.limits : payer.limits.filter((limit) => !taken.includes(limit));
    const tokens = tokensOf({ request, bounds }, "total");
    const asked = { limits, request, bounds, counted, once, options };
    const { hold, place: free } = await takeLimits(this.#counters, asked).catch(refuse);
    const takeNext = (left: readonly Option[]) => this.#takePlace(left, tokens);
    try {
      const bill = { payer, need, longest: bounds.outputTokensMax, mayShorten: capIsOurs };
      const { place, outputTokensMax } = await this.#money.payAt(bill, free, options, takeNext);
      const further = { payer, need, longest: outputTokensMax, mayShorten: false };
      const leg = {
        ...{ payer, request, modelGroup, tokens },
        // A caller's own cap is sent as it is; without one, the promises need ours.
        outputTokensMax: capIsOurs && metered ? outputTokensMax : undefined,
        payAt: async (at: FreePlace, others: readonly Option[]) =>
          (await this.#money.payAt(further, at, others, takeNext)).place,
      };
      return { leg, hold, place };
    } catch (thrown) {
      await hold.giveBack();
      throw thrown;
    }
  }

  #checkPriced(payer: Payer, deployments: readonly Deployment[]): void {
    const unpriced = deployments.filter(({ price }) => price === undefined);
    const [first] = unpriced;
    if (first === undefined) return;
    const { modelGroup } = first;
    this.#countUnpriced(modelGroup);
    const isHeld = isLimited(payer) || unpriced.some(({ budgets }) => budgets !== undefined);
    if (this.#unpricedModels === "flag" || !isHeld) return;
    throw new GatewayError(
      "unpriced_model",
      `Model "${modelGroup}" has no price, so a budget cannot be held. Set input_cost_per_token and output_cost_per_token ` +
        "on its deployments (0 if it is free).",
      { param: "model", metadata: { model: modelGroup } },
    );
  }
}

/** Without repeats. */
function tagsOf(grant: Grant, request: CompletionRequest, tags: readonly string[]): readonly string[] {
  const count = grant.tags.length + tags.length + request.tags.length;
  return count === 0 ? grant.tags : [...new Set([...grant.tags, ...tags, ...request.tags])];
}

/** A part that decides has thrown. */
function refuse(thrown: unknown): never {
  throw unavailable(thrown);
}

/** Who pays. @throws GatewayError if what the call names besides its key forbids it. */
function payerFor({ grant, named: { parties }, request, models, deployments }: LegAsk & { grant: Grant }): Payer {
  const refused = parties.find((party) => party.blocked);
  if (refused !== undefined) throw partyBlocked(refused);
  if (!mayBeUsedFor(parties, { names: models, deployments })) throw modelNotAllowed(request.model);
  return payerOf(grant, parties, models);
}

/** What a call may use and cost. */
function needOf(
  ask: Pick<LegAsk, "request" | "deployments"> & { payer: Payer; counted: CountedTokens; pricedAtMs: number },
) {
  const { request, deployments, payer, counted, pricedAtMs } = ask;
  const bounds = boundsOf(request, deployments, payer.limits, counted);
  const metered = isMetered(payer, counted) || deployments.some(({ budgets }) => budgets !== undefined);
  const capIsOurs = request.outputTokensMax === undefined;
  return { bounds, capIsOurs, metered, need: new Need(bounds, deployments, capIsOurs && metered, pricedAtMs) };
}

/** Whether anything about the payer depends on how long answers become. */
function isMetered(payer: Payer, counted: CountedTokens): boolean {
  return isLimited(payer) || (counted !== "input" && payer.limits.some((limit) => limit.kind === "tokens"));
}
