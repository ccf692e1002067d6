/** LiteLLM's reports: /global/spend*, /spend/tags and the like. */

import type { Json, JsonObject } from "../completion.ts";
import { formatUsd, usdNumber } from "../money.ts";
import type { AdminParts } from "./admin.ts";
import { payerOf } from "./admin.ts";
import { checkQuery, day, wantsCsv, wholeNumber } from "./http-query.ts";
import { amountCells, amountColumns, csv, daysOf, filterOf, refuseMixture, tokensOf } from "./http-report-parts.ts";
import type { ManagementRoute, ManagementRoutes, RouteRequest, Text } from "./http-route.ts";
import { invalid } from "./key-fields.ts";
import { addUp, type Dimension, readNames, readSums, type SpendSum, type SumFilter } from "./spend-sums.ts";

const topMax = 10_000;
const customersMax = 100;

/** The routes, by path. */
export const reportRoutes: ManagementRoutes = {
  "/global/spend/report": master(report),
  "/global/spend": master(total),
  "/global/spend/logs": master(byDay),
  "/global/spend/keys": master((parts, request) => top(parts, request, "key_id")),
  "/global/spend/teams": master(byTeamAndDay),
  "/global/spend/models": master((parts, request) => top(parts, request, "model")),
  "/global/spend/provider": master((parts, request) => top(parts, request, "provider")),
  "/global/spend/tags": master((parts, request) => tags(parts, request, "recent")),
  "/global/spend/all_tag_names": master(tagNames),
  "/global/spend/reset": { method: "POST", access: "master", answer: resetAll },
  "/global/spend/refresh": { method: "POST", access: "admin", answer: refresh },
  "/global/spend/end_users": { method: "POST", access: "viewer", answer: endUsers },
  "/global/activity": master(activity),
  "/global/activity/model": master(activityByModel),
  "/spend/tags": master((parts, request) => tags(parts, request, "ever")),
  "/tag/summary": master(tagSummary),
  "/spend/keys": master((parts, request) => top(parts, request, "key_id", "ever")),
  "/spend/users": master((parts, request) => top(parts, request, "user_id", "ever")),
};

function master(answer: ManagementRoute["answer"]): ManagementRoute {
  return {
    method: "GET",
    access: "viewer",
    answer(parts, request) {
      checkQuery(request.query);
      return answer(parts, request);
    },
  };
}

/** Which days a report is of when it does not say: the last 30, or all there are. */
type Otherwise = "recent" | "ever";

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
  refuseMixture([by], filter);
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
  if (wantsCsv(request)) {
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
    return csv(columns, rows);
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

async function total({ books }: AdminParts): Promise<JsonObject> {
  const [sum] = await readSums(books, [], {});
  return { spend: usdNumber(sum?.cost ?? 0n), max_budget: 0 };
}

/** What was booked stays booked: budgets count as unused. */
async function resetAll(parts: AdminParts): Promise<JsonObject> {
  await parts.resetSpend();
  return { message: "Spend for all API Keys and Teams reset successfully", status: "success" };
}

/** LiteLLM computes its reports anew here; ours are summed up as spend is booked, and never old. */
function refresh(): JsonObject {
  return { message: "Reports are summed up as spend is booked. There was nothing to refresh.", status: "success" };
}

async function byDay(parts: AdminParts, request: RouteRequest): Promise<Json | Text> {
  const only = await filterOf(parts, request.query);
  const sums = (await readSums(parts.books, ["day"], { ...daysOf(request, parts), only })).toReversed();
  if (wantsCsv(request)) {
    return csv(
      ["day", ...amountColumns],
      sums.map((sum) => [sum.day, ...amountCells(sum)]),
    );
  }
  return sums.map(({ day: date, cost }) => ({ date, spend: usdNumber(cost) }));
}

async function byTeamAndDay(parts: AdminParts, request: RouteRequest): Promise<JsonObject | Text> {
  const only = await filterOf(parts, request.query);
  const sums = await readSums(parts.books, ["day", "team_id"], { ...daysOf(request, parts), only });
  const names = await readNames(
    parts.books,
    "team",
    sums.map((sum) => sum.team_id),
  );
  const nameOf = (id: string) => names.get(id) ?? (id === "" ? "Unassigned" : id);
  if (wantsCsv(request)) {
    const rows = sums.map((sum) => [sum.day, names.get(sum.team_id) ?? "", sum.team_id, ...amountCells(sum)]);
    return csv(["day", "team_name", "team_id", ...amountColumns], rows);
  }
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

async function top(
  parts: AdminParts,
  request: RouteRequest,
  by: Exclude<Dimension, "day">,
  otherwise: Otherwise = "recent",
): Promise<Json | Text> {
  const limit = wholeNumber(request.query, "limit", { min: 1, max: topMax, otherwise: 100 });
  const only = await filterOf(parts, request.query);
  const filter: SumFilter = { ...daysOf(request, parts, otherwise), only, named: by };
  const sums = await readSums(parts.books, [by], filter, { limit });
  const ids = sums.map((sum) => sum[by]);
  const names = by === "key_id" ? await readNames(parts.books, "key", ids) : new Map<string, string>();
  if (wantsCsv(request)) {
    const isKey = by === "key_id";
    const rows = sums.map((sum) => [sum[by], ...(isKey ? [names.get(sum[by]) ?? ""] : []), ...amountCells(sum)]);
    return csv([topNames[by] ?? by, ...(isKey ? ["key_alias"] : []), ...amountColumns], rows);
  }
  return sums.map((sum) => ({
    [topNames[by] ?? by]: sum[by],
    ...(by === "key_id"
      ? { key_alias: names.get(sum.key_id) ?? null, key_name: names.get(sum.key_id) ?? sum.key_id }
      : {}),
    total_spend: usdNumber(sum.cost),
    spend: usdNumber(sum.cost),
  }));
}

async function tags(parts: AdminParts, request: RouteRequest, otherwise: Otherwise): Promise<Json | Text> {
  const wanted = request.query.get("tags");
  const only = { ...(await filterOf(parts, request.query)), ...(wanted === null ? {} : { tag: wanted.split(",") }) };
  refuseMixture(["tag"], { only });
  const sums = await readSums(parts.books, ["tag"], { ...daysOf(request, parts, otherwise), only });
  if (wantsCsv(request)) {
    const rows = sums.map((sum) => [sum.tag, formatUsd(sum.cost), sum.successes + sum.failures]);
    return csv(["tag", "spend_usd", "requests"], rows);
  }
  return sums.map((sum) => ({
    individual_request_tag: sum.tag,
    name: sum.tag,
    log_count: Number(sum.successes + sum.failures),
    total_spend: usdNumber(sum.cost),
    spend: usdNumber(sum.cost),
  }));
}

/** Each tag's calls and users; of the last 30 days unless it says otherwise. */
async function tagSummary(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { query } = request;
  const wanted = [query.get("tag_filter"), query.get("tag_filters")].flatMap((text) => text?.split(",") ?? []);
  const only = wanted.length === 0 ? {} : { tag: wanted };
  const sums = await readSums(parts.books, ["tag", "user_id"], { ...daysOf(request, parts, "recent"), only });
  const results = [...Map.groupBy(sums, ({ tag }) => tag)].map(([tag, ofTag]) => {
    const all = addUp(ofTag);
    return {
      tag,
      unique_users: ofTag.filter(({ user_id }) => user_id !== "").length,
      total_requests: Number(all.successes + all.failures),
      successful_requests: Number(all.successes),
      failed_requests: Number(all.failures),
      total_tokens: tokensOf(all),
      total_spend: usdNumber(all.cost),
    };
  });
  return { results: results.sort((a, b) => b.total_spend - a.total_spend || (a.tag < b.tag ? -1 : 1)) };
}

async function tagNames({ books }: AdminParts): Promise<JsonObject> {
  const sums = await readSums(books, ["tag"], {});
  return { tag_names: sums.map(({ tag }) => tag).sort() };
}

async function endUsers(parts: AdminParts, request: RouteRequest): Promise<Json> {
  checkQuery(request.query);
  const body = await request.body();
  const given = new URLSearchParams();
  for (const name of ["api_key", "startTime", "endTime"]) {
    const value = body[name] ?? "";
    if (typeof value !== "string") throw invalid(name, "must be a string.");
    if (value !== "") given.set(name, value);
  }
  checkQuery(given);
  const keyId = await payerOf(parts.keys, given.get("api_key") ?? "");
  const filter: SumFilter = {
    ...{ from: day(given, "startTime"), to: day(given, "endTime") },
    only: keyId === undefined ? {} : { key_id: [keyId] },
  };
  const sums = await readSums(parts.books, ["end_user"], filter, { limit: customersMax });
  return sums.map((sum) => ({
    end_user: sum.end_user,
    total_spend: usdNumber(sum.cost),
    total_count: Number(sum.successes + sum.failures),
  }));
}

async function activity(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const only = await filterOf(parts, request.query);
  return activityOf(await readSums(parts.books, ["day"], { ...daysOf(request, parts), only }));
}

async function activityByModel(parts: AdminParts, request: RouteRequest): Promise<Json> {
  const only = await filterOf(parts, request.query);
  const sums = await readSums(parts.books, ["day", "model_group"], { ...daysOf(request, parts), only });
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
