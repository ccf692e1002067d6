/**
 * Amazon Bedrock's Converse: the request. Its messages are written by `bedrock-messages.ts`, its answer is read by
 * `bedrock-answer.ts` and `bedrock-stream.ts`.
 */

import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/config.ts";
import { cachePoint, encodeConversation } from "./bedrock-messages.ts";
import { strangeFields } from "./chat-fields.ts";
import { changed, dropOrRefuse, fitParams } from "./chat-params.ts";
import { readCacheTtl, unreadable } from "./chat-parts.ts";
import { readTurns, type Turn } from "./chat-turns.ts";
import { arrayOf, countOf, objectOf, textOf } from "./json.ts";

/** What a deployment wants to be sent. */
export interface BedrockTarget {
  /** The model's id, its inference profile's, or an ARN: it says whose words the model's own fields are in. */
  readonly model: string;
  /** The output cap to send in place of the caller's; undefined keeps the caller's. */
  readonly outputTokensMax: number | undefined;
  /** As LiteLLM names it. */
  readonly provider: string;
  readonly params: ParamPolicy;
}

type Fields = { [key: string]: Json | undefined };

/** Converse's own fields, which a caller may send beside OpenAI's. Others that are not OpenAI's are the model's own. */
const nativeFields: readonly string[] = [
  ...["guardrailConfig", "performanceConfig", "requestMetadata", "promptVariables"],
  "additionalModelResponseFieldPaths",
];

/**
 * Writes the body for Bedrock from the neutral form; the model is named in the path.
 *
 * @throws ProviderFailure `invalid_request` that names what cannot be written.
 */
export function encodeBedrockRequest(request: CompletionRequest, target: BedrockTarget): Buffer {
  const body = changed(request.chat(), fitParams(request.chat(), target.params, target.provider));
  if (body.parallel_tool_calls === false) dropOrRefuse("parallel_tool_calls", body, target.params, target.provider);
  const turns = readTurns(body);
  const outputTokensMax = target.outputTokensMax ?? request.outputTokensMax;
  const stop = typeof body.stop === "string" ? [body.stop] : body.stop;
  const inference = defined({
    maxTokens: outputTokensMax,
    temperature: given(body.temperature),
    topP: given(body.top_p),
    stopSequences: given(stop),
  });
  const fields: Fields = {
    ...encodeConversation(turns),
    inferenceConfig: Object.keys(inference).length === 0 ? undefined : inference,
    toolConfig: toolConfig(body, turns, target),
    outputConfig: outputConfig(body, target),
    serviceTier: serviceTier(body.service_tier),
    additionalModelRequestFields: modelFields(body, target, outputTokensMax),
  };
  for (const field of nativeFields) fields[field] = body[field];
  // JSON.stringify leaves out members that are undefined.
  return Buffer.from(JSON.stringify(fields));
}

/** The tools, and which of them must be called. A conversation with calls in it wants tools, so those called are named again. */
function toolConfig(body: JsonObject, turns: readonly Turn[], target: BedrockTarget): JsonObject | undefined {
  const tools = encodeTools(body);
  const called = new Set(
    turns.flatMap((turn) => (turn.role === "assistant" ? turn.calls.map(({ name }) => name) : [])),
  );
  const choice = body.tool_choice ?? body.function_call;
  if (choice === "none") {
    if (called.size === 0) return undefined;
    // What was called must be named, and nothing named can be forbidden.
    dropOrRefuse("tool_choice", body, target.params, target.provider);
  }
  if (tools.length === 0 && called.size > 0) {
    for (const name of called) tools.push({ toolSpec: { name, inputSchema: { json: { type: "object" } } } });
    return { tools };
  }
  if (tools.length === 0) return undefined;
  return defined({ tools, toolChoice: choice === "none" ? undefined : encodeToolChoice(choice) });
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
  return {
    toolSpec: defined({
      name: given(declared.name),
      description: textOf(declared.description),
      inputSchema: { json: { type: "object", ...schema } },
      strict: declared.strict === true ? true : undefined,
    }),
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

/** The schema goes as a text. */
function outputConfig(body: JsonObject, target: BedrockTarget): JsonObject | undefined {
  const format = objectOf(body.response_format);
  // JSON without a schema it does not know.
  if (format?.type === "json_object") dropOrRefuse("response_format", body, target.params, target.provider);
  if (format?.type !== "json_schema") return undefined;
  const given = objectOf(format.json_schema) ?? format;
  const jsonSchema = defined({
    schema: JSON.stringify(given.schema ?? {}),
    name: textOf(given.name),
    description: textOf(given.description),
  });
  return { textFormat: { type: "json_schema", structure: { jsonSchema } } };
}

function serviceTier(tier: Json | undefined): JsonObject | undefined {
  return typeof tier === "string" && tier !== "auto" ? { type: tier } : undefined;
}

/** LiteLLM's thinking budgets, in tokens. */
const thinkingBudgets: Readonly<Record<string, number>> = {
  ...{ minimal: 1024, low: 1024, medium: 2048, high: 4096, xhigh: 8192 },
};

/** What Converse has no field for, in the words of the model's maker. */
function modelFields(
  body: JsonObject,
  target: BedrockTarget,
  outputTokensMax: number | undefined,
): JsonObject | undefined {
  const { additionalModelRequestFields: own, ...strange } = strangeFields(body);
  for (const field of nativeFields) delete strange[field];
  const fields = defined({
    ...strange,
    ...(/nova/.test(target.model) ? nested(body.top_k) : { top_k: given(body.top_k) }),
    ...thinking(body, target, outputTokensMax),
    ...objectOf(own),
  });
  return Object.keys(fields).length === 0 ? undefined : fields;
}

/** Amazon's own models have it beside the fields that Converse knows. */
function nested(topK: Json | undefined): Fields {
  return topK === undefined || topK === null ? {} : { inferenceConfig: { topK } };
}

function thinking(body: JsonObject, target: BedrockTarget, outputTokensMax: number | undefined): Fields {
  const { model } = target;
  const own = objectOf(body.thinking);
  if (own !== undefined) return { thinking: own };
  const effort = textOf(body.reasoning_effort) ?? textOf(objectOf(body.reasoning_effort)?.effort);
  if (effort === undefined || effort === "default") return {};
  if (/gpt-oss/.test(model)) return { reasoning_effort: effort };
  if (effort === "none" || effort === "disable") return {};
  if (/nova/.test(model)) return { reasoningConfig: { type: "enabled", maxReasoningEffort: effort } };
  if (!/anthropic|claude/.test(model)) {
    dropOrRefuse("reasoning_effort", body, target.params, target.provider);
    return {};
  }
  const budget = thinkingBudgets[effort];
  if (budget === undefined)
    throw unreadable("reasoning_effort", "must be one of none, minimal, low, medium, high and xhigh");
  // What is thought counts against the cap, and something must be left to answer with; less than 1,024 is refused.
  const room = (countOf(outputTokensMax) ?? Number.MAX_SAFE_INTEGER) - 1;
  return room < 1024 ? {} : { thinking: { type: "enabled", budget_tokens: Math.min(budget, room) } };
}

/** Of a field that may be null: null means not given. */
function given(value: Json | undefined): Json | undefined {
  return value ?? undefined;
}

function defined(fields: Fields): JsonObject {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as JsonObject;
}
