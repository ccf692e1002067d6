/** The parts of a message in the neutral form (OpenAI's chat), read for wires that write them otherwise. */

import type { Json, JsonObject } from "../completion.ts";
import type { ProviderFailure } from "../errors.ts";
import { unsupported } from "./chat-params.ts";
import { isObject, objectOf, textOf } from "./json.ts";

/** Text. */
export interface TextPart {
  readonly kind: "text";
  readonly text: string;
  /** How long what comes up to here shall be kept in the provider's cache (`cache_control`). */
  readonly cacheTtl: CacheTtl | undefined;
}

/** Something to look at, listen to or read. It comes with the message (`base64`) or is somewhere else (`uri`). */
export interface MediaPart {
  readonly kind: "media";
  readonly media: "image" | "audio" | "document" | "video";
  /** Undefined: nobody says. Never where `base64` is given. */
  readonly mimeType: string | undefined;
  readonly base64: string | undefined;
  readonly uri: string | undefined;
  /** The file's name, if it has one. */
  readonly name: string | undefined;
  readonly cacheTtl: CacheTtl | undefined;
  /** Where it stands in the request, for errors. */
  readonly param: string;
}

export type ChatPart = TextPart | MediaPart;

/** "": the provider's own time. */
export type CacheTtl = "" | "5m" | "1h";

/**
 * Reads a message's `content`.
 *
 * @param param where it stands in the request, "messages[0].content" for instance.
 * @throws `invalid_request` that names the part if there is one that cannot be read.
 */
export function readParts(content: Json | undefined, param: string): readonly ChatPart[] {
  if (content === undefined || content === null || content === "") return [];
  if (typeof content === "string") return [{ kind: "text", text: content, cacheTtl: undefined }];
  if (!Array.isArray(content)) throw unreadable(param, "must be a text or a list of parts");
  return content.flatMap((part, index) => readPart(part, `${param}[${index}]`));
}

/** The cache mark of a message, a part or a tool. */
export function readCacheTtl(holder: JsonObject): CacheTtl | undefined {
  const mark = objectOf(holder.cache_control);
  if (mark === undefined) return undefined;
  return mark.ttl === "1h" || mark.ttl === "5m" ? mark.ttl : "";
}

/** A request that cannot be written for the provider: the caller's to mend. */
export function unreadable(param: string, what: string): ProviderFailure {
  return unsupported(param, `\`${param}\` ${what}.`);
}

function readPart(value: Json, param: string): readonly ChatPart[] {
  if (typeof value === "string") return [{ kind: "text", text: value, cacheTtl: undefined }];
  if (!isObject(value)) throw unreadable(param, "must be an object");
  const cacheTtl = readCacheTtl(value);
  switch (value.type) {
    case "text":
    case "refusal": {
      const text = textOf(value[value.type]);
      return text === undefined ? [] : [{ kind: "text", text, cacheTtl }];
    }
    case "image_url":
    case "video_url": {
      const media = value.type === "image_url" ? "image" : "video";
      const holder = objectOf(value[value.type]);
      const url = textOf(holder?.url ?? value[value.type]);
      if (url === undefined) throw unreadable(`${param}.${value.type}`, "must have a url");
      return [mediaPart({ url, media, mimeType: textOf(holder?.format), name: undefined, cacheTtl, param })];
    }
    case "input_audio": {
      const audio = objectOf(value.input_audio);
      const base64 = textOf(audio?.data);
      if (base64 === undefined) throw unreadable(`${param}.input_audio`, "must have data");
      const mimeType = `audio/${textOf(audio?.format) ?? "wav"}`;
      return [{ kind: "media", media: "audio", mimeType, base64, uri: undefined, name: undefined, cacheTtl, param }];
    }
    case "file":
      return [filePart(objectOf(value.file) ?? {}, cacheTtl, `${param}.file`)];
    case "thinking":
    case "redacted_thinking":
      // Read with the message's other thoughts.
      return [];
    default:
      throw unreadable(`${param}.type`, "is not a kind of part that can be sent to this provider");
  }
}

function filePart(file: JsonObject, cacheTtl: CacheTtl | undefined, param: string): MediaPart {
  const name = textOf(file.filename);
  const mimeType = textOf(file.format) ?? mimeTypeOf(name);
  const data = textOf(file.file_data);
  const url = data ?? textOf(file.file_id);
  if (url === undefined) throw unreadable(param, "must have file_data or file_id");
  if (data === undefined || data.startsWith("data:"))
    return mediaPart({ url, media: undefined, mimeType, name, cacheTtl, param });
  const type = mimeType ?? "application/pdf";
  const media = mediaOf(type);
  return { kind: "media", media, mimeType: type, base64: data, uri: undefined, name, cacheTtl, param };
}

interface MediaFacts extends Pick<MediaPart, "mimeType" | "name" | "cacheTtl" | "param"> {
  readonly url: string;
  /** Undefined: the type decides. */
  readonly media: MediaPart["media"] | undefined;
}

function mediaPart({ url, ...facts }: MediaFacts): MediaPart {
  if (!url.startsWith("data:")) {
    const mimeType = facts.mimeType ?? mimeTypeOf(pathOf(url));
    const media = facts.media ?? mediaOf(mimeType ?? "");
    return { kind: "media", ...facts, media, mimeType, base64: undefined, uri: url };
  }
  const comma = url.indexOf(",");
  const [type = "", ...flags] = url.slice("data:".length, Math.max(comma, 0)).split(";");
  if (comma === -1 || !flags.includes("base64")) throw unreadable(facts.param, "must be a URL or base64 data");
  const mimeType = facts.mimeType ?? (type === "" ? "application/octet-stream" : type.toLowerCase());
  const media = facts.media ?? mediaOf(mimeType);
  return { kind: "media", ...facts, media, mimeType, base64: url.slice(comma + 1), uri: undefined };
}

function mediaOf(mimeType: string): MediaPart["media"] {
  const family = mimeType.split("/")[0];
  return family === "image" || family === "audio" || family === "video" ? family : "document";
}

function pathOf(url: string): string {
  return URL.canParse(url) ? new URL(url).pathname : url;
}

const mimeTypes: Readonly<Record<string, string>> = {
  ...{ png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp" },
  ...{ heic: "image/heic", heif: "image/heif", mp3: "audio/mp3", wav: "audio/wav", ogg: "audio/ogg" },
  ...{ flac: "audio/flac", aac: "audio/aac", m4a: "audio/m4a", mp4: "video/mp4", mov: "video/quicktime" },
  ...{ webm: "video/webm", mkv: "video/x-matroska", mpeg: "video/mpeg", pdf: "application/pdf" },
  ...{ txt: "text/plain", md: "text/markdown", html: "text/html", csv: "text/csv", json: "application/json" },
  doc: "application/msword",
  docx: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  xls: "application/vnd.ms-excel",
  xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
};

function mimeTypeOf(name: string | undefined): string | undefined {
  const end = name === undefined ? undefined : /\.([a-z0-9]+)$/i.exec(name)?.[1];
  return end === undefined ? undefined : mimeTypes[end.toLowerCase()];
}
