import type { Clock } from "../clock.ts";
import type { Nanos } from "../money.ts";
import { inBooks, lockLeases, lockPeriods } from "./books.ts";
import type { Leases } from "./leases.ts";
import {
  type AskedBudget,
  answerByBudgets,
  answerByLease,
  type BudgetRow,
  checkKey,
  type LeaseAnswer,
  type LeaseAsk,
  type Loan,
} from "./loan.ts";
import { type Database, type Postgres, type Queryable, TakenBack } from "./postgres.ts";
import { currentPeriod, type LockedLease } from "./posting.ts";
import { type Recalls, recallWaitMs } from "./recalls.ts";

/** What a Lender is made of. */
export interface LenderParts {
  readonly postgres: Postgres;
  /** What it asks to charge leases that ran out. */
  readonly leases: Leases;
  readonly recalls: Recalls;
  readonly clock: Clock;
  /** How long a lease lives without renewal, in milliseconds. */
  readonly leaseTtlMs: number;
  /** The zone whose calendar budget periods follow, an IANA name. */
  readonly timeZone: string;
}

/** The same ask came twice at once, and the other one has just opened the lease. */
class LeaseAppeared extends TakenBack {}

/** Of a budget as it is at $2: with what it allows for a time, and the end of that. */
const budgetColumns = `budget_id, scope, scope_id, model, duration,
  max_nanos + CASE WHEN temp_until > $2 THEN temp_nanos ELSE 0 END AS max_nanos,
  CASE WHEN temp_until > $2 THEN temp_until END AS temp_until`;

/** Lends pods money on all budgets of their calls, or on none. */
export class Lender {
  readonly #parts: LenderParts;

  constructor(parts: LenderParts) {
    this.#parts = parts;
  }

  /**
   * Opens a lease or adds to it. Where calls wait for money that other pods hold ahead of need, that is called back first.
   *
   * @param signal aborts when nobody waits for the answer any more: what has not begun by then is not begun.
   * @throws GatewayError key_not_found, blocked_key or expired_key; invalid_request if the lease is another key's; and what
   *   Postgres throws.
   */
  async acquire(ask: LeaseAsk, signal?: AbortSignal): Promise<LeaseAnswer> {
    const { postgres, recalls, clock } = this.#parts;
    const books = signal === undefined ? postgres : postgres.until(signal);
    for (let untilMs: number | undefined; ; ) {
      const answer = await this.#lend(ask, books);
      if (answer.outcome !== "refused" || ask.ahead >= ask.want) return answer;
      const { budget, periodStart, spent, reserved } = answer;
      const taken = spent + reserved;
      const lacking = ask.min + taken - (budget.max_nanos ?? 0n);
      untilMs ??= clock.monotonicMs() + recallWaitMs;
      const refused = { podId: ask.podId, budgetId: budget.budget_id, periodStart, taken, lacking, untilMs };
      if (!(await recalls.wait(refused))) return answer;
    }
  }

  async #lend(ask: LeaseAsk, books: Database): Promise<LeaseAnswer> {
    const { leases } = this.#parts;
    for (;;) {
      const { budgets, due } = await this.#look(books, ask);
      if (due) await leases.expireDue(ask.keyId);
      try {
        return await inBooks(books, (client) => this.#acquire(client, ask, budgets));
      } catch (error) {
        if (!(error instanceof LeaseAppeared)) throw error;
      }
    }
  }

  /** @returns the budgets that are asked, and whether a lease of the key has run out and is not charged yet. */
  async #look(books: Queryable, { keyId, budgetIds }: LeaseAsk): Promise<{ budgets: AskedBudget[]; due: boolean }> {
    const now = this.#now();
    const rows = await books.query<BudgetRow & { blocked: boolean; expired: boolean; due: boolean }>(
      `SELECT b.*, coalesce(k.expires_at <= $2, false) AS expired,
         k.blocked OR EXISTS (SELECT FROM key_rules q WHERE q.key_id = $1 AND q.blocked) AS blocked,
         EXISTS (SELECT FROM leases l WHERE l.key_id = $1 AND l.state = 'open' AND l.expires_at <= $2) AS due
       FROM keys k CROSS JOIN (
         SELECT ${budgetColumns} FROM key_budgets WHERE key_id = $1 AND removed_at IS NULL
         UNION SELECT ${budgetColumns} FROM effective_budgets
         WHERE budget_id = ANY ($3::text[]) AND removed_at IS NULL
       ) b WHERE k.key_id = $1 AND k.deleted_at IS NULL
       ORDER BY b.budget_id`,
      [keyId, now, budgetIds],
    );
    const [first] = rows;
    checkKey(first);
    const budgets = rows.map((row) => ({ row, period: currentPeriod(row, now.getTime(), this.#parts.timeZone) }));
    return { budgets, due: first.due };
  }

  async #acquire(client: Queryable, ask: LeaseAsk, budgets: readonly AskedBudget[]): Promise<LeaseAnswer> {
    const now = this.#now();
    const [known] = await lockLeases(client, "l.lease_id = $1 FOR NO KEY UPDATE", [ask.leaseId]);
    if (known !== undefined) {
      const before = await grantedBefore(client, ask.requestId);
      const answer = answerByLease(ask, known, { before, budgets, now });
      if (answer !== undefined) return answer;
    }
    // From here to the commit everybody else who wants these budgets waits: one statement to decide, one to write.
    const periods = budgets.map(({ period }) => period);
    const accounts = await lockPeriods(client, periods);
    const { leaseTtlMs } = this.#parts;
    const { answer, loan } = answerByBudgets(ask, { known, budgets, accounts, now, leaseTtlMs });
    if (loan !== undefined) await write(client, { ask, known, budgets, loan, now });
    return answer;
  }

  #now(): Date {
    return new Date(this.#parts.clock.nowMs());
  }
}

interface Writing {
  readonly ask: LeaseAsk;
  readonly known: LockedLease | undefined;
  readonly budgets: readonly AskedBudget[];
  readonly loan: Loan;
  readonly now: Date;
}

/** The periods are locked. A lease that was not known and is there all the same makes the first INSERT, and so the last, do nothing. */
const writeSql = `
  WITH lent AS (
    INSERT INTO leases (lease_id, key_id, pod_id, outstanding_nanos, expires_at, period_ends_at, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (lease_id) DO UPDATE SET outstanding_nanos = excluded.outstanding_nanos, expires_at = excluded.expires_at
    WHERE $8
    RETURNING lease_id
  ), wanted AS (
    SELECT budget_id, period_start FROM unnest($9::text[], $10::timestamptz[]) AS w (budget_id, period_start)
  ), bound AS (
    INSERT INTO lease_periods (lease_id, budget_id, period_start)
    SELECT $1, budget_id, period_start FROM wanted WHERE NOT $8
    ON CONFLICT DO NOTHING
  ), moved AS (
    UPDATE budget_periods p SET reserved_nanos = p.reserved_nanos + $11
    FROM wanted w WHERE p.budget_id = w.budget_id AND p.period_start = w.period_start
  )
  INSERT INTO lease_requests (request_id, lease_id, amount_nanos, done_at)
  SELECT $12, lease_id, $13, $7 FROM lent
  RETURNING request_id`;

async function write(client: Queryable, { ask, known, budgets, loan, now }: Writing): Promise<void> {
  const { step, amount, expiresAt, periodEndsAt } = loan;
  const rows = await client.query(writeSql, [
    ...[ask.leaseId, ask.keyId, ask.podId, step.lease.outstanding, expiresAt, periodEndsAt ?? null, now],
    known !== undefined,
    budgets.map(({ row }) => row.budget_id),
    budgets.map(({ period }) => period.start),
    ...[step.reserved, ask.requestId, amount],
  ]);
  if (rows.length === 0) throw new LeaseAppeared();
}

/** Asked only under the lease's lock, so that a twin of this ask has either finished or not begun. */
async function grantedBefore(client: Queryable, requestId: string): Promise<Nanos | undefined> {
  const sql = "SELECT amount_nanos FROM lease_requests WHERE request_id = $1";
  const [row] = await client.query<{ amount_nanos: Nanos }>(sql, [requestId]);
  return row?.amount_nanos;
}
