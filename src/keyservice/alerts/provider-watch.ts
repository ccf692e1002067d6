import type { Clock } from "../../clock.ts";
import type { Queryable } from "../postgres.ts";

/** What a ProviderWatch is made of. */
export interface ProviderWatchParts {
  readonly books: Queryable;
  readonly clock: Clock;
}

/** How far back it looks, in milliseconds. */
const windowMs = 300_000;
/** Under heavy traffic the newest rows say as much as all, and the books have other things to do. */
const rowsMax = 50_000;
/** So many failures and no success: fewer may be one caller's wrong requests, which are failures in the books as well. */
const failuresMin = 10;
/** Of so many answered calls this share came from another deployment than the first choice. */
const answeredMin = 20;
const fallbackShareMin = 0.2;

/** Notes deployments that fail every call, those that answer again, and models that live on their fallbacks: of what the spend log has of the last minutes. */
export class ProviderWatch {
  /** How often to look, in milliseconds. */
  readonly intervalMs = 60_000;
  readonly #parts: ProviderWatchParts;

  constructor(parts: ProviderWatchParts) {
    this.#parts = parts;
  }

  /** Each thing is noted once an hour, by whichever replica looks first. @throws whatever the books throw. */
  async look(): Promise<void> {
    const { books, clock } = this.#parts;
    const nowMs = clock.nowMs();
    const window = [new Date(nowMs), new Date(nowMs - windowMs), rowsMax];
    await books.query(outagesSql, [...window, failuresMin]);
    await books.query(fallbacksSql, [...window, answeredMin, String(fallbackShareMin)]);
  }
}

/** What was booked and made in the window: a journal that comes late tells of what is over. */
const recentSql = `recent AS (
    SELECT * FROM (
      SELECT call_id, attempt, status, model_group, model, provider, deployment_id, started_at FROM spend_log
      WHERE booked_at > $2 AND booked_at <= $1 AND attempt > 0 AND deployment_id <> '' AND NOT cache_hit
      ORDER BY booked_at DESC LIMIT $3
    ) AS newest WHERE started_at > $2
  )`;

/** The end of an outage has the hour of the alert that it answers, so that each has one. */
const outagesSql = `
  WITH ${recentSql}, deployments AS (
    SELECT deployment_id, max(provider) AS provider, max(model) AS model,
      count(*) FILTER (WHERE status = 'failure') AS failures,
      max(started_at) FILTER (WHERE status = 'success') AS succeeded_at
    FROM recent GROUP BY deployment_id
  ), down AS (
    INSERT INTO alerts (kind, scope, scope_id, period_start, model, facts, created_at, next_attempt_at)
    SELECT 'provider_down', 'deployment', deployment_id, date_trunc('hour', $1::timestamptz), model,
      jsonb_build_object('provider', provider, 'failures_in_5_minutes', failures::text), $1, $1
    FROM deployments WHERE succeeded_at IS NULL AND failures >= $4
    ON CONFLICT DO NOTHING
  )
  INSERT INTO alerts (kind, scope, scope_id, period_start, model, facts, created_at, next_attempt_at)
  SELECT 'provider_up', 'deployment', d.deployment_id, latest.period_start, d.model, jsonb_build_object('provider', d.provider), $1, $1
  FROM deployments d CROSS JOIN LATERAL (
    SELECT kind, period_start, created_at FROM alerts a
    WHERE a.scope = 'deployment' AND a.budget_id = '' AND a.scope_id = d.deployment_id ORDER BY created_at DESC, alert_id DESC LIMIT 1
  ) AS latest
  WHERE latest.kind = 'provider_down' AND d.succeeded_at > latest.created_at
  ON CONFLICT DO NOTHING`;

const fallbacksSql = `
  WITH ${recentSql}, calls AS (
    SELECT max(model_group) AS model_group,
      (array_agg(deployment_id ORDER BY attempt))[1] AS first_choice,
      max(deployment_id) FILTER (WHERE status = 'success') AS answered_by
    FROM recent GROUP BY call_id HAVING min(attempt) = 1
  ), groups AS (
    SELECT model_group, count(answered_by) AS answered, count(*) FILTER (WHERE answered_by <> first_choice) AS fallbacks
    FROM calls GROUP BY model_group
  )
  INSERT INTO alerts (kind, scope, scope_id, period_start, facts, created_at, next_attempt_at)
  SELECT 'fallback_rate', 'model_group', model_group, date_trunc('hour', $1::timestamptz),
    jsonb_build_object('answered_in_5_minutes', answered::text, 'by_fallback', fallbacks::text), $1, $1
  FROM groups WHERE answered >= $4 AND fallbacks >= answered * $5::numeric
  ON CONFLICT DO NOTHING`;
