/** Anthropic's Messages: a caller's body in the neutral form, for providers that speak another wire. */

import type { Json, JsonObject } from "../completion.ts";
import { arrayOf, isObject, objectOf, textOf } from "./json.ts";

/** Members that have another name or form, and hints to Anthropic's servers that change no answer. */
const translated: ReadonlySet<string> = new Set(
  `system messages tools tool_choice stop_sequences metadata output_config thinking service_tier cache_control
   context_management diagnostics betas`.split(/\s+/),
);
const toolChoices: Readonly<Record<string, string>> = { auto: "auto", any: "required", none: "none" };

/** @param body whose `messages` is a list; whatever else it holds is looked at with care. */
export function chatBodyOf(body: JsonObject): JsonObject {
  const kept = Object.entries(body).filter(([key, value]) => !translated.has(key) && value !== null);
  const user = textOf(objectOf(body.metadata)?.user_id);
  const stop = arrayOf(body.stop_sequences);
  const tier = body.service_tier === "standard_only" ? "default" : textOf(body.service_tier);
  return {
    ...Object.fromEntries(kept),
    messages: [...systemMessages(body.system), ...arrayOf(body.messages).flatMap(messagesOf)],
    ...toolFields(body),
    ...outputFields(body),
    ...(stop.length > 0 && { stop: [...stop] }),
    ...(user !== undefined && { user }),
    ...(tier !== undefined && { service_tier: tier }),
  };
}

function systemMessages(system: Json | undefined): JsonObject[] {
  const content = plainest(textParts(system));
  return content === undefined ? [] : [{ role: "system", content }];
}

/** Text blocks, or a text, as parts; marks for caches stay. */
function textParts(content: Json | undefined): JsonObject[] {
  const text = textOf(content);
  if (text !== undefined) return [{ type: "text", text }];
  return arrayOf(content).flatMap<JsonObject>((block) => (isObject(block) ? partsOf(block) : []));
}

/** One message of Anthropic's as several of OpenAI's: what tools answered stands apart, and first. */
function messagesOf(message: Json): JsonObject[] {
  if (!isObject(message)) return [];
  const blocks =
    typeof message.content === "string" ? textParts(message.content) : arrayOf(message.content).filter(isObject);
  if (message.role === "assistant") return [assistantMessage(blocks)];
  if (message.role === "system") return systemMessages(message.content);
  const results = blocks.filter(({ type }) => type === "tool_result").map(resultMessage);
  const content = plainest(blocks.flatMap((block) => (block.type === "tool_result" ? [] : partsOf(block))));
  return content === undefined ? results : [...results, { role: "user", content }];
}

function assistantMessage(blocks: readonly JsonObject[]): JsonObject {
  const thinking = blocks.filter(({ type }) => type === "thinking" || type === "redacted_thinking");
  const calls = blocks.filter(({ type }) => type === "tool_use");
  const text = plainest(blocks.filter(({ type }) => type === "text").flatMap(partsOf));
  return {
    role: "assistant",
    content: text ?? (calls.length > 0 ? null : ""),
    ...(thinking.length > 0 && { thinking_blocks: thinking }),
    ...(calls.length > 0 && { tool_calls: calls.map(toolCall) }),
  };
}

function toolCall(block: JsonObject): JsonObject {
  const called = { name: textOf(block.name) ?? "", arguments: JSON.stringify(block.input ?? {}) };
  return withMark({ id: textOf(block.id) ?? "", type: "function", function: called }, block);
}

function resultMessage(block: JsonObject): JsonObject {
  const content = plainest(textParts(block.content)) ?? "";
  const message = { role: "tool", tool_call_id: textOf(block.tool_use_id) ?? "", content };
  return withMark(block.is_error === true ? { ...message, is_error: true } : message, block);
}

/** Parts that are nothing but text are one text: older servers take no list. */
function plainest(parts: readonly JsonObject[]): Json | undefined {
  if (parts.length === 0) return undefined;
  const isPlain = parts.every(({ type, cache_control }) => type === "text" && cache_control === undefined);
  return isPlain ? parts.map(({ text }) => String(text)).join("\n\n") : [...parts];
}

function partsOf(block: JsonObject): JsonObject[] {
  const source = objectOf(block.source);
  switch (block.type) {
    case "text": {
      const text = textOf(block.text);
      return text === undefined ? [] : [withMark({ type: "text", text }, block)];
    }
    case "image": {
      const url = source === undefined ? undefined : addressOf(source);
      return [url === undefined ? block : withMark({ type: "image_url", image_url: { url } }, block)];
    }
    case "document":
      return documentParts(block, source ?? {});
    case "search_result":
      return textParts(block.content);
    case "thinking":
    case "redacted_thinking":
      return [];
    default:
      return [block];
  }
}

function documentParts(block: JsonObject, source: JsonObject): JsonObject[] {
  const title = textOf(block.title);
  if (source.type === "text" || source.type === "content") {
    const parts = textParts(source.type === "text" ? source.data : source.content);
    return title === undefined ? parts : [{ type: "text", text: title }, ...parts];
  }
  const filename = title ?? "document.pdf";
  const address = addressOf(source);
  const file =
    source.type === "base64" ? { filename, file_data: address ?? "" } : { file_id: address ?? source.file_id ?? "" };
  return [withMark({ type: "file", file }, block)];
}

/** A source as an address, with its data in it or not; undefined: only Anthropic knows where it is. */
function addressOf(source: JsonObject): string | undefined {
  if (source.type === "url") return textOf(source.url);
  if (source.type !== "base64") return undefined;
  return `data:${textOf(source.media_type) ?? "application/octet-stream"};base64,${textOf(source.data) ?? ""}`;
}

function toolFields(body: JsonObject): JsonObject {
  const given = arrayOf(body.tools).filter(isObject);
  const searches = given.some(({ type }) => String(type).startsWith("web_search_"));
  const tools = given.filter(({ type }) => !String(type).startsWith("web_search_")).map(toolOf);
  const choice = objectOf(body.tool_choice);
  const name = textOf(choice?.name);
  const kind = toolChoices[String(choice?.type)];
  return {
    ...(tools.length > 0 && { tools }),
    ...(searches && { web_search_options: {} }),
    ...(choice?.type === "tool" && name !== undefined && { tool_choice: { type: "function", function: { name } } }),
    ...(kind !== undefined && tools.length > 0 && { tool_choice: kind }),
    ...(choice?.disable_parallel_tool_use === true && tools.length > 0 && { parallel_tool_calls: false }),
  };
}

function toolOf(tool: JsonObject): JsonObject {
  if (tool.type !== undefined && tool.type !== null && tool.type !== "custom") return tool;
  const { name = "", description, input_schema: parameters = {}, strict } = tool;
  const described = textOf(description) !== undefined && { description };
  return withMark(
    { type: "function", function: { name, ...described, parameters, ...(strict === true && { strict }) } },
    tool,
  );
}

function outputFields(body: JsonObject): JsonObject {
  const config = objectOf(body.output_config);
  const format = objectOf(config?.format) ?? objectOf(body.output_format);
  const schema = format?.type === "json_schema" ? objectOf(format.schema) : undefined;
  const effort = textOf(config?.effort);
  const thinking = objectOf(body.thinking);
  return {
    ...(schema !== undefined && {
      response_format: { type: "json_schema", json_schema: { name: "answer", schema, strict: true } },
    }),
    ...(thinking !== undefined && { thinking }),
    // Beside an effort stands that it was asked for in Anthropic's words: models that do not reason are then spared it.
    ...(effort !== undefined && { thinking: thinking ?? { type: "adaptive" }, reasoning_effort: effortOf(effort) }),
  };
}

/** The efforts above "high" are few servers' words. */
function effortOf(effort: string): string {
  return effort === "max" || effort === "xhigh" ? "high" : effort;
}

function withMark(item: JsonObject, origin: JsonObject): JsonObject {
  const mark = objectOf(origin.cache_control);
  return mark === undefined ? item : { ...item, cache_control: mark };
}
