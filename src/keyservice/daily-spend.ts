/** Sums over the spend log by day, kept equal to it: they change in the transactions that write its rows. */

import type { Queryable } from "./postgres.ts";

/** What rows of the spend log add to the sums: a JSON text that one statement makes and another takes. Null: nothing. */
export type DailySums = string | null;

const owners = "key_id, team_id, user_id, organization_id";
const models = "model_group, model, provider";
const amounts = [
  ...["cost_nanos", "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens"],
  ...["successes", "failures", "answer_ms"],
];
/** Of attempts that wrote tokens: what they took by the tokens they wrote is what a token takes. */
const answerMs =
  "coalesce(sum(extract(epoch FROM ended_at - started_at) * 1000) FILTER (WHERE output_tokens > 0 AND ended_at > started_at), 0)::bigint";
const sums = amounts
  .map((name) => {
    if (name === "successes") return "count(*) FILTER (WHERE attempt > 0 AND status = 'success') AS successes";
    if (name === "failures") return "count(*) FILTER (WHERE attempt > 0 AND status <> 'success') AS failures";
    if (name === "answer_ms") return `${answerMs} AS answer_ms`;
    return `sum(${name})::bigint AS ${name}`;
  })
  .join(", ");

/** Columns a CTE must give for `sumsOf`. */
export const summedColumns = `attempt, status, started_at, ended_at, end_user, tags, ${owners}, ${models}, ${amounts.slice(0, 5).join(", ")}`;

/**
 * SQL for a scalar of type text: the DailySums of the rows in a CTE.
 *
 * @param rows the CTE's name; it has `summedColumns`.
 * @param timeZone a parameter, "$1" for instance: the IANA name of the zone whose days are meant.
 */
export function sumsOf(rows: string, timeZone: string): string {
  const day = `(started_at AT TIME ZONE ${timeZone})::date AS day`;
  return `(SELECT json_agg(d)::text FROM (
    SELECT ${day}, '' AS scope, '' AS scope_id, ${owners}, ${models}, ${sums} FROM ${rows}
    GROUP BY day, ${owners}, ${models}
    UNION ALL
    SELECT ${day}, p.scope, p.scope_id, ${owners}, ${models}, ${sums}
    FROM ${rows} CROSS JOIN LATERAL (
      SELECT 'end_user', end_user WHERE end_user <> '' UNION SELECT 'tag', unnest(tags)
    ) AS p (scope, scope_id)
    GROUP BY day, p.scope, p.scope_id, ${owners}, ${models}
  ) d)`;
}

const recordset = `json_to_recordset($1::json) AS d (day date, scope text, scope_id text,
  ${`${owners}, ${models}`
    .split(", ")
    .map((name) => `${name} text`)
    .join(", ")}, ${amounts.map((name) => `${name} bigint`).join(", ")})`;

function upsert(table: string, key: string, rows: string): string {
  const added = amounts.map((name) => `${name} = ${table}.${name} + excluded.${name}`).join(", ");
  return `INSERT INTO ${table} (${key}, ${amounts.join(", ")}) SELECT ${key}, ${amounts.join(", ")} FROM ${recordset}
    WHERE ${rows} ORDER BY ${key} ON CONFLICT (${key}) DO UPDATE SET ${added}`;
}

const addSql = `
  WITH parties AS (
    ${upsert("daily_party_spend", `scope, scope_id, day, ${owners}, ${models}`, "scope <> ''")}
  )
  ${upsert("daily_spend", `day, ${owners}, ${models}`, "scope = ''")}`;

/** Adds to the sums. The last thing a transaction does: everybody waits here for everybody. */
export async function addToDays(client: Queryable, sums: DailySums): Promise<void> {
  if (sums !== null) await client.query(addSql, [sums]);
}
