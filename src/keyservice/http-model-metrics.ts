/** LiteLLM's /model/metrics and /provider/budgets. */

import type { JsonObject } from "../completion.ts";
import { usdNumber } from "../money.ts";
import type { AdminParts } from "./admin.ts";
import { isoOf } from "./http-key-rows.ts";
import { checkQuery, day } from "./http-query.ts";
import { filterOf } from "./http-report-parts.ts";
import type { ManagementRoutes, RouteRequest } from "./http-route.ts";
import { readSums, type SpendSum } from "./spend-sums.ts";

const dayMs = 86_400_000;
const daysUsual = 30;

/** The routes, by path. */
export const modelMetricsRoutes: ManagementRoutes = {
  "/model/metrics": { method: "GET", access: "viewer", answer: metrics },
  "/provider/budgets": { method: "GET", access: "viewer", answer: providerBudgets },
};

/** How many seconds a token took, day by day, of each provider's model; those that wrote none are left out. */
async function metrics(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { query } = request;
  checkQuery(query);
  const group = query.get("_selected_model_group") ?? "";
  const customer = query.get("customer") ?? "";
  const nowMs = parts.clock.nowMs();
  const sums = await readSums(parts.books, ["day", "provider", "model"], {
    from: day(query, "startTime") ?? dayOf(nowMs - daysUsual * dayMs),
    // Where the books' days begin it may be tomorrow already.
    to: day(query, "endTime") ?? dayOf(nowMs + dayMs),
    only: {
      ...(await filterOf(parts, query)),
      ...(group === "" ? {} : { model_group: [group] }),
      ...(customer === "" || customer === "null" ? {} : { end_user: [customer] }),
    },
  });
  const timed = sums.filter(({ answerMs, outputTokens }) => answerMs > 0n && outputTokens > 0n);
  return {
    data: [...Map.groupBy(timed, (sum) => sum.day)].toReversed().map(([date, ofDay]) => ({
      date,
      ...Object.fromEntries(ofDay.map((sum) => [nameOf(sum), secondsPerToken(sum)])),
    })),
    all_api_bases: [...new Set(timed.map(nameOf))],
  };
}

/** The books know providers, not their addresses. */
function nameOf({ provider, model }: SpendSum): string {
  return provider === "" ? model : `${provider}/${model}`;
}

function secondsPerToken({ answerMs, outputTokens }: SpendSum): number {
  return Number(answerMs) / 1000 / Number(outputTokens);
}

function dayOf(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 10);
}

async function providerBudgets({ providerBudgets: budgets }: AdminParts): Promise<JsonObject> {
  const found = await budgets.list();
  return {
    providers: Object.fromEntries(
      found.map(({ provider, max, duration, spent, resetsAtMs }) => [
        provider,
        {
          budget_limit: usdNumber(max),
          time_period: duration,
          spend: usdNumber(spent),
          budget_reset_at: isoOf(resetsAtMs),
        },
      ]),
    ),
  };
}
