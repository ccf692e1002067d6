/**
 * OpenAI's chat completions: the request. The answer is read by `openai-chat-answer.ts` (whole) and `openai-chat-stream.ts`
 * (as it comes), and written by `openai-chat-encoder.ts`.
 */

import { isUtf8 } from "node:buffer";
import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/config.ts";
import { GatewayError } from "../errors.ts";
import { type Changes, changed, fitParams } from "./chat-params.ts";
import { arrayOf, isObject, objectOf, textOf } from "./json.ts";
import { rewriteMembers, scanObject } from "./json-spans.ts";
import { plainBody } from "./openai-plain.ts";
import { readRepeatWishes } from "./repeat-wishes.ts";

/** A length no model name has; longer ones would only fill logs. */
const modelCharsMax = 256;
/** OpenAI's own bound. */
const choiceCountMax = 128;
const tagsMax = 64;
const tagCharsMax = 256;

/**
 * The dearest image known: eight tiles on a model that counts 5,667 tokens for each. A part that is not text may cost this
 * much however short its URL is.
 */
const mediaTokensMax = 50_000;

/**
 * Fields by which a caller could choose where a request goes and with whose credentials. LiteLLM's CVE-2024-6587 took them from
 * the body and sent its keys to the attacker; here they are refused by name. `extra_body` would smuggle any field past us.
 */
const transportField =
  /^(api_base|base_url|api_key|api_version|api_type|user_config|extra_headers|headers|default_headers|extra_query|extra_body|organization|project|custom_llm_provider|litellm_credential_name|litellm_params|model_list|deployment_id|region_name|proxy|proxies|ssl_verify|azure_ad_token|aws_.*|vertex_.*|watsonx_.*)$/;

/** Fields that speak to the gateway (LiteLLM's names) and would only confuse a provider. */
const gatewayField =
  /^(tags|fallbacks|context_window_fallbacks|content_policy_fallbacks|disable_fallbacks|num_retries|max_retries|timeout|request_timeout|stream_timeout|cache|caching|guardrails|priority|no-log|drop_params|additional_drop_params|allowed_openai_params|modify_params|litellm_.*|mock_.*)$/;

/** Fields the gateway acts on. Given twice, we and the provider might read two different values, so that is refused. */
const governedFields = ["model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"];

/**
 * Reads the body of a chat request.
 *
 * @returns `invalid_json` or `invalid_request` (with `param`) if it is none. Messages of errors never quote the body.
 */
export function decodeChatRequest(bytes: Buffer): CompletionRequest | GatewayError {
  const body = parseBody(bytes);
  if (body instanceof GatewayError) return body;
  const { spans, repeated } = scanObject(bytes);
  const fault = findFault(body, repeated);
  if (fault !== undefined) return fault;
  const repeat = readRepeatWishes(body);
  if (repeat instanceof GatewayError) return repeat;
  const stream = body.stream === true;
  const { media, images: inputImages } = countParts(body);
  const serviceTier = textOf(body.service_tier);
  return {
    operation: "chat",
    wire: "openai-chat",
    raw: { bytes, value: body, spans },
    model: String(body.model),
    stream,
    includeUsage: stream && objectOf(body.stream_options)?.include_usage === true,
    outputTokensMax: smallest(numberOf(body.max_tokens), numberOf(body.max_completion_tokens)),
    choiceCount: numberOf(body.n) ?? 1,
    inputTokensMax: bytes.length + mediaTokensMax * media,
    ...(inputImages > 0 && { inputImages }),
    ...(serviceTier !== undefined && { serviceTier }),
    endUser: textOf(body.user),
    tags: readTags(body),
    ...(repeat !== undefined && { repeat }),
    chat: () => body,
  };
}

/** What a deployment wants to be sent. */
export interface ChatTarget {
  /** The model in the provider's words. */
  readonly model: string;
  /** The output cap to send in place of the caller's; undefined keeps the caller's. */
  readonly outputTokensMax: number | undefined;
  /** The one name the cap is sent under; the other spelling is removed. */
  readonly outputCapField: "max_tokens" | "max_completion_tokens";
  /** As LiteLLM names it. */
  readonly provider: string;
  readonly params: ParamPolicy;
  /** Whether to make a stream report its usage. */
  readonly streamUsage: boolean;
}

/**
 * Writes the body for a provider. If the caller's body is in this wire, only what must differ is replaced and everything
 * else stays byte for byte; else it is written from the neutral form. Fields that speak to the gateway are left out.
 *
 * @throws ProviderFailure `invalid_request` for a parameter the provider lacks.
 */
export function encodeChatRequest(request: CompletionRequest, target: ChatTarget): Buffer {
  const body = request.chat();
  const changes = fitParams(body, target.params, target.provider);
  addChanges(changes, request, body, target);
  if (request.wire === "openai-chat" && request.raw !== undefined) {
    const texts = new Map<string, string | undefined>();
    for (const [key, value] of changes) texts.set(key, value === undefined ? undefined : JSON.stringify(value));
    return rewriteMembers(request.raw, texts);
  }
  const plain = plainBody(changed(body, changes), target.model);
  return Buffer.from(JSON.stringify(request.stream ? { ...plain, stream: true } : plain));
}

/** Whether a field speaks to the gateway, and no provider is to see it. */
export function isGatewayField(name: string): boolean {
  return gatewayField.test(name);
}

/** Adds what must differ from the caller's body besides. */
function addChanges(changes: Changes, request: CompletionRequest, body: JsonObject, target: ChatTarget): void {
  changes.set("model", target.model);
  for (const key of Object.keys(body)) {
    if (gatewayField.test(key)) changes.set(key, undefined);
  }
  const otherCap = target.outputCapField === "max_tokens" ? "max_completion_tokens" : "max_tokens";
  if (body[otherCap] !== undefined) changes.set(otherCap, undefined);
  const cap = target.outputTokensMax ?? request.outputTokensMax;
  if (cap !== undefined && body[target.outputCapField] !== cap) changes.set(target.outputCapField, cap);
  if (request.stream && target.streamUsage) {
    const options = objectOf(body.stream_options);
    if (options?.include_usage !== true) changes.set("stream_options", { ...options, include_usage: true });
  }
  const metadata = objectOf(body.metadata);
  if (Array.isArray(metadata?.tags)) {
    // OpenAI's metadata holds strings only; a list of tags in it is LiteLLM's and would be refused.
    const { tags: _, ...others } = metadata;
    changes.set("metadata", Object.keys(others).length === 0 ? undefined : others);
  }
}

/** The only place where a whole body is parsed. */
function parseBody(bytes: Buffer): JsonObject | GatewayError {
  if (bytes.length === 0) return new GatewayError("invalid_json", "The body is empty; send a JSON object.");
  if (!isUtf8(bytes)) return new GatewayError("invalid_json", "The body is not valid UTF-8.");
  try {
    const body: unknown = JSON.parse(bytes.toString());
    return isObject(body) ? body : new GatewayError("invalid_request", "The body must be a JSON object.");
  } catch (error) {
    // V8's own message quotes the body, so only its position is taken.
    const position = error instanceof SyntaxError ? /at position (\d+)/.exec(error.message)?.[1] : undefined;
    const where = position === undefined ? "" : ` It breaks at character ${position}.`;
    return new GatewayError("invalid_json", `The body is not valid JSON.${where}`);
  }
}

function findFault(body: JsonObject, repeated: ReadonlySet<string>): GatewayError | undefined {
  const twice = governedFields.find((field) => repeated.has(field));
  if (twice !== undefined) return invalid(twice, `\`${twice}\` is given more than once.`);
  const transport = Object.keys(body).find((key) => transportField.test(key));
  if (transport !== undefined) {
    return invalid(transport, `\`${transport}\` is not taken from requests; the gateway's configuration decides it.`);
  }
  const model = body.model;
  if (model === undefined || model === null || model === "") return invalid("model", "`model` is missing.");
  if (typeof model !== "string") return invalid("model", "`model` must be a string.");
  if (model.length > modelCharsMax) return invalid("model", `\`model\` is longer than ${modelCharsMax} characters.`);
  const messages = body.messages;
  if (messages === undefined || messages === null) return invalid("messages", "`messages` is missing.");
  if (!Array.isArray(messages) || messages.length === 0) {
    return invalid("messages", "`messages` must be an array with at least one message.");
  }
  const stream = body.stream ?? false;
  if (typeof stream !== "boolean") return invalid("stream", "`stream` must be true or false.");
  if (!isObject(body.stream_options ?? {})) return invalid("stream_options", "`stream_options` must be an object.");
  return (
    countFault(body, "n", choiceCountMax) ??
    countFault(body, "max_tokens", Number.MAX_SAFE_INTEGER) ??
    countFault(body, "max_completion_tokens", Number.MAX_SAFE_INTEGER)
  );
}

function countFault(body: JsonObject, field: string, max: number): GatewayError | undefined {
  const value = body[field] ?? 1;
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= max) return undefined;
  const range = max === Number.MAX_SAFE_INTEGER ? "of at least 1" : `from 1 to ${max}`;
  return invalid(field, `\`${field}\` must be a whole number ${range}.`);
}

function invalid(param: string, message: string): GatewayError {
  return new GatewayError("invalid_request", message, { param });
}

function numberOf(value: Json | undefined): number | undefined {
  return typeof value === "number" ? value : undefined;
}

function smallest(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}

/** How many content parts are neither text nor something whose tokens its bytes bound, and how many of them are images. */
function countParts(body: JsonObject): { media: number; images: number } {
  let [media, images] = [0, 0];
  for (const message of arrayOf(body.messages)) {
    for (const part of arrayOf(objectOf(message)?.content)) {
      const type = objectOf(part)?.type;
      if (type !== "text" && type !== "refusal" && type !== "input_audio") media += 1;
      if (type === "image_url") images += 1;
    }
  }
  return { media, images };
}

/** LiteLLM's two places for tags. */
function readTags(body: JsonObject): readonly string[] {
  const given = [...arrayOf(body.tags), ...arrayOf(objectOf(body.metadata)?.tags)];
  if (given.length === 0) return [];
  const tags = given.filter((tag) => typeof tag === "string" && tag !== "" && tag.length <= tagCharsMax) as string[];
  return [...new Set(tags)].slice(0, tagsMax);
}
