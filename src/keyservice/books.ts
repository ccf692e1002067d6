/**
 * What leases and settlements share: reading budgets and posting movements of money.
 *
 * Every transaction takes its locks in one order, so that none waits for another in a circle:
 * revision, keys, spend_log (inserting sorted by call_id, attempt), leases (sorted by lease_id; SKIP LOCKED never waits),
 * budget_periods that are new (inserting sorted by budget_id, period_start), budget_periods that were there (sorted likewise), the
 * daily sums (sorted). lease_requests is written under the lock of the lease it is about.
 */

import type { Nanos } from "../money.ts";
import { addToDays, type Booked, bookedDay, type Owner } from "./daily-spend.ts";
import type { LentMoney } from "./ledger.ts";
import { type Database, type Queryable, TakenBack } from "./postgres.ts";
import { always, bookedRow, type LockedLease, nameOf, type PeriodKey, type Posting } from "./posting.ts";

/** A transaction has locks of periods, and needs others that are not there yet. */
class MissingPeriods extends TakenBack {
  readonly periods: readonly PeriodKey[];

  constructor(periods: readonly PeriodKey[]) {
    super("Periods are missing.");
    this.periods = periods;
  }
}

/**
 * Runs a transaction that calls `lockPeriods`. Periods that turn out to be missing are made on their own before it is run again: made
 * after others are locked, their rows would be locked out of order.
 */
export async function inBooks<Result>(
  postgres: Database,
  work: (client: Queryable) => Promise<Result>,
): Promise<Result> {
  for (;;) {
    try {
      return await postgres.transaction(work);
    } catch (error) {
      if (!(error instanceof MissingPeriods)) throw error;
      await makePeriods(postgres, error.periods);
    }
  }
}

/** Makes those that are not there. In a transaction: before it locks any. */
async function makePeriods(client: Queryable, periods: readonly PeriodKey[]): Promise<void> {
  if (periods.length === 0) return;
  await client.query(
    `INSERT INTO budget_periods (budget_id, period_start)
     SELECT budget_id, period_start FROM unnest($1::text[], $2::timestamptz[]) AS m (budget_id, period_start)
     ORDER BY budget_id, period_start
     ON CONFLICT DO NOTHING`,
    columns(periods),
    "periods",
  );
}

/** Locks periods and reads what is in them, in the order given; `spent` is what counts as used. */
export async function lockPeriods(
  client: Queryable,
  periods: readonly PeriodKey[],
): Promise<{ spent: Nanos; reserved: Nanos }[]> {
  const rows = await client.query<{ budget_id: string; period_start: Date; spent: Nanos; reserved: Nanos }>(
    `SELECT p.budget_id, p.period_start, p.spent_nanos - p.forgiven_nanos AS spent, p.reserved_nanos AS reserved
     FROM budget_periods p
     JOIN unnest($1::text[], $2::timestamptz[]) AS wanted (budget_id, period_start) USING (budget_id, period_start)
     ORDER BY p.budget_id, p.period_start
     FOR NO KEY UPDATE OF p`,
    columns(periods),
  );
  const found = new Map(rows.map((row) => [nameOf({ budgetId: row.budget_id, start: row.period_start }), row]));
  return periods.map((period) => {
    const row = found.get(nameOf(period));
    if (row === undefined) throw new MissingPeriods(periods);
    return { spent: row.spent, reserved: row.reserved };
  });
}

interface LeaseRow {
  lease_id: string;
  key_id: string | null;
  pod_id: string;
  state: LentMoney["state"];
  outstanding_nanos: Nanos;
  corrections: number;
  expires_at: Date;
  period_ends_at: Date | null;
  budget_ids: string[];
  period_starts: Date[];
  forgiven_budget_ids: string[];
}

/**
 * Locks leases.
 *
 * @param where which, and if they are many, in which order; `l` is the table leases.
 * @param name see Queryable.
 */
export async function lockLeases(
  client: Queryable,
  where: string,
  values: readonly unknown[],
  name?: string,
): Promise<LockedLease[]> {
  const rows = await client.query<LeaseRow>(
    `SELECT l.*,
       ARRAY(SELECT budget_id FROM lease_periods p WHERE p.lease_id = l.lease_id ORDER BY budget_id) AS budget_ids,
       ARRAY(SELECT period_start FROM lease_periods p WHERE p.lease_id = l.lease_id ORDER BY budget_id) AS period_starts
     FROM leases l WHERE ${where}`,
    values,
    name,
  );
  return rows.map((row) => ({
    leaseId: row.lease_id,
    keyId: row.key_id ?? "",
    podId: row.pod_id,
    state: row.state,
    outstanding: row.outstanding_nanos,
    corrections: row.corrections,
    expiresAt: row.expires_at,
    periodEndsAt: row.period_ends_at ?? undefined,
    periods: row.budget_ids.map((budgetId, index) => ({
      budgetId,
      start: row.period_starts[index] ?? always.start,
      forgiven: row.forgiven_budget_ids.includes(budgetId),
    })),
  }));
}

/**
 * Writes movements of money. The leases must be locked, and no periods.
 *
 * @param booking `timeZone`: whose days the rows of the spend log that this makes belong to; `before`: those the transaction has made.
 */
export async function post(
  client: Queryable,
  posting: Posting,
  booking: { readonly at: Date; readonly timeZone: string; readonly before?: readonly Booked[] },
): Promise<void> {
  await makePeriods(client, posting.unlent);
  const booked = await write(client, posting, booking);
  await addToDays(client, [...(booking.before ?? []), ...booked]);
}

/** @returns the rows of the spend log it made. */
async function write(
  client: Queryable,
  posting: Posting,
  { at, timeZone }: { readonly at: Date; readonly timeZone: string },
): Promise<Booked[]> {
  const { moves, steps } = posting;
  const booked = steps.flatMap(({ lease, step }) => {
    const row = bookedRow(lease, step);
    return row === undefined ? [] : [{ ...row, lease }];
  });
  const values = [
    ...columns(moves.map(({ period }) => period)),
    moves.map(({ spent }) => spent),
    moves.map(({ reserved }) => reserved),
    steps.map(({ lease }) => lease.leaseId),
    steps.map(({ step }) => step.lease.state),
    steps.map(({ step }) => step.lease.outstanding),
    steps.map(({ step }) => step.booked < 0n),
    booked.map(({ lease }) => lease.leaseId),
    booked.map(({ attempt }) => attempt),
    booked.map(({ lease }) => lease.keyId),
    booked.map(({ lease }) => lease.podId),
    booked.map(({ cost }) => cost),
    ...[at, timeZone],
    moves.map(({ forgiven }) => forgiven),
  ];
  const rows = await client.query<PostRow>(postSql, values, "post");
  if (Number(rows[0]?.count) !== moves.length) throw new Error("A lease is bound to a period that is not there.");
  return rows.flatMap(({ lease_id, attempt, cost_nanos: cost, day, ...owner }) =>
    lease_id === null ? [] : { owner, day, spend: { ...noCall, attempt, cost, startedAt: at } },
  );
}

/** How many periods were moved, with each row of the spend log that was written; with none if none was. */
interface PostRow extends Owner {
  readonly count: bigint;
  readonly lease_id: string | null;
  readonly day: string;
  readonly attempt: number;
  readonly cost_nanos: Nanos;
}

/** What a row of the spend log says that is no provider's attempt. */
const noCall = {
  ...{ status: "", modelGroup: "", model: "", provider: "", endUser: "", tags: [], endedAt: undefined },
  ...{ inputTokens: 0n, outputTokens: 0n, cacheReadInputTokens: 0n, cacheWriteInputTokens: 0n },
};

const postSql = `
  WITH moves AS (
    SELECT p.budget_id, p.period_start, m.spent, m.reserved, m.forgiven
    FROM budget_periods p
    JOIN unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::bigint[], $16::bigint[])
      AS m (budget_id, period_start, spent, reserved, forgiven) USING (budget_id, period_start)
    ORDER BY p.budget_id, p.period_start
    FOR NO KEY UPDATE OF p
  ), moved AS (
    UPDATE budget_periods p
    SET spent_nanos = p.spent_nanos + m.spent, reserved_nanos = p.reserved_nanos + m.reserved,
      forgiven_nanos = p.forgiven_nanos + m.forgiven
    FROM moves m WHERE p.budget_id = m.budget_id AND p.period_start = m.period_start
    RETURNING p.budget_id, p.period_start, p.spent_nanos - p.forgiven_nanos AS spent, m.spent AS added
  ), noted AS (
    INSERT INTO alerts (kind, budget_id, period_start, scope, scope_id, model, duration, spent_nanos, max_nanos, soft_nanos, created_at, next_attempt_at)
    SELECT t.kind, m.budget_id, m.period_start, b.scope, b.scope_id, b.model, b.duration, m.spent, b.max_nanos, b.soft_nanos, $14, $14
    FROM moved m JOIN effective_budgets b USING (budget_id) CROSS JOIN LATERAL (VALUES
      ('soft_budget', b.soft_nanos), ('budget_80', b.max_nanos / 100 * 80), ('budget_95', b.max_nanos / 100 * 95), ('budget_100', b.max_nanos)
    ) AS t (kind, threshold)
    WHERE m.added > 0 AND m.spent >= t.threshold AND m.spent - m.added < t.threshold
    ON CONFLICT DO NOTHING
  ), stepped AS (
    UPDATE leases l
    SET state = s.state, outstanding_nanos = s.outstanding, corrections = l.corrections + s.corrected::int
    FROM unnest($5::uuid[], $6::text[], $7::bigint[], $8::boolean[]) AS s (lease_id, state, outstanding, corrected)
    WHERE l.lease_id = s.lease_id
  ), unbound AS (
    UPDATE lease_periods p SET is_open = false
    FROM unnest($5::uuid[], $6::text[]) AS s (lease_id, state)
    WHERE s.state <> 'open' AND p.lease_id = s.lease_id AND p.is_open
  ), booked AS (
    INSERT INTO spend_log
      (call_id, attempt, lease_id, key_id, pod_id, cost_nanos, reserved_nanos, status, started_at, booked_at,
       team_id, user_id, organization_id, budget_ids)
    SELECT b.lease_id, b.attempt, b.lease_id, b.key_id, b.pod_id, b.cost, greatest(b.cost, 0),
      CASE WHEN b.attempt = 0 THEN 'unconfirmed' ELSE 'correction' END, $14, $14,
      coalesce(k.team_id, ''), coalesce(k.user_id, ''), coalesce(k.organization_id, t.organization_id, ''),
      ARRAY(SELECT budget_id FROM lease_periods p JOIN budgets g USING (budget_id)
            WHERE p.lease_id = b.lease_id AND g.scope IN ('model', 'end_user', 'tag', 'provider', 'deployment', 'configured_tag') ORDER BY budget_id)
    FROM unnest($9::uuid[], $10::int[], $11::text[], $12::text[], $13::bigint[])
        AS b (lease_id, attempt, key_id, pod_id, cost)
      LEFT JOIN keys k ON k.key_id = b.key_id
      LEFT JOIN entities t ON t.scope = 'team' AND t.entity_id = k.team_id
    RETURNING lease_id, attempt, cost_nanos, key_id, team_id, user_id, organization_id, ${bookedDay("$15")}
  )
  SELECT m.count, b.* FROM (SELECT count(*) FROM moved) m LEFT JOIN booked b ON true`;

function columns(periods: readonly PeriodKey[]): [string[], Date[]] {
  return [periods.map(({ budgetId }) => budgetId), periods.map(({ start }) => start)];
}
