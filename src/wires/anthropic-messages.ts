/** Anthropic's Messages: the conversation of a neutral body as Anthropic has it. */

import type { Json, JsonObject } from "../completion.ts";
import { blocksOf, marked, toolResultBlock, toolUseBlock } from "./anthropic-parts.ts";
import { arrayOf, isObject, textOf } from "./json.ts";

/** A conversation. */
export interface Conversation {
  /** The instructions, wherever they stood. */
  readonly system: JsonObject[];
  readonly messages: { readonly role: "user" | "assistant"; readonly content: JsonObject[] }[];
}

/** @throws ProviderFailure for what Claude cannot be shown. */
export function conversationOf(body: JsonObject): Conversation {
  const conversation: Conversation = { system: [], messages: [] };
  for (const [index, message] of arrayOf(body.messages).entries()) {
    if (isObject(message)) addMessage(conversation, message, `messages[${index}]`);
  }
  return conversation;
}

function addMessage(conversation: Conversation, message: JsonObject, where: string): void {
  switch (message.role) {
    case "system":
    case "developer":
      conversation.system.push(...markedLast(blocksOf(message.content, where), message));
      break;
    case "tool":
    case "function":
      append(conversation, "user", [toolResultBlock(message, where)]);
      break;
    case "assistant":
      append(conversation, "assistant", assistantBlocks(message, where));
      break;
    default:
      append(conversation, "user", markedLast(blocksOf(message.content, where), message));
  }
}

/** Reasoning goes first, as it came; only what is signed comes back to its maker. */
function assistantBlocks(message: JsonObject, where: string): JsonObject[] {
  const thinking = arrayOf(message.thinking_blocks).filter(isObject).filter(isSigned);
  const calls = arrayOf(message.tool_calls).filter(isObject);
  return [
    ...thinking,
    ...markedLast(blocksOf(message.content, where), message),
    ...calls.map((call, index) => toolUseBlock(call, `${where}.tool_calls[${index}]`)),
  ];
}

function isSigned(block: JsonObject): boolean {
  return block.type === "redacted_thinking" ? block.data !== undefined : textOf(block.signature) !== undefined;
}

/** A mark at a message stands for one at its last block. */
function markedLast(blocks: JsonObject[], message: JsonObject): JsonObject[] {
  const last = blocks.at(-1);
  return last === undefined ? blocks : [...blocks.slice(0, -1), marked(last, message)];
}

/** Adds to the turn under way: results of parallel calls must stand in one message. */
function append({ messages }: Conversation, role: "user" | "assistant", blocks: JsonObject[]): void {
  if (blocks.length === 0) return;
  const last = messages.at(-1);
  if (last?.role === role) last.content.push(...blocks);
  else messages.push({ role, content: [...blocks] });
}

/** Whether the conversation has calls of tools or their results. */
export function usesTools({ messages }: Conversation): boolean {
  return messages.some(({ content }) => content.some(({ type }) => type === "tool_use" || type === "tool_result"));
}

/** What `modify_params` allows: the conversation begins with the user, and no turn of the assistant ends in blanks. */
export function mended({ system, messages }: Conversation): Conversation {
  const opening = { role: "user" as const, content: [{ type: "text", text: "Please continue." }] };
  const whole = messages[0]?.role === "user" ? messages : [opening, ...messages];
  const last = whole.at(-1);
  const text = textOf(last?.content.at(-1)?.text);
  if (last?.role !== "assistant" || text === undefined) return { system, messages: whole };
  const trimmed: Json = { ...last.content.at(-1), text: text.trimEnd() };
  const content = [...last.content.slice(0, -1), ...(trimmed.text === "" ? [] : [trimmed])];
  return { system, messages: [...whole.slice(0, -1), { role: "assistant", content }] };
}
