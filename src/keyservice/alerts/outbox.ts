/** Alerts that are noted and how far their delivery has come: the table `alerts`. */

import type { Nanos } from "../../money.ts";
import type { Queryable } from "../postgres.ts";
import { type Alert, type AlertKind, alertKinds, type NewAlert } from "./alert.ts";

/** An alert that this process may deliver, until its claim ends. */
export interface Claim {
  readonly alert: Alert;
  /** Names of the sinks that have it. */
  readonly deliveredTo: readonly string[];
  /** Which attempt this is, from 1. */
  readonly attempt: number;
  /** How long ago the first attempt was, in milliseconds. */
  readonly ageMs: number;
}

/** Notes alerts, each once; with the client of a transaction they are part of it. `at`: when they happened. */
export async function noteAlerts(client: Queryable, alerts: readonly NewAlert[], at: Date): Promise<void> {
  if (alerts.length === 0) return;
  await client.query(
    `INSERT INTO alerts (kind, scope, scope_id, budget_id, period_start, model, duration, spent_nanos, max_nanos, soft_nanos, facts,
       created_at, next_attempt_at)
     SELECT *, $12, $12 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[],
       $8::bigint[], $9::bigint[], $10::bigint[], $11::jsonb[])
     ON CONFLICT DO NOTHING`,
    [
      alerts.map(({ kind }) => kind),
      alerts.map(({ scope }) => scope),
      alerts.map(({ scopeId }) => scopeId),
      alerts.map(({ budgetId }) => budgetId),
      alerts.map(({ periodStart }) => periodStart),
      alerts.map(({ model }) => model ?? null),
      alerts.map(({ duration }) => duration ?? null),
      alerts.map(({ spent }) => spent ?? null),
      alerts.map(({ max }) => max ?? null),
      alerts.map(({ soft }) => soft ?? null),
      alerts.map(({ facts }) => JSON.stringify(facts ?? {})),
      at,
    ],
  );
}

interface AlertRow {
  readonly alert_id: bigint;
  readonly kind: string;
  readonly scope: string;
  readonly scope_id: string;
  readonly budget_id: string;
  readonly period_start: Date;
  readonly model: string | null;
  readonly duration: string | null;
  readonly spent_nanos: Nanos | null;
  readonly max_nanos: Nanos | null;
  readonly soft_nanos: Nanos | null;
  readonly facts: Readonly<Record<string, string>>;
  readonly created_at: Date;
  readonly delivered_to: readonly string[];
  readonly attempts: number;
  readonly age_ms: number;
  readonly alias: string | null;
  readonly team_id: string | null;
  readonly user_id: string | null;
  readonly organization_id: string | null;
  readonly email: string | null;
}

/**
 * Takes what is due, the oldest first. Nobody else gets it for `claimMs`; if nothing is said of it until then, its holder is dead and it
 * is due again.
 */
export async function claimDue(books: Queryable, options: { limit: number; claimMs: number }): Promise<Claim[]> {
  const rows = await books.query<AlertRow>(
    `WITH due AS (
       SELECT alert_id FROM alerts
       WHERE next_attempt_at IS NOT NULL AND (first_attempt_at IS NULL OR next_attempt_at <= now())
       ORDER BY next_attempt_at, alert_id LIMIT $1 FOR UPDATE SKIP LOCKED
     ), claimed AS (
       UPDATE alerts a
       SET attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, now()),
         next_attempt_at = now() + $2 * interval '1 millisecond'
       FROM due WHERE a.alert_id = due.alert_id
       RETURNING a.*
     )
     SELECT c.*, extract(epoch FROM now() - c.first_attempt_at)::float8 * 1000 AS age_ms,
       coalesce(k.alias, e.alias) AS alias,
       CASE c.scope WHEN 'team' THEN c.scope_id WHEN 'team_member' THEN regexp_replace(c.scope_id, '^.*:', '') ELSE k.team_id END AS team_id,
       CASE c.scope WHEN 'user' THEN c.scope_id WHEN 'team_member' THEN regexp_replace(c.scope_id, ':[^:]*$', '') ELSE k.user_id END AS user_id,
       CASE c.scope WHEN 'organization' THEN c.scope_id ELSE coalesce(k.organization_id, e.organization_id) END AS organization_id,
       e.email
     FROM claimed c
       LEFT JOIN keys k ON c.scope IN ('key', 'model') AND k.key_id = c.scope_id
       LEFT JOIN entities e ON e.scope = c.scope AND e.entity_id = c.scope_id
     ORDER BY c.alert_id`,
    [options.limit, options.claimMs],
  );
  return rows.filter(isKnown).map((row) => ({
    alert: alertOf(row),
    deliveredTo: row.delivered_to,
    attempt: row.attempts,
    ageMs: row.age_ms,
  }));
}

/**
 * Says what came of a claim.
 *
 * @param outcome `retryMs`: when to try the sinks that are missing; undefined: never. It has no effect if the claim ended meanwhile.
 */
export async function concludeClaim(
  books: Queryable,
  { alert, attempt }: Claim,
  outcome: { readonly deliveredTo: readonly string[]; readonly retryMs: number | undefined },
): Promise<void> {
  await books.query(
    `UPDATE alerts SET
       delivered_to = ARRAY(SELECT DISTINCT unnest(delivered_to || $2::text[]) ORDER BY 1),
       next_attempt_at = CASE WHEN attempts = $3 THEN now() + $4::float8 * interval '1 millisecond' ELSE next_attempt_at END
     WHERE alert_id = $1`,
    [alert.alertId, outcome.deliveredTo, attempt, outcome.retryMs ?? null],
  );
}

/** A newer replica may note kinds that this program has no words for; it delivers them itself when the claim ends. */
function isKnown(row: AlertRow): row is AlertRow & { kind: AlertKind } {
  return Object.hasOwn(alertKinds, row.kind);
}

function alertOf(row: AlertRow & { kind: AlertKind }): Alert {
  return {
    alertId: row.alert_id,
    kind: row.kind,
    scope: row.scope,
    scopeId: row.scope_id,
    budgetId: row.budget_id,
    periodStart: row.period_start,
    model: row.model ?? undefined,
    duration: row.duration ?? undefined,
    spent: row.spent_nanos ?? undefined,
    max: row.max_nanos ?? undefined,
    soft: row.soft_nanos ?? undefined,
    facts: row.facts,
    createdAt: row.created_at,
    alias: row.alias ?? undefined,
    teamId: row.team_id ?? undefined,
    userId: row.user_id ?? undefined,
    organizationId: row.organization_id ?? undefined,
    email: row.email ?? undefined,
  };
}
