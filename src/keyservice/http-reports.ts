/** LiteLLM's reports: /global/spend*, /spend/tags and the like, and daily activity. */

import type { Json, JsonObject } from "../completion.ts";
import { formatUsd, usdNumber } from "../money.ts";
import type { AdminParts } from "./admin.ts";
import { payerOf } from "./admin.ts";
import { writeCsv } from "./csv.ts";
import { day, wholeNumber } from "./http-query.ts";
import { type ManagementRoute, type ManagementRoutes, type RouteRequest, Text } from "./http-route.ts";
import { invalid } from "./key-fields.ts";
import { addUp, type Dimension, readNames, readSums, type SpendSum, type SumFilter } from "./spend-sums.ts";

const listMax = 10_000;

/** The routes, by path. */
export const reportRoutes: ManagementRoutes = {
  "/global/spend/report": master(report),
  "/global/spend": master(total),
  "/global/spend/logs": master(byDay),
  "/global/spend/keys": master((parts, request) => top(parts, request, "key_id")),
  "/global/spend/teams": master(byTeamAndDay),
  "/global/spend/models": master((parts, request) => top(parts, request, "model")),
  "/global/spend/provider": master((parts, request) => top(parts, request, "provider")),
  "/global/spend/tags": master(tags),
  "/global/spend/all_tag_names": master(tagNames),
  "/global/spend/end_users": { method: "POST", masterOnly: true, answer: endUsers },
  "/global/activity": master(activity),
  "/global/activity/model": master(activityByModel),
  "/spend/tags": master(tags),
  "/spend/keys": master((parts, request) => top(parts, request, "key_id")),
  "/spend/users": master((parts, request) => top(parts, request, "user_id")),
  ...daily("/user/daily/activity", "user_id", "user_id"),
  ...daily("/team/daily/activity", "team_id", "team_ids"),
  ...daily("/organization/daily/activity", "organization_id", "organization_ids"),
  ...daily("/customer/daily/activity", "end_user", "end_user_ids"),
  ...daily("/tag/daily/activity", "tag", "tags"),
};

function master(answer: ManagementRoute["answer"]): ManagementRoute {
  return { method: "GET", masterOnly: true, answer };
}

function daily(path: string, dimension: Dimension, parameter: string): ManagementRoutes {
  const answer = (parts: AdminParts, request: RouteRequest) => dailyActivity(parts, request, { dimension, parameter });
  return { [path]: master(answer), [`${path}/aggregated`]: master(answer) };
}

/** The days asked for; the last 30 without any. */
function daysOf({ query }: RouteRequest, { clock }: AdminParts): { from: string; to: string } {
  const to = day(query, "end_date") ?? dayOf(clock.nowMs() + 86_400_000);
  const from = day(query, "start_date") ?? dayOf(Date.parse(to) - 30 * 86_400_000);
  if (from > to) throw invalid("start_date", "must not be after `end_date`.");
  return { from, to };
}

function dayOf(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 10);
}

const isCsv = ({ query, accept }: RouteRequest) => query.get("format") === "csv" || /^text\/csv\b/.test(accept);

const tokensOf = (sum: Pick<SpendSum, "inputTokens" | "outputTokens">) => Number(sum.inputTokens + sum.outputTokens);

/** What each report is grouped by, and what LiteLLM calls the groups. */
const reportGroups: Readonly<Record<string, { by: Dimension; list: string; name: string }>> = {
  team: { by: "team_id", list: "teams", name: "team_name" },
  customer: { by: "end_user", list: "customers", name: "customer" },
  api_key: { by: "key_id", list: "api_keys", name: "api_key" },
  user: { by: "user_id", list: "users", name: "user" },
  internal_user_id: { by: "user_id", list: "users", name: "user" },
  organization: { by: "organization_id", list: "organizations", name: "organization" },
  tag: { by: "tag", list: "tags", name: "tag" },
  model: { by: "model_group", list: "models", name: "model" },
};

async function report(parts: AdminParts, request: RouteRequest): Promise<Json | Text> {
  const { query } = request;
  const filter: SumFilter = { ...daysOf(request, parts), only: await filterOf(parts, query) };
  const group = reportGroups[query.get("group_by") ?? "team"];
  if (group === undefined) throw invalid("group_by", `must be one of ${Object.keys(reportGroups).join(", ")}.`);
  const { by, list, name } = group;
  const sums = await readSums(parts.books, ["day", by, "key_id", "model"], filter);
  const teamNames =
    by === "team_id"
      ? await readNames(
          parts.books,
          "team",
          sums.map((sum) => sum.team_id),
        )
      : new Map();
  const nameOf = (id: string) => teamNames.get(id) ?? id;
  if (isCsv(request)) {
    // No column comes twice: grouped by keys, the key is the group.
    const details = [["api_key", "key_id"] as const, ["model", "model"] as const].filter(([, column]) => column !== by);
    const grouped = by === "team_id" ? ["team_name", "team_id"] : [by === "model_group" ? by : name];
    const counted = ["spend_usd", "input_tokens", "output_tokens", "requests"];
    const columns = ["day", ...grouped, ...details.map(([title]) => title), ...counted];
    const rows = sums.map((sum) => {
      const group = by === "team_id" ? [nameOf(sum[by]), sum[by]] : [sum[by]];
      const counts = [sum.inputTokens, sum.outputTokens, sum.successes + sum.failures];
      return [sum.day, ...group, ...details.map(([, column]) => sum[column]), formatUsd(sum.cost), ...counts];
    });
    return new Text("text/csv; charset=utf-8; header=present", writeCsv(columns, rows));
  }
  return [...Map.groupBy(sums, (sum) => sum.day)].map(([date, ofDay]) => ({
    group_by_day: `${date}T00:00:00+00:00`,
    [list]: [...Map.groupBy(ofDay, (sum) => sum[by])].map(([id, ofGroup]) => ({
      [name]: nameOf(id),
      ...(by === "team_id" ? { team_id: id } : {}),
      total_spend: usdNumber(addUp(ofGroup).cost),
      metadata: ofGroup.map((sum) => ({
        ...{ model: sum.model, spend: usdNumber(sum.cost), total_tokens: tokensOf(sum), api_key: sum.key_id },
      })),
    })),
  }));
}

async function filterOf({ keys }: AdminParts, query: URLSearchParams): Promise<NonNullable<SumFilter["only"]>> {
  const only: Partial<Record<Exclude<Dimension, "day">, readonly string[]>> = {};
  const keyId = await payerOf(keys, query.get("api_key") ?? "");
  if (keyId !== undefined) only.key_id = [keyId];
  for (const [parameter, dimension] of [
    ["team_id", "team_id"],
    ["internal_user_id", "user_id"],
    ["customer_id", "end_user"],
    ["model", "model"],
  ] as const) {
    const value = query.get(parameter);
    if (value !== null) only[dimension] = [value];
  }
  return only;
}

async function total({ books }: AdminParts): Promise<JsonObject> {
  const [sum] = await readSums(books, [], {});
  return { spend: usdNumber(sum?.cost ?? 0n), max_budget: 0 };
}

async function byDay(parts: AdminParts, request: RouteRequest): Promise<Json> {
  const only = await filterOf(parts, request.query);
  const sums = await readSums(parts.books, ["day"], { ...daysOf(request, parts), only });
  return sums.toReversed().map(({ day: date, cost }) => ({ date, spend: usdNumber(cost) }));
}

async function byTeamAndDay(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const sums = await readSums(parts.books, ["day", "team_id"], daysOf(request, parts));
  const names = await readNames(
    parts.books,
    "team",
    sums.map((sum) => sum.team_id),
  );
  const nameOf = (id: string) => names.get(id) ?? (id === "" ? "Unassigned" : id);
  const totals = new Map<string, bigint>();
  for (const { team_id, cost } of sums) totals.set(nameOf(team_id), (totals.get(nameOf(team_id)) ?? 0n) + cost);
  const days = Map.groupBy(sums, (sum) => sum.day);
  return {
    daily_spend: [...days].toReversed().map(([date, ofDay]) => ({
      date,
      ...Object.fromEntries(ofDay.map(({ team_id, cost }) => [nameOf(team_id), usdNumber(cost)])),
    })),
    teams: [...totals.keys()],
    total_spend_per_team: [...totals].map(([team_id, cost]) => ({ team_id, total_spend: usdNumber(cost) })),
  };
}

/** LiteLLM's names for what is listed. */
const topNames: Readonly<Record<string, string>> = {
  key_id: "api_key",
  model: "model",
  provider: "provider",
  user_id: "user_id",
};

async function top(parts: AdminParts, request: RouteRequest, by: Dimension): Promise<Json> {
  const limit = wholeNumber(request.query, "limit", { min: 1, max: listMax, otherwise: 100 });
  const userId = request.query.get("user_id");
  const only = by === "user_id" && userId !== null ? { user_id: [userId] } : {};
  const sums = await readSums(parts.books, [by], { ...daysOf(request, parts), only }, { limit });
  const names =
    by === "key_id"
      ? await readNames(
          parts.books,
          "key",
          sums.map((sum) => sum.key_id),
        )
      : new Map();
  return sums
    .filter((sum) => sum[by] !== "")
    .map((sum) => ({
      [topNames[by] ?? by]: sum[by],
      ...(by === "key_id"
        ? { key_alias: names.get(sum.key_id) ?? null, key_name: names.get(sum.key_id) ?? sum.key_id }
        : {}),
      total_spend: usdNumber(sum.cost),
      spend: usdNumber(sum.cost),
    }));
}

async function tags(parts: AdminParts, request: RouteRequest): Promise<Json | Text> {
  const wanted = request.query.get("tags");
  const only = wanted === null ? {} : { tag: wanted.split(",") };
  const sums = await readSums(parts.books, ["tag"], { ...daysOf(request, parts), only }, { limit: listMax });
  if (isCsv(request)) {
    const rows = sums.map((sum) => [sum.tag, formatUsd(sum.cost), sum.successes + sum.failures]);
    return new Text("text/csv; charset=utf-8; header=present", writeCsv(["tag", "spend_usd", "requests"], rows));
  }
  return sums.map((sum) => ({
    individual_request_tag: sum.tag,
    name: sum.tag,
    log_count: Number(sum.successes + sum.failures),
    total_spend: usdNumber(sum.cost),
    spend: usdNumber(sum.cost),
  }));
}

async function tagNames({ books }: AdminParts): Promise<JsonObject> {
  const sums = await readSums(books, ["tag"], {}, { limit: listMax });
  return { tag_names: sums.map(({ tag }) => tag).sort() };
}

async function endUsers(parts: AdminParts, request: RouteRequest): Promise<Json> {
  const body = await request.body();
  const text = (name: string) => (typeof body[name] === "string" ? (body[name] as string) : undefined);
  const keyId = await payerOf(parts.keys, text("api_key") ?? "");
  const filter: SumFilter = {
    from: text("startTime")?.slice(0, 10),
    to: text("endTime")?.slice(0, 10),
    only: keyId === undefined ? {} : { key_id: [keyId] },
  };
  for (const [name, value] of [
    ["startTime", filter.from],
    ["endTime", filter.to],
  ] as const) {
    if (value !== undefined && !/^\d{4}-\d{2}-\d{2}$/.test(value))
      throw invalid(name, "must be a time, such as 2026-11-26T00:00:00Z.");
  }
  const sums = await readSums(parts.books, ["end_user"], filter, { limit: 100 });
  return sums.map((sum) => ({
    end_user: sum.end_user,
    total_spend: usdNumber(sum.cost),
    total_count: Number(sum.successes + sum.failures),
  }));
}

async function activity(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  return activityOf(await readSums(parts.books, ["day"], daysOf(request, parts)));
}

async function activityByModel(parts: AdminParts, request: RouteRequest): Promise<Json> {
  const sums = await readSums(parts.books, ["day", "model_group"], daysOf(request, parts));
  return [...Map.groupBy(sums, (sum) => sum.model_group)].map(([model, ofModel]) => ({
    model,
    ...activityOf(ofModel),
  }));
}

function activityOf(sums: readonly SpendSum[]): JsonObject {
  const all = addUp(sums);
  return {
    daily_data: sums.toReversed().map((sum) => ({
      date: sum.day,
      api_requests: Number(sum.successes + sum.failures),
      total_tokens: tokensOf(sum),
    })),
    sum_api_requests: Number(all.successes + all.failures),
    sum_total_tokens: tokensOf(all),
  };
}

async function dailyActivity(
  parts: AdminParts,
  request: RouteRequest,
  { dimension, parameter }: { readonly dimension: Dimension; readonly parameter: string },
): Promise<JsonObject> {
  const { query } = request;
  for (const name of ["start_date", "end_date"])
    if (!query.has(name)) throw invalid(name, "is missing: a day, such as 2026-11-26.");
  const page = wholeNumber(query, "page", { min: 1, max: 1_000_000, otherwise: 1 });
  const size = wholeNumber(query, "page_size", { min: 1, max: 1_000, otherwise: 1_000 });
  const ids = query
    .getAll(parameter)
    .flatMap((list) => list.split(","))
    .filter((id) => id !== "");
  const only = { ...(await filterOf(parts, query)), ...(ids.length > 0 ? { [dimension]: ids } : {}) };
  const filter = { ...daysOf(request, parts), only };
  const parties: readonly Dimension[] = dimension === "end_user" || dimension === "tag" ? [dimension] : [];
  // A page is of days; a period of days has few of them.
  const days = await readSums(parts.books, ["day", ...parties], filter);
  const dates = [...new Set(days.map((sum) => sum.day))];
  const shown = dates.slice((page - 1) * size, page * size);
  const [first, last] = [shown.at(-1), shown[0]];
  const details =
    first === undefined || last === undefined
      ? []
      : await readSums(parts.books, ["day", dimension, "model", "model_group", "provider", "key_id"], {
          ...filter,
          from: first,
          to: last,
        });
  const aliases = await readNames(
    parts.books,
    "key",
    details.map((sum) => sum.key_id),
  );
  const byDate = Map.groupBy(details, (sum) => sum.day);
  const totals = metricsOf(days);
  return {
    results: shown.map((date) => ({
      date,
      metrics: metricsOf(byDate.get(date) ?? []),
      breakdown: {
        mcp_servers: {},
        endpoints: {},
        models: breakdown(byDate.get(date) ?? [], "model"),
        model_groups: breakdown(byDate.get(date) ?? [], "model_group"),
        providers: breakdown(byDate.get(date) ?? [], "provider"),
        api_keys: breakdown(byDate.get(date) ?? [], "key_id", (id) => ({ key_alias: aliases.get(id) ?? null })),
        entities: breakdown(byDate.get(date) ?? [], dimension),
      },
    })),
    metadata: {
      ...Object.fromEntries(
        Object.entries(totals).map(([name, value]) => [name.startsWith("total_") ? name : `total_${name}`, value]),
      ),
      page,
      total_pages: Math.ceil(dates.length / size),
      has_more: page * size < dates.length,
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
      id === "" ? [] : [[id, { metrics: metricsOf(group), metadata: metadata(id) }]],
    ),
  );
}

function metricsOf(sums: readonly SpendSum[]): JsonObject {
  const all = addUp(sums);
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
