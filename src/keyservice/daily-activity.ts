/** Reads what somebody spent day by day, and on what. */

import type { Operator } from "./operator.ts";
import type { Queryable } from "./postgres.ts";
import { addUp, type Dimension, readSums, type SpendAmounts, type SpendSum, type SumFilter } from "./spend-sums.ts";

/** What the sums of a day are by, besides whose they are. */
const parts: readonly Dimension[] = ["day", "model", "model_group", "provider", "key_id"];

/** What happened on a day. */
export interface DailyActivity {
  readonly day: string;
  /** By whose they are, model, model group, provider and key; the dearest first. */
  readonly sums: readonly SpendSum[];
}

/** A page of days, the latest first. */
export interface DailyActivityPage {
  readonly days: readonly DailyActivity[];
  /** How many days have any activity, those of other pages too. */
  readonly dayCount: number;
  /** Of all those days. */
  readonly total: SpendAmounts;
}

/**
 * @param whose what is told apart; with end users or tags, only calls that named one count.
 * @param page in days, of those that have any activity.
 * @throws GatewayError `invalid_request` if a page has too much to tell.
 */
export async function readDailyActivity(
  books: Queryable,
  whose: Exclude<Dimension, "day">,
  filter: SumFilter,
  page: { readonly offset: number; readonly limit: number },
): Promise<DailyActivityPage> {
  const parties: readonly Dimension[] = whose === "end_user" || whose === "tag" ? [whose] : [];
  // Days are few.
  const all = await readSums(books, ["day", ...parties], filter);
  const dates = [...new Set(all.map((sum) => sum.day))];
  const shown = dates.slice(page.offset, page.offset + page.limit);
  const [to, from] = [shown[0], shown.at(-1)];
  const sums = from === undefined ? [] : await readSums(books, [whose, ...parts], { ...filter, from, to });
  const byDay = Map.groupBy(sums, (sum) => sum.day);
  return {
    days: shown.map((day) => ({ day, sums: byDay.get(day) ?? [] })),
    dayCount: dates.length,
    total: addUp(all),
  };
}

/** Kinds of things operators may see some of, by what spend is booked for. */
const kinds = new Map([
  ["user_id", "user"],
  ["team_id", "team"],
  ["organization_id", "organization"],
] as const);

/**
 * @returns whose activity an operator gets of what he asks for; undefined: everybody's.
 * @throws GatewayError `permission_denied`.
 */
export function seenActivity(
  operator: Operator,
  whose: Exclude<Dimension, "day">,
  ids: readonly string[] | undefined,
): readonly string[] | undefined {
  const kind = kinds.get(whose as "user_id");
  if (kind !== undefined) return operator.narrow(kind, ids);
  operator.checkAccess("viewer");
  return ids;
}
