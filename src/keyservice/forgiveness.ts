/** Setting back what a key's budgets count as used. The spend log, and what was spent, stay as they are. */

import type { Nanos } from "../money.ts";
import { lockLeases, lockPeriods } from "./books.ts";
import type { Queryable } from "./postgres.ts";
import { currentPeriod, type LockedLease, type PeriodKey } from "./posting.ts";

/**
 * Sets back what the main budget of a key and its windows have used in their current periods; what has used less already stays. What
 * pods have borrowed stays reserved, and counts as used when it is settled: nothing that is spent from now on is forgiven.
 *
 * Runs in `inBooks`, after bumpRevision.
 *
 * @returns what the main budget had used; if that is less than `resetTo`, nothing was changed.
 */
export async function forgiveSpend(
  client: Queryable,
  keyId: string,
  resetTo: Nanos,
  { nowMs, timeZone }: { readonly nowMs: number; readonly timeZone: string },
): Promise<Nanos> {
  const budgets = await client.query<{ budget_id: string; duration: string | null }>(
    `SELECT budget_id, duration FROM effective_budgets
     WHERE scope = 'key' AND scope_id = $1 AND removed_at IS NULL ORDER BY place`,
    [keyId],
  );
  const periods = budgets.map((budget) => currentPeriod(budget, nowMs, timeZone));
  const { leases, accounts } = await lockAll(client, keyId, periods);
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

/** Locks a key's leases that are not closed, and periods of its budgets. */
async function lockAll(
  client: Queryable,
  keyId: string,
  periods: readonly PeriodKey[],
): Promise<{ leases: LockedLease[]; accounts: { spent: Nanos; reserved: Nanos }[] }> {
  for (;;) {
    await client.query("SAVEPOINT before_locks");
    // Open ones too, so that none expires between here and the periods: what it was charged would be forgiven, and its correction
    // then count as if it had not been.
    const where = "l.key_id = $1 AND l.state <> 'closed' ORDER BY l.lease_id FOR NO KEY UPDATE";
    const leases = await lockLeases(client, where, [keyId]);
    const accounts = await lockPeriods(client, periods);
    // The wait for the periods may have been long enough for others to be opened and to expire.
    const late = await client.query(
      "SELECT FROM leases WHERE key_id = $1 AND state = 'expired' AND lease_id <> ALL ($2::uuid[])",
      [keyId, leases.map(({ leaseId }) => leaseId)],
    );
    if (late.length === 0) return { leases, accounts };
    await client.query("ROLLBACK TO SAVEPOINT before_locks");
  }
}
