import { bucketWidthMs, correctionOf } from "./claims.ts";
import type { Claim, Granted, Hold } from "./counters.ts";
import { type Correction, GivingBack, type GivingsBack } from "./giving-back.ts";
import type { HeldSlots, Slot } from "./held-slots.ts";

/** A claim and where in its take it is. */
export interface Place {
  readonly claim: Claim;
  readonly index: number;
  readonly key: string;
}

/** Who holds the slot that is claimed there. */
export function holderOf(takeId: string, index: number): string {
  return `${takeId}:${index}`;
}

/** What a share was granted. */
export class Grant {
  readonly shard: string;
  readonly places: readonly Place[];
  /** By Redis's clock. */
  readonly takenAtMs: number;
  readonly #id: string;

  constructor(parts: { shard: string; id: string; places: readonly Place[]; takenAtMs: number }) {
    this.shard = parts.shard;
    this.places = parts.places;
    this.#id = parts.id;
    this.takenAtMs = parts.takenAtMs;
  }

  /** What was granted to some of the take's claims. */
  part(from: number, to = Number.POSITIVE_INFINITY): Grant {
    const places = this.places.filter(({ index }) => index >= from && index < to);
    return new Grant({ shard: this.shard, id: this.#id, places, takenAtMs: this.takenAtMs });
  }

  slots(): Slot[] {
    const slots: Slot[] = [];
    for (const { claim, index, key } of this.places) {
      if (claim.kind === "slot")
        slots.push({
          shard: this.shard,
          key,
          holder: holderOf(this.#id, index),
          ttlMs: claim.ttlMs,
          rosterIndex: undefined,
        });
    }
    return slots;
  }

  /** The changes that are due when `usedOf` each of the take's claims came of what was taken. */
  corrections(usedOf: (index: number) => number | undefined): Correction[] {
    const corrections: Correction[] = [];
    for (const { claim, index, key } of this.places) {
      const change = correctionOf(claim, usedOf(index));
      if (claim.kind === "slot" || change === 0) continue;
      corrections.push({ key, bucket: Math.floor(this.takenAtMs / bucketWidthMs(claim.windowMs)), change });
    }
    return corrections;
  }
}

/** Keeps what was granted, and gives it back. */
export class Grants {
  readonly #givingsBack: GivingsBack;
  readonly #heldSlots: HeldSlots;

  constructor(parts: { givingsBack: GivingsBack; heldSlots: HeldSlots }) {
    this.#givingsBack = parts.givingsBack;
    this.#heldSlots = parts.heldSlots;
  }

  /**
   * @param count of the take's claims; what comes after them is the chosen alternative's.
   * @param alternatives undefined if there were none to choose from.
   */
  holds(grants: readonly Grant[], count: number, alternatives?: unknown): Pick<Granted, "hold" | "chosenHold"> {
    const isChosen = alternatives !== undefined;
    return {
      hold: this.#hold(isChosen ? grants.map((grant) => grant.part(0, count)) : grants, 0),
      chosenHold: isChosen
        ? this.#hold(
            grants.map((grant) => grant.part(count)),
            count,
          )
        : undefined,
    };
  }

  /** As if it had never been asked for. */
  async undo(grants: readonly Grant[]): Promise<void> {
    await Promise.all(grants.map((grant) => this.#giveBack(grant, () => 0, grant.slots(), true)));
  }

  /** @param first where in the take its claims begin. */
  #hold(grants: readonly Grant[], first: number): Hold {
    const slots = grants.map((grant) => grant.slots());
    for (const slot of slots.flat()) this.#heldSlots.add(slot);
    let isHeld = true;
    return {
      release: async (used) => {
        if (!isHeld) return;
        isHeld = false;
        for (const slot of slots.flat()) this.#heldSlots.delete(slot);
        await Promise.all(
          grants.map((grant, index) => this.#giveBack(grant, (at) => used[at - first], slots[index] ?? [])),
        );
      },
    };
  }

  async #giveBack(
    grant: Grant,
    usedOf: (index: number) => number | undefined,
    slots: readonly Slot[],
    isAwaited = false,
  ): Promise<void> {
    const corrections = grant.corrections(usedOf);
    if (corrections.length + slots.length === 0) return;
    const givingBack = new GivingBack({ slots, corrections });
    // A slot must be free before the caller has the answer's last byte, or its next call may be refused by another pod.
    this.#givingsBack.add(grant.shard, givingBack, isAwaited || slots.length > 0);
    await givingBack.done;
  }
}
