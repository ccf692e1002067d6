/** What the books hold, in figures for metrics: read at most every few seconds, however many ask. */

import type { Clock } from "../clock.ts";
import type { Nanos } from "../money.ts";
import type { Queryable } from "./postgres.ts";
import { currentPeriod } from "./posting.ts";

/** So many budgets are told, those with the least left first. */
const budgetsMax = 1_000;
/** What was read is told again for so long, in milliseconds. */
const freshMs = 10_000;
/** And if it cannot be read anew, for so long at most, in milliseconds. */
const staleMs = 60_000;
/** Whoever asks waits so long for it, in milliseconds: Prometheus gives up after ten seconds, and with it all other figures. */
const patienceMs = 1_000;

/** How a limited budget stands in its current period. */
export interface BudgetFigure {
  readonly scope: string;
  readonly scopeId: string;
  /** "" for none. */
  readonly alias: string;
  /** Of what is only for calls to some model; "" for all. */
  readonly model: string;
  /** "30d" for instance; "" if it never resets. */
  readonly duration: string;
  /** Whether it is not one of several windows. */
  readonly isMain: boolean;
  readonly max: Nanos;
  readonly spent: Nanos;
  readonly reserved: Nanos;
  /** Unix time, milliseconds; undefined: never. */
  readonly resetsAtMs: number | undefined;
}

/** The books in figures. */
export interface BookFigures {
  readonly budgets: readonly BudgetFigure[];
  /** Limited budgets that are not among them. */
  readonly untoldBudgets: number;
  readonly keys: number;
  readonly teams: number;
  readonly users: number;
  readonly openLeases: number;
  readonly lent: Nanos;
  /** Charged for leases that ran out, and not corrected so far. */
  readonly unconfirmed: Nanos;
  /** Alerts still to be delivered. */
  readonly waitingAlerts: number;
}

interface BookFigureParts {
  readonly books: Queryable;
  readonly clock: Clock;
  /** The zone whose calendar budget periods follow, an IANA name. */
  readonly timeZone: string;
}

/** Reads the figures, and keeps them for a little while. */
export class BookFigureReader {
  readonly #parts: BookFigureParts;
  #known: { readonly figures: BookFigures; readonly atMs: number } | undefined;
  #reading: Promise<void> | undefined;

  constructor(parts: BookFigureParts) {
    this.#parts = parts;
  }

  /** @returns undefined if they cannot be read, and have not been for a while. Never throws. */
  async read(): Promise<BookFigures | undefined> {
    if (this.#ageMs > freshMs) {
      this.#reading ??= this.#readAnew().finally(() => {
        this.#reading = undefined;
      });
      await this.#atMost(this.#reading);
    }
    return this.#ageMs <= staleMs ? this.#known?.figures : undefined;
  }

  get #ageMs(): number {
    return this.#known === undefined ? Number.POSITIVE_INFINITY : this.#parts.clock.monotonicMs() - this.#known.atMs;
  }

  async #readAnew(): Promise<void> {
    const { books, clock, timeZone } = this.#parts;
    try {
      const [budgets, counts] = await Promise.all([
        readBudgets(books, clock.nowMs(), timeZone),
        books.query<CountRow>(countsSql),
      ]);
      const [count] = counts;
      if (count === undefined) return;
      this.#known = { figures: { ...budgets, ...countsOf(count) }, atMs: clock.monotonicMs() };
    } catch {
      // That the database is away is a metric of its own, and in the log.
    }
  }

  #atMost(reading: Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#parts.clock.after(patienceMs, resolve);
      void reading.then(() => {
        cancel();
        resolve();
      });
    });
  }
}

interface BudgetRow {
  scope: string;
  scope_id: string;
  alias: string;
  model: string;
  duration: string;
  place: number;
  max: bigint;
  spent: bigint;
  reserved: bigint;
  total: bigint;
}

/** What end users may spend is not told: their names are not ours to show. */
const budgetsSql = `
  SELECT b.scope, b.scope_id, coalesce(k.alias, e.alias, '') AS alias, coalesce(b.model, '') AS model, c.duration, b.place,
    b.max_nanos + CASE WHEN b.temp_until > $3 THEN b.temp_nanos ELSE 0 END AS max,
    coalesce(p.spent_nanos - p.forgiven_nanos, 0) AS spent, coalesce(p.reserved_nanos, 0) AS reserved,
    count(*) OVER () AS total
  FROM unnest($1::text[], $2::timestamptz[]) AS c (duration, period_start)
    JOIN effective_budgets b ON coalesce(b.duration, '') = c.duration
    LEFT JOIN budget_periods p ON p.budget_id = b.budget_id AND p.period_start = c.period_start
    LEFT JOIN keys k ON b.scope IN ('key', 'model') AND k.key_id = b.scope_id
    LEFT JOIN entities e ON e.scope = b.scope AND e.entity_id = b.scope_id
  WHERE b.max_nanos IS NOT NULL AND b.removed_at IS NULL AND b.scope <> 'end_user'
    AND k.deleted_at IS NULL AND e.deleted_at IS NULL
  ORDER BY (coalesce(p.spent_nanos - p.forgiven_nanos, 0) + 1)::float8 / (b.max_nanos + 1) DESC, b.budget_id
  LIMIT $4`;

async function readBudgets(
  books: Queryable,
  nowMs: number,
  timeZone: string,
): Promise<Pick<BookFigures, "budgets" | "untoldBudgets">> {
  const durations = await books.query<{ duration: string | null }>(
    "SELECT DISTINCT duration FROM effective_budgets WHERE max_nanos IS NOT NULL AND removed_at IS NULL",
  );
  const periods = new Map(
    durations.map(({ duration }) => [duration ?? "", currentPeriod({ budget_id: "", duration }, nowMs, timeZone)]),
  );
  const rows = await books.query<BudgetRow>(budgetsSql, [
    [...periods.keys()],
    [...periods.values()].map(({ start }) => start),
    new Date(nowMs),
    budgetsMax,
  ]);
  const budgets = rows.map(({ scope, scope_id: scopeId, alias, model, duration, place, max, spent, reserved }) => ({
    ...{ scope, scopeId, alias, model, duration, max, spent, reserved },
    isMain: place === 0,
    resetsAtMs: periods.get(duration)?.end?.getTime(),
  }));
  return { budgets, untoldBudgets: Number(rows[0]?.total ?? 0n) - budgets.length };
}

interface CountRow {
  keys: bigint;
  teams: bigint;
  users: bigint;
  open_leases: bigint;
  lent: bigint;
  unconfirmed: bigint;
  waiting_alerts: bigint;
}

const countsSql = `
  SELECT (SELECT count(*) FROM keys WHERE deleted_at IS NULL AND key_id <> 'key_master') AS keys,
    (SELECT count(*) FROM entities WHERE scope = 'team' AND deleted_at IS NULL) AS teams,
    (SELECT count(*) FROM entities WHERE scope = 'user' AND deleted_at IS NULL) AS users,
    (SELECT count(*) FROM leases WHERE state = 'open') AS open_leases,
    (SELECT coalesce(sum(outstanding_nanos), 0)::bigint FROM leases WHERE state = 'open') AS lent,
    (SELECT coalesce(sum(outstanding_nanos), 0)::bigint FROM leases WHERE state = 'expired') AS unconfirmed,
    (SELECT count(*) FROM alerts WHERE next_attempt_at IS NOT NULL) AS waiting_alerts`;

function countsOf(row: CountRow): Omit<BookFigures, "budgets" | "untoldBudgets"> {
  return {
    ...{ keys: Number(row.keys), teams: Number(row.teams), users: Number(row.users) },
    ...{ openLeases: Number(row.open_leases), lent: row.lent, unconfirmed: row.unconfirmed },
    waitingAlerts: Number(row.waiting_alerts),
  };
}
