/** OpenAI's responses: writing a request from the neutral form, for models that are asked by nothing else. */

import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/param-policy.ts";
import { changed, fitParams } from "./chat-params.ts";
import { arrayOf, isObject, objectOf, textOf } from "./json.ts";
import { plainBody } from "./openai-plain.ts";
import { isGatewayField } from "./request-body.ts";

/** What a deployment wants to be sent. */
export interface ResponsesRequestTarget {
  /** The model in the provider's words. */
  readonly model: string;
  /** The output cap to send in place of the caller's; undefined keeps the caller's. */
  readonly outputTokensMax: number | undefined;
  /** As LiteLLM names it. */
  readonly provider: string;
  readonly params: ParamPolicy;
}

/** Chat's parameters without a place here. */
const lacked =
  "n stop seed logit_bias frequency_penalty presence_penalty prediction audio modalities functions function_call".split(
    " ",
  );

/** Chat's members that have another name or form here. */
const translated: ReadonlySet<string> = new Set(
  `messages stream stream_options max_tokens max_completion_tokens tools tool_choice response_format verbosity reasoning_effort
   logprobs web_search_options metadata store`.split(/\s+/),
);

/**
 * Writes the body for a provider. Fields that speak to the gateway are left out; what nobody here knows passes.
 *
 * @throws ProviderFailure `invalid_request` for a parameter the provider lacks.
 */
export function encodeAsResponses(request: CompletionRequest, target: ResponsesRequestTarget): Buffer {
  const given = request.chat();
  const policy = { ...target.params, lacks: new Set([...target.params.lacks, ...lacked]) };
  const body = plainBody(changed(given, fitParams(given, policy, target.provider)), target.model);
  const passed = Object.entries(body).filter(
    ([name, value]) => !translated.has(name) && !isGatewayField(name) && value !== null,
  );
  const cap = target.outputTokensMax ?? request.outputTokensMax;
  return Buffer.from(
    JSON.stringify({
      ...Object.fromEntries(passed),
      model: target.model,
      input: arrayOf(body.messages).flatMap(itemsOf),
      ...(cap !== undefined && { max_output_tokens: cap }),
      ...toolFields(body),
      ...textFields(body),
      ...(textOf(body.reasoning_effort) !== undefined && { reasoning: { effort: body.reasoning_effort } }),
      ...(body.logprobs === true && { include: ["message.output_text.logprobs"] }),
      ...metadataField(objectOf(body.metadata)),
      // Unlike chat it would be kept where nothing is said.
      store: body.store === true,
      ...(request.stream && { stream: true }),
    }),
  );
}

function itemsOf(message: Json): Json[] {
  if (!isObject(message)) return [message];
  const { role, content } = message;
  if (role === "tool") {
    const output = typeof content === "string" ? content : arrayOf(content).map((part) => partOf(part, "input_text"));
    return [{ type: "function_call_output", call_id: message.tool_call_id ?? "", output }];
  }
  const kind = role === "assistant" ? "output_text" : "input_text";
  const refusal = textOf(message.refusal);
  const parts = [
    ...(typeof content === "string" ? textPart(content, kind) : arrayOf(content).map((part) => partOf(part, kind))),
    ...(refusal === undefined ? [] : [{ type: "refusal", refusal }]),
  ];
  const spoken = parts.length === 0 ? [] : [{ role: role ?? "user", content: parts }];
  return [...spoken, ...arrayOf(message.tool_calls).map(callOf)];
}

function textPart(text: string, type: string): JsonObject[] {
  return text === "" ? [] : [{ type, text }];
}

function partOf(part: Json, kind: string): Json {
  if (!isObject(part)) return part;
  const [image, file] = [objectOf(part.image_url), objectOf(part.file)];
  if (part.type === "text") return { type: kind, text: part.text ?? "" };
  if (part.type === "image_url") {
    return { type: "input_image", image_url: image?.url ?? part.image_url ?? "", detail: image?.detail ?? "auto" };
  }
  if (part.type !== "file" || file === undefined) return part;
  const { file_id: id, ...others } = file;
  const source = id === undefined ? {} : /^https?:/.test(String(id)) ? { file_url: id } : { file_id: id };
  return { type: "input_file", ...others, ...source };
}

function callOf(call: Json): JsonObject {
  const { id = "", function: called } = objectOf(call) ?? {};
  const { name = "", arguments: text = "" } = objectOf(called) ?? {};
  return { type: "function_call", call_id: id, name, arguments: text };
}

function toolFields(body: JsonObject): JsonObject {
  const search = objectOf(body.web_search_options);
  const tools = [...arrayOf(body.tools).map(toolOf), ...(search === undefined ? [] : [searchTool(search)])];
  const choice = objectOf(body.tool_choice);
  const nested = choice && objectOf(choice[String(choice.type)]);
  return {
    ...(tools.length > 0 && { tools }),
    ...(typeof body.tool_choice === "string" && { tool_choice: body.tool_choice }),
    ...(choice !== undefined && { tool_choice: { ...nested, type: choice.type ?? "function" } }),
  };
}

/** Chat nests under a tool's type what here is flat. */
function toolOf(tool: Json): Json {
  if (!isObject(tool)) return tool;
  const nested = objectOf(tool[String(tool.type)]);
  if (nested === undefined) return tool;
  // Where nothing is said, schemas are strict here and not in chat.
  return {
    ...nested,
    type: tool.type ?? "function",
    ...(tool.type === "function" && { strict: nested.strict === true }),
  };
}

function searchTool({ search_context_size: size, user_location: place }: JsonObject): JsonObject {
  const approximate = objectOf(objectOf(place)?.approximate);
  return {
    type: "web_search",
    ...(size !== undefined && { search_context_size: size }),
    ...(approximate !== undefined && { user_location: { ...approximate, type: "approximate" } }),
  };
}

function textFields({ response_format: wanted, verbosity }: JsonObject): JsonObject {
  const format = objectOf(wanted);
  const text = {
    ...(format !== undefined && { format: { ...objectOf(format.json_schema), type: format.type ?? "text" } }),
    ...(textOf(verbosity) !== undefined && { verbosity }),
  };
  return Object.keys(text).length === 0 ? {} : { text: text as JsonObject };
}

function metadataField(metadata: JsonObject | undefined): JsonObject {
  // A list of tags in it is LiteLLM's.
  const kept = Object.entries(metadata ?? {}).filter(([, value]) => typeof value === "string");
  return kept.length === 0 ? {} : { metadata: Object.fromEntries(kept) };
}
