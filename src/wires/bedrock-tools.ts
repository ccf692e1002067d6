/** Amazon Bedrock's Converse: the tools of a request, and how an answer is brought to be JSON. */

import type { Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/param-policy.ts";
import { type FormatPlan, jsonToolName, planFormat } from "./anthropic-format.ts";
import { cachePoint } from "./bedrock-messages.ts";
import { dropOrRefuse } from "./chat-params.ts";
import { readCacheTtl, unreadable } from "./chat-parts.ts";
import type { Turn } from "./chat-turns.ts";
import { claudeTraits } from "./claude-models.ts";
import { arrayOf, objectOf, textOf } from "./json.ts";

/** Models that hold to a schema by themselves, besides Claude's (AWS's list). */
const structured = /gpt-oss|qwen3|deepseek\.v3|gemma|minimax|mistral-large-3|ministral|magistral|kimi|nemotron/;
/** Models that can be made to call a tool (AWS's list). */
const obedient = /anthropic|claude|nova/;

/** How an answer's format is brought about by a model. @returns undefined for plain text. */
export function planBedrockFormat(body: JsonObject, model: string): FormatPlan | undefined {
  // Of a name that is not Claude's nothing is known: then a tool does it.
  const plan = planFormat(body.response_format, claudeTraits(model));
  if (plan === undefined || objectOf(body.response_format)?.type !== "json_schema" || !structured.test(model))
    return plan;
  return { ...plan, by: "model" };
}

/** What decides about tools besides the request. */
export interface ToolFacts {
  readonly model: string;
  readonly provider: string;
  readonly params: ParamPolicy;
  readonly plan: FormatPlan | undefined;
  /** A model that thinks cannot be made to call a tool. */
  readonly isThinking: boolean;
}

/** The tools, and which of them must be called. A conversation with calls in it wants tools, so those called are named again. */
export function encodeToolConfig(body: JsonObject, turns: readonly Turn[], facts: ToolFacts): JsonObject | undefined {
  const tools = encodeTools(body);
  const choice = body.tool_choice ?? body.function_call;
  if (facts.plan?.by === "tool") return jsonTools(tools, facts.plan.schema, facts);
  const called = new Set(
    turns.flatMap((turn) => (turn.role === "assistant" ? turn.calls.map(({ name }) => name) : [])),
  );
  if (choice === "none") {
    if (called.size === 0) return undefined;
    // What was called must be named, and nothing named can be forbidden.
    dropOrRefuse("tool_choice", body, facts.params, facts.provider);
  }
  if (tools.length > 0) {
    const toolChoice = choice === "none" ? undefined : encodeToolChoice(choice);
    return { tools, ...(toolChoice !== undefined && { toolChoice }) };
  }
  if (called.size === 0) return undefined;
  return { tools: [...called].map((name) => ({ toolSpec: { name, inputSchema: { json: { type: "object" } } } })) };
}

/** A tool whose input is the answer. */
function jsonTools(tools: readonly JsonObject[], schema: JsonObject, { model, isThinking }: ToolFacts): JsonObject {
  const description = "Give your whole answer as the input of this tool.";
  const tool = { toolSpec: { name: jsonToolName, description, inputSchema: { json: schema } } };
  const forced = tools.length === 0 ? { tool: { name: jsonToolName } } : { any: {} };
  const isForced = obedient.test(model) && !isThinking;
  return { tools: [...tools, tool], ...(isForced && { toolChoice: forced }) };
}

function encodeTools(body: JsonObject): JsonObject[] {
  const tools = arrayOf(body.tools).flatMap((value, index) => {
    const tool = objectOf(value) ?? {};
    const declared = objectOf(tool.function);
    const cacheTtl = readCacheTtl(tool) ?? readCacheTtl(declared ?? {});
    const mark = cacheTtl === undefined ? [] : [cachePoint(cacheTtl)];
    if (declared !== undefined) return [encodeFunction(declared), ...mark];
    const own = objectOf(tool.systemTool) ?? objectOf(tool.toolSpec);
    if (own === undefined) throw unreadable(`tools[${index}].type`, 'must be "function"');
    return [tool, ...mark];
  });
  return [...tools, ...arrayOf(body.functions).map((value) => encodeFunction(objectOf(value) ?? {}))];
}

function encodeFunction(declared: JsonObject): JsonObject {
  const schema = objectOf(declared.parameters) ?? {};
  const description = textOf(declared.description);
  return {
    toolSpec: {
      name: declared.name ?? "",
      ...(description !== undefined && { description }),
      inputSchema: { json: { type: "object", ...schema } },
      ...(declared.strict === true && { strict: true }),
    },
  };
}

function encodeToolChoice(choice: Json | undefined): JsonObject | undefined {
  if (choice === undefined || choice === null) return undefined;
  if (choice === "auto") return { auto: {} };
  if (choice === "required" || choice === "any") return { any: {} };
  const named = objectOf(choice);
  const name = textOf(objectOf(named?.function)?.name ?? named?.name);
  if (name === undefined) throw unreadable("tool_choice", "must be auto, none, required, or name a function");
  return { tool: { name } };
}
