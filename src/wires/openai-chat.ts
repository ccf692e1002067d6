/**
 * OpenAI's chat completions: the request. The answer is read by `openai-chat-answer.ts` (whole) and `openai-chat-stream.ts`
 * (as it comes), and written by `openai-chat-encoder.ts`.
 */

import type { CompletionRequest, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/param-policy.ts";
import { GatewayError } from "../errors.ts";
import { type Changes, changed, fitParams } from "./chat-params.ts";
import { arrayOf, isObject, objectOf, textOf } from "./json.ts";
import { rewriteMembers } from "./json-spans.ts";
import { structureAt } from "./long-texts.ts";
import { plainBody } from "./openai-plain.ts";
import { readRepeatWishes } from "./repeat-wishes.ts";
import {
  commonFault,
  countFault,
  documentTokensMax,
  invalid,
  isGatewayField,
  isRemoteDocument,
  mediaTokensMax,
  numberOf,
  parseBody,
  piecesOfChat,
  readTags,
  toolPromptTokensMax,
  webSearchBounds,
} from "./request-body.ts";

/** OpenAI's own bound. */
const choiceCountMax = 128;
/** Fields the gateway acts on. Given twice, we and the provider might read two different values, so that is refused. */
const governedFields = ["model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"];

/**
 * Reads the body of a chat request.
 *
 * @returns `invalid_json` or `invalid_request` (with `param`) if it is none. Messages of errors never quote the body.
 */
export function decodeChatRequest(bytes: Buffer): CompletionRequest | GatewayError {
  const parsed = parseBody(bytes);
  if (parsed instanceof GatewayError) return parsed;
  const { body, spans, repeated } = parsed;
  return chatRequestOf({ body, size: bytes.length, repeated, raw: { bytes, value: body, spans } });
}

/** A chat, as it was sent or as it was made. */
export interface ChatBody {
  readonly body: JsonObject;
  /** Of its JSON, in bytes. */
  readonly size: number;
  /** Members that were sent more than once. */
  readonly repeated?: ReadonlySet<string>;
  /** Absent: it was not sent in this wire. */
  readonly raw?: NonNullable<CompletionRequest["raw"]>;
}

const none: ReadonlySet<string> = new Set();

/** Decides for all doors what a chat may hold, and what it costs at most. @returns `invalid_request` (with `param`) if it is none. */
export function chatRequestOf({ body, size, repeated = none, raw }: ChatBody): CompletionRequest | GatewayError {
  const fault = findFault(body, repeated);
  if (fault !== undefined) return fault;
  const repeat = readRepeatWishes(body);
  if (repeat instanceof GatewayError) return repeat;
  const stream = body.stream === true;
  const { mediaTokens, images } = countParts(body);
  const searches = webSearchBounds(body);
  const hasTools = arrayOf(body.tools).length > 0;
  const serviceTier = textOf(body.service_tier);
  return {
    operation: "chat",
    wire: raw && "openai-chat",
    raw,
    model: String(body.model),
    stream,
    includeUsage: stream && objectOf(body.stream_options)?.include_usage === true,
    outputTokensMax: smallest(numberOf(body.max_tokens), numberOf(body.max_completion_tokens)),
    choiceCount: numberOf(body.n) ?? 1,
    inputTokensMax: size + mediaTokens + searches.tokens + (hasTools ? toolPromptTokensMax : 0),
    ...piecesOfChat(images, searches.count),
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

/** Adds what must differ from the caller's body besides. */
function addChanges(changes: Changes, request: CompletionRequest, body: JsonObject, target: ChatTarget): void {
  changes.set("model", target.model);
  for (const key of Object.keys(body)) {
    if (isGatewayField(key)) changes.set(key, undefined);
  }
  const otherCap = target.outputCapField === "max_tokens" ? "max_completion_tokens" : "max_tokens";
  if (body[otherCap] !== undefined) changes.set(otherCap, undefined);
  const cap = target.outputTokensMax ?? request.outputTokensMax;
  if (cap !== undefined && body[target.outputCapField] !== cap) changes.set(target.outputCapField, cap);
  for (const [name, theirs] of Object.entries(target.params.renames ?? {})) {
    const value = changes.has(name) ? changes.get(name) : body[name];
    if (value === undefined) continue;
    changes.set(name, undefined);
    changes.set(theirs, value);
  }
  if (request.stream && !target.params.lacks.has("stream_options")) {
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

function findFault(body: JsonObject, repeated: ReadonlySet<string>): GatewayError | undefined {
  const common = commonFault(body, governedFields, repeated);
  if (common !== undefined) return common;
  if (!isObject(body.stream_options ?? {})) return invalid("stream_options", "`stream_options` must be an object.");
  return (
    countFault(body, "n", choiceCountMax) ??
    countFault(body, "max_tokens", Number.MAX_SAFE_INTEGER) ??
    countFault(body, "max_completion_tokens", Number.MAX_SAFE_INTEGER)
  );
}

function smallest(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}

/** The most tokens of content parts that are neither text nor bounded by their bytes, and how many of them are images. */
function countParts(body: JsonObject): { mediaTokens: number; images: number } {
  let [mediaTokens, images] = [0, 0];
  for (const message of arrayOf(body.messages)) {
    if (!isObject(message)) continue;
    for (const part of arrayOf(structureAt(message, "content"))) {
      const type = objectOf(part)?.type;
      if (isRemoteDocument(part)) mediaTokens += documentTokensMax;
      else if (type !== "text" && type !== "refusal" && type !== "input_audio") mediaTokens += mediaTokensMax;
      if (type === "image_url") images += 1;
    }
  }
  return { mediaTokens, images };
}
