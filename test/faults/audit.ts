import { chargeOf } from "./bills.ts";
import type { TrafficKey } from "./traffic.ts";
import { eventually, figure, type World } from "./world.ts";

/** One key's money as the provider billed it and as the books have it, in nano-dollars. */
export interface KeyAudit {
  readonly name: string;
  readonly bill: bigint;
  readonly ledger: bigint;
  readonly calls: number;
  /** Attempts that were booked at less than certainty: a crash, a broken stream, a caller gone, a lease charged in full. */
  readonly uncertain: number;
  /** What those were booked at, at the most. */
  readonly uncertainReserved: bigint;
  /** Everything that breaks a promise. */
  readonly faults: readonly string[];
}

/** What an audit may find without being a fault. */
export interface AuditOptions {
  /** Calls that may be missing in the books: the journal was destroyed. */
  readonly isJournalLost?: boolean;
}

interface Row {
  readonly call_id: string;
  readonly attempt: number;
  readonly cost_nanos: bigint;
  readonly reserved_nanos: bigint;
  readonly status: string;
  readonly usage_estimated: boolean;
  readonly provider_response_id: string;
}

/** What an uncertain attempt may be booked at below the bill: what the provider sent and nobody here has read. */
const unreadNanosMax = 40_000n;

/** Waits until everything is booked and no money is reserved. @returns how long that took, in milliseconds. */
export async function quiesce(world: World, keys: readonly TrafficKey[]): Promise<number> {
  const startMs = performance.now();
  await eventually(
    "everything is booked and returned",
    async () => {
      for (const pod of world.pods) {
        if (pod.process.ended) continue;
        if ((await figure(pod, "tollgate_usage_wal_pending")) !== 0) return false;
      }
      for (const { keyId } of keys) if ((await accountOf(world, keyId)).reserved !== 0n) return false;
      return true;
    },
    world.leaseTtlMs + 40_000,
  );
  return performance.now() - startMs;
}

/** Compares the provider's bill with the books. The world must be quiet. */
export async function audit(world: World, key: TrafficKey, options: AuditOptions = {}): Promise<KeyAudit> {
  const faults: string[] = [];
  const { keyId, name } = key;
  const expect = (isTrue: boolean, fault: string) => void (isTrue || faults.push(`${name}: ${fault}`));
  const rows = await world.query<Row>("SELECT * FROM spend_log WHERE key_id = $1", [keyId]);
  const account = await accountOf(world, keyId);
  const bills = new Map(world.bills.of(name).map((bill) => [bill.responseId, bill]));

  const ledger = sum(rows.map((row) => row.cost_nanos));
  const bill = sum([...bills.values()].map(chargeOf));
  expect(ledger === account.spent, `the log's sum is ${ledger}, the budget's spend ${account.spent}`);
  expect(account.reserved === 0n, `${account.reserved} is still reserved`);
  expect(account.spent >= 0n, `${account.spent} is spent`);
  if (account.max !== null && account.periods <= 1) {
    expect(account.spent <= account.max, `${account.spent} is spent of a budget of ${account.max}`);
    expect(bill <= account.max, `${bill} is billed with a budget of ${account.max}`);
  }

  // Rows of attempts; those of leases (0 and below) are charges for pods that were not heard of, and what took them back.
  const attempts = rows.filter((row) => row.attempt > 0);
  const leaseCharge = sum(rows.filter((row) => row.attempt <= 0).map((row) => row.cost_nanos));
  expect(leaseCharge >= 0n, `leases were charged ${leaseCharge}`);
  const matched = new Set<string>();
  for (const row of attempts) {
    const id = row.provider_response_id;
    if (id === "") continue;
    const itsBill = bills.get(id);
    expect(!matched.has(id), `${id} is booked twice`);
    matched.add(id);
    expect(itsBill !== undefined, `${id} is booked, and the provider does not know it`);
    if (itsBill === undefined || isUncertain(row)) continue;
    const charge = chargeOf(itsBill);
    expect(row.cost_nanos === charge, `${id} is booked at ${row.cost_nanos}, and the provider charges ${charge}`);
  }
  const uncertain = attempts.filter(isUncertain);
  const nameless = attempts.filter((row) => row.provider_response_id === "").length;
  const unmatched = bills.size - matched.size;
  if (!options.isJournalLost) {
    expect(
      unmatched <= nameless,
      `${unmatched} calls are on the provider's bill, and only ${nameless} rows could be theirs`,
    );
  }
  const uncertainReserved = sum(uncertain.map((row) => row.reserved_nanos)) + leaseCharge;
  const unread = unreadNanosMax * BigInt(uncertain.filter((row) => row.status !== "unconfirmed").length);
  const over = ledger - bill;
  if (!options.isJournalLost) expect(over >= -unread, `the ledger is ${-over} below the bill`);
  expect(over <= uncertainReserved, `the ledger is ${over} above the bill; only ${uncertainReserved} was uncertain`);
  return {
    ...{ name, bill, ledger, faults, uncertainReserved },
    calls: bills.size,
    uncertain: uncertain.length + (leaseCharge > 0n ? 1 : 0),
  };
}

function isUncertain(row: Row): boolean {
  return row.usage_estimated || row.status === "unconfirmed";
}

/** A key's budget: over all its periods. */
export async function accountOf(
  world: World,
  keyId: string,
): Promise<{ max: bigint | null; spent: bigint; reserved: bigint; periods: number }> {
  const [row] = await world.query<{ max: bigint | null; spent: bigint; reserved: bigint; periods: number }>(
    `SELECT max_nanos AS max, count(p)::int AS periods, coalesce(sum(spent_nanos), 0)::bigint AS spent,
       coalesce(sum(reserved_nanos), 0)::bigint AS reserved
     FROM budgets b LEFT JOIN budget_periods p USING (budget_id) WHERE scope = 'key' AND scope_id = $1 GROUP BY b.budget_id`,
    [keyId],
  );
  if (row === undefined) throw new Error(`${keyId} has no budget`);
  return row;
}

/** Dollars, for people. */
export function usd(nanos: bigint): string {
  return `$${(Number(nanos) / 1e9).toFixed(6)}`;
}

function sum(amounts: readonly bigint[]): bigint {
  return amounts.reduce((total, amount) => total + amount, 0n);
}
