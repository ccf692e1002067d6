/** Spend reports in the messages of tollgate.admin.v1. */

import { create } from "@bufbuild/protobuf";
import {
  type GetSpendReportRequest,
  type ListDailyActivityRequest,
  SpendDimension,
  type SpendSum as SpendSumMessage,
  SpendSumSchema,
} from "../gen/tollgate/admin/v1/keys_pb.ts";
import { formatUsd } from "../money.ts";
import { day } from "./http-query.ts";
import { invalid } from "./key-fields.ts";
import { type Dimension, mixesParties, type SpendAmounts, type SpendSum, type SumFilter } from "./spend-sums.ts";

const dimensions: ReadonlyMap<SpendDimension, Dimension> = new Map([
  [SpendDimension.DAY, "day"],
  [SpendDimension.KEY, "key_id"],
  [SpendDimension.TEAM, "team_id"],
  [SpendDimension.USER, "user_id"],
  [SpendDimension.ORGANIZATION, "organization_id"],
  [SpendDimension.MODEL_GROUP, "model_group"],
  [SpendDimension.MODEL, "model"],
  [SpendDimension.PROVIDER, "provider"],
  [SpendDimension.CUSTOMER, "end_user"],
  [SpendDimension.TAG, "tag"],
]);

/** @throws GatewayError `invalid_request` for an unknown one, and for customers and tags together: they are summed apart. */
export function dimensionsOf(groupBy: readonly SpendDimension[]): readonly Dimension[] {
  const found = groupBy.map((dimension) => dimensionOf(dimension, "group_by"));
  if (mixesParties(found)) {
    throw invalid("group_by", "cannot have both CUSTOMER and TAG. Ask for one report by each.");
  }
  return found;
}

/** @throws GatewayError `invalid_request` for what is no day, or no filter. */
export function sumFilterOf({
  startDay,
  endDay,
  filters,
  groupBy,
}: Pick<GetSpendReportRequest, "startDay" | "endDay" | "filters" | "groupBy">): SumFilter {
  const only: Partial<Record<Exclude<Dimension, "day">, readonly string[]>> = {};
  for (const { dimension: message, ids } of filters) {
    const dimension = dimensionOf(message, "filters.dimension");
    if (dimension === "day") throw invalid("filters.dimension", "must not be DAY; send `start_day` and `end_day`.");
    if (only[dimension] !== undefined) throw invalid("filters.dimension", "must differ from filter to filter.");
    only[dimension] = ids;
  }
  dimensionsOf([...groupBy, ...filters.map(({ dimension }) => dimension)]);
  return { from: dayOf("start_day", startDay), to: dayOf("end_day", endDay), only };
}

/** Whose days are asked for, and which. @throws GatewayError `invalid_request`. */
export function activityOf({ dimension, ids, startDay, endDay, filters }: ListDailyActivityRequest): {
  readonly whose: Exclude<Dimension, "day">;
  readonly filter: SumFilter;
} {
  const whose = dimensionOf(dimension, "dimension");
  if (whose === "day") throw invalid("dimension", "must not be DAY: it is by days anyway.");
  if (filters.some((filter) => filter.dimension === dimension)) {
    throw invalid("filters.dimension", "must not be `dimension` again. Send `ids`.");
  }
  const { only, ...days } = sumFilterOf({ startDay, endDay, filters, groupBy: [dimension] });
  return { whose, filter: { ...days, only: { ...only, ...(ids.length === 0 ? {} : { [whose]: ids }) } } };
}

/** Two days that are sent together or not at all. @throws GatewayError `invalid_request`. */
export function daysOf(startDay: string, endDay: string): { readonly from: string; readonly to: string } | undefined {
  const [from, to] = [dayOf("start_day", startDay), dayOf("end_day", endDay)];
  if (from === undefined && to === undefined) return undefined;
  if (from === undefined) throw invalid("start_day", "is missing. Send it together with `end_day`.");
  if (to === undefined) throw invalid("end_day", "is missing. Send it together with `start_day`.");
  return { from, to };
}

function dayOf(name: string, text: string): string | undefined {
  return text === "" ? undefined : day(new URLSearchParams([[name, text]]), name);
}

function dimensionOf(message: SpendDimension, name: string): Dimension {
  const dimension = dimensions.get(message);
  if (dimension === undefined) throw invalid(name, "must be set: DAY, KEY, TEAM, USER, MODEL and so on.");
  return dimension;
}

/** The message of a sum. Dimensions it does not have are empty. */
export function sumMessageOf(sum: SpendAmounts & Partial<SpendSum>): SpendSumMessage {
  const named = (dimension: Dimension) => sum[dimension] ?? "";
  return create(SpendSumSchema, {
    day: named("day"),
    keyId: named("key_id"),
    teamId: named("team_id"),
    userId: named("user_id"),
    organizationId: named("organization_id"),
    modelGroup: named("model_group"),
    model: named("model"),
    provider: named("provider"),
    customer: named("end_user"),
    tag: named("tag"),
    costUsd: formatUsd(sum.cost),
    inputTokens: sum.inputTokens,
    outputTokens: sum.outputTokens,
    cacheReadInputTokens: sum.cacheReadInputTokens,
    cacheWriteInputTokens: sum.cacheWriteInputTokens,
    successes: sum.successes,
    failures: sum.failures,
    answerMs: sum.answerMs,
  });
}
