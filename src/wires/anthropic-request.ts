/** Anthropic's Messages: writing a request. Its answer is read by `anthropic-answer.ts` (whole) and `anthropic-stream.ts`. */

import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/param-policy.ts";
import { type FormatPlan, jsonToolName, planFormat } from "./anthropic-format.ts";
import { type Conversation, conversationOf, mended, usesTools } from "./anthropic-messages.ts";
import { toolChoiceOf, toolsOf } from "./anthropic-tools.ts";
import { changed, dropOrRefuse, fitParams, unsupported } from "./chat-params.ts";
import { type ClaudeTraits, claudeTraits } from "./claude-models.ts";
import { arrayOf, countOf, isObject, objectOf, textOf } from "./json.ts";
import { rewriteMembers } from "./json-spans.ts";
import { isGatewayField } from "./request-body.ts";
import { claudeBudgetMin, thinkingBudgets } from "./thinking-budgets.ts";

/** What a deployment wants to be sent. */
export interface MessagesTarget {
  /** The model in the provider's words. */
  readonly model: string;
  /** The output cap to send in place of the caller's; undefined keeps the caller's. */
  readonly outputTokensMax: number | undefined;
  /** The cap where nobody named one: Anthropic wants one. */
  readonly outputTokensDefault: number;
  /** As LiteLLM names it. */
  readonly provider: string;
  readonly params: ParamPolicy;
}

/** Members of the neutral form that have a place of their own in Anthropic's, or none. */
const translated: ReadonlySet<string> = new Set(
  `model messages stream stream_options max_tokens max_completion_tokens stop tools tool_choice parallel_tool_calls
   response_format reasoning_effort thinking user metadata service_tier web_search_options`.split(/\s+/),
);

/**
 * Writes the body for a provider. If the caller's body is in this wire, only what must differ is replaced and everything else
 * stays byte for byte; else it is written from the neutral form. Fields that speak to the gateway are left out.
 *
 * @throws ProviderFailure `invalid_request` for what the provider cannot be asked.
 */
export function encodeMessagesRequest(request: CompletionRequest, target: MessagesTarget): Buffer {
  if (request.wire === "anthropic-messages" && request.raw !== undefined) return spliced(request, target);
  return Buffer.from(JSON.stringify(messagesBody(request, target)));
}

/** Whether an answer comes as calls of a tool that stands for a JSON format. */
export function readsJsonTool(request: CompletionRequest, model: string): boolean {
  return planFormat(request.chat().response_format, claudeTraits(model))?.by === "tool";
}

function spliced({ raw }: CompletionRequest, target: MessagesTarget): Buffer {
  if (raw === undefined) throw new Error("nothing to splice");
  const value = raw.value;
  const changes = fitParams(value, { ...target.params, lacks: new Set() }, target.provider);
  for (const key of raw.spans.keys()) if (isGatewayField(key)) changes.set(key, undefined);
  changes.set("model", target.model);
  const cap = target.outputTokensMax;
  if (cap !== undefined && value.max_tokens !== cap) changes.set("max_tokens", cap);
  // Anthropic refuses any other member; LiteLLM's clients put tags there.
  const metadata = objectOf(value.metadata);
  if (metadata !== undefined && Object.keys(metadata).some((key) => key !== "user_id")) {
    changes.set("metadata", metadata.user_id === undefined ? undefined : { user_id: metadata.user_id });
  }
  const texts = new Map<string, string | undefined>();
  for (const [key, change] of changes) texts.set(key, change === undefined ? undefined : JSON.stringify(change));
  return rewriteMembers(raw, texts);
}

function messagesBody(request: CompletionRequest, target: MessagesTarget): JsonObject {
  const given = request.chat();
  const body = changed(given, fitParams(given, target.params, target.provider));
  const traits = claudeTraits(target.model);
  const plan = planFormat(body.response_format, traits);
  const conversation = target.params.modifies ? mended(conversationOf(body)) : conversationOf(body);
  const cap = target.outputTokensMax ?? request.outputTokensMax;
  const thinking = thinkingOf(body, conversation, { cap, traits, target });
  const system = conversation.system;
  return {
    model: target.model,
    max_tokens: cap ?? target.outputTokensDefault + (countOf(objectOf(thinking?.thinking)?.budget_tokens) ?? 0),
    ...(system.length > 0 && { system }),
    messages: conversation.messages,
    ...toolFields(body, conversation, { plan, isThinking: thinking?.thinking !== undefined, traits, target }),
    ...stopField(body, target.params),
    ...userField(body),
    ...tierField(body, target),
    ...passed(body, traits, target),
    ...outputConfig(body, plan, thinking?.effort),
    ...(thinking?.thinking !== undefined && { thinking: thinking.thinking }),
    ...(request.stream && { stream: true }),
  };
}

/** What is neither translated nor the gateway's: sampling, and what Anthropic knows and OpenAI does not. */
function passed(body: JsonObject, traits: ClaudeTraits, target: MessagesTarget): JsonObject {
  const fields: JsonObject = {};
  for (const [key, value] of Object.entries(body)) {
    if (translated.has(key) || isGatewayField(key) || value === null) continue;
    if (!traits.takesSampling && (key === "temperature" || key === "top_p" || key === "top_k")) {
      // The default is all these models have.
      if (value !== 1 || key === "top_k") dropOrRefuse(key, body, target.params, target.provider);
      continue;
    }
    fields[key] = value;
  }
  return fields;
}

interface ToolFacts {
  readonly plan: FormatPlan | undefined;
  readonly isThinking: boolean;
  readonly traits: ClaudeTraits;
  readonly target: MessagesTarget;
}

function toolFields(body: JsonObject, conversation: Conversation, facts: ToolFacts): JsonObject {
  const { plan, target } = facts;
  const tools = toolsOf(body, facts.traits);
  const choice = toolChoiceOf(body);
  if (plan?.by === "tool") {
    const description = "Give your whole answer as the input of this tool.";
    const jsonTool = { name: jsonToolName, description, input_schema: plan.schema };
    // A model that thinks cannot be made to call a tool.
    const forced = tools.length === 0 ? { type: "tool", name: jsonToolName } : { type: "any" };
    return { tools: [...tools, jsonTool], tool_choice: facts.isThinking ? { type: "auto" } : forced };
  }
  if (tools.length > 0) return { tools, ...(choice !== undefined && { tool_choice: choice }) };
  if (!usesTools(conversation)) return {};
  if (!target.params.modifies) {
    throw unsupported(
      "tools",
      "The messages hold tool calls, so Anthropic wants `tools` too. Send them, or set `modify_params`.",
    );
  }
  return {
    tools: [{ name: "dummy_tool", description: "Not to be called.", input_schema: { type: "object", properties: {} } }],
  };
}

function stopField(body: JsonObject, params: ParamPolicy): JsonObject {
  const given = typeof body.stop === "string" ? [body.stop] : arrayOf(body.stop);
  // Anthropic refuses sequences of blanks.
  const kept = params.drops ? given.filter((text) => typeof text !== "string" || text.trim() !== "") : given;
  return kept.length > 0 ? { stop_sequences: [...kept] } : {};
}

/** Anthropic wants an opaque id: an address or a telephone number is not sent on. */
function userField(body: JsonObject): JsonObject {
  const id = textOf(objectOf(body.metadata)?.user_id) ?? textOf(body.user);
  const isOpaque = id !== undefined && !/@|^\+?[\d\s()./-]{7,}$/.test(id);
  return isOpaque ? { metadata: { user_id: id } } : {};
}

function tierField(body: JsonObject, target: MessagesTarget): JsonObject {
  const tier = textOf(body.service_tier);
  if (tier === undefined) return {};
  if (tier === "auto" || tier === "priority") return { service_tier: "auto" };
  if (tier === "default" || tier === "standard_only") return { service_tier: "standard_only" };
  dropOrRefuse("service_tier", body, target.params, target.provider);
  return {};
}

function outputConfig(body: JsonObject, plan: FormatPlan | undefined, effort: Json | undefined): JsonObject {
  const config: JsonObject = {
    ...objectOf(body.output_config),
    ...(effort !== undefined && { effort }),
    ...(plan?.by === "model" && { format: { type: "json_schema", schema: plan.schema } }),
  };
  return Object.keys(config).length > 0 ? { output_config: config } : {};
}

interface ThinkingFacts {
  readonly cap: number | undefined;
  readonly traits: ClaudeTraits;
  readonly target: MessagesTarget;
}

/** How the model is asked to think: as the caller wrote it for Anthropic, or as OpenAI's effort is meant. */
function thinkingOf(
  body: JsonObject,
  conversation: Conversation,
  { cap, traits, target }: ThinkingFacts,
): { thinking?: JsonObject; effort?: Json } | undefined {
  const own = objectOf(body.thinking);
  const effort = textOf(body.reasoning_effort);
  if (own === undefined && (effort === undefined || effort === "none" || effort === "disable")) return undefined;
  // Without the blocks it thought before the call, the model refuses to go on thinking after it.
  if (target.params.modifies && lacksThinking(conversation)) return undefined;
  if (own !== undefined) {
    const isRefused = own.type === "enabled" && !traits.takesBudget && target.params.modifies;
    const thinking = isRefused ? { type: "adaptive" } : withinCap(own, cap);
    return {
      ...(thinking !== undefined && { thinking }),
      ...(effort !== undefined && traits.isAdaptive && { effort }),
    };
  }
  if (traits.isAdaptive) {
    return { thinking: { type: "adaptive" }, effort: effort === "minimal" ? "low" : (effort ?? "medium") };
  }
  const tokens = thinkingBudgets[effort ?? ""];
  if (tokens === undefined) throw unsupported("reasoning_effort", `\`reasoning_effort\` has no value "${effort}".`);
  const thinking = withinCap({ type: "enabled", budget_tokens: Math.max(claudeBudgetMin, tokens) }, cap);
  return thinking === undefined ? undefined : { thinking };
}

/** A budget must be smaller than the cap on all output; where a cap leaves no room for it, nothing is thought. */
function withinCap(thinking: JsonObject, cap: number | undefined): JsonObject | undefined {
  const budget = countOf(thinking.budget_tokens);
  if (thinking.type !== "enabled" || budget === undefined || cap === undefined || budget < cap) return thinking;
  return cap > claudeBudgetMin ? { ...thinking, budget_tokens: cap - 1 } : undefined;
}

function lacksThinking({ messages }: Conversation): boolean {
  const last = messages.findLast(({ role }) => role === "assistant");
  const types = (last?.content ?? []).filter(isObject).map(({ type }) => type);
  return types.includes("tool_use") && !types.some((type) => type === "thinking" || type === "redacted_thinking");
}
