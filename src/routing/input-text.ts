import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import { arrayOf, objectOf } from "../wires/json.ts";

/** Words of longer texts than this are not counted to the end: so far it takes a few milliseconds. */
const scannedCharsMax = 4_000_000;

/** The text of an input, and what is certain of its length. */
export interface InputBounds {
  readonly texts: readonly string[];
  /** In UTF-8; no tokenizer makes more tokens of them. */
  readonly bytes: number;
  /** Separated by white space; no tokenizer makes fewer tokens of them. */
  readonly words: number;
}

/** All text that a model reads: what was said, tools that were called and may be, and what the answer must look like. */
export function boundsOfInput(request: CompletionRequest): InputBounds {
  const body = request.chat();
  const texts = arrayOf(body.messages).flatMap((message) => textsOf(objectOf(message)));
  for (const field of ["tools", "functions", "response_format"]) texts.push(...fieldText(request, body, field));
  let [bytes, words, chars] = [0, 0, 0];
  for (const text of texts) {
    bytes += Buffer.byteLength(text);
    words += wordsIn(text, scannedCharsMax - chars);
    chars += text.length;
  }
  return { texts, bytes, words };
}

function textsOf(message: JsonObject | undefined): string[] {
  if (message === undefined) return [];
  const { content } = message;
  const parts = typeof content === "string" ? [content] : arrayOf(content).flatMap((part) => partTexts(objectOf(part)));
  const calls = arrayOf(message.tool_calls).flatMap((call) => {
    const called = objectOf(objectOf(call)?.function);
    return [called?.name, called?.arguments];
  });
  return [...parts, ...calls].filter((text) => typeof text === "string");
}

function partTexts(part: JsonObject | undefined): readonly (Json | undefined)[] {
  return [part?.text, part?.refusal];
}

/** A field as it came, where it came as bytes: writing it again would cost more. */
function fieldText({ raw }: CompletionRequest, body: JsonObject, field: string): string[] {
  if (body[field] === undefined || body[field] === null) return [];
  const span = raw?.spans.get(field);
  if (raw === undefined || span === undefined) return [JSON.stringify(body[field])];
  return [raw.bytes.toString("utf8", span.start, span.end)];
}

function wordsIn(text: string, charsMax: number): number {
  const end = Math.min(text.length, charsMax);
  let words = 0;
  let isInside = false;
  for (let at = 0; at < end; at++) {
    // Space, tab and line ends; other white space only makes the bound a little lower.
    const code = text.charCodeAt(at);
    const isSpace = code === 32 || (code >= 9 && code <= 13);
    if (!isSpace && !isInside) words += 1;
    isInside = !isSpace;
  }
  return words;
}
