import type { Clock } from "../clock.ts";
import { Roster, type Rostered } from "../roster.ts";

/** Something that wants to be looked at now and then. */
export interface Beating extends Rostered {
  /** @param nowMs monotonic time. */
  beat(nowMs: number): void;
}

/** One coarse timer for all open streams: a timer each would cost more than the streams. */
export class SsePulse {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #streams = new Roster<Beating>();
  #running = false;

  constructor({ clock, intervalMs }: { readonly clock: Clock; readonly intervalMs: number }) {
    this.#clock = clock;
    this.#intervalMs = intervalMs;
  }

  /** Beats for a stream until `remove`. */
  add(stream: Beating): void {
    this.#streams.add(stream);
    if (this.#running) return;
    this.#running = true;
    this.#schedule();
  }

  remove(stream: Beating): void {
    this.#streams.delete(stream);
  }

  #schedule(): void {
    this.#clock.after(this.#intervalMs, () => {
      const nowMs = this.#clock.monotonicMs();
      for (const stream of this.#streams.all()) stream.beat(nowMs);
      this.#running = this.#streams.size > 0;
      if (this.#running) this.#schedule();
    });
  }
}
