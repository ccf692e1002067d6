import type { Deployment, Price } from "../config/config.ts";
import type { Nanos } from "../money.ts";
import { affordableOutputTokens, type Bounds, priceAt, reservationFor } from "../spend/cost.ts";

/** What one attempt of a call may cost, at the dearest deployment it may reach. */
export class Need {
  readonly #bounds: Bounds;
  readonly #priced: { readonly price: Price; readonly outputTokensMax: number }[] = [];

  /**
   * @param capIsOurs whether the output cap is the gateway's choice: then no deployment is sent more than its own.
   * @param nowMs prices have times. Deployments without a price cost nothing.
   */
  constructor(bounds: Bounds, deployments: readonly Deployment[], capIsOurs: boolean, nowMs: number) {
    this.#bounds = bounds;
    for (const { price, outputTokensMax: own } of deployments) {
      const outputTokensMax = capIsOurs ? own : Number.POSITIVE_INFINITY;
      if (price !== undefined) this.#priced.push({ price: priceAt(price, nowMs), outputTokensMax });
    }
  }

  /** An amount no attempt exceeds whose choices are at most so long. */
  amountAt(outputTokensMax: number): Nanos {
    let most = 0n;
    for (const { price, outputTokensMax: own } of this.#priced) {
      const amount = reservationFor({ ...this.#bounds, outputTokensMax: Math.min(outputTokensMax, own) }, price);
      if (amount > most) most = amount;
    }
    return most;
  }

  /** How long choices may be for `amount` to pay any attempt; -1 if it does not even pay the input. */
  outputTokensFor(amount: Nanos): number {
    let shortest = this.#bounds.outputTokensMax;
    for (const { price, outputTokensMax: own } of this.#priced) {
      const most = Math.min(this.#bounds.outputTokensMax, own);
      const affordable = affordableOutputTokens(amount, { ...this.#bounds, outputTokensMax: most }, price);
      if (affordable < most) shortest = Math.min(shortest, affordable);
    }
    return shortest;
  }
}
