import type { Clock } from "../clock.ts";
import {
  type BoardStore,
  type Cooling,
  type CoolingCause,
  combine,
  type Figures,
  faded,
  nothing,
  type Post,
  probationMs,
  type Reading,
} from "./board-store.ts";

/** A place for boards of one process to meet: those of a test, or the only one of a pod without Redis. */
export class MemoryBoard {
  readonly #clock: Clock;
  readonly #halfLifeMs: number;
  readonly #rows = new Map<string, { readonly figures: ReadonlyMap<string, Figures>; readonly atMs: number }>();
  readonly #cooling = new Map<string, CoolingCause & { readonly untilMs: number }>();

  constructor(parts: { clock: Clock; halfLifeMs: number }) {
    this.#clock = parts.clock;
    this.#halfLifeMs = parts.halfLifeMs;
  }

  /** As one pod reaches it. */
  storeOf(podId: string): BoardStore {
    return {
      exchange: async (post) => this.#exchange(podId, post),
      livePods: () => Math.max(1, this.#rows.size),
    };
  }

  #exchange(podId: string, { figures, cool, clear, ids }: Post): Reading {
    const nowMs = this.#clock.monotonicMs();
    if (figures.size > 0) this.#rows.set(podId, { figures, atMs: nowMs });
    else this.#rows.delete(podId);
    for (const id of clear) this.#cooling.delete(id);
    for (const [id, { remainingMs, ...cause }] of cool) {
      const untilMs = nowMs + remainingMs;
      if (untilMs > (this.#cooling.get(id)?.untilMs ?? 0)) this.#cooling.set(id, { ...cause, untilMs });
    }
    return { totals: ids.map((id) => this.#total(id, nowMs)), cooling: this.#coolingAt(nowMs) };
  }

  #total(id: string, nowMs: number): Figures {
    let total = nothing;
    for (const { figures, atMs } of this.#rows.values()) {
      const told = figures.get(id);
      if (told !== undefined) total = combine(total, faded(told, nowMs - atMs, this.#halfLifeMs), 1);
    }
    return total;
  }

  #coolingAt(nowMs: number): Map<string, Cooling> {
    const cooling = new Map<string, Cooling>();
    for (const [id, { untilMs, ...cause }] of this.#cooling) {
      if (untilMs + probationMs < nowMs) this.#cooling.delete(id);
      else cooling.set(id, { ...cause, remainingMs: Math.max(0, untilMs - nowMs) });
    }
    return cooling;
  }
}
