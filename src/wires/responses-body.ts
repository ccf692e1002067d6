/**
 * OpenAI's responses: the body a caller sends, and how it goes to a provider that speaks the same. Answers are read by
 * `responses-answer.ts` (whole) and `responses-stream.ts`, and written by `responses-encoder.ts`; what becomes of the body at other
 * wires is in `responses-chat.ts`, and of other wires' bodies here in `responses-request.ts`.
 */

import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/param-policy.ts";
import { GatewayError } from "../errors.ts";
import { fitParams } from "./chat-params.ts";
import { arrayOf, countOf, isObject, objectOf, textOf } from "./json.ts";
import { rewriteMembers } from "./json-spans.ts";
import { structureAt } from "./long-texts.ts";
import { readRepeatWishes } from "./repeat-wishes.ts";
import {
  commonFault,
  countFault,
  documentTokensMax,
  invalid,
  isGatewayField,
  mediaTokensMax,
  numberOf,
  parseBody,
  piecesOfChat,
  readTags,
  toolPromptTokensMax,
  webSearchBounds,
} from "./request-body.ts";
import { chatOf, type ResponseChat } from "./responses-chat.ts";

/** Fields the gateway acts on. */
const governedFields = ["model", "input", "stream", "max_output_tokens", "previous_response_id", "store", "background"];

/**
 * Reads the body of a request for a response.
 *
 * @returns `invalid_json` or `invalid_request` (with `param`) if it is none. Messages of errors never quote the body.
 */
export function decodeResponsesRequest(bytes: Buffer): CompletionRequest | GatewayError {
  const parsed = parseBody(bytes);
  if (parsed instanceof GatewayError) return parsed;
  const { body, spans, repeated } = parsed;
  const previous = textOf(body.previous_response_id);
  // What goes on with an answer, or with a prompt the provider keeps, may say nothing of its own.
  const content = previous !== undefined || isObject(body.prompt) ? "model" : "input";
  const fault = commonFault(body, governedFields, repeated, content) ?? findFault(body);
  if (fault !== undefined) return fault;
  const repeat = readRepeatWishes(body);
  if (repeat instanceof GatewayError) return repeat;
  const { tokens, images } = countUnbounded(body);
  const serviceTier = textOf(body.service_tier);
  let translated: ResponseChat | undefined;
  const translate = () => {
    translated ??= chatOf(body);
    return translated;
  };
  return {
    operation: "chat",
    wire: "openai-responses",
    raw: { bytes, value: body, spans },
    model: String(body.model),
    stream: body.stream === true,
    includeUsage: true,
    outputTokensMax: numberOf(body.max_output_tokens),
    choiceCount: 1,
    inputTokensMax: bytes.length + tokens,
    ...piecesOfChat(images, webSearchesMax(body)),
    ...(serviceTier !== undefined && { serviceTier }),
    endUser: textOf(body.user),
    tags: readTags(body),
    ...(repeat !== undefined && { repeat }),
    ...(previous !== undefined && { previousResponse: previous }),
    isStored: body.store !== false,
    chat: () => translate().chat,
    unsayable: () => translate().unsayable,
  };
}

/** What its searches bring is among what the provider's tools find. */
function webSearchesMax(body: JsonObject): number {
  const { count } = webSearchBounds(body);
  return count === 0 ? 0 : (countOf(body.max_tool_calls) ?? count);
}

function findFault(body: JsonObject): GatewayError | undefined {
  const { input, store, previous_response_id: previous } = body;
  if (typeof (input ?? "") !== "string" && !(Array.isArray(input) && input.length > 0)) {
    return invalid("input", "`input` must be a text, or an array with at least one item.");
  }
  if (typeof (store ?? false) !== "boolean") return invalid("store", "`store` must be true or false.");
  if (typeof (previous ?? "") !== "string") {
    return invalid("previous_response_id", "`previous_response_id` must be the id of a response.");
  }
  if (body.background === true) {
    const why = "what a response costs is not known when it is only begun";
    return invalid("background", `\`background\` is not served: ${why}. Leave it out, and \`stream\` instead.`);
  }
  if (body.conversation !== undefined && body.conversation !== null) {
    return invalid("conversation", "`conversation` is not served. Go on with `previous_response_id` instead.");
  }
  return countFault(body, "max_output_tokens", Number.MAX_SAFE_INTEGER);
}

/**
 * The most tokens of what bytes do not bound, and how many images there are: media, what the provider keeps and is only named, what
 * its own tools find.
 */
function countUnbounded(body: JsonObject): { tokens: number; images: number } {
  const found = { tokens: isObject(body.prompt) ? documentTokensMax : 0, images: 0 };
  const tools = arrayOf(body.tools);
  if (tools.length > 0) found.tokens += toolPromptTokensMax;
  const isHosted = (tool: Json) => !isObject(tool) || (tool.type !== "function" && tool.type !== "custom");
  if (tools.some(isHosted)) found.tokens += documentTokensMax;
  for (const item of arrayOf(body.input)) {
    if (!isObject(item)) continue;
    if (item.type === "item_reference") found.tokens += mediaTokensMax;
    const output = structureAt(item, "output") ?? null;
    const outputs = Array.isArray(output) ? output : [output];
    for (const part of [...arrayOf(structureAt(item, "content")), ...outputs]) count(part, found);
  }
  return found;
}

function count(part: Json, found: { tokens: number; images: number }): void {
  const type = isObject(part) ? textOf(part.type) : undefined;
  if (type === "input_image" || type === "computer_screenshot") {
    found.tokens += mediaTokensMax;
    found.images += 1;
  } else if (type === "input_file") {
    found.tokens += typeof objectOf(part)?.file_data === "string" ? mediaTokensMax : documentTokensMax;
  }
}

/** What a deployment wants to be sent. */
export interface ResponsesTarget {
  /** The model in the provider's words. */
  readonly model: string;
  /** The output cap to send in place of the caller's; undefined keeps the caller's. */
  readonly outputTokensMax: number | undefined;
  /** The provider's id of the answer that is gone on with. */
  readonly previousResponseId: string | undefined;
  /** As LiteLLM names it. */
  readonly provider: string;
  readonly params: ParamPolicy;
}

/** Writes the body for a provider of the same wire: only what must differ is replaced, everything else stays byte for byte. */
export function encodeResponsesRequest({ raw }: CompletionRequest, target: ResponsesTarget): Buffer {
  if (raw === undefined) throw new Error("nothing to pass on");
  const { value } = raw;
  const changes = fitParams(value, { ...target.params, lacks: new Set() }, target.provider);
  for (const key of raw.spans.keys()) if (isGatewayField(key)) changes.set(key, undefined);
  changes.set("model", target.model);
  if (target.outputTokensMax !== undefined && value.max_output_tokens !== target.outputTokensMax) {
    changes.set("max_output_tokens", target.outputTokensMax);
  }
  if (target.previousResponseId !== undefined) changes.set("previous_response_id", target.previousResponseId);
  const metadata = objectOf(value.metadata);
  if (Array.isArray(metadata?.tags)) {
    // OpenAI's metadata holds strings only; a list of tags in it is LiteLLM's and would be refused.
    const { tags: _, ...others } = metadata;
    changes.set("metadata", others);
  }
  const texts = new Map<string, string | undefined>();
  for (const [key, change] of changes) texts.set(key, change === undefined ? undefined : JSON.stringify(change));
  return rewriteMembers(raw, texts);
}
