/** What reports over HTTP have in common: days, filters, tables. */

import { formatUsd } from "../money.ts";
import { type AdminParts, payerOf } from "./admin.ts";
import { writeCsv } from "./csv.ts";
import { day } from "./http-query.ts";
import { type RouteRequest, Text } from "./http-route.ts";
import { invalid } from "./key-fields.ts";
import { type Dimension, mixesParties, type SpendAmounts, type SumFilter } from "./spend-sums.ts";

const dayMs = 86_400_000;

/**
 * The days asked for.
 *
 * @param otherwise which they are if neither end is given: the last 30, or "ever".
 * @throws GatewayError `invalid_request`.
 */
export function daysOf(
  { query }: RouteRequest,
  { clock }: AdminParts,
  otherwise: "recent" | "ever" = "recent",
): { readonly from?: string; readonly to?: string } {
  const [start, end] = [day(query, "start_date"), day(query, "end_date")];
  if (otherwise === "ever" && start === undefined && end === undefined) return {};
  const to = end ?? dayOf(clock.nowMs() + dayMs);
  const from = start ?? dayOf(Date.parse(to) - 30 * dayMs);
  if (from > to) throw invalid("start_date", "must not be after `end_date`.");
  return { from, to };
}

function dayOf(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 10);
}

/** Whose spend is asked for, by LiteLLM's names. @throws GatewayError `not_found` for a key nobody has. */
export async function filterOf(
  { keys }: AdminParts,
  query: URLSearchParams,
): Promise<Partial<Record<Exclude<Dimension, "day">, readonly string[]>>> {
  const only: Partial<Record<Exclude<Dimension, "day">, readonly string[]>> = {};
  const keyId = await payerOf(keys, query.get("api_key") ?? "");
  if (keyId !== undefined) only.key_id = [keyId];
  for (const [parameter, dimension] of [
    ["team_id", "team_id"],
    ["user_id", "user_id"],
    ["internal_user_id", "user_id"],
    ["customer_id", "end_user"],
    ["model", "model"],
  ] as const) {
    const value = query.get(parameter);
    if (value === null || value === "") continue;
    if (only[dimension] !== undefined && only[dimension]?.[0] !== value)
      throw invalid(parameter, "contradicts `user_id`.");
    only[dimension] = [value];
  }
  return only;
}

/** @throws GatewayError `invalid_request` for end users and tags together: they are summed apart. */
export function refuseMixture(by: readonly Dimension[], { only = {} }: Pick<SumFilter, "only">): void {
  if (mixesParties([...by, ...(Object.keys(only) as Dimension[])])) {
    throw invalid(
      "customer_id",
      "cannot be asked for together with tags: they are added up apart. Ask for one of them.",
    );
  }
}

/** Tokens of a sum, both ways. */
export function tokensOf(sum: SpendAmounts): number {
  return Number(sum.inputTokens + sum.outputTokens);
}

/** A report as CSV. */
export function csv(columns: readonly string[], rows: readonly (readonly (string | bigint)[])[]): Text {
  return new Text("text/csv; charset=utf-8; header=present", writeCsv(columns, rows));
}

/** What is counted, as the last columns of a table. */
export const amountColumns = [
  ...["spend_usd", "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens"],
  ...["successful_requests", "failed_requests"],
];

/** The cells under `amountColumns`. */
export function amountCells(sum: SpendAmounts): (string | bigint)[] {
  const { inputTokens, outputTokens, cacheReadInputTokens, cacheWriteInputTokens, successes, failures } = sum;
  const tokens = [inputTokens, outputTokens, cacheReadInputTokens, cacheWriteInputTokens];
  return [formatUsd(sum.cost), ...tokens, successes, failures];
}
