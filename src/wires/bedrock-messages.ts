/** Amazon Bedrock's Converse: the messages of a request. */

import type { JsonObject } from "../completion.ts";
import { type CacheTtl, type ChatPart, type MediaPart, unreadable } from "./chat-parts.ts";
import type { AssistantTurn, Thought, ToolTurn, Turn } from "./chat-turns.ts";

interface Message {
  readonly role: "user" | "assistant";
  readonly content: JsonObject[];
}

/** Writes the conversation. System messages go to the head, wherever they stood; of others those of one side become one. */
export function encodeConversation(turns: readonly Turn[]): JsonObject {
  const names = new DocumentNames();
  const system: JsonObject[] = [];
  const messages: Message[] = [];
  for (const turn of turns) {
    if (turn.role === "system") {
      system.push(...turn.parts.flatMap((part) => encodePart(part, names)));
      continue;
    }
    const role = turn.role === "assistant" ? "assistant" : "user";
    const content = encodeTurn(turn, names);
    const last = messages.at(-1);
    if (last?.role === role) last.content.push(...content);
    else if (content.length > 0) messages.push({ role, content });
  }
  // A conversation cannot be empty: who only gives orders asks for an answer to them.
  if (messages.length === 0) return { messages: [{ role: "user", content: system }] };
  return {
    ...(system.length > 0 && { system }),
    messages: messages.map(({ role, content }) => ({ role, content })),
  };
}

/** Marks the end of what shall be kept in the cache. */
export function cachePoint(ttl: CacheTtl): JsonObject {
  return { cachePoint: { type: "default", ...(ttl !== "" && { ttl }) } };
}

function encodeTurn(turn: Exclude<Turn, { role: "system" }>, names: DocumentNames): JsonObject[] {
  switch (turn.role) {
    case "user":
      return turn.parts.flatMap((part) => encodePart(part, names));
    case "assistant":
      return encodeAnswer(turn, names);
    case "tool":
      return encodeToolAnswer(turn, names);
  }
}

function encodeAnswer(turn: AssistantTurn, names: DocumentNames): JsonObject[] {
  return [
    ...turn.thoughts.flatMap(encodeThought),
    ...turn.parts.flatMap((part) => encodePart(part, names)),
    ...turn.calls.map(({ id, name, input }) => ({ toolUse: { toolUseId: id, name, input } })),
  ];
}

/** A thought that nobody signed is another provider's, and would be refused. */
function encodeThought({ text, signature, redacted }: Thought): JsonObject[] {
  if (redacted !== undefined) return [{ reasoningContent: { redactedContent: redacted } }];
  return signature === undefined ? [] : [{ reasoningContent: { reasoningText: { text, signature } } }];
}

function encodeToolAnswer({ callId, parts, cacheTtl }: ToolTurn, names: DocumentNames): JsonObject[] {
  // A mark inside of a tool's answer is refused; behind it, it means the same.
  const content = parts.flatMap((part) => encodePart({ ...part, cacheTtl: undefined }, names));
  const ttl = cacheTtl ?? parts.findLast((part) => part.cacheTtl !== undefined)?.cacheTtl;
  // There must be something in it; a tool may well have nothing to say.
  const filled = content.length === 0 ? [{ text: "(no output)" }] : content;
  return [{ toolResult: { toolUseId: callId, content: filled } }, ...(ttl === undefined ? [] : [cachePoint(ttl)])];
}

function encodePart(part: ChatPart, names: DocumentNames): JsonObject[] {
  const mark = part.cacheTtl === undefined ? [] : [cachePoint(part.cacheTtl)];
  if (part.kind === "media") return [encodeMedia(part, names), ...mark];
  // Bedrock refuses a blank text.
  return part.text.trim() === "" ? mark : [{ text: part.text }, ...mark];
}

function encodeMedia(part: MediaPart, names: DocumentNames): JsonObject {
  const format = formats[part.media]?.[part.mimeType ?? ""];
  if (format === undefined) {
    const known = [...new Set(Object.values(formats[part.media]))].join(", ");
    throw unreadable(part.param, `has a type that this provider does not take; of ${part.media}s it takes ${known}`);
  }
  const block = { format, source: sourceOf(part) };
  if (part.media !== "document") return { [part.media]: block };
  return { document: { ...block, name: names.next(part.name) } };
}

/** Bedrock does not fetch from the web, and neither does the gateway: whoever names an address would choose where we call. */
function sourceOf({ base64, uri, media, param }: MediaPart): JsonObject {
  if (base64 !== undefined) return { bytes: base64 };
  if (uri?.startsWith("s3://") === true) return { s3Location: { uri } };
  throw unreadable(
    param,
    `must be a data: URL with the ${media} in it, or an s3:// address: this provider fetches nothing`,
  );
}

/** Names that Bedrock takes: few characters are allowed, and each must be different. */
class DocumentNames {
  readonly #taken = new Set<string>();

  next(wanted: string | undefined): string {
    const stem =
      wanted
        ?.replace(/\.[a-z0-9]+$/i, "")
        .replace(/[^a-z0-9()[\]-]+/gi, " ")
        .trim() ?? "";
    const base = stem === "" ? "document" : stem.slice(0, 150);
    let name = base;
    for (let number = 2; this.#taken.has(name); number += 1) name = `${base} ${number}`;
    this.#taken.add(name);
    return name;
  }
}

const formats: Readonly<Record<MediaPart["media"], Readonly<Record<string, string>>>> = {
  image: { "image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp" },
  audio: {
    ...{ "audio/mp3": "mp3", "audio/mpeg": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/ogg": "ogg" },
    ...{ "audio/flac": "flac", "audio/aac": "aac", "audio/m4a": "m4a", "audio/mp4": "mp4", "audio/opus": "opus" },
    ...{ "audio/webm": "webm", "audio/pcm": "pcm", "audio/pcm16": "pcm" },
  },
  document: {
    ...{ "application/pdf": "pdf", "text/csv": "csv", "text/html": "html", "text/plain": "txt", "text/markdown": "md" },
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
  },
  video: {
    ...{ "video/mp4": "mp4", "video/quicktime": "mov", "video/x-matroska": "mkv", "video/webm": "webm" },
    ...{ "video/x-flv": "flv", "video/mpeg": "mpeg", "video/x-ms-wmv": "wmv", "video/3gpp": "three_gp" },
  },
};
