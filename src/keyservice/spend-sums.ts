/** Reads what was spent, by day and by whatever it was booked for: from the sums, never from the log. */

import { GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";
import { isStorable } from "./key-fields.ts";
import type { Queryable } from "./postgres.ts";

/** What sums can be grouped by. */
export const dimensions = [
  "day",
  "key_id",
  "team_id",
  "user_id",
  "organization_id",
  "model_group",
  "model",
  "provider",
  "end_user",
  "tag",
] as const;
export type Dimension = (typeof dimensions)[number];

/** Which sums. Absent: all. */
export interface SumFilter {
  /** Days, both included: "2026-11-26". */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  /** Only what was booked for one of these. */
  readonly only?: Readonly<Partial<Record<Exclude<Dimension, "day">, readonly string[]>>>;
  /** Only what was booked for any of these at all: a user, a team. */
  readonly named?: Exclude<Dimension, "day">;
}

/** What is added up. */
export interface SpendAmounts {
  readonly cost: Nanos;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  readonly cacheReadInputTokens: bigint;
  readonly cacheWriteInputTokens: bigint;
  readonly successes: bigint;
  readonly failures: bigint;
  /** How long attempts that wrote tokens took, in milliseconds. */
  readonly answerMs: bigint;
}

/** One group's sum. Dimensions it is not grouped by are "". */
export interface SpendSum extends SpendAmounts, Readonly<Record<Dimension, string>> {}

type SumRow = Record<Dimension, string | null> &
  Record<"cost" | "input" | "output" | "cache_read" | "cache_write" | "successes" | "failures" | "answer_ms", bigint>;

/** A report with more groups is refused: all of them are in memory at once. */
const groupsMax = 100_000;

/**
 * Sums grouped by `by`, the latest day and the dearest first. Grouped by end users or tags, or with a filter on them, only what named
 * one is counted, and a call that named several tags is counted for each. The two are never mixed: see `mixesParties`.
 *
 * @param page `limit` is how many groups are wanted; without it all of them.
 * @throws GatewayError `invalid_request` if all of them are too many.
 */
export async function readSums(
  books: Queryable,
  by: readonly Dimension[],
  filter: SumFilter,
  page: { readonly limit?: number; readonly offset?: number } = {},
): Promise<SpendSum[]> {
  const values: unknown[] = [];
  const parameter = (value: unknown) => `$${values.push(value)}`;
  const only = filter.only ?? {};
  if (mixesParties([...by, ...(Object.keys(only) as Dimension[])]))
    throw new Error("end users and tags are summed apart");
  const party = by.find(isParty) ?? (Object.keys(only) as Dimension[]).find(isParty);
  const column = (dimension: Dimension) => (isParty(dimension) ? "scope_id" : dimension);
  const conditions = party === undefined ? ["true"] : [`scope = ${parameter(party)}`];
  if (filter.from !== undefined) conditions.push(`day >= ${parameter(filter.from)}::date`);
  if (filter.to !== undefined) conditions.push(`day <= ${parameter(filter.to)}::date`);
  for (const [dimension, wanted] of Object.entries(only)) {
    if (!wanted.every(isStorable)) throw new GatewayError("invalid_request", "An id has characters no id can have.");
    conditions.push(`${column(dimension as Dimension)} = ANY (${parameter(wanted)}::text[])`);
  }
  if (filter.named !== undefined) conditions.push(`${column(filter.named)} <> ''`);
  const chosen = dimensions.filter((dimension) => by.includes(dimension));
  const names = chosen.map((dimension) =>
    dimension === "day" ? "day::text AS day" : `${column(dimension)} AS ${dimension}`,
  );
  const groups = chosen.map(column);
  const order = [...(by.includes("day") ? ["day DESC"] : []), "cost DESC", ...groups];
  const rows = await books.query<SumRow>(
    `SELECT ${[...names, ""].join(", ")}
       coalesce(sum(cost_nanos), 0)::bigint AS cost, coalesce(sum(input_tokens), 0)::bigint AS input,
       coalesce(sum(output_tokens), 0)::bigint AS output, coalesce(sum(cache_read_input_tokens), 0)::bigint AS cache_read,
       coalesce(sum(cache_write_input_tokens), 0)::bigint AS cache_write, coalesce(sum(successes), 0)::bigint AS successes,
       coalesce(sum(failures), 0)::bigint AS failures, coalesce(sum(answer_ms), 0)::bigint AS answer_ms
     FROM ${party === undefined ? "daily_spend" : "daily_party_spend"} WHERE ${conditions.join(" AND ")}
     ${groups.length === 0 ? "" : `GROUP BY ${groups.join(", ")}`} ORDER BY ${order.join(", ")}
     LIMIT ${parameter(page.limit ?? groupsMax + 1)} OFFSET ${parameter(page.offset ?? 0)}`,
    values,
  );
  if (page.limit === undefined && rows.length > groupsMax) {
    throw new GatewayError(
      "invalid_request",
      `The report has more than ${groupsMax} rows. Ask for fewer days or add a filter, or page through GetSpendReport.`,
    );
  }
  return rows.map((row) => ({
    ...(Object.fromEntries(dimensions.map((name) => [name, row[name] ?? ""])) as Record<Dimension, string>),
    cost: row.cost,
    inputTokens: row.input,
    outputTokens: row.output,
    cacheReadInputTokens: row.cache_read,
    cacheWriteInputTokens: row.cache_write,
    successes: row.successes,
    failures: row.failures,
    answerMs: row.answer_ms,
  }));
}

/** Whether end users and tags are both among these. A sum is of the one or of the other: it does not know who also named which. */
export function mixesParties(named: readonly Dimension[]): boolean {
  return named.includes("end_user") && named.includes("tag");
}

function isParty(dimension: Dimension): dimension is "end_user" | "tag" {
  return dimension === "end_user" || dimension === "tag";
}

/** Sums of several sums. */
export function addUp(sums: readonly SpendSum[]): SpendAmounts {
  const total = {
    ...{ cost: 0n, inputTokens: 0n, outputTokens: 0n, cacheReadInputTokens: 0n, cacheWriteInputTokens: 0n },
    ...{ successes: 0n, failures: 0n, answerMs: 0n },
  };
  for (const sum of sums) {
    for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += sum[name];
  }
  return total;
}

/** What keys and teams are called, by id; deleted ones too. */
export async function readNames(
  books: Queryable,
  kind: "key" | "team",
  ids: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const sql =
    kind === "key"
      ? "SELECT key_id AS id, alias FROM keys WHERE key_id = ANY ($1::text[]) AND alias IS NOT NULL"
      : "SELECT entity_id AS id, alias FROM entities WHERE scope = 'team' AND entity_id = ANY ($1::text[]) AND alias IS NOT NULL";
  const rows = await books.query<{ id: string; alias: string }>(sql, [[...new Set(ids)]]);
  return new Map(rows.map(({ id, alias }) => [id, alias]));
}
