/** Setting back what budgets count as used. The spend log, and what was spent, stay as they are. */

import type { Nanos } from "../money.ts";
import { inBooks, lockLeases, lockPeriods } from "./books.ts";
import type { AsOf } from "./budget-records.ts";
import { bumpRevision, everything } from "./changes.ts";
import type { Database, Queryable } from "./postgres.ts";
import { currentPeriod, type LockedLease, type PeriodKey } from "./posting.ts";

/** Whose budgets. */
export interface Debtors {
  readonly scope: "key" | "team" | "team_member";
  readonly ids: readonly string[];
}

/** So many things' budgets are set back in one transaction: whoever settles meanwhile waits for it. */
const chunkSize = 500;

/**
 * Sets back what main budgets and their windows have used in their current periods; what has used less already stays. What pods have
 * borrowed stays reserved, and counts as used when it is settled: nothing that is spent from now on is forgiven.
 *
 * Runs in `inBooks`, after bumpRevision.
 *
 * @returns what the first one's main budget had used; if that is less than `resetTo`, nothing was changed.
 */
export async function forgiveSpend(
  client: Queryable,
  { scope, ids }: Debtors,
  resetTo: Nanos,
  { nowMs, timeZone }: AsOf,
): Promise<Nanos> {
  const budgets = await client.query<{ budget_id: string; duration: string | null }>(
    `SELECT budget_id, duration FROM effective_budgets
     WHERE scope = $1 AND scope_id = ANY ($2::text[]) AND removed_at IS NULL ORDER BY place`,
    [scope, ids],
  );
  const periods = budgets.map((budget) => currentPeriod(budget, nowMs, timeZone));
  const borrowed =
    scope === "key"
      ? { where: "l.key_id = ANY ($1::text[])", value: ids }
      : {
          where: "l.lease_id IN (SELECT lease_id FROM lease_periods WHERE budget_id = ANY ($1::text[]))",
          value: budgets.map(({ budget_id }) => budget_id),
        };
  const { leases, accounts } = await lockAll(client, borrowed, periods);
  const used = accounts[0]?.spent ?? 0n;
  if (used < resetTo) return used;
  const forgiven = periods.filter((_, index) => (accounts[index]?.spent ?? 0n) > resetTo);
  const values = [forgiven.map(({ budgetId }) => budgetId), forgiven.map(({ start }) => start)];
  await client.query(
    `UPDATE budget_periods p SET forgiven_nanos = p.spent_nanos - $3
     FROM unnest($1::text[], $2::timestamptz[]) AS f (budget_id, period_start)
     WHERE p.budget_id = f.budget_id AND p.period_start = f.period_start`,
    [...values, resetTo],
  );
  await client.query(
    `UPDATE leases l SET forgiven_budget_ids = ARRAY(
       SELECT unnest(l.forgiven_budget_ids) UNION
       SELECT budget_id FROM lease_periods JOIN unnest($1::text[], $2::timestamptz[]) AS f (budget_id, period_start)
         USING (budget_id, period_start) WHERE lease_id = l.lease_id)
     WHERE l.lease_id = ANY ($3::uuid[])`,
    [...values, leases.filter(({ state }) => state === "expired").map(({ leaseId }) => leaseId)],
  );
  return used;
}

/** Locks leases that are not closed, and periods of budgets. `borrowed` says which leases, `$1` being its value. */
async function lockAll(
  client: Queryable,
  borrowed: { readonly where: string; readonly value: readonly string[] },
  periods: readonly PeriodKey[],
): Promise<{ leases: LockedLease[]; accounts: { spent: Nanos; reserved: Nanos }[] }> {
  for (;;) {
    await client.query("SAVEPOINT before_locks");
    // Open ones too, so that none expires between here and the periods: what it was charged would be forgiven, and its correction
    // then count as if it had not been.
    const where = `${borrowed.where} AND l.state <> 'closed' ORDER BY l.lease_id FOR NO KEY UPDATE`;
    const leases = await lockLeases(client, where, [borrowed.value]);
    const accounts = await lockPeriods(client, periods);
    // The wait for the periods may have been long enough for others to be opened and to expire.
    const late = await client.query(
      `SELECT FROM leases l WHERE ${borrowed.where} AND l.state = 'expired' AND l.lease_id <> ALL ($2::uuid[])`,
      [borrowed.value, leases.map(({ leaseId }) => leaseId)],
    );
    if (late.length === 0) return { leases, accounts };
    await client.query("ROLLBACK TO SAVEPOINT before_locks");
  }
}

/**
 * Sets back the budgets of all keys and teams that have used anything. Those of a few hundred at a time: if it fails half-way it may be
 * repeated.
 *
 * @returns of how many.
 */
export async function forgiveAll(postgres: Database, asOf: () => AsOf): Promise<number> {
  let count = 0;
  for (const scope of ["key", "team"] as const) {
    const used = await postgres.query<{ scope_id: string }>(
      `SELECT DISTINCT scope_id FROM budgets JOIN budget_periods USING (budget_id)
       WHERE scope = $1 AND removed_at IS NULL AND spent_nanos > forgiven_nanos`,
      [scope],
    );
    for (let from = 0; from < used.length; from += chunkSize) {
      const ids = used.slice(from, from + chunkSize).map(({ scope_id }) => scope_id);
      await inBooks(postgres, async (client) => {
        await bumpRevision(client, everything);
        await forgiveSpend(client, { scope, ids }, 0n, asOf());
      });
    }
    count += used.length;
  }
  return count;
}
