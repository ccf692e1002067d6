/**
 * Anthropic's Messages: the body a caller sends. Its answer is written by `anthropic-encoder.ts`; what becomes of it at other
 * wires is in `anthropic-chat.ts`.
 */

import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { chatBodyOf } from "./anthropic-chat.ts";
import { arrayOf, isObject, objectOf, textOf } from "./json.ts";
import { structureAt } from "./long-texts.ts";
import { readRepeatWishes } from "./repeat-wishes.ts";
import {
  commonFault,
  countFault,
  documentTokensMax,
  invalid,
  isRemoteDocument,
  mediaTokensMax,
  numberOf,
  parseBody,
  piecesOfChat,
  readTags,
  toolPromptTokensMax,
  webSearchBounds,
} from "./request-body.ts";

/** Fields the gateway acts on. */
const governedFields = ["model", "messages", "stream", "max_tokens", "metadata", "thinking"];

/** Blocks whose tokens their bytes bound. */
const textual: ReadonlySet<string> = new Set(["text", "thinking", "redacted_thinking", "tool_use", "search_result"]);

/**
 * Reads the body of a request for a message.
 *
 * @param options `counts`: it only asks how many tokens it has, so that no cap is wanted.
 * @returns `invalid_json` or `invalid_request` (with `param`) if it is none. Messages of errors never quote the body.
 */
export function decodeMessagesRequest(
  bytes: Buffer,
  options: { readonly counts: boolean },
): CompletionRequest | GatewayError {
  const parsed = parseBody(bytes);
  if (parsed instanceof GatewayError) return parsed;
  const { body, spans, repeated } = parsed;
  const fault = commonFault(body, governedFields, repeated) ?? capFault(body, options.counts);
  if (fault !== undefined) return fault;
  const repeat = readRepeatWishes(body);
  if (repeat instanceof GatewayError) return repeat;
  const { tokens: mediaTokens, images } = countBlocks(body);
  const searches = webSearchBounds(body);
  const hasTools = arrayOf(body.tools).length > 0;
  let chat: JsonObject | undefined;
  return {
    operation: "chat",
    wire: "anthropic-messages",
    raw: { bytes, value: body, spans },
    model: String(body.model),
    stream: body.stream === true,
    includeUsage: true,
    outputTokensMax: numberOf(body.max_tokens),
    choiceCount: 1,
    inputTokensMax: bytes.length + mediaTokens + searches.tokens + (hasTools ? toolPromptTokensMax : 0),
    ...piecesOfChat(images, searches.count),
    ...(body.service_tier === "standard_only" && { serviceTier: "default" }),
    endUser: textOf(objectOf(body.metadata)?.user_id),
    tags: readTags(body),
    ...(repeat !== undefined && { repeat }),
    chat: () => {
      chat ??= chatBodyOf(body);
      return chat;
    },
  };
}

function capFault(body: JsonObject, counts: boolean): GatewayError | undefined {
  if (counts) return undefined;
  if (body.max_tokens === undefined || body.max_tokens === null)
    return invalid("max_tokens", "`max_tokens` is missing.");
  return countFault(body, "max_tokens", Number.MAX_SAFE_INTEGER);
}

/** The most tokens of content blocks that are neither text nor bounded by their bytes, and how many of them are images. */
function countBlocks(body: JsonObject): { tokens: number; images: number } {
  const found = { tokens: 0, images: 0 };
  for (const message of arrayOf(body.messages)) count(message, found);
  return found;
}

/** @param holder a message, or a result of a tool. */
function count(holder: Json, found: { tokens: number; images: number }): void {
  if (!isObject(holder)) return;
  for (const block of arrayOf(structureAt(holder, "content"))) {
    if (!isObject(block) || textual.has(String(block.type))) continue;
    if (block.type === "tool_result") count(block, found);
    else found.tokens += isRemoteDocument(block) ? documentTokensMax : mediaTokensMax;
    if (block.type === "image") found.images += 1;
  }
}
