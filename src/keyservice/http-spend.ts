/** LiteLLM's /spend/logs. */

import type { Json, JsonObject } from "../completion.ts";
import { usdNumber } from "../money.ts";
import { type AdminParts, payerOf } from "./admin.ts";
import { wholeNumber } from "./http-query.ts";
import type { ManagementRoutes, RouteRequest } from "./http-route.ts";
import { invalid } from "./key-fields.ts";
import { readSpend, type SpendEntry } from "./spend-reader.ts";

/** Filters of LiteLLM's that would silently be passed over. */
const notServed = ["user_id", "start_date", "end_date", "summarize"];

/** The routes, by path. */
export const spendRoutes: ManagementRoutes = { "/spend/logs": { method: "GET", masterOnly: true, answer: logs } };

/** Newest first; by `api_key`, by `request_id`, or all. */
async function logs({ keys, books }: AdminParts, { query }: RouteRequest): Promise<Json> {
  for (const name of notServed) {
    if (query.has(name)) throw invalid(name, "is not served yet. Ask by `api_key` or `request_id`.");
  }
  const limit = wholeNumber(query, "limit", { min: 1, max: 1000, otherwise: 100 });
  const keyId = await payerOf(keys, query.get("api_key") ?? "");
  const callId = query.get("request_id") ?? undefined;
  const entries = await readSpend(books, { keyId, callId }, { after: undefined, limit });
  return entries.map(rowOf);
}

/** A row with LiteLLM's names. What LiteLLM has no name for is in `metadata`. */
function rowOf(entry: SpendEntry): JsonObject {
  return {
    request_id: entry.callId,
    call_type: "acompletion",
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
    user: entry.userId ?? "",
    metadata: metadataOf(entry),
    cache_hit: "False",
    cache_key: "Cache OFF",
    request_tags: [...entry.tags],
    team_id: entry.teamId ?? null,
    organization_id: null,
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
    user_api_key_team_id: entry.teamId ?? null,
    user_api_key_user_id: entry.userId ?? null,
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
