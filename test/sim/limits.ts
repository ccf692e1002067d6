import {
  type Alternatives,
  type Claim,
  type Counters,
  CountersUnavailable,
  type Hold,
  type Verdict,
} from "../../src/counters/counters.ts";
import type { ProcessClock, World } from "./world.ts";

/** The shared store of limits as one process reaches it: real counters behind a network. */
export class SimCounters implements Counters {
  readonly #world: World;
  readonly #clock: ProcessClock;
  readonly #store: Counters;
  readonly #trouble: () => "none" | "away" | "mute";
  readonly #held = new Set<() => void>();

  constructor(parts: { world: World; clock: ProcessClock; store: Counters; trouble: () => "none" | "away" | "mute" }) {
    this.#world = parts.world;
    this.#clock = parts.clock;
    this.#store = parts.store;
    this.#trouble = parts.trouble;
  }

  async take(claims: readonly Claim[], alternatives?: Alternatives): Promise<Verdict> {
    await this.#wait(1);
    if (this.#trouble() === "away") {
      await this.#wait(50);
      throw new CountersUnavailable(new Error("away"));
    }
    const verdict = await this.#store.take(claims, alternatives);
    if (!verdict.ok) return verdict;
    const chosen = alternatives?.[verdict.chosen ?? -1] ?? [];
    const hold = this.#outlive(claims, verdict.hold);
    const chosenHold = verdict.chosenHold && this.#outlive(chosen, verdict.chosenHold);
    if (this.#trouble() === "mute") {
      await this.#wait(50);
      this.#world.after(slotTtlOf(claims), "slot ends", () => void hold.release([]));
      this.#world.after(slotTtlOf(chosen), "slot ends", () => void chosenHold?.release([]));
      throw new CountersUnavailable(new Error("no answer"));
    }
    await this.#wait(1);
    return { ...verdict, hold, chosenHold };
  }

  async ping(): Promise<boolean> {
    return this.#trouble() === "none";
  }

  async close(): Promise<void> {}

  /** The process is dead; what it holds ends by itself. */
  die(): void {
    for (const end of this.#held) end();
  }

  #outlive(claims: readonly Claim[], held: Hold): Hold {
    const end = () => this.#world.after(slotTtlOf(claims), "slot ends", () => void held.release([]));
    this.#held.add(end);
    return {
      release: async (used) => {
        this.#held.delete(end);
        await held.release(used);
      },
    };
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.#clock.after(ms, resolve));
  }
}

function slotTtlOf(claims: readonly Claim[]): number {
  return Math.max(0, ...claims.map((claim) => (claim.kind === "slot" ? claim.ttlMs : 0)));
}
