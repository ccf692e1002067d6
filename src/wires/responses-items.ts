/** OpenAI's responses: the items a caller sends, as the messages of the neutral form. */

import type { Json, JsonObject } from "../completion.ts";
import { arrayOf, isObject, objectOf, textOf } from "./json.ts";
import { readThinking } from "./responses-thinking.ts";

/** Records of what a provider did for its own tools: what came of it stands in the message after it. */
const records: ReadonlySet<string> = new Set(["web_search_call"]);

/** Messages, and the places of items that no message can say. */
export interface Conversation {
  readonly messages: readonly JsonObject[];
  /** "input[3]" for instance. */
  readonly unsayable: readonly string[];
}

/** What the model said, gathered until somebody else speaks: it thought, spoke, and called tools. */
interface Turn {
  readonly thinking: JsonObject[];
  readonly content: JsonObject[];
  readonly calls: JsonObject[];
}

/** Reads `instructions` and `input`. Nothing in them makes it fail. */
export function readItems(body: JsonObject): Conversation {
  const messages: JsonObject[] = [];
  const unsayable: string[] = [];
  let turn: Turn | undefined;
  const say = (message: JsonObject | undefined) => {
    if (turn !== undefined) messages.push(messageOf(turn));
    turn = undefined;
    if (message !== undefined) messages.push(message);
  };
  const instructions = textOf(body.instructions);
  if (instructions !== undefined) say({ role: "system", content: instructions });
  if (typeof body.input === "string") say({ role: "user", content: body.input });
  for (const [index, item] of arrayOf(body.input).entries()) {
    const place = `input[${index}]`;
    const type = isObject(item) ? (textOf(item.type) ?? "message") : "";
    if (!isObject(item)) unsayable.push(place);
    else if (type === "message" && item.role !== "assistant") say(spoken(item, place, unsayable));
    else if (type === "function_call_output") say(resultOf(item, place, unsayable));
    else if (type === "message" || type === "function_call" || type === "reasoning") {
      turn ??= { thinking: [], content: [], calls: [] };
      if (type === "message") turn.content.push(...partsOf(item.content, place, unsayable));
      else if (type === "function_call") turn.calls.push(callOf(item));
      else turn.thinking.push(...readThinking(item));
    } else if (!records.has(type)) unsayable.push(place);
  }
  say(undefined);
  return { messages, unsayable };
}

function messageOf({ thinking, content, calls }: Turn): JsonObject {
  return {
    role: "assistant",
    content: plainest(content) ?? (calls.length > 0 ? null : ""),
    ...(thinking.length > 0 && { thinking_blocks: thinking }),
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

function spoken(item: JsonObject, place: string, unsayable: string[]): JsonObject {
  return { role: item.role ?? "user", content: plainest(partsOf(item.content, place, unsayable)) ?? "" };
}

function resultOf(item: JsonObject, place: string, unsayable: string[]): JsonObject {
  const content = plainest(partsOf(item.output, place, unsayable)) ?? "";
  return { role: "tool", tool_call_id: textOf(item.call_id) ?? "", content };
}

function callOf(item: JsonObject): JsonObject {
  const { provider_specific_fields: own } = item;
  return {
    id: textOf(item.call_id) ?? textOf(item.id) ?? "",
    type: "function",
    function: { name: textOf(item.name) ?? "", arguments: textOf(item.arguments) ?? "{}" },
    ...(isObject(own) && { provider_specific_fields: own }),
  };
}

/** Parts that are nothing but text are one text: older servers take no list. */
function plainest(parts: readonly JsonObject[]): Json | undefined {
  if (parts.length === 0) return undefined;
  const isPlain = parts.every(({ type, ...rest }) => type === "text" && Object.keys(rest).length === 1);
  return isPlain ? parts.map(({ text }) => String(text)).join("\n\n") : [...parts];
}

function partsOf(content: Json | undefined, place: string, unsayable: string[]): JsonObject[] {
  if (typeof content === "string") return content === "" ? [] : [{ type: "text", text: content }];
  const parts: JsonObject[] = [];
  for (const part of arrayOf(content)) {
    const said = isObject(part) ? partOf(part) : undefined;
    if (said === undefined) unsayable.push(place);
    else parts.push(said);
  }
  return parts;
}

/** @returns undefined for what only the server of this wire can find: a file by its id. */
function partOf(part: JsonObject): JsonObject | undefined {
  const mark = objectOf(part.cache_control);
  const marked = (said: JsonObject) => (mark === undefined ? said : { ...said, cache_control: mark });
  switch (part.type) {
    case "input_text":
    case "output_text":
    case "text":
    case "summary_text":
      return marked({ type: "text", text: textOf(part.text) ?? "" });
    case "refusal":
      return { type: "refusal", refusal: textOf(part.refusal) ?? "" };
    case "input_image": {
      const url = textOf(part.image_url);
      const detail = textOf(part.detail);
      if (url === undefined) return undefined;
      return marked({ type: "image_url", image_url: { url, ...(detail !== undefined && { detail }) } });
    }
    case "input_file": {
      const [data, url, filename] = [textOf(part.file_data), textOf(part.file_url), textOf(part.filename)];
      const source = data !== undefined ? { file_data: data } : url !== undefined ? { file_id: url } : undefined;
      if (source === undefined) return undefined;
      return marked({ type: "file", file: { ...(filename !== undefined && { filename }), ...source } });
    }
    default:
      // Audio is written alike in both; of what nobody knows, the provider may know something.
      return part;
  }
}
