/**
 * Amazon Bedrock's Converse: the request. Its messages are written by `bedrock-messages.ts`, its answer is read by
 * `bedrock-answer.ts` and `bedrock-stream.ts`.
 */

import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/param-policy.ts";
import type { FormatPlan } from "./anthropic-format.ts";
import { encodeConversation } from "./bedrock-messages.ts";
import { encodeThinking, type Thinking } from "./bedrock-thinking.ts";
import { encodeToolConfig, planBedrockFormat } from "./bedrock-tools.ts";
import { strangeFields } from "./chat-fields.ts";
import { changed, dropOrRefuse, fitParams } from "./chat-params.ts";
import { readTurns } from "./chat-turns.ts";
import { objectOf, textOf } from "./json.ts";

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
  return Buffer.from(JSON.stringify(requestFields(request, target)));
}

/**
 * Writes the question how many tokens a request has: what of it is read.
 *
 * @throws ProviderFailure as `encodeBedrockRequest`.
 */
export function encodeBedrockCount(request: CompletionRequest, target: BedrockTarget): Buffer {
  const { messages, system, toolConfig, additionalModelRequestFields } = requestFields(request, target);
  const converse = { messages, system, toolConfig, additionalModelRequestFields };
  return Buffer.from(JSON.stringify({ input: { converse } }));
}

/** The model whose tokens are counted: those of an inference profile, which has the place before the name, are its model's. */
export function countedModel(model: string): string {
  return model.replace(/^arn:[^/]+\/(?=[a-z-]+\.)/, "").replace(/^(?:us|eu|apac|jp|au|ca|global|us-gov)\./, "");
}

/** JSON.stringify leaves out members that are undefined. */
function requestFields(request: CompletionRequest, target: BedrockTarget): Fields {
  const body = changed(request.chat(), fitParams(request.chat(), target.params, target.provider));
  if (body.parallel_tool_calls === false) dropOrRefuse("parallel_tool_calls", body, target.params, target.provider);
  const turns = readTurns(body);
  const outputTokensMax = target.outputTokensMax ?? request.outputTokensMax;
  const thinking = encodeThinking(body, { ...target, outputTokensMax });
  const isThinking = Object.keys(thinking.fields).length > 0;
  const plan = planBedrockFormat(body, target.model);
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
    toolConfig: encodeToolConfig(body, turns, { ...target, plan, isThinking }),
    outputConfig: outputConfig(body, plan, thinking.effort),
    serviceTier: serviceTier(body.service_tier),
    additionalModelRequestFields: modelFields(body, target.model, thinking),
  };
  for (const field of nativeFields) fields[field] = body[field];
  return fields;
}

/** Whether an answer comes as the input of a tool that stands for a JSON format. */
export function answersByTool(request: CompletionRequest, model: string): boolean {
  return planBedrockFormat(request.chat(), model)?.by === "tool";
}

/** The schema goes as a text. */
function outputConfig(
  body: JsonObject,
  plan: FormatPlan | undefined,
  effort: string | undefined,
): JsonObject | undefined {
  const given = objectOf(objectOf(body.response_format)?.json_schema);
  const jsonSchema = defined({
    schema: JSON.stringify(plan?.schema),
    name: textOf(given?.name),
    description: textOf(given?.description),
  });
  const textFormat = { type: "json_schema", structure: { jsonSchema } };
  if (plan?.by !== "model" && effort === undefined) return undefined;
  return { ...(plan?.by === "model" && { textFormat }), ...(effort !== undefined && { effort }) };
}

function serviceTier(tier: Json | undefined): JsonObject | undefined {
  return typeof tier === "string" && tier !== "auto" ? { type: tier } : undefined;
}

/** What Converse has no field for, in the words of the model's maker. */
function modelFields(body: JsonObject, model: string, thinking: Thinking): JsonObject | undefined {
  const { additionalModelRequestFields: own, ...strange } = strangeFields(body);
  for (const field of nativeFields) delete strange[field];
  const fields = defined({
    ...strange,
    ...(model.includes("nova") ? nested(body.top_k) : { top_k: given(body.top_k) }),
    ...thinking.fields,
    ...objectOf(own),
  });
  return Object.keys(fields).length === 0 ? undefined : fields;
}

/** Amazon's own models have it beside the fields that Converse knows. */
function nested(topK: Json | undefined): Fields {
  return topK === undefined || topK === null ? {} : { inferenceConfig: { topK } };
}

/** Of a field that may be null: null means not given. */
function given(value: Json | undefined): Json | undefined {
  return value ?? undefined;
}

function defined(fields: Fields): JsonObject {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as JsonObject;
}
