/** Amazon Bedrock's Converse: how hard a model is to think, in the words of its maker. */

import type { Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/param-policy.ts";
import { dropOrRefuse } from "./chat-params.ts";
import { unreadable } from "./chat-parts.ts";
import { claudeTraits } from "./claude-models.ts";
import { objectOf, textOf } from "./json.ts";
import { claudeBudgetMin, thinkingBudgets } from "./thinking-budgets.ts";

/** What goes into the model's own fields, and what into Converse's. */
export interface Thinking {
  readonly fields: { readonly [key: string]: Json };
  readonly effort: string | undefined;
}

/** What decides about thinking besides the request. */
export interface ThinkingFacts {
  readonly model: string;
  readonly provider: string;
  readonly params: ParamPolicy;
  /** The cap on all output: what is thought counts against it. */
  readonly outputTokensMax: number | undefined;
}

/** @throws ProviderFailure `invalid_request` if the model cannot be told, and nobody allowed to leave it out. */
export function encodeThinking(body: JsonObject, facts: ThinkingFacts): Thinking {
  const { model } = facts;
  const own = objectOf(body.thinking);
  const effort = textOf(body.reasoning_effort) ?? textOf(objectOf(body.reasoning_effort)?.effort);
  if (own !== undefined) return { fields: { thinking: own }, effort: undefined };
  if (effort === undefined || effort === "default") return nothing;
  if (model.includes("gpt-oss")) return { fields: { reasoning_effort: effort }, effort: undefined };
  if (effort === "none" || effort === "disable") return nothing;
  if (model.includes("nova")) {
    return { fields: { reasoningConfig: { type: "enabled", maxReasoningEffort: effort } }, effort: undefined };
  }
  if (/anthropic|claude/.test(model)) return claudeThinking(effort, facts);
  dropOrRefuse("reasoning_effort", body, facts.params, facts.provider);
  return nothing;
}

const nothing: Thinking = { fields: {}, effort: undefined };

function claudeThinking(effort: string, { model, outputTokensMax }: ThinkingFacts): Thinking {
  const budget = thinkingBudgets[effort];
  if (budget === undefined)
    throw unreadable("reasoning_effort", "must be one of none, minimal, low, medium, high, xhigh and max");
  if (claudeTraits(model).isAdaptive) {
    return { fields: { thinking: { type: "adaptive" } }, effort: effort === "minimal" ? "low" : effort };
  }
  // Something must be left to answer with.
  const room = (outputTokensMax ?? Number.MAX_SAFE_INTEGER) - 1;
  if (room < claudeBudgetMin) return nothing;
  const tokens = Math.max(claudeBudgetMin, Math.min(budget, room));
  return { fields: { thinking: { type: "enabled", budget_tokens: tokens } }, effort: undefined };
}
