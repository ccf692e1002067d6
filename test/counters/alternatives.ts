import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Alternatives, Claim, Counters, Full, Granted, Verdict } from "../../src/counters/counters.ts";
import { granted, type Pods, refused, slotClaim, windowClaim } from "./sample-claims.ts";

/** The grant of a take that must be granted. */
async function chosen(counters: Counters, claims: readonly Claim[], alternatives: Alternatives): Promise<Granted> {
  const verdict = await counters.take(claims, alternatives);
  assert.ok(verdict.ok, `refused: ${JSON.stringify(verdict)}`);
  return verdict;
}

/** The refusal of a take for whose claims there must be room, and none for its alternatives. */
async function full(counters: Counters, claims: readonly Claim[], alternatives: Alternatives): Promise<Full> {
  const verdict = await counters.take(claims, alternatives);
  assert.ok(!verdict.ok && verdict.refused === undefined, JSON.stringify(verdict));
  return verdict;
}

/** Holds an implementation to what `Counters` promises of alternatives; within its `describe`. */
export function choosesAmongAlternatives(pods: () => Pods): void {
  test("the first alternative that fits wholly is taken with the claims", async () => {
    const [a, b] = pods().counters;
    const caller = windowClaim({ ceiling: 10 });
    const first = [windowClaim({ ceiling: 2, group: "deployment:1" })];
    const second = [
      windowClaim({ ceiling: 9, group: "deployment:2" }),
      slotClaim({ ceiling: 1, group: "deployment:2" }),
    ];
    const seen = [];
    for (const pod of [a, b, a]) {
      const { chosen: number, remaining } = await chosen(pod, [caller], [first, second]);
      seen.push([number, ...remaining]);
    }
    assert.deepEqual(seen, [
      [0, 9, 1],
      [0, 8, 0],
      [1, 7, 8, 0],
    ]);
    const verdict = await full(b, [caller], [first, second]);
    assert.deepEqual(
      verdict.full.map((shortage) => shortage.refused),
      [first[0], second[1]],
    );
    assert.deepEqual(verdict.remaining, [7]);
  });

  test("a caller without room is told so, and costs the alternatives nothing", async () => {
    const [a, b] = pods().counters;
    const caller = windowClaim({ ceiling: 1, windowMs: 10_000 });
    const deployment = windowClaim({ ceiling: 1, group: "deployment:1" });
    await granted(a, caller);
    for (let call = 0; call < 3; call += 1) {
      const verdict = await a.take([windowClaim(), caller], [[deployment], []]);
      assert.ok(!verdict.ok);
      assert.equal(verdict.refused, caller);
      assert.ok(verdict.retryAfterMs > 5_000 && verdict.retryAfterMs <= 10_200, `${verdict.retryAfterMs}`);
      assert.deepEqual(verdict.remaining, [10, 0]);
    }
    await granted(b, deployment);
  });

  test("when all are full the caller pays nothing, and waits for the soonest", async () => {
    const [a, b] = pods().counters;
    const caller = [windowClaim({ ceiling: 5, amount: 5 }), slotClaim({ group: "team:contract" })];
    const late = windowClaim({ ceiling: 1, group: "deployment:1" });
    const soon = windowClaim({ ceiling: 1, windowMs: 20_000, group: "deployment:2" });
    const never = windowClaim({ ceiling: 3, amount: 4, windowMs: 86_400_000, group: "deployment:3" });
    await granted(a, late, soon);
    const verdict = await full(a, caller, [[late], [windowClaim(), soon], [never]]);
    assert.deepEqual(
      verdict.full.map((shortage) => shortage.refused),
      [late, soon, never],
    );
    assert.ok(verdict.retryAfterMs > 10_000 && verdict.retryAfterMs <= 20_400, `${verdict.retryAfterMs}`);
    assert.deepEqual(
      verdict.full.map(({ retryAfterMs }) => Math.ceil(retryAfterMs / 21_000)),
      [3, 1, Math.ceil(86_400_000 / 21_000)],
    );
    assert.deepEqual(verdict.remaining, [5, 1]);
    assert.equal((await chosen(b, caller, [[late], []])).chosen, 1);
  });

  test("the chosen alternative is given back apart from the claims", async () => {
    const [a, b] = pods().counters;
    const tokens = windowClaim({ ceiling: 100, amount: 80 });
    const slot = slotClaim({ ceiling: 1, group: "deployment:2" });
    const capacity = windowClaim({ ceiling: 50, amount: 40, group: "deployment:2" });
    const other = windowClaim({ ceiling: 10, amount: 11, group: "deployment:1" });
    const { hold, chosenHold } = await chosen(a, [tokens], [[other], [slot, capacity]]);
    await refused(b, slot);
    await chosenHold?.release([undefined, 20]);
    await chosenHold?.release([0, 0]);
    await granted(b, slot);
    await refused(b, { ...tokens, amount: 21 });
    await hold.release([30]);
    await hold.release([0]);
    const verdict = await b.take([
      { ...tokens, amount: 0 },
      { ...capacity, amount: 0 },
    ]);
    assert.deepEqual(verdict.remaining, [70, 30]);
  });

  test("of many pods that want one of three deployments at once, as many get one as there is room", async () => {
    const caller = windowClaim({ ceiling: 1000 });
    const alternatives = [7, 11, 2].map((ceiling, number) => [
      windowClaim({ ceiling: 100, group: `deployment:${number}` }),
      slotClaim({ ceiling, group: `deployment:${number}` }),
    ]);
    const verdicts = await Promise.all(
      Array.from({ length: 60 }, (_, index) => pods().counters[index % 3]?.take([caller], alternatives)),
    );
    const counts = [0, 0, 0];
    for (const verdict of verdicts)
      if (verdict?.ok) counts[verdict.chosen ?? 9] = (counts[verdict.chosen ?? 9] ?? 0) + 1;
    assert.deepEqual(counts, [7, 11, 2]);
    assert.equal((await pods().counters[0].take([{ ...caller, amount: 0 }])).remaining[0], 980);
  });

  test("claims and an alternative on the same counter are counted together", async () => {
    const [a] = pods().counters;
    const both = windowClaim({ ceiling: 10, amount: 6 });
    assert.equal((await chosen(a, [both], [[both], [{ ...both, amount: 4 }]])).chosen, 1);
    await refused(a, { ...both, amount: 1 });
  });

  test("an alternative without claims always fits, and without any alternative there is nothing to choose", async () => {
    const [a] = pods().counters;
    assert.deepEqual((await chosen(a, [], [[], [windowClaim()]])).remaining, []);
    assert.equal((await chosen(a, [windowClaim()], [[slotClaim({ ceiling: 0 })], []])).chosen, 1);
    const plain = await a.take([windowClaim()]);
    assert.ok(plain.ok && plain.chosen === undefined);
    await assert.rejects(a.take([windowClaim()], []), RangeError);
    await assert.rejects(a.take([], [[], [windowClaim({ amount: -1 })]]), RangeError);
  });

  test("whatever is taken and given back, it is decided as one counter after the other would", async () => {
    const list = fc.array(fc.record({ counter: fc.nat(limits.length - 1), amount: fc.nat(6) }), { maxLength: 3 });
    const take = fc.record({ claims: list, alternatives: fc.option(fc.array(list, { minLength: 1, maxLength: 4 })) });
    const release = fc.record({ held: fc.nat(9), used: fc.array(fc.option(fc.nat(9)), { maxLength: 6 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof({ weight: 3, arbitrary: take }, release), { maxLength: 25 }),
        async (steps) => {
          const model = new Model();
          const holds: Held[] = [];
          for (const [number, step] of steps.entries()) {
            if ("held" in step) {
              const [held] = holds.splice(step.held, 1);
              if (held === undefined) continue;
              await releaseAll(held, step.used);
              model.release(held.taken, step.used);
              continue;
            }
            const claims = step.claims.map((each) => model.claim(each));
            const alternatives = step.alternatives?.map((each) => each.map((one) => model.claim(one)));
            const verdict = await pods().counters[number % 3]?.take(claims, alternatives);
            assert.ok(verdict);
            const taken = model.check(verdict, claims, alternatives);
            if (verdict.ok) holds.push({ granted: verdict, taken, count: claims.length });
          }
          await Promise.all(holds.map((held) => releaseAll(held, [])));
        },
      ),
      { numRuns: 30 },
    );
  });
}

interface Held {
  readonly granted: Granted;
  /** The claims, and then the chosen alternative's. */
  readonly taken: readonly Claim[];
  /** Of the claims. */
  readonly count: number;
}

async function releaseAll({ granted, count }: Held, used: readonly (number | null)[]): Promise<void> {
  const amounts = used.map((amount) => amount ?? undefined);
  await granted.hold.release(amounts.slice(0, count));
  await granted.chosenHold?.release(amounts.slice(count));
}

const limits = [
  { kind: "window", group: "key:1", ceiling: 9 },
  { kind: "window", group: "key:1", ceiling: 14 },
  { kind: "slot", group: "key:2", ceiling: 2 },
  { kind: "window", group: "deployment:1", ceiling: 6 },
  { kind: "slot", group: "deployment:1", ceiling: 1 },
  { kind: "window", group: "deployment:2", ceiling: 0 },
  { kind: "slot", group: "deployment:2", ceiling: 3 },
] as const;

/** What the limits must do, without time. */
class Model {
  readonly #claims = limits.map(({ kind, ...place }) => (kind === "window" ? windowClaim(place) : slotClaim(place)));
  readonly #used = new Map<string, number>();

  claim({ counter, amount }: { counter: number; amount: number }): Claim {
    const claim = this.#claims[counter] ?? windowClaim();
    return claim.kind === "window" ? { ...claim, amount } : { ...claim };
  }

  /** @returns what was taken. */
  check(verdict: Verdict, claims: readonly Claim[], alternatives: Alternatives | undefined): readonly Claim[] {
    const counts = new Map(this.#used);
    const refusedClaim = refusedOf(claims, counts);
    const shortages = alternatives?.map((alternative) => refusedOf(alternative, new Map(counts)));
    const first = shortages?.indexOf(undefined);
    if (refusedClaim !== undefined || first === -1) {
      assert.ok(!verdict.ok, "granted");
      assert.equal(verdict.refused, refusedClaim);
      if (verdict.refused === undefined)
        assert.deepEqual(
          verdict.full.map((lack) => lack.refused),
          shortages,
        );
      assert.deepEqual(verdict.remaining.length, claims.length);
      return [];
    }
    assert.ok(verdict.ok, `refused ${JSON.stringify(verdict)}`);
    assert.equal(verdict.chosen, first);
    const taken = [...claims, ...(alternatives?.[first ?? 0] ?? [])];
    for (const claim of taken) count(claim, this.#used);
    // Of a counter that is claimed twice, a Cluster tells what remained after either.
    if (new Set(taken.map(nameOf)).size === taken.length) {
      assert.deepEqual(
        verdict.remaining,
        taken.map((claim) => claim.ceiling - (this.#used.get(nameOf(claim)) ?? 0)),
      );
    }
    return taken;
  }

  release(taken: readonly Claim[], used: readonly (number | null)[]): void {
    for (const [index, claim] of taken.entries()) {
      const real = claim.kind === "slot" ? 0 : (used[index] ?? claim.amount);
      this.#used.set(nameOf(claim), (this.#used.get(nameOf(claim)) ?? 0) + real - amountOf(claim));
    }
  }
}

/** Counts all claims; @returns the first that had no room. */
function refusedOf(claims: readonly Claim[], counts: Map<string, number>): Claim | undefined {
  return claims.filter((claim) => count(claim, counts) > claim.ceiling || claim.ceiling === 0)[0];
}

function count(claim: Claim, counts: Map<string, number>): number {
  const used = (counts.get(nameOf(claim)) ?? 0) + amountOf(claim);
  counts.set(nameOf(claim), used);
  return used;
}

function nameOf({ group, name }: Claim): string {
  return `${group}:${name}`;
}

function amountOf(claim: Claim): number {
  return claim.kind === "slot" ? 1 : claim.amount;
}
