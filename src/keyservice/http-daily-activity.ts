/** LiteLLM's daily activity: what users, teams, organizations, customers and tags spent day by day, and on what. */

import type { JsonObject } from "../completion.ts";
import { usdNumber } from "../money.ts";
import type { AdminParts } from "./admin.ts";
import { readDailyActivity, seenActivity } from "./daily-activity.ts";
import { checkQuery, wantsCsv, wholeNumber } from "./http-query.ts";
import { amountCells, amountColumns, csv, daysOf, filterOf, refuseMixture, tokensOf } from "./http-report-parts.ts";
import type { ManagementRoute, ManagementRoutes, RouteRequest, Text } from "./http-route.ts";
import { invalid } from "./key-fields.ts";
import { addUp, type Dimension, readNames, type SpendAmounts, type SpendSum } from "./spend-sums.ts";

/** Whose activity a path has, and the parameter that names them. */
interface Subject {
  readonly whose: Exclude<Dimension, "day">;
  readonly parameter: string;
}

/** The routes, by path. */
export const dailyActivityRoutes: ManagementRoutes = {
  ...daily("/user/daily/activity", { whose: "user_id", parameter: "user_id" }),
  ...daily("/team/daily/activity", { whose: "team_id", parameter: "team_ids" }),
  ...daily("/organization/daily/activity", { whose: "organization_id", parameter: "organization_ids" }),
  ...daily("/customer/daily/activity", { whose: "end_user", parameter: "end_user_ids" }),
  ...daily("/tag/daily/activity", { whose: "tag", parameter: "tags" }),
};

function daily(path: string, subject: Subject): ManagementRoutes {
  const route: ManagementRoute = {
    method: "GET",
    access: "scoped",
    answer: (parts, request) => dailyActivity(parts, request, subject),
  };
  return { [path]: route, [`${path}/aggregated`]: route };
}

async function dailyActivity(
  parts: AdminParts,
  request: RouteRequest,
  { whose, parameter }: Subject,
): Promise<JsonObject | Text> {
  const query = new URLSearchParams(request.query);
  checkQuery(query, [parameter]);
  for (const name of ["start_date", "end_date"])
    if (!query.has(name)) throw invalid(name, "is missing: a day, such as 2026-11-26.");
  const page = wholeNumber(query, "page", { min: 1, max: 1_000_000, otherwise: 1 });
  const size = wholeNumber(query, "page_size", { min: 1, max: 1_000, otherwise: 1_000 });
  const ids = query
    .getAll(parameter)
    .flatMap((list) => list.split(","))
    .filter((id) => id !== "");
  query.delete(parameter);
  const only = await filterOf(parts, query);
  // Named in two ways, it has to be both.
  if (ids.length > 0) only[whose] = ids.filter((id) => only[whose]?.includes(id) ?? true);
  refuseMixture([whose], { only });
  const own = seenActivity(parts.operator, whose, only[whose]);
  if (own !== undefined) only[whose] = own;
  const filter = { ...daysOf(request, parts), only };
  const isCsv = wantsCsv(request);
  // A table has no pages: an accountant wants all of it.
  const [offset, limit] = isCsv ? [0, Number.MAX_SAFE_INTEGER] : [(page - 1) * size, size];
  const { days, dayCount, total } = await readDailyActivity(parts.books, whose, filter, { offset, limit });
  const keyIds = days.flatMap(({ sums }) => sums.map((sum) => sum.key_id));
  const aliases = await readNames(parts.books, "key", keyIds);
  if (isCsv) {
    const rows = days.flatMap(({ day, sums }) =>
      sums.map((sum) => {
        const { key_id, model_group, model, provider } = sum;
        return [day, sum[whose], key_id, aliases.get(key_id) ?? "", model_group, model, provider, ...amountCells(sum)];
      }),
    );
    const of = ["api_key", "key_alias", "model_group", "model", "provider"];
    return csv(["day", whose === "end_user" ? "customer" : whose, ...of, ...amountColumns], rows);
  }
  return {
    results: days.map(({ day, sums }) => ({
      date: day,
      metrics: metricsOf(addUp(sums)),
      breakdown: {
        mcp_servers: {},
        endpoints: {},
        models: breakdown(sums, "model"),
        model_groups: breakdown(sums, "model_group"),
        providers: breakdown(sums, "provider"),
        api_keys: breakdown(sums, "key_id", (id) => ({ key_alias: aliases.get(id) ?? null })),
        entities: breakdown(sums, whose),
      },
    })),
    metadata: {
      ...Object.fromEntries(
        Object.entries(metricsOf(total)).map(([name, value]) => [
          name.startsWith("total_") ? name : `total_${name}`,
          value,
        ]),
      ),
      page,
      total_pages: Math.ceil(dayCount / size),
      has_more: page * size < dayCount,
    },
  };
}

function breakdown(
  sums: readonly SpendSum[],
  by: Dimension,
  metadata: (id: string) => JsonObject = () => ({}),
): JsonObject {
  return Object.fromEntries(
    [...Map.groupBy(sums, (sum) => sum[by])].flatMap(([id, group]) =>
      id === "" ? [] : [[id, { metrics: metricsOf(addUp(group)), metadata: metadata(id) }]],
    ),
  );
}

function metricsOf(all: SpendAmounts): JsonObject {
  return {
    spend: usdNumber(all.cost),
    prompt_tokens: Number(all.inputTokens),
    completion_tokens: Number(all.outputTokens),
    cache_read_input_tokens: Number(all.cacheReadInputTokens),
    cache_creation_input_tokens: Number(all.cacheWriteInputTokens),
    total_tokens: tokensOf(all),
    successful_requests: Number(all.successes),
    failed_requests: Number(all.failures),
    api_requests: Number(all.successes + all.failures),
  };
}
