import type { Clock } from "../clock.ts";
import { Roster, type Rostered } from "../roster.ts";
import type { ScriptBatch, Task } from "./script-batch.ts";

/** A place in a set of slots. */
export interface Slot extends Rostered {
  readonly shard: string;
  readonly key: string;
  readonly holder: string;
  readonly ttlMs: number;
}

/** Slots are renewed three times within their time, so that one lost renewal loses none. */
const renewalsPerTtl = 3;

/** The slots this process holds. One timer renews them all, for as long as there are any. */
export class HeldSlots {
  readonly #clock: Clock;
  readonly #renewals: ScriptBatch;
  readonly #slots = new Roster<Slot>();
  /** As often as the most short-lived slot so far needs it. */
  #everyMs = Number.POSITIVE_INFINITY;
  #cancel: (() => void) | undefined;

  constructor(parts: { clock: Clock; renewals: ScriptBatch }) {
    this.#clock = parts.clock;
    this.#renewals = parts.renewals;
  }

  add(slot: Slot): void {
    this.#slots.add(slot);
    const everyMs = slot.ttlMs / renewalsPerTtl;
    if (everyMs < this.#everyMs) {
      this.#everyMs = everyMs;
      this.stop();
    }
    this.#cancel ??= this.#clock.after(this.#everyMs, () => this.#renew());
  }

  delete(slot: Slot): void {
    this.#slots.delete(slot);
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #renew(): void {
    this.#cancel = undefined;
    if (this.#slots.size === 0) return;
    for (const slot of this.#slots.all()) this.#renewals.add(slot.shard, new Renewal(slot));
    this.#cancel = this.#clock.after(this.#everyMs, () => this.#renew());
  }
}

/** Nobody waits for a renewal: when it fails, the next one is soon. */
class Renewal implements Task {
  readonly #slot: Slot;

  constructor(slot: Slot) {
    this.#slot = slot;
  }

  encode(keys: string[], args: (string | number)[]): void {
    keys.push(this.#slot.key);
    args.push(this.#slot.holder, this.#slot.ttlMs);
  }

  answer(): void {}

  fail(): void {}
}
