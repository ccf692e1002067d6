/** Spend reports in the messages of tollgate.admin.v1. */

import { create } from "@bufbuild/protobuf";
import {
  type GetSpendReportRequest,
  SpendDimension,
  type SpendSum as SpendSumMessage,
  SpendSumSchema,
} from "../gen/tollgate/admin/v1/keys_pb.ts";
import { formatUsd } from "../money.ts";
import { day } from "./http-query.ts";
import { invalid } from "./key-fields.ts";
import type { Dimension, SpendSum, SumFilter } from "./spend-sums.ts";

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
  if (found.includes("end_user") && found.includes("tag")) {
    throw invalid("group_by", "cannot have both CUSTOMER and TAG. Ask for one report by each.");
  }
  return found;
}

/** @throws GatewayError `invalid_request` for what is no day, or no filter. */
export function sumFilterOf({ startDay, endDay, filters, groupBy }: GetSpendReportRequest): SumFilter {
  const only: Partial<Record<Exclude<Dimension, "day">, readonly string[]>> = {};
  for (const { dimension: message, ids } of filters) {
    const dimension = dimensionOf(message, "filters.dimension");
    if (dimension === "day") throw invalid("filters.dimension", "must not be DAY; send `start_day` and `end_day`.");
    only[dimension] = ids;
  }
  dimensionsOf([...groupBy, ...filters.map(({ dimension }) => dimension)]);
  return { from: dayOf("start_day", startDay), to: dayOf("end_day", endDay), only };
}

function dayOf(name: string, text: string): string | undefined {
  return text === "" ? undefined : day(new URLSearchParams([[name, text]]), name);
}

function dimensionOf(message: SpendDimension, name: string): Dimension {
  const dimension = dimensions.get(message);
  if (dimension === undefined) throw invalid(name, "must be set: DAY, KEY, TEAM, USER, MODEL and so on.");
  return dimension;
}

/** The message of a sum. */
export function sumMessageOf(sum: SpendSum): SpendSumMessage {
  return create(SpendSumSchema, {
    day: sum.day,
    keyId: sum.key_id,
    teamId: sum.team_id,
    userId: sum.user_id,
    organizationId: sum.organization_id,
    modelGroup: sum.model_group,
    model: sum.model,
    provider: sum.provider,
    customer: sum.end_user,
    tag: sum.tag,
    costUsd: formatUsd(sum.cost),
    inputTokens: sum.inputTokens,
    outputTokens: sum.outputTokens,
    cacheReadInputTokens: sum.cacheReadInputTokens,
    cacheWriteInputTokens: sum.cacheWriteInputTokens,
    successes: sum.successes,
    failures: sum.failures,
  });
}
