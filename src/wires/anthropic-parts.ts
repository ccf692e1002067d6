/** Anthropic's Messages: content parts of the neutral form as content blocks. */

import type { Json, JsonObject } from "../completion.ts";
import { unsupported } from "./chat-params.ts";
import { arrayOf, isObject, objectOf, parseJson, textOf } from "./json.ts";

/**
 * A message's content as blocks. What is Anthropic's own (`document`, `search_result` ...) passes as it is.
 *
 * @param where the message's place, for errors: "messages[3]".
 * @throws ProviderFailure for what Claude cannot be shown.
 */
export function blocksOf(content: Json | undefined, where: string): JsonObject[] {
  const text = textOf(content);
  if (text !== undefined) return [{ type: "text", text }];
  return arrayOf(content).flatMap<JsonObject>((part, index) =>
    isObject(part) ? blockOf(part, `${where}.content[${index}]`) : [],
  );
}

/** A block with the mark for caches that its origin had. */
export function marked(block: JsonObject, origin: JsonObject): JsonObject {
  const mark = objectOf(origin.cache_control);
  return mark === undefined || block.cache_control !== undefined ? block : { ...block, cache_control: mark };
}

function blockOf(part: JsonObject, where: string): JsonObject | JsonObject[] {
  switch (part.type) {
    case "text":
    case "input_text": {
      // Anthropic refuses empty ones.
      const text = textOf(part.text);
      return text === undefined ? [] : marked({ type: "text", text }, part);
    }
    case "refusal":
      return { type: "text", text: textOf(part.refusal) ?? "(refused)" };
    case "image_url":
    case "input_image": {
      const image = objectOf(part.image_url);
      const url = textOf(image?.url) ?? textOf(part.image_url);
      if (url === undefined) throw unsupported(`${where}.image_url`, "An image has no `url`.");
      return marked(mediaBlock(url, textOf(image?.format)), part);
    }
    case "file":
      return marked(fileBlock(objectOf(part.file) ?? {}, where), part);
    case "input_audio":
    case "video_url":
      throw unsupported(where, `Claude takes no part of type "${part.type}". Send text, images and documents.`);
    default:
      return part;
  }
}

function fileBlock(file: JsonObject, where: string): JsonObject {
  const given = textOf(file.file_data) ?? textOf(file.file_id);
  if (given === undefined) throw unsupported(`${where}.file`, "A file has neither `file_data` nor `file_id`.");
  const title = textOf(file.filename);
  const isId = !/^(data:|https?:)/i.test(given);
  const block = isId
    ? { type: "document", source: { type: "file", file_id: given } }
    : mediaBlock(given, textOf(file.format) ?? "application/pdf");
  return block.type === "document" && title !== undefined ? { ...block, title } : block;
}

/** An image or a document, by URL or with its data in it. */
function mediaBlock(url: string, format: string | undefined): JsonObject {
  const data = /^data:([^;,]*)[^,]*?(;base64)?,/i.exec(url);
  if (data === null) {
    const isDocument = format === "application/pdf" || format === "text/plain";
    return { type: isDocument ? "document" : "image", source: { type: "url", url } };
  }
  const mediaType = textOf(data[1]?.toLowerCase()) ?? format ?? "image/png";
  const payload = url.slice(data[0].length);
  if (mediaType.startsWith("text/")) {
    const text = data[2] === undefined ? decodeText(payload) : Buffer.from(payload, "base64").toString();
    return { type: "document", source: { type: "text", media_type: "text/plain", data: text } };
  }
  const type = mediaType.startsWith("image/") ? "image" : "document";
  return { type, source: { type: "base64", media_type: mediaType, data: payload } };
}

function decodeText(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * A tool call of the assistant as a block.
 *
 * @throws ProviderFailure if its arguments are no JSON object: Anthropic keeps them parsed.
 */
export function toolUseBlock(call: JsonObject, where: string): JsonObject {
  const called = objectOf(call.function) ?? {};
  const text = textOf(called.arguments);
  const input = text === undefined ? {} : parseJson(text);
  if (!isObject(input)) {
    throw unsupported(
      `${where}.function.arguments`,
      "The arguments of a tool call must be a JSON object, as a string.",
    );
  }
  const block = { type: "tool_use", id: toolId(call.id), name: textOf(called.name) ?? "", input };
  return marked(marked(block, call), called);
}

/** What a tool answered, as a block. */
export function toolResultBlock(message: JsonObject, where: string): JsonObject {
  const text = textOf(message.content);
  const content = text ?? blocksOf(message.content, where);
  const block = { type: "tool_result", tool_use_id: toolId(message.tool_call_id ?? message.name), content };
  return marked({ ...block, ...(message.is_error === true && { is_error: true }) }, message);
}

/** Other providers' ids hold what Anthropic's may not; a call and its result are changed alike. */
function toolId(id: Json | undefined): string {
  return (textOf(id) ?? "").replace(/[^a-zA-Z0-9_-]/g, "_");
}
