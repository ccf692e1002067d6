import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, it } from "node:test";
import fc from "fast-check";
import { AuthorityUnavailable, type BudgetRefusal, type SpendRecord } from "../../src/keys/authority.ts";
import { Reservation } from "../../src/keys/lease.ts";
import type { LeaseBook } from "../../src/keys/lease-borrowing.ts";
import { Leases } from "../../src/keys/leases.ts";
import type { Nanos } from "../../src/money.ts";
import { HandClock } from "./hand-clock.ts";
import { PaperAuthority } from "./paper-authority.ts";
import { Log, sampleOpen, samplePayer, sampleSettled } from "./samples.ts";

const key = "key_1";

class Notes implements LeaseBook {
  readonly open = new Set<string>();

  leaseOpened(leaseId: string): void {
    this.open.add(leaseId);
  }

  leaseClosed(leaseId: string): void {
    this.open.delete(leaseId);
  }
}

/** A pod's leases, with the rest of a pod reduced to a list of records to ship. */
class Pod {
  readonly authority: PaperAuthority;
  readonly leases: Leases;
  readonly notes = new Notes();
  readonly unshipped: SpendRecord[] = [];

  constructor(authority: PaperAuthority, clock: HandClock) {
    this.authority = authority;
    authority.recallers.add((budgetId) => this.leases.recall(budgetId));
    this.leases = new Leases({ authority, book: this.notes, clock, telemetry: new Log(), newId: randomUUID });
  }

  settle(reservation: Reservation, cost: Nanos): void {
    const { leaseId, amount } = reservation;
    this.unshipped.push(sampleSettled(sampleOpen({ keyId: key, leaseId, reserved: amount }), { cost }));
    reservation.settle(cost);
  }

  async ship(): Promise<void> {
    const records = this.unshipped.splice(0);
    if (records.length === 0) return;
    try {
      await this.authority.settle(records);
      this.leases.booked(records);
    } catch {
      this.unshipped.unshift(...records);
    }
  }
}

function setUp(max: Nanos | undefined, podCount = 1, ttlMs = 60_000, latencyMs = 5) {
  const clock = new HandClock();
  const authority = new PaperAuthority({ clock, ttlMs, latencyMs });
  const budget = { max, spent: 0n, reserved: 0n };
  authority.budgets.set(key, budget);
  const pods = Array.from({ length: podCount }, () => new Pod(authority, clock));
  const [pod] = pods;
  assert.ok(pod);
  return { clock, authority, budget, pods, pod, grant: samplePayer(key, max) };
}

async function reserved(clock: HandClock, answer: ReturnType<Leases["reserve"]>): Promise<Reservation> {
  const result = answer instanceof Promise ? await settled(clock, answer) : answer;
  assert.ok(result instanceof Reservation, "refused");
  return result;
}

async function settled<T>(clock: HandClock, promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  await clock.advance(50);
  return await promise;
}

describe("leases", () => {
  it("a key without a limited budget reserves from no lease", () => {
    const { pod, authority } = setUp(undefined);
    const answer = pod.leases.reserve(samplePayer(key, undefined), 10n);
    assert.ok(answer instanceof Reservation);
    assert.equal(answer.leaseId, "");
    answer.settle(3n);
    assert.equal(authority.asks.length, 0);
  });

  it("after the first call a key reserves at once, without the KeyService", async () => {
    const { pod, authority, clock, grant } = setUp(1_000_000n);
    const first = await reserved(clock, pod.leases.reserve(grant, 100n));
    pod.settle(first, 40n);
    for (let call = 0; call < 200; call++) {
      const answer = pod.leases.reserve(grant, 100n);
      assert.ok(answer instanceof Reservation, "had to wait");
      await clock.advance(10);
      pod.settle(answer, 40n);
    }
    assert.ok(authority.asks.length < 30, `${authority.asks.length} asks for 201 calls`);
  });

  it("calls that pile up, a hundred a second, find their money ready though the KeyService takes 40 ms to lend it", async () => {
    const { pod, authority, clock, grant } = setUp(100_000_000n, 1, 60_000, 40);
    const waited: number[] = [];
    for (let call = 0; call < 200; call++) {
      if (pod.leases.reserve(grant, 100n) instanceof Promise) waited.push(call);
      await clock.advance(10);
    }
    assert.ok(waited.length <= 12, `calls ${waited} had to wait`);
    assert.ok(authority.asks.length <= 12, `${authority.asks.length} asks for 200 calls`);
  });

  it("calls in sequence against a small budget find their money ready too", async () => {
    const { pod, clock, grant } = setUp(1_000n);
    pod.settle(await reserved(clock, pod.leases.reserve(grant, 100n)), 10n);
    await clock.advance(20);
    for (let call = 0; call < 20; call++) {
      const answer = pod.leases.reserve(grant, 100n);
      assert.ok(answer instanceof Reservation, "had to wait");
      pod.settle(answer, 10n);
      await clock.advance(20);
    }
  });

  it("300 parallel calls over three pods against a budget that pays for 40 let exactly 40 pass", async () => {
    const { pods, budget, clock, grant } = setUp(4_000n, 3);
    const answers = pods.flatMap((pod) =>
      Array.from({ length: 100 }, () =>
        Promise.resolve(pod.leases.reserve(grant, 100n)).then((answer) => ({ pod, answer })),
      ),
    );
    await clock.advance(500);
    const all = await Promise.all(answers);
    const granted = all.flatMap(({ pod, answer }) => (answer instanceof Reservation ? [{ pod, answer }] : []));
    assert.equal(granted.length, 40);
    for (const { pod, answer } of granted) pod.settle(answer, 100n);
    for (const pod of pods) await settled(clock, pod.ship());
    assert.deepEqual(budget, { max: 4_000n, spent: 4_000n, reserved: 0n });
  });

  it("calls that come while others are asked for take nothing with them that the last call of another pod needs", async () => {
    const { pods, clock, grant } = setUp(6_900n, 2);
    const [a, b] = pods;
    assert.ok(a && b);
    const answers: ReturnType<Leases["reserve"]>[] = [a.leases.reserve(grant, 100n)];
    await clock.advance(1);
    for (let call = 1; call < 67; call++) answers.push(a.leases.reserve(grant, 100n));
    await clock.advance(50);
    for (let call = 0; call < 67; call++) answers.push(b.leases.reserve(grant, 100n));
    await clock.advance(500);
    const passed = (await Promise.all(answers)).filter((answer) => answer instanceof Reservation);
    assert.equal(passed.length, 69);
  });

  it("many pods that hold money ahead refuse no call while the budget pays for it", async () => {
    const { pods, budget, clock, grant } = setUp(10_000n, 100);
    let refused = 0;
    for (let second = 0; second < 20; second++) {
      for (const pod of pods) {
        void Promise.resolve(pod.leases.reserve(grant, 40n)).then((answer) => {
          if (answer instanceof Reservation) clock.after(300, () => pod.settle(answer, 3n));
          else refused++;
        });
        await clock.advance(10);
        if (pod === pods[0]) for (const each of pods) void each.ship();
      }
    }
    assert.ok(budget.spent > 5_000n, `only ${budget.spent} spent`);
    assert.equal(refused, 0);
  });

  it("money held ahead goes back at once when calls of another pod lack it, and what calls hold stays", async () => {
    const { pods, budget, clock, grant } = setUp(1_000n, 2);
    const [a, b] = pods;
    assert.ok(a && b);
    const held = await reserved(clock, a.leases.reserve(grant, 300n));
    a.settle(await reserved(clock, a.leases.reserve(grant, 300n)), 0n);
    assert.equal(budget.reserved, 600n);
    assert.ok(!((await settled(clock, Promise.resolve(b.leases.reserve(grant, 800n)))) instanceof Reservation));
    await reserved(clock, b.leases.reserve(grant, 700n));
    assert.equal(budget.reserved, 1_000n);
    a.settle(held, 300n);
  });

  it("what ended calls have left in pods that all ask at once is lent where it suffices for a call", async () => {
    const { pods, budget, clock, grant } = setUp(2_000n, 20);
    const together = async () => {
      const answers = pods.map(async (pod) => [pod, await pod.leases.reserve(grant, 100n)] as const);
      await clock.advance(300);
      return await Promise.all(answers);
    };
    for (const [pod, answer] of await together()) {
      assert.ok(answer instanceof Reservation);
      pod.settle(answer, 10n);
    }
    await Promise.all(pods.map((pod) => settled(clock, pod.ship())));
    assert.equal(budget.spent, 200n);
    const passed = (await together()).filter(([, answer]) => answer instanceof Reservation);
    assert.equal(passed.length, 18);
  });

  it("a refusal names the budget, and is not asked for again for each of a flood of calls", async () => {
    const { pod, authority, clock, grant } = setUp(50n);
    const answers = Array.from({ length: 200 }, () => Promise.resolve(pod.leases.reserve(grant, 100n)));
    await clock.advance(50);
    for (const answer of await Promise.all(answers)) {
      assert.ok(!(answer instanceof Reservation));
      assert.equal(answer.budget.budgetId, key);
    }
    assert.equal(authority.asks.length, 1);
  });

  it("money that comes back is found by the next call", async () => {
    const { pods, clock, grant } = setUp(100n, 2);
    const [a, b] = pods;
    assert.ok(a && b);
    const held = await reserved(clock, a.leases.reserve(grant, 100n));
    assert.ok(!((await settled(clock, Promise.resolve(b.leases.reserve(grant, 60n)))) instanceof Reservation));
    a.settle(held, 40n);
    const own = a.leases.reserve(grant, 60n);
    assert.ok(own instanceof Reservation, "money free in the pod was refused");
    own.release();
    await settled(clock, a.ship());
    await clock.advance(6_000);
    await reserved(clock, b.leases.reserve(grant, 60n));
  });

  it("near the limit a pod gives what it does not use to the others at once", async () => {
    const { pods, clock, grant } = setUp(300n, 2);
    const [a, b] = pods;
    assert.ok(a && b);
    const held = [];
    for (let call = 0; call < 3; call++) held.push(await reserved(clock, a.leases.reserve(grant, 100n)));
    assert.ok(!((await settled(clock, Promise.resolve(a.leases.reserve(grant, 100n)))) instanceof Reservation));
    for (const reservation of held) a.settle(reservation, 0n);
    await clock.advance(600);
    for (let call = 0; call < 3; call++) await reserved(clock, b.leases.reserve(grant, 100n));
  });

  it("waiters are served in order, and by money of their own pod as soon as it is free", async () => {
    const { pod, authority, clock, grant } = setUp(100n);
    const held = await reserved(clock, pod.leases.reserve(grant, 100n));
    const order: string[] = [];
    const first = Promise.resolve(pod.leases.reserve(grant, 70n)).then((answer) => order.push("first") && answer);
    const second = Promise.resolve(pod.leases.reserve(grant, 30n)).then((answer) => order.push("second") && answer);
    pod.settle(held, 0n);
    await clock.advance(0);
    assert.deepEqual(order, ["first", "second"]);
    assert.ok((await first) instanceof Reservation && (await second) instanceof Reservation);
    assert.ok(authority.asks.length <= 2);
  });

  it("an overrun is taken from the lease, and never charged twice", async () => {
    const { pod, budget, clock, grant } = setUp(10_000n);
    const reservation = await reserved(clock, pod.leases.reserve(grant, 100n));
    pod.settle(reservation, 5_000n);
    reservation.settle(5_000n);
    reservation.release();
    await settled(clock, pod.ship());
    await clock.advance(20_000);
    assert.deepEqual(budget, { max: 10_000n, spent: 5_000n, reserved: 0n });
  });

  it("idle money goes back within seconds and the lease is closed", async () => {
    const { pod, authority, budget, clock, grant } = setUp(1_000_000n);
    pod.settle(await reserved(clock, pod.leases.reserve(grant, 100n)), 30n);
    await settled(clock, pod.ship());
    await clock.advance(6_000);
    assert.deepEqual(budget, { max: 1_000_000n, spent: 30n, reserved: 0n });
    assert.deepEqual(
      [...authority.leases.values()].map((lease) => lease.state),
      ["closed"],
    );
    assert.deepEqual([pod.leases.stats().leases, pod.notes.open.size], [0, 0]);
  });

  it("a lease whose records are not booked yet is not closed", async () => {
    const { pod, authority, budget, clock, grant } = setUp(1_000_000n);
    pod.settle(await reserved(clock, pod.leases.reserve(grant, 100n)), 30n);
    await clock.advance(6_000);
    assert.equal(budget.reserved, 30n);
    assert.equal([...authority.leases.values()][0]?.state, "open");
    await settled(clock, pod.ship());
    await clock.advance(1_000);
    assert.deepEqual(budget, { max: 1_000_000n, spent: 30n, reserved: 0n });
  });

  it("leases are renewed together at a third of their time, and live on through a long call", async () => {
    const { pod, authority, budget, clock, grant } = setUp(1_000_000n, 1, 3_000);
    authority.budgets.set("key_2", { max: 1_000_000n, spent: 0n, reserved: 0n });
    const one = await reserved(clock, pod.leases.reserve(grant, 100n));
    await reserved(clock, pod.leases.reserve(samplePayer("key_2", 1_000_000n), 100n));
    await clock.advance(10_000);
    assert.ok(
      authority.renewals.length >= 8 && authority.renewals.length <= 12,
      `${authority.renewals.length} renewals`,
    );
    assert.ok(authority.renewals.some((ids) => ids.length === 2));
    pod.settle(one, 60n);
    await settled(clock, pod.ship());
    assert.equal(budget.spent, 60n);
  });

  it("an expired lease pays for no further call, and what it was charged is put right", async () => {
    const { pod, authority, budget, clock, grant } = setUp(1_000n, 1, 1_000);
    const held = await reserved(clock, pod.leases.reserve(grant, 100n));
    authority.trouble.away = true;
    await clock.advance(5_000);
    await assert.rejects(settled(clock, Promise.resolve(pod.leases.reserve(grant, 5n))), AuthorityUnavailable);
    authority.trouble.away = false;
    const next = await reserved(clock, pod.leases.reserve(grant, 100n));
    assert.notEqual(next.leaseId, held.leaseId);
    assert.ok(budget.spent >= 100n, "charged while it was not heard of");
    pod.settle(held, 20n);
    pod.settle(next, 10n);
    await settled(clock, pod.ship());
    await clock.advance(10_000);
    assert.deepEqual(budget, { max: 1_000n, spent: 30n, reserved: 0n });
  });

  it("while the KeyService is away, calls go on from the lease", async () => {
    const { pod, authority, clock, grant } = setUp(1_000_000n);
    pod.settle(await reserved(clock, pod.leases.reserve(grant, 100n)), 0n);
    await clock.advance(100);
    authority.trouble.away = true;
    for (let call = 0; call < 50; call++) {
      const answer = pod.leases.reserve(grant, 100n);
      assert.ok(answer instanceof Reservation);
      await clock.advance(1_000);
      pod.settle(answer, 0n);
    }
  });

  it("a lease ends with its budget period", async () => {
    const { pod, authority, clock, grant } = setUp(1_000_000n);
    authority.periodEndsAtMs = 1_000;
    const before = await reserved(clock, pod.leases.reserve(grant, 100n));
    await clock.advance(1_000);
    authority.periodEndsAtMs = 1_000_000;
    const after = await reserved(clock, pod.leases.reserve(grant, 100n));
    assert.notEqual(before.leaseId, after.leaseId);
  });

  it("an ask whose answer was lost is repeated and granted once", async () => {
    const { pod, authority, budget, clock, grant } = setUp(150n);
    authority.trouble.mute = true;
    await assert.rejects(settled(clock, Promise.resolve(pod.leases.reserve(grant, 100n))), AuthorityUnavailable);
    assert.equal(budget.reserved > 0n, true);
    authority.trouble.mute = false;
    await reserved(clock, pod.leases.reserve(grant, 100n));
    assert.ok(budget.reserved <= 150n);
    assert.equal(new Set(authority.asks.slice(0, 2).map((ask) => ask.requestId)).size, 1);
  });

  it("an ask whose answer was lost gives its money back when nobody asks again", async () => {
    const { pod, authority, budget, clock, grant } = setUp(150n);
    authority.trouble.mute = true;
    await assert.rejects(settled(clock, Promise.resolve(pod.leases.reserve(grant, 100n))), AuthorityUnavailable);
    authority.trouble.mute = false;
    await clock.advance(10_000);
    assert.deepEqual(budget, { max: 150n, spent: 0n, reserved: 0n });
  });

  it("closes a lease that was only ever refused, for its ask may still be on the way a second time", async () => {
    const { pod, authority, budget, clock, grant } = setUp(50n);
    void pod.leases.reserve(grant, 100n);
    await clock.advance(10_000);
    assert.equal(pod.leases.stats().leases, 0);
    assert.equal(authority.closed.length, 1);
    assert.deepEqual(budget, { max: 50n, spent: 0n, reserved: 0n });
  });

  it("brings back what its last lease held before it takes no for an answer", async () => {
    const { pod, authority, clock, grant } = setUp(150n);
    authority.periodEndsAtMs = 1_100;
    pod.settle(await reserved(clock, pod.leases.reserve(grant, 100n)), 0n);
    // The period of another budget of the key is over, and the money of this one is on the lease that ended with it.
    await clock.advance(1_060);
    authority.periodEndsAtMs = 1_000_000;
    await reserved(clock, pod.leases.reserve(grant, 150n));
  });

  it("close returns all free money and closes what is booked", async () => {
    const { pod, authority, budget, clock, grant } = setUp(1_000_000n);
    pod.settle(await reserved(clock, pod.leases.reserve(grant, 100n)), 30n);
    await settled(clock, pod.ship());
    await settled(clock, pod.leases.close());
    assert.deepEqual(budget, { max: 1_000_000n, spent: 30n, reserved: 0n });
    assert.equal([...authority.leases.values()][0]?.state, "closed");
    await assert.rejects(Promise.resolve(pod.leases.reserve(grant, 1n)), { code: "shutting_down" });
  });

  it("leases of a dead predecessor are closed once their records are booked", async () => {
    const { pod, authority, budget, clock, grant } = setUp(1_000_000n, 2);
    const reservation = await reserved(clock, pod.leases.reserve(grant, 100n));
    const heir = new Pod(authority, clock);
    heir.leases.adopt(new Map([[reservation.leaseId, 100n]]));
    heir.unshipped.push(sampleSettled(sampleOpen({ keyId: key, leaseId: reservation.leaseId }), { cost: 100n }));
    await clock.advance(1_000);
    assert.ok(budget.reserved > 0n);
    await settled(clock, heir.ship());
    await clock.advance(1_000);
    assert.deepEqual(budget, { max: 1_000_000n, spent: 100n, reserved: 0n });
  });
});

type Step =
  | { readonly do: "reserve"; readonly pod: number; readonly amount: number }
  | { readonly do: "end"; readonly which: number; readonly part: number }
  | { readonly do: "ship"; readonly pod: number }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "trouble"; readonly away: boolean; readonly mute: boolean };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("reserve" as const),
      pod: fc.nat(2),
      amount: fc.integer({ min: 1, max: 400 }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("end" as const), which: fc.nat(50), part: fc.nat(100) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("ship" as const), pod: fc.nat(2) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 3_000 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("trouble" as const), away: fc.boolean(), mute: fc.boolean() }) },
);

describe("leases, whatever happens", () => {
  it("never promise more than was lent, and everything comes back", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 100, max: 20_000 }), async (steps, max) => {
        const { clock, authority, budget, pods, grant } = setUp(BigInt(max), 3, 5_000);
        const held: { pod: Pod; reservation: Reservation }[] = [];
        const refusals: BudgetRefusal[] = [];
        let cost = 0n;
        for (const next of steps) {
          const pod = "pod" in next ? pods[next.pod] : undefined;
          if (next.do === "reserve" && pod !== undefined) {
            Promise.resolve(pod.leases.reserve(grant, BigInt(next.amount))).then(
              (answer) =>
                answer instanceof Reservation ? held.push({ pod, reservation: answer }) : refusals.push(answer),
              (error) => assert.ok(error instanceof AuthorityUnavailable),
            );
          } else if (next.do === "end") {
            const [call] = held.splice(next.which % Math.max(1, held.length), 1);
            if (call === undefined) continue;
            const spent = (call.reservation.amount * BigInt(next.part)) / 100n;
            cost += spent;
            call.pod.settle(call.reservation, spent);
          } else if (next.do === "ship") await settled(clock, pod?.ship() ?? Promise.resolve());
          else if (next.do === "wait") await clock.advance(next.ms);
          else if (next.do === "trouble") Object.assign(authority.trouble, { away: next.away, mute: next.mute });
          await clock.advance(1);
          const inFlight = held.reduce((sum, call) => sum + call.reservation.amount, 0n);
          assert.ok(cost + inFlight <= BigInt(max), `promised ${cost + inFlight} of ${max}`);
          for (const { leases } of pods) assert.ok(leases.stats().room >= 0n);
        }
        Object.assign(authority.trouble, { away: false, mute: false });
        await clock.advance(2_000);
        for (const call of held.splice(0)) call.pod.settle(call.reservation, 0n);
        for (const pod of pods) await settled(clock, pod.ship());
        await clock.advance(30_000);
        assert.deepEqual(budget, { max: BigInt(max), spent: cost, reserved: 0n });
        for (const { leases, notes } of pods) {
          assert.deepEqual(leases.stats(), { leases: 0, room: 0n, reserved: 0n, waiting: 0 });
          assert.equal(notes.open.size, 0);
        }
      }),
      { numRuns: 150 },
    );
  });
});
