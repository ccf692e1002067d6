/**
 * Google's generateContent: the request. Its messages are written by `gemini-contents.ts`, its answer is read by
 * `gemini-answer.ts`.
 */

import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/param-policy.ts";
import { strangeFields } from "./chat-fields.ts";
import { changed, dropOrRefuse, fitParams } from "./chat-params.ts";
import { unreadable } from "./chat-parts.ts";
import { readTurns } from "./chat-turns.ts";
import { encodeContents } from "./gemini-contents.ts";
import { arrayOf, countOf, isObject, objectOf, textOf } from "./json.ts";
import { thinkingBudgets } from "./thinking-budgets.ts";

/** What a deployment wants to be sent. */
export interface GeminiTarget {
  /** The model in Google's words. */
  readonly model: string;
  /** The output cap to send in place of the caller's; undefined keeps the caller's. */
  readonly outputTokensMax: number | undefined;
  /** As LiteLLM names it. */
  readonly provider: string;
  readonly params: ParamPolicy;
}

type Fields = { [key: string]: Json | undefined };

/** Tools that Google runs itself: a tool with one of these is passed on as it is. */
const nativeTool =
  /^(googleSearch|google_search|googleSearchRetrieval|enterpriseWebSearch|codeExecution|code_execution|urlContext|url_context|googleMaps|google_maps|computerUse|fileSearch|retrieval)$/;

/**
 * Writes the body for Google from the neutral form. What is neither OpenAI's nor the gateway's is Google's own, such as
 * `safetySettings` and `cachedContent`, and passes.
 *
 * @throws ProviderFailure `invalid_request` that names what cannot be written.
 */
export function encodeGeminiRequest(request: CompletionRequest, target: GeminiTarget): Buffer {
  return Buffer.from(JSON.stringify(requestFields(request, target)));
}

/**
 * Writes the question how many tokens a request has: at AI Studio it is put whole, in the cloud what of it is read.
 *
 * @throws ProviderFailure as `encodeGeminiRequest`.
 */
export function encodeGeminiCount(request: CompletionRequest, target: GeminiTarget, place: "studio" | "cloud"): Buffer {
  const fields = requestFields(request, target);
  const { contents, systemInstruction, tools } = fields;
  const whole = { generateContentRequest: { model: `models/${target.model}`, ...fields } };
  return Buffer.from(JSON.stringify(place === "studio" ? whole : { contents, systemInstruction, tools }));
}

/** JSON.stringify leaves out members that are undefined. */
function requestFields(request: CompletionRequest, target: GeminiTarget): Fields {
  const body = changed(request.chat(), fitParams(request.chat(), target.params, target.provider));
  if (body.parallel_tool_calls === false) dropOrRefuse("parallel_tool_calls", body, target.params, target.provider);
  const { generationConfig: _, generation_config: __, ...own } = strangeFields(body);
  const tools = encodeTools(body);
  return {
    ...own,
    ...encodeContents(readTurns(body), isLevelled(target.model)),
    ...(tools.length > 0 && { tools, toolConfig: encodeToolChoice(body) }),
    generationConfig: generationConfig(body, request, target),
    serviceTier: serviceTier(body.service_tier),
  };
}

function generationConfig(body: JsonObject, request: CompletionRequest, target: GeminiTarget): JsonObject {
  const stop = typeof body.stop === "string" ? [body.stop] : body.stop;
  const fields: Fields = {
    maxOutputTokens: target.outputTokensMax ?? request.outputTokensMax,
    temperature: given(body.temperature),
    topP: given(body.top_p),
    topK: given(body.top_k),
    candidateCount: request.choiceCount > 1 ? request.choiceCount : undefined,
    stopSequences: given(stop),
    seed: given(body.seed),
    presencePenalty: given(body.presence_penalty),
    frequencyPenalty: given(body.frequency_penalty),
    ...(body.logprobs === true && { responseLogprobs: true, logprobs: countOf(body.top_logprobs) }),
    ...responseFormat(body),
    ...modalities(body),
    thinkingConfig: thinkingConfig(body, target.model),
  };
  const own = objectOf(body.generationConfig) ?? objectOf(body.generation_config);
  return defined({ ...fields, ...own });
}

/** A JSON schema is sent as it is: Google takes the standard's words since Gemini 2. */
function responseFormat(body: JsonObject): Fields {
  const format = objectOf(body.response_format);
  if (format?.type === "json_object") return { responseMimeType: "application/json" };
  if (format?.type !== "json_schema") return {};
  const schema = objectOf(format.json_schema)?.schema ?? format.schema;
  return { responseMimeType: "application/json", responseJsonSchema: schema };
}

function modalities(body: JsonObject): Fields {
  const wanted = arrayOf(body.modalities).flatMap((word) => (typeof word === "string" ? [word.toUpperCase()] : []));
  const voice = textOf(objectOf(body.audio)?.voice);
  return {
    ...(wanted.length > 0 && { responseModalities: wanted }),
    ...(voice !== undefined && { speechConfig: { voiceConfig: { prebuiltVoiceConfig: { voiceName: voice } } } }),
  };
}

/** From Gemini 3 on a model is told how hard to think instead of how long. It cannot be told not to. */
const thinkingLevels: Readonly<Record<string, string>> = {
  ...{ none: "minimal", disable: "minimal", minimal: "minimal", low: "low", medium: "medium", high: "high" },
  xhigh: "high",
};

function thinkingConfig(body: JsonObject, model: string): JsonObject | undefined {
  const thinking = objectOf(body.thinking);
  const effort = textOf(body.reasoning_effort) ?? textOf(objectOf(body.reasoning_effort)?.effort);
  if (thinking !== undefined) {
    if (thinking.type === "disabled") return { includeThoughts: false, thinkingBudget: 0 };
    const budget = countOf(thinking.budget_tokens);
    return { includeThoughts: true, ...(budget !== undefined && { thinkingBudget: budget }) };
  }
  if (effort === undefined || effort === "default") return undefined;
  const includeThoughts = effort !== "none" && effort !== "disable";
  const [level, budget] = [thinkingLevels[effort], thinkingBudgets[effort]];
  if (level === undefined || budget === undefined) {
    throw unreadable("reasoning_effort", "must be one of none, minimal, low, medium, high and xhigh");
  }
  if (!isLevelled(model)) return { includeThoughts, thinkingBudget: budget };
  // The Pro models know no "minimal".
  return { includeThoughts, thinkingLevel: level === "minimal" && /pro/.test(model) ? "low" : level };
}

function isLevelled(model: string): boolean {
  return /gemini-([3-9]|\d{2})/.test(model);
}

function encodeTools(body: JsonObject): Json[] {
  const declarations: Json[] = [];
  const others: Json[] = [];
  for (const [index, value] of arrayOf(body.tools).entries()) {
    const tool = objectOf(value) ?? {};
    const declared = objectOf(tool.function);
    const own = Object.keys(tool).find((key) => nativeTool.test(key));
    if (declared !== undefined) declarations.push(encodeFunction(declared));
    else if (own !== undefined) others.push({ [own]: tool[own] ?? {} });
    else throw unreadable(`tools[${index}].type`, 'must be "function", or the tool one of Google\'s');
  }
  for (const value of arrayOf(body.functions)) declarations.push(encodeFunction(objectOf(value) ?? {}));
  if (isObject(body.web_search_options)) others.push({ googleSearch: {} });
  return declarations.length === 0 ? others : [{ functionDeclarations: declarations }, ...others];
}

function encodeFunction(declared: JsonObject): JsonObject {
  const parameters = objectOf(declared.parameters);
  // An object without properties is refused; a function without parameters has none.
  const isEmpty = parameters === undefined || Object.keys(objectOf(parameters.properties) ?? {}).length === 0;
  return defined({
    name: given(declared.name),
    description: given(declared.description),
    parametersJsonSchema: isEmpty ? undefined : parameters,
  });
}

function encodeToolChoice(body: JsonObject): JsonObject | undefined {
  const choice = body.tool_choice ?? body.function_call;
  const calling = (mode: string, names?: Json[]) => ({
    functionCallingConfig: { mode, ...(names !== undefined && { allowedFunctionNames: names }) },
  });
  if (choice === undefined || choice === null) return undefined;
  if (choice === "auto") return calling("AUTO");
  if (choice === "none") return calling("NONE");
  if (choice === "required" || choice === "any") return calling("ANY");
  const named = objectOf(choice);
  const name = textOf(objectOf(named?.function)?.name ?? named?.name);
  if (name !== undefined) return calling("ANY", [name]);
  const allowed = objectOf(named?.allowed_tools);
  if (allowed === undefined) throw unreadable("tool_choice", "must be auto, none, required, or name a function");
  const names = arrayOf(allowed.tools).map((tool) => objectOf(objectOf(tool)?.function)?.name ?? "");
  return calling(allowed.mode === "required" ? "ANY" : "VALIDATED", names);
}

/** Google calls OpenAI's "default" "standard", and has no word for "auto". */
function serviceTier(tier: Json | undefined): string | undefined {
  if (tier === "default") return "standard";
  return tier === "flex" || tier === "priority" ? tier : undefined;
}

/** Of a field that may be null: null means not given. */
function given(value: Json | undefined): Json | undefined {
  return value ?? undefined;
}

function defined(fields: Fields): JsonObject {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as JsonObject;
}
