/** Google's generateContent: the messages of a request. */

import type { Json, JsonObject } from "../completion.ts";
import { type ChatPart, type MediaPart, unreadable } from "./chat-parts.ts";
import type { AssistantTurn, ToolTurn, Turn } from "./chat-turns.ts";
import { isObject, parseJson } from "./json.ts";

/** One turn of a conversation as Google has it. */
interface Content {
  readonly role: "user" | "model";
  readonly parts: JsonObject[];
}

/**
 * What Google takes in place of a call's signature that nobody kept, or that another provider's model never gave
 * (https://ai.google.dev/gemini-api/docs/thought-signatures).
 */
const noSignature = "skip_thought_signature_validator";

/**
 * Writes the conversation. System messages go to the head, wherever they stood; of others those of one side that follow each
 * other become one.
 *
 * @param needsSignatures whether the model refuses tool calls without a thought's signature, as it does from Gemini 3 on.
 */
export function encodeContents(turns: readonly Turn[], needsSignatures: boolean): JsonObject {
  const system: JsonObject[] = [];
  const contents: Content[] = [];
  for (const turn of turns) {
    if (turn.role === "system") {
      for (const part of turn.parts) system.push(encodePart(part));
      continue;
    }
    const role = turn.role === "assistant" ? "model" : "user";
    const parts = encodeTurn(turn, needsSignatures);
    const last = contents.at(-1);
    if (last?.role === role) last.parts.push(...parts);
    else if (parts.length > 0) contents.push({ role, parts });
  }
  // A conversation cannot be empty: who only gives orders asks for an answer to them.
  if (contents.length === 0) return { contents: [{ role: "user", parts: system }] };
  return {
    ...(system.length > 0 && { systemInstruction: { parts: system } }),
    contents: contents.map(({ role, parts }) => ({ role, parts })),
  };
}

function encodeTurn(turn: Exclude<Turn, { role: "system" }>, needsSignatures: boolean): JsonObject[] {
  switch (turn.role) {
    case "user":
      return turn.parts.map(encodePart);
    case "assistant":
      return encodeAnswer(turn, needsSignatures);
    case "tool":
      return encodeToolAnswer(turn);
  }
}

/** Thoughts themselves do not go back, only what proves them: Google wants no more. */
function encodeAnswer(turn: AssistantTurn, needsSignatures: boolean): JsonObject[] {
  const parts = turn.parts.map(encodePart);
  const last = parts.at(-1);
  if (last !== undefined && turn.textSignature !== undefined) last.thoughtSignature = turn.textSignature;
  turn.calls.forEach(({ id, name, input, signature }, index) => {
    // Of parallel calls the first alone has one.
    const thoughtSignature = signature ?? (needsSignatures && index === 0 ? noSignature : undefined);
    parts.push({
      functionCall: { name, args: input, ...(isGooglesId(id) && { id }) },
      ...(thoughtSignature !== undefined && { thoughtSignature }),
    });
  });
  return parts;
}

/** What the tool gave: an object as it is, anything else under `result`. Pictures follow it. */
function encodeToolAnswer({ callId, name, parts }: ToolTurn): JsonObject[] {
  const text = parts.flatMap((part) => (part.kind === "text" ? [part.text] : [])).join("\n");
  const value = parseJson(text);
  const response: Json = isObject(value) ? value : { result: text };
  const media = parts.filter((part) => part.kind === "media").map(encodeMedia);
  return [{ functionResponse: { name, response, ...(isGooglesId(callId) && { id: callId }) } }, ...media];
}

/** Ids that we made up for calls that had none, and other providers' ids, mean nothing to Google. */
function isGooglesId(id: string): boolean {
  return id !== "" && !/^(call_|toolu_|tooluse_|chatcmpl-)/.test(id);
}

function encodePart(part: ChatPart): JsonObject {
  return part.kind === "text" ? { text: part.text } : encodeMedia(part);
}

function encodeMedia({ mimeType, base64, uri, param }: MediaPart): JsonObject {
  if (base64 !== undefined) return { inlineData: { mimeType: mimeType ?? "", data: base64 } };
  if (uri === undefined) throw unreadable(param, "has neither data nor a URL");
  return { fileData: { ...(mimeType !== undefined && { mimeType }), fileUri: uri } };
}
