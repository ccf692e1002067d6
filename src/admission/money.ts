import type { Deployment } from "../config/config.ts";
import { AuthorityUnavailable, type BudgetRefusal, type Payer } from "../keys/authority.ts";
import type { Decisions } from "../keys/decisions.ts";
import type { Reservation } from "../keys/lease.ts";
import type { Leases } from "../keys/leases.ts";
import type { Overdraft } from "../keys/overdraft.ts";
import type { SpentBudgets } from "../keys/spent-budgets.ts";
import type { Nanos } from "../money.ts";
import type { Need } from "./need.ts";
import type { Option } from "./option.ts";
import { payerAt } from "./payer.ts";
import { type FreePlace, type Place, paidPlace } from "./place.ts";
import { budgetExceeded, deploymentsSpent } from "./refusals.ts";
import { unavailable } from "./unavailable.ts";

/** Shorter answers are not worth their input: the call is refused instead of shortened. */
const outputTokensMin = 16;
/** So often a call is shortened; others may take what a refusal said was left. */
const shortenedMax = 2;

/** What attempts of a call cost in one group, and who pays. */
export interface Bill {
  readonly payer: Payer;
  readonly need: Need;
  /** How long choices may become. */
  readonly longest: number;
  /** Whether, if that is more than a budget has, they may become as short as it can pay. */
  readonly mayShorten: boolean;
}

/** A place that is paid for, and how long choices may become there. */
interface Bought {
  readonly place: Place;
  readonly outputTokensMax: number;
}

interface Reserved {
  readonly reservation: Reservation;
  readonly outputTokensMax: number;
}

/** Whether a budget limits the payer. */
export function isLimited({ budgets }: Payer): boolean {
  return budgets.some((budget) => budget.max !== undefined);
}

/** Sets aside what attempts may cost. */
export class Money {
  readonly #decisions: Decisions;
  readonly #leases: Leases;
  readonly #overdraft: Overdraft | undefined;
  readonly #spent: SpentBudgets;

  constructor(parts: {
    decisions: Decisions;
    leases: Leases;
    /** What calls are paid from while the KeyService is away; undefined: nothing but what was borrowed. */
    overdraft?: Overdraft | undefined;
    /** Told of budgets of deployments and providers that have no room. */
    spent: SpentBudgets;
  }) {
    this.#decisions = parts.decisions;
    this.#leases = parts.leases;
    this.#overdraft = parts.overdraft;
    this.#spent = parts.spent;
  }

  /**
   * Pays for an attempt at a place, also from the budgets of its deployment and provider; where these have no room, for one at the next
   * option. The place is given back if it is not the one.
   *
   * @param options the best first.
   * @param takeNext takes a place at one of some options.
   * @throws GatewayError budget_exceeded; deployments_full if no option is left; 503s.
   */
  async payAt(
    bill: Bill,
    first: FreePlace,
    options: readonly Option[],
    takeNext: (options: readonly Option[]) => Promise<FreePlace>,
  ): Promise<Bought> {
    let left = options;
    for (let place = first; ; place = await takeNext(left)) {
      let outcome: Reserved | { readonly refusal: BudgetRefusal; readonly needed: Nanos };
      try {
        const { budgets } = place.deployment;
        const payer = budgets === undefined ? bill.payer : await this.#payerAt(bill.payer, budgets);
        outcome = await this.#reserve(payer, bill);
        if ("reservation" in outcome) {
          const { reservation, outputTokensMax } = outcome;
          return { place: paidPlace(place, { payer, reservation }), outputTokensMax };
        }
      } catch (thrown) {
        place.giveBack();
        throw thrown;
      }
      place.giveBack();
      const { refusal, needed } = outcome;
      this.#spent.note(refusal);
      const { scope, scopeId } = refusal.budget;
      left = left.filter(
        ({ deployment: { budgets = [] } }) =>
          !budgets.some((budget) => budget.scope === scope && budget.id === scopeId),
      );
      if (left.length === 0) throw deploymentsSpent(place.deployment.modelGroup, refusal, needed);
    }
  }

  async #payerAt(payer: Payer, budgets: NonNullable<Deployment["budgets"]>): Promise<Payer> {
    try {
      return payerAt(payer, await this.#decisions.resolveParties(budgets));
    } catch (thrown) {
      throw unavailable(thrown);
    }
  }

  /** @returns the refusal of a deployment's or a provider's budget; that of any other is thrown. */
  async #reserve(
    payer: Payer,
    { need, longest, mayShorten }: Bill,
  ): Promise<Reserved | { readonly refusal: BudgetRefusal; readonly needed: Nanos }> {
    let outputTokensMax = longest;
    for (let shortened = 0; ; shortened++) {
      const amount = need.amountAt(outputTokensMax);
      const outcome = await this.#ask(payer, amount);
      if (!("budget" in outcome)) return { reservation: outcome, outputTokensMax };
      const { budget, spent, reserved } = outcome;
      if (budget.scope === "deployment" || budget.scope === "provider") return { refusal: outcome, needed: amount };
      const room = (budget.max ?? 0n) - spent - reserved + this.#leases.roomFor(payer);
      const affordable = mayShorten && shortened < shortenedMax ? need.outputTokensFor(room) : 0;
      if (affordable < outputTokensMin || affordable >= outputTokensMax) throw budgetExceeded(outcome, amount);
      outputTokensMax = affordable;
    }
  }

  #ask(payer: Payer, amount: Nanos): Reservation | BudgetRefusal | Promise<Reservation | BudgetRefusal> {
    if (this.#overdraft !== undefined && !this.#decisions.connected && isLimited(payer)) {
      // Nobody waits for an answer that is not to be expected.
      const here = this.#leases.reserveHere(payer, amount) ?? this.#overdraft.take(payer, amount);
      if (here !== undefined) return here;
    }
    const outcome = this.#leases.reserve(payer, amount);
    return outcome instanceof Promise ? outcome.catch((thrown) => this.#overdraw(payer, amount, thrown)) : outcome;
  }

  /** What a call is paid from whose money the KeyService did not lend. */
  #overdraw(payer: Payer, amount: Nanos, thrown: unknown): Reservation {
    const overdrawn = thrown instanceof AuthorityUnavailable ? this.#overdraft?.take(payer, amount) : undefined;
    if (overdrawn !== undefined) return overdrawn;
    throw unavailable(thrown);
  }
}
