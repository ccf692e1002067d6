import { amountOf, bucketWidthMs, correctionOf, counterKey } from "./claims.ts";
import type { Claim } from "./counters.ts";
import type { Slot } from "./held-slots.ts";
import type { Reply, Task } from "./script-batch.ts";

/** What Redis decided about a share. */
export interface Decision {
  readonly share: Share;
  /** The server's time, milliseconds. */
  readonly takenAtMs: number;
  /** Where in the take the first refused claim is; undefined: all are granted. */
  readonly refusedIndex: number | undefined;
  readonly retryAfterMs: number;
  /** In the order of the share's claims. */
  readonly remaining: readonly number[];
}

/** A claim and where in its take it is. */
interface Place {
  readonly claim: Claim;
  readonly index: number;
  readonly key: string;
}

/** A change to one bucket of a window. */
export interface Correction {
  readonly key: string;
  readonly bucket: number;
  readonly change: number;
}

/** Those claims of one take that are decided in one step. */
export class Share implements Task {
  readonly shard: string;
  readonly decision: Promise<Decision>;
  readonly places: Place[] = [];
  readonly #id: string;
  readonly #onLate: (decision: Decision) => void;
  #resolve: (decision: Decision) => void = () => {};
  #reject: (error: unknown) => void = () => {};

  /**
   * @param parts.id of this take, and of no other on any pod.
   * @param parts.onLate told of a decision that came after `decision` was rejected.
   */
  constructor(parts: { shard: string; id: string; onLate: (decision: Decision) => void }) {
    this.shard = parts.shard;
    this.#id = parts.id;
    this.#onLate = parts.onLate;
    this.decision = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  add(claim: Claim, index: number): void {
    this.places.push({ claim, index, key: counterKey(claim) });
  }

  encode(keys: string[], args: (string | number)[]): void {
    args.push(this.places.length);
    for (const { claim, index, key } of this.places) {
      keys.push(key);
      if (claim.kind === "slot") args.push(this.#holder(index), claim.ceiling, claim.ttlMs, 0);
      else args.push(claim.amount, claim.ceiling, claim.windowMs, bucketWidthMs(claim.windowMs));
    }
  }

  answer(reply: Reply, isLate: boolean): void {
    const refused = reply.next();
    const decision = {
      share: this,
      takenAtMs: reply.nowMs,
      refusedIndex: this.places[refused - 1]?.index,
      retryAfterMs: reply.next(),
      remaining: this.places.map(() => reply.next()),
    };
    if (isLate) this.#onLate(decision);
    else this.#resolve(decision);
  }

  fail(error: unknown): void {
    this.#reject(error);
  }

  /** The slots it has, once granted. */
  slots(): Slot[] {
    const slots: Slot[] = [];
    for (const { claim, index, key } of this.places) {
      if (claim.kind === "slot")
        slots.push({ shard: this.shard, key, holder: this.#holder(index), ttlMs: claim.ttlMs });
    }
    return slots;
  }

  /** The changes that are due when `usedOf` each of the take's claims came of what was taken at `takenAtMs`. */
  corrections(takenAtMs: number, usedOf: (index: number) => number | undefined): Correction[] {
    const corrections: Correction[] = [];
    for (const { claim, index, key } of this.places) {
      const change = correctionOf(claim, usedOf(index));
      if (claim.kind === "slot" || change === 0) continue;
      corrections.push({ key, bucket: Math.floor(takenAtMs / bucketWidthMs(claim.windowMs)), change });
    }
    return corrections;
  }

  #holder(index: number): string {
    return `${this.#id}:${index}`;
  }
}

/** What remains of a claim's limit once it has been given back. */
export function remainingWithout(claim: Claim, remaining: number): number {
  return Math.min(claim.ceiling, remaining + amountOf(claim));
}

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
