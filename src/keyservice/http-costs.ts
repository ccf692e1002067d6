/** LiteLLM's /spend/calculate and /cost/estimate. */

import { z } from "zod";
import type { JsonObject } from "../completion.ts";
import { usdNumber } from "../money.ts";
import type { AdminParts } from "./admin.ts";
import { estimateCost, likelyTokens } from "./cost-estimates.ts";
import { readBody } from "./http-key-body.ts";
import type { ManagementRoutes, RouteRequest } from "./http-route.ts";
import { invalid } from "./key-fields.ts";

const picosPerUsd = 1e12;

const count = z.number("must be a whole number.");
const calculateBody = z.looseObject({
  model: z.string("must be the name of a model.").nullish(),
  messages: z.array(z.record(z.string(), z.json()), "must be a list of messages.").nullish(),
  completion_response: z
    .looseObject(
      {
        model: z.string("must be an answer with its `model`.").nullish(),
        usage: z.looseObject(
          {
            prompt_tokens: count,
            completion_tokens: count,
            prompt_tokens_details: z.looseObject({ cached_tokens: count.nullish() }).nullish(),
          },
          "must be an answer with its `usage`.",
        ),
      },
      "must be an answer with its `usage`.",
    )
    .nullish(),
});
const times = z.number("must be a number.").min(0, "must not be negative.").max(1e12, "is too large.").nullish();
const estimateBody = z.looseObject({
  model: z.string("must be the name of a model."),
  input_tokens: count,
  output_tokens: count,
  num_requests_per_day: times,
  num_requests_per_month: times,
});

/** The routes, by path. */
export const costRoutes: ManagementRoutes = {
  "/spend/calculate": { method: "POST", access: "viewer", answer: calculate },
  "/cost/estimate": { method: "POST", access: "viewer", answer: estimate },
};

/** Of an answer; or of messages, whose tokens are told from their length, and of nothing that would be answered. */
async function calculate({ models, clock }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { model: named, messages, completion_response: answer } = readBody(calculateBody, await request.body());
  if (answer == null && (messages == null || messages.length === 0)) {
    throw invalid(
      "completion_response",
      "is missing: send an answer with its `usage`, or `messages`. For numbers of tokens there is /cost/estimate.",
    );
  }
  const model = named ?? answer?.model;
  if (model === undefined || model === null) throw invalid("model", "is missing.");
  const usage = answer?.usage ?? { prompt_tokens: likelyTokens(messages ?? []), completion_tokens: 0 };
  const { prompt_tokens, completion_tokens, prompt_tokens_details: details } = usage;
  const field = answer == null ? "messages" : "completion_response";
  const { cost } = await estimateCost(models, {
    model,
    tokens: {
      inputTokens: prompt_tokens,
      outputTokens: completion_tokens,
      cacheReadInputTokens: details?.cached_tokens ?? 0,
      cacheWriteInputTokens: 0,
    },
    names: {
      ...{ model: "model", inputTokens: field, outputTokens: field },
      ...{ cacheReadInputTokens: field, cacheWriteInputTokens: field },
    },
    nowMs: clock.nowMs(),
  });
  return { cost: usdNumber(cost) };
}

async function estimate({ models, clock }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const asked = readBody(estimateBody, await request.body());
  const { model, input_tokens, output_tokens } = asked;
  const found = await estimateCost(models, {
    model,
    tokens: {
      ...{ inputTokens: input_tokens, outputTokens: output_tokens },
      ...{ cacheReadInputTokens: 0, cacheWriteInputTokens: 0 },
    },
    names: {
      ...{ model: "model", inputTokens: "input_tokens", outputTokens: "output_tokens" },
      ...{ cacheReadInputTokens: "input_tokens", cacheWriteInputTokens: "input_tokens" },
    },
    nowMs: clock.nowMs(),
  });
  const [cost, input, output] = [usdNumber(found.cost), usdNumber(found.input), usdNumber(found.output)];
  const over = (period: string, requests: number | null | undefined): JsonObject => {
    const of = (amount: number) => (typeof requests === "number" ? amount * requests : null);
    return { [`${period}_cost`]: of(cost), [`${period}_input_cost`]: of(input), [`${period}_output_cost`]: of(output) };
  };
  const { num_requests_per_day: daily = null, num_requests_per_month: monthly = null } = asked;
  return {
    ...{ model, input_tokens, output_tokens, num_requests_per_day: daily, num_requests_per_month: monthly },
    ...{ cost_per_request: cost, input_cost_per_request: input, output_cost_per_request: output },
    ...over("daily", daily),
    ...over("monthly", monthly),
    input_cost_per_token: Number(found.price.inputPicos) / picosPerUsd,
    output_cost_per_token: Number(found.price.outputPicos) / picosPerUsd,
    provider: found.provider ?? null,
  };
}
