/** What the bodies of all HTTP doors have in common: how they are parsed, what they may not hold, what speaks to the gateway. */

import { isUtf8 } from "node:buffer";
import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, countOf, isObject, objectOf } from "./json.ts";
import { type ObjectSpans, scanObject } from "./json-spans.ts";
import { parseAround } from "./long-texts.ts";

/** A length no model name has; longer ones would only fill logs. */
const modelCharsMax = 256;
/** Far more than any schema or conversation has, and far less than whoever walks it has stack for. */
const depthMax = 128;
const tagsMax = 64;
const tagCharsMax = 256;

/**
 * The dearest image known: eight tiles on a model that counts 5,667 tokens for each. A part that is not text may cost this
 * much however short its URL is.
 */
export const mediaTokensMax = 50_000;

/** A document the provider fetches by itself may fill half of the longest context there is. */
export const documentTokensMax = 500_000;

/** The most that a provider adds by itself for a model to be told how to call tools. */
export const toolPromptTokensMax = 1_000;

/** Searches of the web are reckoned with so many where the caller gives no `max_uses`, and with so many tokens that each brings. */
const webSearchesMaxDefault = 10;
const webSearchTokensMax = 10_000;
/** How often Claude may search, by the size of context the caller wants. */
const webSearchesBySize: Readonly<Record<string, number>> = { low: 1, medium: 5, high: 10 };

/**
 * Fields by which a caller could choose where a request goes and with whose credentials. LiteLLM's CVE-2024-6587 took them from
 * the body and sent its keys to the attacker; here they are refused by name. `extra_body` would smuggle any field past us.
 */
const transportField =
  /^(api_base|base_url|api_key|api_version|api_type|user_config|extra_headers|headers|default_headers|extra_query|extra_body|organization|project|custom_llm_provider|litellm_credential_name|litellm_params|model_list|deployment_id|region_name|proxy|proxies|ssl_verify|azure_ad_token|aws_.*|vertex_.*|watsonx_.*)$/;

/** Fields that speak to the gateway (LiteLLM's names) and would only confuse a provider. */
const gatewayField =
  /^(tags|fallbacks|context_window_fallbacks|content_policy_fallbacks|disable_fallbacks|num_retries|max_retries|timeout|request_timeout|stream_timeout|cache|caching|guardrails|priority|no-log|drop_params|additional_drop_params|allowed_openai_params|modify_params|litellm_.*|mock_.*)$/;

type FieldKind = "transport" | "gateway" | "other";
/** Names of fields are few, and every call has some: what each is, is found once. Whoever makes names up finds no more room. */
const fieldKinds = new Map<string, FieldKind>();
const fieldKindsMax = 1_000;

function kindOf(name: string): FieldKind {
  const known = fieldKinds.get(name);
  if (known !== undefined) return known;
  const kind = transportField.test(name) ? "transport" : gatewayField.test(name) ? "gateway" : "other";
  if (fieldKinds.size < fieldKindsMax) fieldKinds.set(name, kind);
  return kind;
}

/** Whether no provider is to see a field: it speaks to the gateway, or would be refused. */
export function isGatewayField(name: string): boolean {
  return kindOf(name) !== "other";
}

/** A body, and where its members stand in its bytes. */
interface ParsedBody extends Pick<ObjectSpans, "spans" | "repeated"> {
  /** Its long texts are read from the bytes when they are first asked for. */
  readonly body: JsonObject;
}

/** The only place where a body is parsed. @returns `invalid_json` or `invalid_request` if it is no object, or nested too deeply. */
export function parseBody(bytes: Buffer): ParsedBody | GatewayError {
  if (bytes.length === 0) return new GatewayError("invalid_json", "The body is empty; send a JSON object.");
  if (!isUtf8(bytes)) return new GatewayError("invalid_json", "The body is not valid UTF-8.");
  try {
    const { spans, repeated, depth, longTexts } = scanObject(bytes);
    if (depth > depthMax) return tooDeep();
    const body = parseAround(bytes, longTexts);
    if (!isObject(body)) return new GatewayError("invalid_request", "The body must be a JSON object.");
    return { body, spans, repeated };
  } catch (error) {
    // V8's own message quotes the body, so only its position is taken.
    const position = error instanceof SyntaxError ? /at position (\d+)/.exec(error.message)?.[1] : undefined;
    const where = position === undefined ? "" : ` It breaks at character ${position}.`;
    return new GatewayError("invalid_json", `The body is not valid JSON.${where}`);
  }
}

/** @returns `invalid_json` for what is nested deeper than a body may be. */
export function depthFault(value: Json, levels = depthMax): GatewayError | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (levels === 0) return tooDeep();
  for (const member of Array.isArray(value) ? value : Object.values(value)) {
    const fault = depthFault(member, levels - 1);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function tooDeep(): GatewayError {
  return new GatewayError("invalid_json", `The body is nested deeper than ${depthMax} levels.`);
}

/**
 * What is wrong with a body whatever its wire.
 *
 * @param governed fields the gateway acts on. Given twice, we and the provider might read two different values.
 * @param content the member without which nothing is asked.
 */
export function commonFault(
  body: JsonObject,
  governed: readonly string[],
  repeated: ReadonlySet<string>,
  content = "messages",
): GatewayError | undefined {
  const twice = governed.find((field) => repeated.has(field));
  if (twice !== undefined) return invalid(twice, `\`${twice}\` is given more than once.`);
  const transport = Object.keys(body).find((key) => kindOf(key) === "transport");
  if (transport !== undefined) {
    return invalid(transport, `\`${transport}\` is not taken from requests; the gateway's configuration decides it.`);
  }
  const model = body.model;
  if (model === undefined || model === null || model === "") return invalid("model", "`model` is missing.");
  if (typeof model !== "string") return invalid("model", "`model` must be a string.");
  if (model.length > modelCharsMax) return invalid("model", `\`model\` is longer than ${modelCharsMax} characters.`);
  const messages = body[content];
  if (messages === undefined || messages === null) return invalid(content, `\`${content}\` is missing.`);
  if (content === "messages" && (!Array.isArray(messages) || messages.length === 0)) {
    return invalid("messages", "`messages` must be an array with at least one message.");
  }
  const stream = body.stream ?? false;
  if (typeof stream !== "boolean") return invalid("stream", "`stream` must be true or false.");
  return undefined;
}

export function countFault(body: JsonObject, field: string, max: number): GatewayError | undefined {
  const value = body[field] ?? 1;
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= max) return undefined;
  const range = max === Number.MAX_SAFE_INTEGER ? "of at least 1" : `from 1 to ${max}`;
  return invalid(field, `\`${field}\` must be a whole number ${range}.`);
}

/** The most searches of the web that come of a request, and the tokens that they bring. */
export function webSearchBounds(body: JsonObject): { readonly count: number; readonly tokens: number } {
  let count = isObject(body.web_search_options) ? webSearchesFor(body.web_search_options) : 0;
  for (const tool of arrayOf(body.tools)) {
    if (!isObject(tool) || typeof tool.type !== "string" || !tool.type.startsWith("web_search")) continue;
    // LiteLLM's wrapping has the rest in a function's parameters.
    const own = countOf(tool.max_uses) ?? countOf(objectOf(objectOf(tool.function)?.parameters)?.max_uses);
    count += own ?? webSearchesMaxDefault;
  }
  return { count, tokens: count * webSearchTokensMax };
}

/** How often a model may search the web that is to be told. @param options OpenAI's `web_search_options`. */
export function webSearchesFor(options: JsonObject): number {
  return webSearchesBySize[String(options.search_context_size ?? "medium")] ?? webSearchesMaxDefault;
}

/** The pieces of a chat, as a request's members. */
export function piecesOfChat(images: number, webSearches: number): Pick<CompletionRequest, "pieces" | "piecesMax"> {
  if (webSearches === 0) return images === 0 ? {} : { pieces: { image: images } };
  return { pieces: { image: images }, piecesMax: { image: images, webSearch: webSearches } };
}

/** @param param the field at fault. */
export function invalid(param: string, message: string): GatewayError {
  return new GatewayError("invalid_request", message, { param });
}

export function numberOf(value: Json | undefined): number | undefined {
  return typeof value === "number" ? value : undefined;
}

/** Whether a content part, of whichever wire, is a document whose length is not known here. */
export function isRemoteDocument(part: Json): boolean {
  if (!isObject(part)) return false;
  const [source, file, image] = [objectOf(part.source), objectOf(part.file), objectOf(part.image_url)];
  const hasData = (url: Json | undefined) => typeof url === "string" && url.startsWith("data:");
  if (part.type === "document") return source?.type === "url" || source?.type === "file";
  if (part.type === "file") return !hasData(file?.file_data);
  const format = image?.format;
  return typeof format === "string" && !format.startsWith("image/") && !hasData(image?.url);
}

/** LiteLLM's two places for tags. */
export function readTags(body: JsonObject): readonly string[] {
  const given = [...arrayOf(body.tags), ...arrayOf(objectOf(body.metadata)?.tags)];
  if (given.length === 0) return [];
  const tags = given.filter((tag) => typeof tag === "string" && tag !== "" && tag.length <= tagCharsMax) as string[];
  return [...new Set(tags)].slice(0, tagsMax);
}
