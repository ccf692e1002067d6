/** OpenAI's chat completions: an answer that is already here, as neutral events, if they can say all of it. */

import type { CompletionEvent, Json } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, objectOf, parseJson, textOf } from "./json.ts";
import { answerEvents, readChatAnswer } from "./openai-chat-answer.ts";
import { ChatStreamReader } from "./openai-chat-stream.ts";
import { SseSplitter } from "./sse.ts";

/** What of a message or a delta the neutral events have a place for. */
const known = new Set(["role", "content", "reasoning_content", "reasoning", "refusal", "tool_calls"]);

/** A whole answer. @returns undefined if it is none, or a part of a message would be lost: audio, a custom tool's call. */
export function neutralWhole(bytes: Buffer): readonly CompletionEvent[] | undefined {
  const answer = readChatAnswer(bytes);
  if (answer instanceof GatewayError) return undefined;
  const messages = arrayOf(answer.body.choices).map((choice) => objectOf(choice)?.message);
  return messages.every(isSayable) ? answerEvents(answer) : undefined;
}

/** All frames of a stream. @returns undefined as `neutralWhole` does. */
export function neutralStream(bytes: Buffer, choiceCount: number): readonly CompletionEvent[] | undefined {
  for (const { data } of new SseSplitter(bytes.length + 1).push(bytes)) {
    const chunk = objectOf(parseJson(data ?? "") as Json | undefined);
    if (!arrayOf(chunk?.choices).every((choice) => isSayable(objectOf(choice)?.delta))) return undefined;
  }
  const reader = new ChatStreamReader({
    lane: "neutral",
    includeUsage: true,
    choiceCount,
    frameBytesMax: bytes.length + 1,
  });
  const events = [...reader.push(bytes), ...reader.end()];
  return reader.failure === undefined ? events : undefined;
}

function isSayable(value: Json | undefined): boolean {
  const message = objectOf(value) ?? {};
  const { content, tool_calls: calls } = message;
  if (content !== undefined && content !== null && typeof content !== "string") return false;
  if (!arrayOf(calls).every((call) => (textOf(objectOf(call)?.type) ?? "function") === "function")) return false;
  return Object.entries(message).every(([name, member]) => known.has(name) || isNothing(member));
}

function isNothing(value: Json): boolean {
  return value === null || (Array.isArray(value) && value.length === 0);
}
