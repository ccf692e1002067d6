/** LiteLLM's /spend/logs. */

import type { Json, JsonObject } from "../completion.ts";
import { formatUsd, usdNumber } from "../money.ts";
import { type AdminParts, payerOf } from "./admin.ts";
import { checkQuery, day, wantsCsv, wholeNumber } from "./http-query.ts";
import { csv } from "./http-report-parts.ts";
import type { ManagementRoute, ManagementRoutes, RouteRequest, Text } from "./http-route.ts";
import { invalid } from "./key-fields.ts";
import { countSpend, readSpend, type SpendDays, type SpendEntry, type SpendFilter } from "./spend-reader.ts";
import { addUp, readSums, type SpendSum } from "./spend-sums.ts";

/** Filters of LiteLLM's that would silently be passed over. */
const notServed = ["team_id", "model", "model_id", "end_user", "key_alias", "status_filter", "min_spend", "max_spend"];
/** A table with more rows is refused: all of them are in memory at once. */
const tableRowsMax = 100_000;
/** A page that begins beyond so many rows is refused: the database would have to go through all of them. */
const skippedRowsMax = 100_000;

/** The routes, by path. */
export const spendRoutes: ManagementRoutes = {
  "/spend/logs": spendRoute(logs),
  "/spend/logs/v2": spendRoute(pages),
  "/spend/logs/ui": spendRoute(pages),
};

function spendRoute(answer: ManagementRoute["answer"]): ManagementRoute {
  return {
    method: "GET",
    access: "scoped",
    answer(parts, request) {
      checkQuery(request.query);
      for (const name of notServed) {
        if (request.query.has(name)) {
          throw invalid(
            name,
            "is no filter here. Ask by `api_key`, `user_id`, `request_id`, `start_date` and `end_date`.",
          );
        }
      }
      return answer(parts, request);
    },
  };
}

/** Rows, newest first; with both dates, and unless `summarize=false`, the sums of days. */
async function logs(parts: AdminParts, request: RouteRequest): Promise<Json | Text> {
  const { query } = request;
  const filter = await filterOf(parts, query);
  const limit = wholeNumber(query, "limit", { min: 1, max: 1000, otherwise: 100 });
  const isSummary = wantsSummary(query) && filter.days !== undefined && filter.callId === undefined;
  if (wantsCsv(request)) return table(parts, filter, query.has("limit") ? limit : undefined);
  if (isSummary) return summary(parts, filter);
  return (await readSpend(parts.books, filter, { limit })).map(rowOf);
}

/** Rows by pages, newest first. */
async function pages(parts: AdminParts, request: RouteRequest): Promise<Json | Text> {
  const { query } = request;
  const page = wholeNumber(query, "page", { min: 1, max: 1_000_000, otherwise: 1 });
  const size = wholeNumber(query, "page_size", { min: 1, max: 100, otherwise: 50 });
  const filter = await filterOf(parts, query);
  if (filter.days === undefined && filter.callId === undefined) {
    throw invalid("start_date", "is missing. Send `start_date` and `end_date`, days such as 2026-11-26.");
  }
  if (wantsCsv(request)) return table(parts, filter, undefined);
  const offset = (page - 1) * size;
  if (offset > skippedRowsMax) {
    throw invalid("page", `begins beyond row ${skippedRowsMax}. Ask for fewer days, or page through ListSpend.`);
  }
  const [rows, total] = await Promise.all([
    readSpend(parts.books, filter, { offset, limit: size }),
    countSpend(parts.books, filter),
  ]);
  return { data: rows.map(rowOf), total, page, page_size: size, total_pages: Math.ceil(total / size) };
}

async function filterOf({ keys, timeZone, operator }: AdminParts, query: URLSearchParams): Promise<SpendFilter> {
  const [from, to] = [day(query, "start_date"), day(query, "end_date")];
  let days: SpendDays | undefined;
  if (from !== undefined || to !== undefined) {
    if (from === undefined) throw invalid("start_date", "is missing. Send it together with `end_date`.");
    if (to === undefined) throw invalid("end_date", "is missing. Send it together with `start_date`.");
    if (from > to) throw invalid("start_date", "must not be after `end_date`.");
    days = { from, to, timeZone };
  }
  return operator.ownSpend({
    days,
    keyId: await payerOf(keys, query.get("api_key") ?? ""),
    callId: query.get("request_id") ?? undefined,
    userId: query.get("user_id") || undefined,
  });
}

function wantsSummary(query: URLSearchParams): boolean {
  const text = query.get("summarize") ?? "true";
  if (!/^(?:true|false|1|0)$/i.test(text)) throw invalid("summarize", "must be true or false.");
  return /^(?:true|1)$/i.test(text);
}

/** LiteLLM's sums of days: of users, of models, and of each key under its own id. From the sums, not from the log. */
async function summary({ books }: AdminParts, { keyId, userId, days }: SpendFilter): Promise<Json> {
  const only = {
    ...(keyId === undefined ? {} : { key_id: [keyId] }),
    ...(userId === undefined ? {} : { user_id: [userId] }),
  };
  const sums = await readSums(books, ["day", "key_id", "user_id", "model"], { from: days?.from, to: days?.to, only });
  return [...Map.groupBy(sums, (sum) => sum.day)].toReversed().map(([startTime, ofDay]) => ({
    ...costsBy(ofDay, "key_id"),
    startTime,
    spend: usdNumber(addUp(ofDay).cost),
    users: costsBy(ofDay, "user_id"),
    models: costsBy(ofDay, "model"),
  }));
}

function costsBy(sums: readonly SpendSum[], by: "key_id" | "user_id" | "model"): JsonObject {
  const groups = Map.groupBy(sums, (sum) => sum[by]);
  return Object.fromEntries([...groups].map(([id, group]) => [id, usdNumber(addUp(group).cost)]));
}

/** Rows with exact amounts, for accountants. @throws GatewayError `invalid_request` if all of them are too many. */
async function table({ books }: AdminParts, filter: SpendFilter, limit: number | undefined): Promise<Text> {
  const entries = await readSpend(books, filter, { limit: limit ?? tableRowsMax + 1 });
  if (entries.length > tableRowsMax) {
    throw invalid("start_date", `and the other filters leave more than ${tableRowsMax} rows. Ask for fewer days.`);
  }
  const names = [
    ...["request_id", "attempt", "start_time", "end_time", "status", "api_key", "key_alias", "team_id", "user_id"],
    ...[
      "organization_id",
      "customer",
      "model_group",
      "model",
      "provider",
      "spend_usd",
      "input_tokens",
      "output_tokens",
    ],
    ...[
      "cache_read_input_tokens",
      "cache_write_input_tokens",
      "reasoning_tokens",
      "tags",
      "price_version",
      "cache_hit",
    ],
  ];
  return csv(
    names,
    entries.map((entry) => [
      ...[entry.callId, String(entry.attempt), entry.startedAt.toISOString(), entry.endedAt?.toISOString() ?? ""],
      ...[entry.status, entry.keyId, entry.keyAlias ?? "", entry.teamId, entry.userId, entry.organizationId],
      ...[entry.endUser, entry.modelGroup, entry.model, entry.provider, formatUsd(entry.cost)],
      ...[entry.inputTokens, entry.outputTokens, entry.cacheReadInputTokens, entry.cacheWriteInputTokens],
      ...[entry.reasoningOutputTokens, entry.tags.join(" "), entry.priceVersion, String(entry.cacheHit)],
    ]),
  );
}

/** What LiteLLM calls the operations besides chat. */
export const callTypes: Readonly<Record<string, string>> = {
  embeddings: "aembedding",
  text_completion: "atext_completion",
  moderation: "amoderation",
  rerank: "arerank",
  image_generation: "aimage_generation",
  speech: "aspeech",
  transcription: "atranscription",
  translation: "atranscription",
};

/** A row with LiteLLM's names. What LiteLLM has no name for is in `metadata`. */
function rowOf(entry: SpendEntry): JsonObject {
  return {
    request_id: entry.callId,
    call_type: callTypes[entry.operation] ?? "acompletion",
    api_key: entry.keyId,
    spend: usdNumber(entry.cost),
    total_tokens: Number(entry.inputTokens + entry.outputTokens),
    prompt_tokens: Number(entry.inputTokens),
    completion_tokens: Number(entry.outputTokens),
    startTime: entry.startedAt.toISOString(),
    endTime: entry.endedAt?.toISOString() ?? null,
    completionStartTime: entry.firstOutputAt?.toISOString() ?? null,
    model: entry.model,
    model_id: entry.deploymentId,
    model_group: entry.modelGroup,
    custom_llm_provider: entry.provider,
    api_base: "",
    user: entry.userId,
    metadata: metadataOf(entry),
    cache_hit: entry.cacheHit ? "True" : "False",
    cache_key: "Cache OFF",
    request_tags: [...entry.tags],
    team_id: entry.teamId || null,
    organization_id: entry.organizationId || null,
    end_user: entry.endUser,
    requester_ip_address: null,
    messages: {},
    response: {},
    session_id: entry.traceId,
    status: entry.status === "success" ? "success" : "failure",
    mcp_namespaced_tool_name: null,
    agent_id: null,
    proxy_server_request: {},
  };
}

function metadataOf(entry: SpendEntry): JsonObject {
  return {
    user_api_key: entry.keyId,
    user_api_key_alias: entry.keyAlias ?? null,
    user_api_key_team_id: entry.teamId || null,
    user_api_key_user_id: entry.userId || null,
    user_api_key_org_id: entry.organizationId || null,
    status: entry.status,
    attempt: entry.attempt,
    operation: entry.operation,
    pod_id: entry.podId,
    price_version: entry.priceVersion,
    provider_response_id: entry.providerResponseId,
    usage_estimated: entry.usageEstimated,
    usage_object: {
      prompt_tokens: Number(entry.inputTokens),
      completion_tokens: Number(entry.outputTokens),
      cache_read_input_tokens: Number(entry.cacheReadInputTokens),
      cache_creation_input_tokens: Number(entry.cacheWriteInputTokens),
      reasoning_tokens: Number(entry.reasoningOutputTokens),
    },
  };
}
