import type { Clock } from "../../clock.ts";
import { dayMs } from "../../duration.ts";
import { periodAt } from "../periods.ts";
import type { Queryable } from "../postgres.ts";

/** What an AlertForecast is made of. */
export interface AlertForecastParts {
  readonly books: Queryable;
  readonly clock: Clock;
  /** The zone whose calendar budget periods follow, an IANA name. */
  readonly timeZone: string;
}

/** Shorter periods are over before anybody could act. */
const periodMinMs = dayMs;
/** A straight line through less of a period says nothing about the rest of it. */
const elapsedMin = 0.1;
const elapsedMinMs = 3_600_000;
/** A budget of which less is spent is not worth waking anybody for. */
const spentMin = 0.25;

/** Notes the budgets that are spent before their period ends if spend goes on as it did so far in it. */
export class AlertForecast {
  /** How often to look, in milliseconds. */
  readonly intervalMs = 900_000;
  readonly #parts: AlertForecastParts;

  constructor(parts: AlertForecastParts) {
    this.#parts = parts;
  }

  /** Each budget is noted once a period, by whichever replica looks first. @throws whatever the books throw. */
  async look(): Promise<void> {
    const { books, clock, timeZone } = this.#parts;
    const nowMs = clock.nowMs();
    const durations = await books.query<{ duration: string }>(
      "SELECT DISTINCT duration FROM effective_budgets WHERE duration IS NOT NULL AND max_nanos > 0 AND removed_at IS NULL",
    );
    const current = durations.flatMap(({ duration }) => {
      const period = periodAt(duration, nowMs, timeZone);
      if (period === undefined || period.endMs - period.startMs < periodMinMs) return [];
      const elapsedMs = nowMs - period.startMs;
      const isEarly = elapsedMs < Math.max(elapsedMinMs, (period.endMs - period.startMs) * elapsedMin);
      return isEarly ? [] : [{ duration, ...period, elapsedMs }];
    });
    if (current.length === 0) return;
    await books.query(forecastSql, [
      current.map(({ duration }) => duration),
      current.map(({ startMs }) => new Date(startMs)),
      current.map(({ startMs, endMs }) => endMs - startMs),
      current.map(({ elapsedMs }) => elapsedMs),
      ...[String(spentMin), new Date(nowMs)],
    ]);
  }
}

/** Amounts are int8 and numeric all the way: a float would not be the books' own figure. */
const forecastSql = `
  INSERT INTO alerts (kind, budget_id, period_start, scope, scope_id, model, duration, spent_nanos, max_nanos, soft_nanos, facts,
    created_at, next_attempt_at)
  SELECT 'projected_limit', b.budget_id, p.period_start, b.scope, b.scope_id, b.model, b.duration, (p.spent_nanos - p.forgiven_nanos), b.max_nanos, b.soft_nanos,
    jsonb_build_object(
      'projected_spend_usd', round((p.spent_nanos - p.forgiven_nanos)::numeric * c.length_ms / c.elapsed_ms / 1000000000, 2)::text,
      'projected_exceeded_date',
        to_char((p.period_start + interval '1 millisecond' * (c.elapsed_ms * (b.max_nanos::numeric / (p.spent_nanos - p.forgiven_nanos)))::float8) AT TIME ZONE 'UTC',
          'YYYY-MM-DD"T"HH24:MI"Z"')),
    $6, $6
  FROM unnest($1::text[], $2::timestamptz[], $3::numeric[], $4::numeric[]) AS c (duration, period_start, length_ms, elapsed_ms)
    JOIN effective_budgets b ON b.duration = c.duration AND b.removed_at IS NULL
    JOIN budget_periods p ON p.budget_id = b.budget_id AND p.period_start = c.period_start
  WHERE (p.spent_nanos - p.forgiven_nanos) >= b.max_nanos * $5::numeric AND (p.spent_nanos - p.forgiven_nanos) < b.max_nanos AND (p.spent_nanos - p.forgiven_nanos) > 0
    AND (p.spent_nanos - p.forgiven_nanos)::numeric * c.length_ms > b.max_nanos::numeric * c.elapsed_ms
  ON CONFLICT DO NOTHING`;
