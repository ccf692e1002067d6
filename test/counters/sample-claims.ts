import assert from "node:assert/strict";
import type { Claim, Counters, Hold, SlotClaim, Verdict, WindowClaim } from "../../src/counters/counters.ts";

/** Several pods' view of one set of counters. */
export interface Pods {
  readonly counters: readonly [Counters, Counters, Counters];
  close(): Promise<void>;
}

let claimCount = 0;

/** A claim on a counter of its own, except where `facts` say otherwise. */
export function windowClaim(facts: Partial<WindowClaim> = {}): WindowClaim {
  claimCount += 1;
  return {
    kind: "window",
    group: "key:contract",
    name: `w${claimCount}`,
    amount: 1,
    ceiling: 10,
    windowMs: 60_000,
    ...facts,
  };
}

/** The same for a slot. */
export function slotClaim(facts: Partial<SlotClaim> = {}): SlotClaim {
  claimCount += 1;
  return { kind: "slot", group: "key:contract", name: `s${claimCount}`, ceiling: 1, ttlMs: 30_000, ...facts };
}

/** The hold of a take that must be granted. */
export async function granted(counters: Counters, ...claims: Claim[]): Promise<Hold> {
  const verdict = await counters.take(claims);
  assert.ok(verdict.ok, `refused: ${JSON.stringify(verdict)}`);
  return verdict.hold;
}

/** The refusal of a take that must be refused. */
export async function refused(counters: Counters, ...claims: Claim[]): Promise<Verdict & { ok: false }> {
  const verdict = await counters.take(claims);
  assert.ok(!verdict.ok, "granted");
  return verdict;
}
