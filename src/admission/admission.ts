import type { Clock } from "../clock.ts";
import type { Caller, CompletionRequest, LimitState } from "../completion.ts";
import type { Deployment, UnpricedModels } from "../config/config.ts";
import { type Claim, type Counters, CountersUnavailable, type Hold } from "../counters/counters.ts";
import { GatewayError } from "../errors.ts";
import { AuthorityUnavailable, type BudgetRefusal, type Grant } from "../keys/authority.ts";
import type { Decisions } from "../keys/decisions.ts";
import type { Journal } from "../keys/journal.ts";
import type { Reservation } from "../keys/lease.ts";
import type { Leases } from "../keys/leases.ts";
import type { Nanos } from "../money.ts";
import type { Bounds } from "../spend/cost.ts";
import { boundsOf, likelyInputTokens } from "./estimate.ts";
import { Need } from "./need.ts";
import { budgetExceeded, rateLimited } from "./refusals.ts";
import { Ticket } from "./ticket.ts";

const limitWindowMs = 60_000;
/** How long a parallel slot outlives a pod that died with it. */
const slotTtlMs = 30_000;
/** Shorter answers are not worth their input: the call is refused instead of shortened. */
const outputTokensMin = 16;
/** So often a call is shortened; others may take what a refusal said was left. */
const shortenedMax = 2;

/** May this call go ahead? Who asks, and whether limits and money have room. */
export class Admission {
  readonly #decisions: Decisions;
  readonly #leases: Leases;
  readonly #journal: Journal;
  readonly #counters: Counters;
  readonly #clock: Clock;
  readonly #unpricedModels: UnpricedModels;
  readonly #countUnpriced: (modelGroup: string) => void;

  constructor(parts: {
    decisions: Decisions;
    leases: Leases;
    journal: Journal;
    counters: Counters;
    clock: Clock;
    /** What becomes of budgets where nobody knows the price. */
    unpricedModels: UnpricedModels;
    /** Told of each call that may reach a deployment without a price. */
    countUnpriced: (modelGroup: string) => void;
  }) {
    this.#decisions = parts.decisions;
    this.#leases = parts.leases;
    this.#journal = parts.journal;
    this.#counters = parts.counters;
    this.#clock = parts.clock;
    this.#unpricedModels = parts.unpricedModels;
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
    if (grant.expiresAtMs !== undefined && grant.expiresAtMs <= this.#clock.nowMs()) {
      throw new GatewayError("expired_key", "Key has expired. Ask your operator for a new one.");
    }
    return grant;
  }

  /**
   * Takes a share of every limit and the money the call may cost, all or nothing. Whoever gets the ticket must close it.
   *
   * @throws GatewayError rate_limit_exceeded, budget_exceeded, unpriced_model; 503s when counters or KeyService cannot be asked.
   */
  async admit(ask: {
    grant: Grant;
    request: CompletionRequest;
    caller: Caller;
    callId: string;
    modelGroup: string;
    deployments: readonly Deployment[];
    traceId: string;
  }): Promise<Ticket> {
    const { grant, request, deployments } = ask;
    const bounds = boundsOf(request, deployments, grant.limits);
    this.#checkPriced(grant, deployments);
    const capIsOurs = request.outputTokensMax === undefined;
    const pricedAtMs = this.#clock.nowMs();
    const need = new Need(bounds, deployments, capIsOurs && isMetered(grant), pricedAtMs);
    const { hold, limits } = await this.#takeLimits(grant, request, bounds);
    try {
      const { reservation, outputTokensMax } = await this.#reserve(grant, need, bounds.outputTokensMax, capIsOurs);
      return new Ticket({
        ...ask,
        limits,
        hold,
        reservation,
        // A caller's own cap is sent as it is; without one, the promises need ours.
        outputTokensMax: capIsOurs && isMetered(grant) ? outputTokensMax : undefined,
        pricedAtMs,
        journal: this.#journal,
        clock: this.#clock,
        reserveAgain: async () => (await this.#reserve(grant, need, outputTokensMax, false)).reservation,
      });
    } catch (thrown) {
      // Refused work costs nothing: what the windows were charged goes back.
      await hold?.release(grant.limits.map(() => 0));
      throw thrown;
    }
  }

  async #takeLimits(
    grant: Grant,
    request: CompletionRequest,
    bounds: Bounds,
  ): Promise<{ hold: Hold | undefined; limits: readonly LimitState[] }> {
    if (grant.limits.length === 0) return { hold: undefined, limits: [] };
    const tokens = likelyInputTokens(request) + bounds.outputTokensMax * bounds.choiceCount;
    const claims = grant.limits.map((limit): Claim => {
      const place = { group: `${limit.scope}:${limit.scopeId}`, name: limit.kind, ceiling: limit.ceiling };
      if (limit.kind === "parallel") return { kind: "slot", ...place, ttlMs: slotTtlMs };
      // A call that alone may exceed the limit waits for an empty window instead of being refused for ever.
      const amount = limit.kind === "requests" ? 1 : Math.min(tokens, Math.max(1, limit.ceiling));
      return { kind: "window", ...place, amount, windowMs: limitWindowMs };
    });
    let verdict: Awaited<ReturnType<Counters["take"]>>;
    try {
      verdict = await this.#counters.take(claims);
    } catch (thrown) {
      throw unavailable(thrown);
    }
    if (!verdict.ok) {
      const limit = grant.limits[claims.indexOf(verdict.refused)];
      if (limit === undefined) throw new Error("the counters refused a claim that was not made");
      throw rateLimited(limit, verdict.retryAfterMs);
    }
    const { remaining } = verdict;
    const limits = grant.limits.map((limit, index) => ({
      kind: limit.kind,
      ceiling: limit.ceiling,
      remaining: remaining[index] ?? 0,
    }));
    return { hold: verdict.hold, limits };
  }

  /**
   * Sets aside what an attempt may cost.
   *
   * @param mayShorten whether, if that is more than a budget has, choices may become as short as it can pay.
   * @returns also how long choices may become.
   */
  async #reserve(
    grant: Grant,
    need: Need,
    longest: number,
    mayShorten: boolean,
  ): Promise<{ reservation: Reservation; outputTokensMax: number }> {
    let outputTokensMax = longest;
    for (let shortened = 0; ; shortened++) {
      const amount = need.amountAt(outputTokensMax);
      const outcome = await this.#ask(grant, amount);
      if (!("budget" in outcome)) return { reservation: outcome, outputTokensMax };
      const { budget, spent, reserved } = outcome;
      const room = (budget.max ?? 0n) - spent - reserved + this.#leases.roomFor(grant);
      const affordable = mayShorten && shortened < shortenedMax ? need.outputTokensFor(room) : 0;
      if (affordable < outputTokensMin || affordable >= outputTokensMax) throw budgetExceeded(outcome, amount);
      outputTokensMax = affordable;
    }
  }

  async #ask(grant: Grant, amount: Nanos): Promise<Reservation | BudgetRefusal> {
    try {
      return await this.#leases.reserve(grant, amount);
    } catch (thrown) {
      throw unavailable(thrown);
    }
  }

  #checkPriced(grant: Grant, deployments: readonly Deployment[]): void {
    const unpriced = deployments.find(({ price }) => price === undefined);
    if (unpriced === undefined) return;
    const { modelGroup } = unpriced;
    this.#countUnpriced(modelGroup);
    if (this.#unpricedModels === "flag" || grant.budgets.every((budget) => budget.max === undefined)) return;
    throw new GatewayError(
      "unpriced_model",
      `Model "${modelGroup}" has no price, so a budget cannot be held. Set input_cost_per_token and output_cost_per_token ` +
        "on its deployments (0 if it is free).",
      { param: "model", metadata: { model: modelGroup } },
    );
  }
}

/** Whether anything about the key depends on how long answers become. */
function isMetered(grant: Grant): boolean {
  return (
    grant.budgets.some((budget) => budget.max !== undefined) || grant.limits.some((limit) => limit.kind === "tokens")
  );
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
