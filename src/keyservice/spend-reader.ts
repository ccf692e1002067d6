/** Reads the spend log: every provider attempt and every correction, as they were booked. */

import { GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";
import { isStorable } from "./key-fields.ts";
import { momentOf } from "./key-selection.ts";
import type { Queryable } from "./postgres.ts";

/** Which rows. Absent: all. */
export interface SpendFilter {
  readonly keyId?: string | undefined;
  /** What is not a UUID finds nothing. */
  readonly callId?: string | undefined;
  /** Whom it was booked for. */
  readonly userId?: string | undefined;
  /** Days on which attempts began, both included, in the configured time zone. */
  readonly days?: SpendDays | undefined;
}

/** From one day to another, both included: "2026-11-26". */
export interface SpendDays {
  readonly from: string;
  readonly to: string;
  /** Whose days: an IANA name. */
  readonly timeZone: string;
}

/** A row's place in the list. */
export interface SpendPlace {
  /** What the list is ordered by, in Unix time in microseconds, as the database has it. */
  readonly atUs: bigint;
  readonly callId: string;
  readonly attempt: number;
}

/** One booked row. */
export interface SpendEntry {
  readonly callId: string;
  readonly attempt: number;
  readonly keyId: string;
  readonly keyAlias: string | undefined;
  /** Whom it was booked for, at that time; "" for nobody. */
  readonly userId: string;
  readonly teamId: string;
  readonly organizationId: string;
  readonly podId: string;
  readonly cost: Nanos;
  /** "success", "failure", "cancelled", "unconfirmed" or "correction". */
  readonly status: string;
  readonly usageEstimated: boolean;
  readonly operation: string;
  readonly modelGroup: string;
  readonly model: string;
  readonly provider: string;
  readonly deploymentId: string;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  readonly cacheReadInputTokens: bigint;
  readonly cacheWriteInputTokens: bigint;
  readonly reasoningOutputTokens: bigint;
  readonly startedAt: Date;
  readonly endedAt: Date | undefined;
  readonly firstOutputAt: Date | undefined;
  readonly priceVersion: string;
  readonly endUser: string;
  readonly tags: readonly string[];
  readonly providerResponseId: string;
  readonly traceId: string;
  /** Whether it is an answer given again, for which no provider was called. */
  readonly cacheHit: boolean;
  readonly place: SpendPlace;
}

interface SpendRow {
  call_id: string;
  attempt: number;
  key_id: string;
  alias: string | null;
  user_id: string;
  team_id: string;
  organization_id: string;
  pod_id: string;
  cost_nanos: bigint;
  status: string;
  usage_estimated: boolean;
  operation: string;
  model_group: string;
  model: string;
  provider: string;
  deployment_id: string;
  input_tokens: bigint;
  output_tokens: bigint;
  cache_read_input_tokens: bigint;
  cache_write_input_tokens: bigint;
  reasoning_output_tokens: bigint;
  started_at: Date;
  ended_at: Date | null;
  first_output_at: Date | null;
  at_us: bigint;
  price_version: string;
  end_user: string;
  tags: string[];
  provider_response_id: string;
  trace_id: string;
  cache_hit: boolean;
}

/** So many rows are counted one by one. */
const countedMax = 10_000;

/** A UUID as Postgres reads it. */
export const uuidForm = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

/**
 * Rows of the spend log, newest first, up to `limit`; with `after`, those beyond that place. They are ordered by when they were
 * booked; with a user or days, by when the attempt began.
 *
 * @throws GatewayError `keyservice_unavailable`, `invalid_request`.
 */
export async function readSpend(
  books: Queryable,
  filter: SpendFilter,
  page: { readonly after?: SpendPlace | undefined; readonly offset?: number; readonly limit: number },
): Promise<SpendEntry[]> {
  const { conditions, values, parameter } = select(filter);
  if (conditions === undefined) return [];
  const at = filter.days === undefined && filter.userId === undefined ? "s.booked_at" : "s.started_at";
  const { after } = page;
  if (after !== undefined) {
    const moment = momentOf(parameter(after.atUs));
    const beyond = `(s.call_id, s.attempt) > (${parameter(after.callId)}::uuid, ${parameter(after.attempt)}::integer)`;
    conditions.push(`${at} <= ${moment} AND (${at} < ${moment} OR ${beyond})`);
  }
  const rows = await books.query<SpendRow>(
    `SELECT s.*, (extract(epoch FROM ${at}) * 1000000)::bigint AS at_us, k.alias
     FROM (SELECT * FROM spend_log s WHERE ${conditions.join(" AND ")}
       ORDER BY ${at} DESC, s.call_id, s.attempt LIMIT ${parameter(page.limit)} OFFSET ${parameter(page.offset ?? 0)}) s
       LEFT JOIN keys k USING (key_id)
     ORDER BY ${at} DESC, s.call_id, s.attempt`,
    values,
  );
  return rows.map(entryOf);
}

/**
 * How many rows of the spend log there are under a filter. Up to some thousands they are counted; more of them are told from the sums
 * by day, which is right as long as no part of the log was dropped in the middle of a day.
 *
 * @throws GatewayError `keyservice_unavailable`.
 */
export async function countSpend(books: Queryable, filter: SpendFilter): Promise<number> {
  const { conditions, values, parameter } = select(filter);
  if (conditions === undefined) return 0;
  const where = conditions.join(" AND ");
  const counted = await countOf(
    books,
    `SELECT count(*) AS count FROM (SELECT FROM spend_log s WHERE ${where} LIMIT ${countedMax + 1}) s`,
    values,
  );
  const { keyId, userId, callId, days } = filter;
  if (counted <= countedMax || callId !== undefined || days === undefined) return counted;
  // An attempt is a success or a failure of its day.
  const sums = [`day BETWEEN ${parameter(days.from)}::date AND ${parameter(days.to)}::date`];
  if (keyId !== undefined) sums.push(`key_id = ${parameter(keyId)}`);
  if (userId !== undefined) sums.push(`user_id = ${parameter(userId)}`);
  const oldest = `(SELECT (min(started_at) AT TIME ZONE ${parameter(days.timeZone)})::date FROM spend_log)`;
  return countOf(
    books,
    `SELECT (SELECT coalesce(sum(successes + failures), 0)::bigint FROM daily_spend WHERE ${sums.join(" AND ")} AND day >= ${oldest})
       + (SELECT count(*) FROM spend_log s WHERE ${where} AND s.attempt < 1) AS count`,
    values,
  );
}

async function countOf(books: Queryable, sql: string, values: readonly unknown[]): Promise<number> {
  const [row] = await books.query<{ count: bigint }>(sql, values);
  return Number(row?.count ?? 0);
}

/** A filter as conditions; undefined ones if nothing can meet it. */
function select({ keyId, callId, userId, days }: SpendFilter) {
  const values: unknown[] = [];
  const parameter = (value: unknown) => `$${values.push(value)}`;
  if (!isStorable(`${keyId} ${userId}`)) {
    throw new GatewayError("invalid_request", "An id has characters no id can have.");
  }
  const isPossible = callId === undefined || uuidForm.test(callId);
  const conditions = ["true"];
  if (keyId !== undefined) conditions.push(`s.key_id = ${parameter(keyId)}`);
  if (callId !== undefined) conditions.push(`s.call_id = ${parameter(callId)}`);
  if (userId !== undefined) conditions.push(`s.user_id = ${parameter(userId)}`);
  if (days !== undefined) {
    const zone = parameter(days.timeZone);
    const startOf = (day: string) => `((${day})::timestamp AT TIME ZONE ${zone})`;
    conditions.push(`s.started_at >= ${startOf(`${parameter(days.from)}::date`)}`);
    conditions.push(`s.started_at < ${startOf(`${parameter(days.to)}::date + 1`)}`);
  }
  return { values, parameter, conditions: isPossible ? conditions : undefined };
}

function entryOf(row: SpendRow): SpendEntry {
  return {
    callId: row.call_id,
    attempt: row.attempt,
    keyId: row.key_id,
    keyAlias: row.alias ?? undefined,
    userId: row.user_id,
    teamId: row.team_id,
    organizationId: row.organization_id,
    podId: row.pod_id,
    cost: row.cost_nanos,
    status: row.status,
    usageEstimated: row.usage_estimated,
    operation: row.operation,
    modelGroup: row.model_group,
    model: row.model,
    provider: row.provider,
    deploymentId: row.deployment_id,
    inputTokens: row.input_tokens,
    outputTokens: row.output_tokens,
    cacheReadInputTokens: row.cache_read_input_tokens,
    cacheWriteInputTokens: row.cache_write_input_tokens,
    reasoningOutputTokens: row.reasoning_output_tokens,
    startedAt: row.started_at,
    endedAt: row.ended_at ?? undefined,
    firstOutputAt: row.first_output_at ?? undefined,
    priceVersion: row.price_version,
    endUser: row.end_user,
    tags: row.tags,
    providerResponseId: row.provider_response_id,
    traceId: row.trace_id,
    cacheHit: row.cache_hit,
    place: { atUs: row.at_us, callId: row.call_id, attempt: row.attempt },
  };
}
