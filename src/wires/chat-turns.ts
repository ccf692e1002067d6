/** The messages of the neutral form (OpenAI's chat), read for wires that write conversations otherwise. */

import type { Json, JsonObject } from "../completion.ts";
import { type CacheTtl, type ChatPart, readCacheTtl, readParts, unreadable } from "./chat-parts.ts";
import { arrayOf, isObject, objectOf, parseJson, textOf } from "./json.ts";

/** An order from the application. */
interface SystemTurn {
  readonly role: "system";
  readonly parts: readonly ChatPart[];
}

/** What the user said. */
interface UserTurn {
  readonly role: "user";
  readonly parts: readonly ChatPart[];
}

/** What the model said, in the order it did: it thought, spoke, and called tools. */
export interface AssistantTurn {
  readonly role: "assistant";
  readonly thoughts: readonly Thought[];
  readonly parts: readonly ChatPart[];
  readonly calls: readonly ToolCall[];
  /** What proves to Gemini the thought that led to the text. */
  readonly textSignature: string | undefined;
}

/** What a tool answered. */
export interface ToolTurn {
  readonly role: "tool";
  readonly callId: string;
  /** The tool's name, "" if no call before has this id. */
  readonly name: string;
  readonly parts: readonly ChatPart[];
  readonly cacheTtl: CacheTtl | undefined;
}

export type Turn = SystemTurn | UserTurn | AssistantTurn | ToolTurn;

/** A thought as it came, with what proves that the model had it; or one that only the provider can read (`redacted`). */
export interface Thought {
  readonly text: string;
  readonly signature: string | undefined;
  readonly redacted: string | undefined;
}

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  readonly input: JsonObject;
  /** What proves to Gemini the thought that led to the call. */
  readonly signature: string | undefined;
}

/** Reads `messages`. @throws `invalid_request` that names what cannot be read. */
export function readTurns(body: JsonObject): readonly Turn[] {
  const names = new Map<string, string>();
  return arrayOf(body.messages).map((message, index) => readTurn(message, `messages[${index}]`, names));
}

function readTurn(message: Json, param: string, names: Map<string, string>): Turn {
  if (!isObject(message)) throw unreadable(param, "must be an object");
  const { role } = message;
  const parts = withMark(readParts(message.content, `${param}.content`), readCacheTtl(message));
  switch (role) {
    case "system":
    case "developer":
      return { role: "system", parts };
    case "user":
      return { role, parts };
    case "assistant": {
      const calls = readCalls(message, param);
      for (const { id, name } of calls) names.set(id, name);
      const textSignature = textOf(arrayOf(objectOf(message.provider_specific_fields)?.thought_signatures).at(-1));
      return { role, thoughts: readThoughts(message), parts: withRefusal(parts, message), calls, textSignature };
    }
    case "tool":
    case "function": {
      const callId = textOf(message.tool_call_id) ?? textOf(message.name) ?? "";
      const name = names.get(callId) ?? textOf(message.name) ?? "";
      return { role: "tool", callId, name, parts, cacheTtl: readCacheTtl(message) };
    }
    default:
      throw unreadable(`${param}.role`, "is not a role of a chat: system, developer, user, assistant or tool");
  }
}

/** A mark on a message is one on its last part. */
function withMark(parts: readonly ChatPart[], cacheTtl: CacheTtl | undefined): readonly ChatPart[] {
  const last = parts.at(-1);
  return last === undefined || cacheTtl === undefined ? parts : [...parts.slice(0, -1), { ...last, cacheTtl }];
}

function withRefusal(parts: readonly ChatPart[], message: JsonObject): readonly ChatPart[] {
  const text = textOf(message.refusal);
  return text === undefined ? parts : [...parts, { kind: "text", text, cacheTtl: undefined }];
}

function readCalls(message: JsonObject, param: string): readonly ToolCall[] {
  const calls = arrayOf(message.tool_calls).map((value, index) => {
    const call = objectOf(value) ?? {};
    return readCall(call, objectOf(call.function) ?? {}, `${param}.tool_calls[${index}]`);
  });
  const old = objectOf(message.function_call);
  // OpenAI's first way to call a function: without an id, so the answer is found by the name.
  return old === undefined ? calls : [...calls, readCall({ id: old.name ?? "" }, old, `${param}.function_call`)];
}

function readCall(call: JsonObject, called: JsonObject, param: string): ToolCall {
  const text = textOf(called.arguments) ?? "{}";
  const input = parseJson(text);
  if (!isObject(input)) throw unreadable(`${param}.function.arguments`, "must be the text of a JSON object");
  const name = textOf(called.name);
  if (name === undefined) throw unreadable(`${param}.function.name`, "is missing");
  return { id: textOf(call.id) ?? "", name, input, signature: signatureOf(call) };
}

/** Where LiteLLM puts a call's signature, and where Google's own OpenAI-compatible door does. */
function signatureOf(call: JsonObject): string | undefined {
  const own = objectOf(call.provider_specific_fields)?.thought_signature;
  return textOf(own ?? objectOf(objectOf(call.extra_content)?.google)?.thought_signature);
}

function readThoughts(message: JsonObject): readonly Thought[] {
  const inContent = arrayOf(message.content).filter((part) => isThought(part));
  return [...arrayOf(message.thinking_blocks), ...inContent].flatMap((value) => {
    const block = objectOf(value) ?? {};
    const redacted = block.type === "redacted_thinking" ? textOf(block.data) : undefined;
    const text = textOf(block.thinking) ?? "";
    const signature = textOf(block.signature);
    return redacted === undefined && text === "" && signature === undefined ? [] : [{ text, signature, redacted }];
  });
}

function isThought(part: Json): boolean {
  const type = objectOf(part)?.type;
  return type === "thinking" || type === "redacted_thinking";
}
