import { allFull, amountOf } from "./claims.ts";
import type { Alternatives, Claim, Shortage, Verdict } from "./counters.ts";
import type { Grant, Grants } from "./grant.ts";
import type { ScriptBatch } from "./script-batch.ts";
import { type Decision, Share } from "./share.ts";

/** What all groups of some claims decided. */
interface Outcome {
  /** What was granted; nothing if there was a shortage. */
  readonly grants: readonly Grant[];
  readonly shortage: Shortage | undefined;
  readonly remaining: readonly number[];
}

/**
 * Takes in a Redis Cluster, where each group of claims lives on a node of its own: one script per group. If one group refuses, what
 * the others granted is given back before the answer. In that moment somebody else may be refused too early; nobody is ever
 * granted too much.
 *
 * Alternatives are asked for one after the other, and after the claims: a caller without room must not take up, even for a moment,
 * what the alternatives have left for others.
 */
export class GroupTakes {
  readonly #takes: ScriptBatch;
  readonly #grants: Grants;

  constructor(parts: { takes: ScriptBatch; grants: Grants }) {
    this.#takes = parts.takes;
    this.#grants = parts.grants;
  }

  /** @param id of this take, and of no other on any pod. */
  async take(id: string, claims: readonly Claim[], alternatives: Alternatives | undefined): Promise<Verdict> {
    const { grants, shortage, remaining } = await this.#ask(id, claims, 0);
    if (shortage !== undefined) return { ok: false, ...shortage, remaining };
    if (alternatives === undefined)
      return { ok: true, chosen: undefined, ...this.#grants.holds(grants, claims.length), remaining };
    const full: Shortage[] = [];
    for (const [chosen, alternative] of alternatives.entries()) {
      const further = await this.#askFurther(id, alternative, { grants, first: claims.length });
      if (further.shortage === undefined) {
        const holds = this.#grants.holds([...grants, ...further.grants], claims.length, alternatives);
        return { ok: true, chosen, ...holds, remaining: [...remaining, ...further.remaining] };
      }
      full.push(further.shortage);
    }
    await this.#grants.undo(grants);
    return allFull(
      full,
      claims.map((claim, index) => remainingWithout(claim, remaining[index] ?? 0)),
    );
  }

  /** @throws CountersUnavailable if any group could not decide; what was granted before is given back. */
  async #askFurther(
    id: string,
    claims: readonly Claim[],
    before: { readonly grants: readonly Grant[]; readonly first: number },
  ): Promise<Outcome> {
    try {
      return await this.#ask(id, claims, before.first);
    } catch (error) {
      await this.#grants.undo(before.grants);
      throw error;
    }
  }

  /**
   * @param first where in the take the claims begin.
   * @throws CountersUnavailable if any group could not decide; what others granted is given back.
   */
  async #ask(id: string, claims: readonly Claim[], first: number): Promise<Outcome> {
    const shares = this.#sharesOf(id, claims, first);
    for (const share of shares) this.#takes.add(share.shard, share);
    const decisions = await this.#decisionsOf(shares);
    const grants = decisions.flatMap(({ grant }) => grant ?? []);
    const refused = claims[Math.min(...decisions.flatMap(({ refusedIndex }) => refusedIndex ?? [])) - first];
    const remaining = new Array<number>(claims.length).fill(0);
    shares.forEach(({ places }, number) => {
      for (const [at, { index }] of places.entries()) remaining[index - first] = decisions[number]?.remaining[at] ?? 0;
    });
    if (refused === undefined) return { grants, shortage: undefined, remaining };
    await this.#grants.undo(grants);
    for (const { claim, index } of grants.flatMap(({ places }) => places)) {
      remaining[index - first] = remainingWithout(claim, remaining[index - first] ?? 0);
    }
    const retryAfterMs = Math.max(...decisions.map((decision) => decision.retryAfterMs));
    return { grants: [], shortage: { refused, retryAfterMs }, remaining };
  }

  #sharesOf(id: string, claims: readonly Claim[], first: number): Share[] {
    const onLate = ({ grant }: Decision) => void this.#grants.undo(grant === undefined ? [] : [grant]);
    const shares = new Map<string, Share>();
    claims.forEach((claim, index) => {
      const share = shares.get(claim.group) ?? new Share({ shard: claim.group, id, onLate });
      shares.set(claim.group, share);
      share.add(claim, first + index);
    });
    return [...shares.values()];
  }

  async #decisionsOf(shares: readonly Share[]): Promise<Decision[]> {
    const outcomes = await Promise.allSettled(shares.map(({ decision }) => decision));
    const decisions = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
    const failure = outcomes.find((outcome) => outcome.status === "rejected");
    if (failure === undefined) return decisions;
    await this.#grants.undo(decisions.flatMap(({ grant }) => grant ?? []));
    throw failure.reason;
  }
}

/** What remains of a claim's limit once it has been given back. */
function remainingWithout(claim: Claim, remaining: number): number {
  return Math.min(claim.ceiling, remaining + amountOf(claim));
}
