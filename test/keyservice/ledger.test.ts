import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  type Account,
  expire,
  giveBack,
  grant,
  type LentMoney,
  lend,
  type Step,
  settle,
  type Wish,
} from "../../src/keyservice/ledger.ts";

const open = (outstanding: bigint): LentMoney => ({ state: "open", outstanding });
const expired = (outstanding: bigint): LentMoney => ({ state: "expired", outstanding });
const closed: LentMoney = { state: "closed", outstanding: 0n };
const wish = (min: bigint, want: bigint, ahead = 0n): Wish => ({ min, want, ahead });

describe("granting", () => {
  const account = (max: bigint | undefined, spent = 0n, reserved = 0n): Account => ({ max, spent, reserved });

  it("gives what is wanted where there is room, and what there is where there is less", () => {
    assert.deepEqual(grant([account(100n)], wish(10n, 60n), 0n), { granted: 60n });
    assert.deepEqual(grant([account(100n, 30n, 30n)], wish(10n, 60n), 0n), { granted: 40n });
    assert.deepEqual(grant([account(100n, 30n, 60n)], wish(10n, 60n), 0n), { granted: 10n });
  });

  it("refuses less than the least that is of use, and names the tightest of all budgets", () => {
    assert.deepEqual(grant([account(100n, 91n)], wish(10n, 60n), 0n), { refusedBy: 0 });
    assert.deepEqual(grant([account(100n, 95n), account(100n, 97n), account(undefined)], wish(10n, 60n), 0n), {
      refusedBy: 1,
    });
    assert.deepEqual(grant([account(0n)], wish(1n, 1n), 0n), { refusedBy: 0 });
  });

  it("takes no notice of budgets without a limit", () => {
    assert.deepEqual(grant([account(undefined, 10n ** 15n)], wish(10n, 60n), 0n), { granted: 60n });
    assert.deepEqual(grant([], wish(10n, 60n), 0n), { granted: 60n });
  });

  it("never gives less than the least, even when less is wanted", () => {
    assert.deepEqual(grant([account(100n)], wish(10n, 5n), 0n), { granted: 10n });
  });

  it("lends ahead of need while half of what is not spent stays free, and what is needed to the last", () => {
    const accounts = [account(undefined), account(100n, 40n, 20n)];
    assert.deepEqual(grant(accounts, wish(1n, 30n, 30n), 0n), { granted: 10n });
    assert.deepEqual(grant(accounts, wish(11n, 30n, 30n), 0n), { refusedBy: 1 });
    assert.deepEqual(grant(accounts, wish(1n, 9n, 9n), 0n), { granted: 9n });
    assert.deepEqual(grant(accounts, wish(5n, 35n, 30n), 0n), { granted: 10n });
    assert.deepEqual(grant(accounts, wish(5n, 35n, 5n), 0n), { granted: 30n });
    assert.deepEqual(grant(accounts, wish(5n, 60n, 10n), 0n), { granted: 40n });
    assert.deepEqual(grant([account(100n, 120n)], wish(1n, 1n, 1n), 0n), { refusedBy: 0 });
    // What the pod that asks holds itself keeps it from nothing but what is not there.
    assert.deepEqual(grant([account(100n, 0n, 60n)], wish(1n, 30n, 30n), 60n), { granted: 30n });
    assert.deepEqual(grant([account(100n, 0n, 60n)], wish(1n, 60n, 60n), 60n), { granted: 40n });
  });

  it("refuses when more was spent than there ever was", () => {
    assert.deepEqual(grant([account(100n, 150n)], wish(1n, 1n), 0n), { refusedBy: 0 });
  });
});

describe("what happens to a lease", () => {
  const cases: readonly [string, Step, Step][] = [
    ["an open lease pays", settle(open(50n), 20n), { lease: open(30n), spent: 20n, reserved: -20n, booked: 0n }],
    [
      "an open lease pays too little",
      settle(open(5n), 20n),
      { lease: open(0n), spent: 20n, reserved: -5n, booked: 0n },
    ],
    [
      "a late call takes back its part of the charge",
      settle(expired(50n), 20n),
      { lease: expired(30n), spent: 0n, reserved: 0n, booked: -20n },
    ],
    [
      "a late call costs more than was charged",
      settle(expired(5n), 20n),
      { lease: expired(0n), spent: 15n, reserved: 0n, booked: -5n },
    ],
    [
      "a call of a closed lease costs what it costs",
      settle(closed, 20n),
      { lease: closed, spent: 20n, reserved: 0n, booked: 0n },
    ],
    ["some goes back", giveBack(open(50n), 20n, false), { lease: open(30n), spent: 0n, reserved: -20n, booked: 0n }],
    [
      "no more goes back than there is",
      giveBack(open(5n), 20n, false),
      { lease: open(0n), spent: 0n, reserved: -5n, booked: 0n },
    ],
    [
      "all goes back at the end",
      giveBack(open(50n), 20n, true),
      { lease: closed, spent: 0n, reserved: -50n, booked: 0n },
    ],
    [
      "the charge is taken back at the end",
      giveBack(expired(50n), 0n, true),
      { lease: closed, spent: -50n, reserved: 0n, booked: -50n },
    ],
    ["nothing goes back twice", giveBack(closed, 20n, true), { lease: closed, spent: 0n, reserved: 0n, booked: 0n }],
    [
      "what was lent is charged when nobody answers for it",
      expire(open(50n)),
      { lease: expired(50n), spent: 50n, reserved: -50n, booked: 50n },
    ],
  ];
  for (const [name, step, expected] of cases) it(name, () => assert.deepEqual(step, expected));
});

interface World {
  readonly accounts: { max: bigint | undefined; spent: bigint; reserved: bigint }[];
  readonly leases: { money: LentMoney; inFlight: bigint }[];
  ledger: bigint;
}

function take(world: World, place: number, step: Step, cost: bigint): void {
  const lease = world.leases[place];
  assert.ok(lease !== undefined);
  lease.money = step.lease;
  for (const account of world.accounts) {
    account.spent += step.spent;
    account.reserved += step.reserved;
  }
  world.ledger += cost + step.booked;
}

/** What pods may do: borrow, spend up to what they hold, give back, fall silent and come back. */
function act(world: World, [kind, place, amount]: readonly [string, number, bigint]): void {
  const lease = world.leases[place];
  assert.ok(lease !== undefined);
  const { money } = lease;
  if (kind === "borrow" && money.state === "open") {
    const verdict = grant(world.accounts, wish(amount / 2n + 1n, amount + 1n), 0n);
    if (!("granted" in verdict)) return;
    take(world, place, lend(money, verdict.granted), 0n);
    lease.inFlight += verdict.granted;
  } else if (kind === "settle") {
    const cost = amount < lease.inFlight ? amount : lease.inFlight;
    take(world, place, settle(money, cost), cost);
    lease.inFlight -= cost;
  } else if (kind === "return" && money.state === "open") {
    const back = amount < lease.inFlight ? amount : lease.inFlight;
    take(world, place, giveBack(money, back, false), 0n);
    lease.inFlight -= back;
  } else if (kind === "expire" && money.state === "open") {
    take(world, place, expire(money), 0n);
  }
}

function check(world: World): void {
  const outstanding = world.leases.reduce(
    (sum, { money }) => sum + (money.state === "open" ? money.outstanding : 0n),
    0n,
  );
  for (const { max, spent, reserved } of world.accounts) {
    assert.ok(max === undefined || spent + reserved <= max, "P1: no more than the budget is spent or lent");
    assert.equal(spent, world.ledger, "P3: what is spent is the sum of the ledger");
    assert.equal(reserved, outstanding, "P4: what is reserved is what open leases hold");
    assert.ok(spent >= 0n && reserved >= 0n, "P6: nothing is negative");
  }
  for (const { money, inFlight } of world.leases) {
    assert.ok(money.outstanding >= 0n, "P6: nothing is negative");
    if (money.state !== "closed") assert.ok(inFlight <= money.outstanding, "P5: calls hold no more than was reserved");
  }
}

describe("any history of budgets and leases", () => {
  const amounts = fc.bigInt({ min: 0n, max: 400n });
  const actions = fc.tuple(
    fc.constantFrom("borrow", "borrow", "settle", "return", "expire"),
    fc.nat({ max: 4 }),
    amounts,
  );
  const budgets = fc.array(fc.option(fc.bigInt({ min: 0n, max: 1_000n }), { nil: undefined }), {
    minLength: 1,
    maxLength: 3,
  });

  it("keeps the promises after each step, and ends with nothing reserved and only real costs spent", () => {
    fc.assert(
      fc.property(budgets, fc.array(actions, { maxLength: 60 }), (maxima, history) => {
        const world: World = {
          accounts: maxima.map((max) => ({ max, spent: 0n, reserved: 0n })),
          leases: Array.from({ length: 5 }, () => ({ money: open(0n), inFlight: 0n })),
          ledger: 0n,
        };
        let real = 0n;
        for (const action of history) {
          const held = world.leases[action[1]]?.inFlight ?? 0n;
          act(world, action);
          if (action[0] === "settle") real += action[2] < held ? action[2] : held;
          check(world);
        }
        for (const [place, { money }] of world.leases.entries()) take(world, place, giveBack(money, 0n, true), 0n);
        for (const { spent, reserved } of world.accounts) {
          assert.equal(reserved, 0n, "P4: in the end nothing is reserved");
          assert.equal(spent, real, "P3: in the end only what calls cost is spent");
        }
        assert.equal(world.ledger, real);
      }),
      { numRuns: 1_000 },
    );
  });
});
