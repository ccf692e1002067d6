import { pause } from "../../src/clock.ts";
import type { CompletionEvent, CompletionRequest, Usage } from "../../src/completion.ts";
import { ProviderFailure } from "../../src/errors.ts";
import type { Provider, ProviderCall } from "../../src/providers/provider.ts";
import type { ProcessClock, World } from "./world.ts";

/** What a token costs, in nano-dollars. The configuration of every run says the same in its own way. */
const inputNanos = 1_000n;
const outputNanos = 2_000n;
/** The cap of those who have none. */
export const outputTokensMaxDefault = 60;

/** What the provider charges for a call, all its attempts together: the truth everything else is held to. */
export interface Bill {
  nanos: bigint;
  /** How much of it is beyond what the request allowed. */
  beyond: bigint;
}

/** All bills, by the call's name. */
export class Bills {
  readonly #bills = new Map<string, Bill>();

  /** What has been billed so far, and how much of it was beyond what was allowed. */
  total(calls: Iterable<{ readonly name: string }>): Bill {
    const total = { nanos: 0n, beyond: 0n };
    for (const { name } of calls) {
      const bill = this.#bills.get(name);
      total.nanos += bill?.nanos ?? 0n;
      total.beyond += bill?.beyond ?? 0n;
    }
    return total;
  }

  of(call: string): Bill {
    let bill = this.#bills.get(call);
    if (bill === undefined) {
      bill = { nanos: 0n, beyond: 0n };
      this.#bills.set(call, bill);
    }
    return bill;
  }
}

/** What a request for so much costs. */
export function priceOf(inputTokens: number, outputTokens: number): bigint {
  return BigInt(inputTokens) * inputNanos + BigInt(outputTokens) * outputNanos;
}

/** A provider that answers, fails, stops half-way, or says nothing, and keeps its own bills. */
export class SimProvider implements Provider {
  readonly #world: World;
  readonly #clock: ProcessClock;
  readonly #bills: Bills;
  readonly #dishonest: boolean;
  readonly #calm: () => boolean;

  /**
   * @param parts `clock`: of the process that calls; `dishonest`: it writes more than it is allowed to; `calm`: whether it does
   *   as it should for now.
   */
  constructor(parts: { world: World; clock: ProcessClock; bills: Bills; dishonest: boolean; calm: () => boolean }) {
    this.#calm = parts.calm;
    this.#world = parts.world;
    this.#clock = parts.clock;
    this.#bills = parts.bills;
    this.#dishonest = parts.dishonest;
  }

  async *complete(call: ProviderCall): AsyncGenerator<CompletionEvent, void, undefined> {
    const { dice } = this.#world;
    const { request, signal } = call;
    // Whoever is dead calls nobody.
    if (!this.#clock.alive) await new Promise(() => {});
    const bill = this.#bills.of(request.endUser ?? "");
    const before = { ...bill };
    const charge = (nanos: bigint) => {
      bill.nanos = before.nanos + nanos;
    };
    const wait = async (ms: number) => {
      await pause(this.#clock, ms, signal);
      if (!this.#clock.alive) await new Promise(() => {});
    };
    const cap = call.outputTokensMax ?? request.outputTokensMax ?? outputTokensMaxDefault;
    const fate = this.#calm() ? 1 : dice.random();
    if (fate < 0.06) {
      // Refused before anything was read: free. The caller may leave before it is known.
      charge(estimate(request, 0));
      await wait(dice.whole(1, 30));
      charge(0n);
      throw new ProviderFailure("provider_unavailable", "overloaded", { billable: false });
    }
    charge(estimate(request, 0));
    await wait(dice.happens(0.1) ? dice.whole(100, 4_000) : dice.whole(1, 100));
    if (fate < 0.1) throw new ProviderFailure("provider_timeout", "too slow", { billable: true });
    yield { type: "start", id: "up", model: "x", createdS: 1 };
    let written = 0;
    const pieces = dice.whole(0, 4);
    for (let piece = 0; piece < pieces && written < cap; piece++) {
      const tokens = Math.min(cap - written, dice.whole(1, 12));
      written += tokens;
      charge(estimate(request, written));
      yield { type: "delta", choice: 0, text: "word".repeat(tokens) };
      await wait(dice.happens(0.05) ? dice.whole(100, 6_000) : dice.whole(1, 80));
    }
    if (fate < 0.16) throw new ProviderFailure("stream_interrupted", "cut", { billable: true });
    if (fate < 0.22) {
      yield { type: "end", usage: undefined, responseId: "up", raw: undefined };
      return;
    }
    const usage = this.#usage(
      request,
      this.#dishonest && !this.#calm() && dice.happens(0.3) ? cap * 3 : Math.max(written, dice.whole(0, cap)),
    );
    charge(priceOf(usage.inputTokens, usage.outputTokens));
    const allowed = priceOf(request.inputTokensMax, cap);
    const billed = bill.nanos - before.nanos;
    if (billed > allowed) bill.beyond = before.beyond + billed - allowed;
    yield { type: "end", usage, responseId: "up", raw: undefined };
  }

  #usage(request: CompletionRequest, outputTokens: number): Usage {
    return {
      inputTokens: this.#world.dice.whole(1, request.inputTokensMax),
      outputTokens,
      cacheReadInputTokens: 0,
      cacheWriteInputTokens: 0,
      reasoningOutputTokens: 0,
      estimated: false,
    };
  }
}

/** What a provider charges that was not let finish: the same as is booked where it reports nothing. */
function estimate(request: CompletionRequest, outputTokens: number): bigint {
  return priceOf(Math.ceil(request.inputTokensMax / 4), outputTokens);
}
