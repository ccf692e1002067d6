import type { Clock } from "../clock.ts";
import type { Deployment } from "../config/config.ts";
import type { ConfiguredBudget } from "../config/configured-budget.ts";
import type { BudgetRefusal } from "./authority.ts";

/** How long a refusal is believed, in milliseconds: long enough to spare the KeyService, too short to hide money that came back. */
const believedMs = 2_000;

/** Budgets of deployments and providers that had no room when they were last asked, so that calls go elsewhere at once. */
export class SpentBudgets {
  readonly #clock: Clock;
  readonly #untilMs = new Map<string, number>();

  constructor({ clock }: { readonly clock: Clock }) {
    this.#clock = clock;
  }

  /** A budget has refused. */
  note({ budget: { scope, scopeId }, resetsAtMs = Number.POSITIVE_INFINITY }: BudgetRefusal): void {
    const leftMs = Math.min(believedMs, resetsAtMs - this.#clock.nowMs());
    this.#untilMs.set(`${scope} ${scopeId}`, this.#clock.monotonicMs() + leftMs);
  }

  /** The one that had no room for attempts at a deployment; undefined: as far as is known there is room. */
  of({ budgets }: Pick<Deployment, "budgets">): ConfiguredBudget | undefined {
    if (budgets === undefined || this.#untilMs.size === 0) return undefined;
    return budgets.find(({ scope, id }) => this.#clock.monotonicMs() < (this.#untilMs.get(`${scope} ${id}`) ?? 0));
  }
}
