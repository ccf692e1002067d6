import type { Clock } from "../clock.ts";
import type { Slot } from "./held-slots.ts";
import type { ScriptBatch, Task } from "./script-batch.ts";

/** A change to one bucket of a window. */
export interface Correction {
  readonly key: string;
  readonly bucket: number;
  readonly change: number;
}

/** How long a correction waits for a take to travel with, in milliseconds. */
const waitMs = 5;
/** So many travel with one call. */
const ridersMax = 256;

/** Gives back. Its end can be awaited, not its success: what is not given back ages out. */
export class GivingBack implements Task {
  readonly done: Promise<void>;
  readonly #slots: readonly Slot[];
  readonly #corrections: readonly Correction[];
  #resolve: () => void = () => {};

  constructor(parts: { slots: readonly Slot[]; corrections: readonly Correction[] }) {
    this.#slots = parts.slots;
    this.#corrections = parts.corrections;
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  encode(keys: string[], args: (string | number)[]): void {
    for (const { key, bucket, change } of this.#corrections) {
      keys.push(key);
      args.push(bucket, change);
    }
    for (const { key, holder } of this.#slots) {
      keys.push(key);
      args.push(holder, "free");
    }
  }

  answer(): void {
    this.#resolve();
  }

  fail(): void {
    this.#resolve();
  }
}

/** What is to be given back: at once, or with the next take, which it costs nothing to travel with and which then sees it. */
export class GivingsBack {
  readonly #clock: Clock;
  readonly #releases: ScriptBatch;
  /** By shard; made anew and never deleted from, as in ScriptBatch. */
  #waiting = new Map<string, GivingBack[]>();
  #cancel: (() => void) | undefined;

  constructor(parts: { clock: Clock; releases: ScriptBatch }) {
    this.#clock = parts.clock;
    this.#releases = parts.releases;
  }

  /** @param isUrgent sent before the caller's turn goes on. */
  add(shard: string, task: GivingBack, isUrgent: boolean): void {
    if (isUrgent) {
      this.#releases.add(shard, task, true);
      return;
    }
    const waiting = this.#waiting.get(shard);
    if (waiting === undefined) this.#waiting.set(shard, [task]);
    else waiting.push(task);
    this.#cancel ??= this.#clock.after(waitMs, () => this.flush());
  }

  /** Those that a take to this shard takes along. */
  ridersTo(shard: string): readonly GivingBack[] {
    return this.#waiting.get(shard)?.splice(0, ridersMax) ?? [];
  }

  /** Sends all that still wait. */
  flush(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    const waiting = this.#waiting;
    this.#waiting = new Map();
    for (const [shard, tasks] of waiting) for (const task of tasks) this.#releases.add(shard, task);
  }
}
