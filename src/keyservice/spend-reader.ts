/** Reads the spend log: every provider attempt and every correction, as they were booked. */

import type { Nanos } from "../money.ts";
import { momentOf } from "./key-selection.ts";
import type { Queryable } from "./postgres.ts";

/** Which rows. Absent: all. */
export interface SpendFilter {
  readonly keyId?: string | undefined;
  /** What is not a UUID finds nothing. */
  readonly callId?: string | undefined;
}

/** A row's place in the list, which is ordered by when it was booked. */
export interface SpendPlace {
  /** Unix time in microseconds, as the database has it. */
  readonly bookedAtUs: bigint;
  readonly callId: string;
  readonly attempt: number;
}

/** One booked row. */
export interface SpendEntry {
  readonly callId: string;
  readonly attempt: number;
  readonly keyId: string;
  readonly keyAlias: string | undefined;
  readonly userId: string | undefined;
  readonly teamId: string | undefined;
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
  readonly place: SpendPlace;
}

interface SpendRow {
  call_id: string;
  attempt: number;
  key_id: string;
  alias: string | null;
  user_id: string | null;
  team_id: string | null;
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
  booked_at_us: bigint;
  price_version: string;
  end_user: string;
  tags: string[];
  provider_response_id: string;
  trace_id: string;
}

/** A UUID as Postgres reads it. */
export const uuidForm = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

/**
 * Rows of the spend log, newest first, up to `limit`; with `after`, those beyond that place.
 *
 * @throws GatewayError `keyservice_unavailable`.
 */
export async function readSpend(
  books: Queryable,
  filter: SpendFilter,
  { after, limit }: { readonly after: SpendPlace | undefined; readonly limit: number },
): Promise<SpendEntry[]> {
  if (filter.callId !== undefined && !uuidForm.test(filter.callId)) return [];
  const values: unknown[] = [];
  const parameter = (value: unknown) => `$${values.push(value)}`;
  const conditions = ["true"];
  if (filter.keyId !== undefined) conditions.push(`s.key_id = ${parameter(filter.keyId)}`);
  if (filter.callId !== undefined) conditions.push(`s.call_id = ${parameter(filter.callId)}`);
  if (after !== undefined) {
    const moment = momentOf(parameter(after.bookedAtUs));
    const beyond = `(s.call_id, s.attempt) > (${parameter(after.callId)}::uuid, ${parameter(after.attempt)}::integer)`;
    conditions.push(`s.booked_at <= ${moment} AND (s.booked_at < ${moment} OR ${beyond})`);
  }
  const rows = await books.query<SpendRow>(
    `SELECT s.*, (extract(epoch FROM s.booked_at) * 1000000)::bigint AS booked_at_us, k.alias, k.user_id, k.team_id
     FROM spend_log s LEFT JOIN keys k USING (key_id)
     WHERE ${conditions.join(" AND ")}
     ORDER BY s.booked_at DESC, s.call_id, s.attempt LIMIT ${parameter(limit)}`,
    values,
  );
  return rows.map(entryOf);
}

function entryOf(row: SpendRow): SpendEntry {
  return {
    callId: row.call_id,
    attempt: row.attempt,
    keyId: row.key_id,
    keyAlias: row.alias ?? undefined,
    userId: row.user_id ?? undefined,
    teamId: row.team_id ?? undefined,
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
    place: { bookedAtUs: row.booked_at_us, callId: row.call_id, attempt: row.attempt },
  };
}
