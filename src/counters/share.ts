import { bucketWidthMs, counterKey } from "./claims.ts";
import type { Alternatives, Claim, Shortage } from "./counters.ts";
import { Grant, holderOf, type Place } from "./grant.ts";
import type { Reply, Task } from "./script-batch.ts";

/** What Redis decided about a share. */
export interface Decision {
  /** Where in the take the first of the share's claims without room is; undefined: they had room. */
  readonly refusedIndex: number | undefined;
  /** Of a refusal. */
  readonly retryAfterMs: number;
  /** What each of its alternatives lacked; undefined: one had room, or none was looked at. */
  readonly full: readonly Shortage[] | undefined;
  readonly chosen: number | undefined;
  /** Undefined: nothing was granted. */
  readonly grant: Grant | undefined;
  /** Of the share's claims, then of the chosen alternative's. */
  readonly remaining: readonly number[];
}

/** What of one take is decided in one step: claims, and alternatives of which one is enough. */
export class Share implements Task {
  readonly shard: string;
  readonly decision: Promise<Decision>;
  readonly places: Place[] = [];
  readonly #id: string;
  readonly #onLate: (decision: Decision) => void;
  #alternatives: readonly (readonly Place[])[] = [];
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

  /** Whichever is chosen, its claims come after all others in the take. */
  choose(alternatives: Alternatives): void {
    const first = this.places.length;
    this.#alternatives = alternatives.map((alternative) =>
      alternative.map((claim, at) => ({ claim, index: first + at, key: counterKey(claim) })),
    );
  }

  encode(keys: string[], args: (string | number)[]): void {
    args.push(this.#alternatives.length);
    this.#encodeList(this.places, keys, args);
    for (const alternative of this.#alternatives) this.#encodeList(alternative, keys, args);
  }

  answer(reply: Reply, isLate: boolean): void {
    const decision = this.#decision(reply);
    if (isLate) this.#onLate(decision);
    else this.#resolve(decision);
  }

  fail(error: unknown): void {
    this.#reject(error);
  }

  #encodeList(places: readonly Place[], keys: string[], args: (string | number)[]): void {
    args.push(places.length);
    for (const { claim, index, key } of places) {
      keys.push(key);
      // One argument: each costs on the way to Redis as much as all of its words.
      args.push(
        claim.kind === "slot"
          ? `${holderOf(this.#id, index)} ${claim.ceiling} ${claim.ttlMs} 0`
          : `${claim.amount} ${claim.ceiling} ${claim.windowMs} ${bucketWidthMs(claim.windowMs)}`,
      );
    }
  }

  #decision(reply: Reply): Decision {
    const { places } = this;
    const refusedIndex = places[reply.next() - 1]?.index;
    const retryAfterMs = reply.next();
    const remaining = places.map(() => reply.next());
    const decision = { refusedIndex, retryAfterMs, full: undefined, chosen: undefined, grant: undefined, remaining };
    if (refusedIndex !== undefined) return decision;
    if (this.#alternatives.length === 0) return { ...decision, grant: this.#grant(places, reply) };
    const chosen = reply.next() - 1;
    const alternative = this.#alternatives[chosen];
    if (alternative === undefined) return { ...decision, full: this.#alternatives.map((each) => lackOf(each, reply)) };
    for (const _ of alternative) remaining.push(reply.next());
    return { ...decision, chosen, grant: this.#grant([...places, ...alternative], reply) };
  }

  #grant(places: readonly Place[], { nowMs }: Reply): Grant {
    return new Grant({ shard: this.shard, id: this.#id, places, takenAtMs: nowMs });
  }
}

function lackOf(alternative: readonly Place[], reply: Reply): Shortage {
  const refused = alternative[reply.next() - 1]?.claim;
  if (refused === undefined) throw new Error("the script refused an alternative for nothing");
  return { refused, retryAfterMs: reply.next() };
}
