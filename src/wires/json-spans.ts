/** Finding and replacing top-level members of a JSON object in its bytes, without rebuilding the rest. */

import type { RawBody, Span } from "../completion.ts";

const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const backslash = 0x5c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;

/** Where the top-level values of an object stand. */
export interface ObjectSpans {
  /** By key, in the order of the bytes; of a repeated key the last. */
  readonly spans: ReadonlyMap<string, Span>;
  /** Keys that occur more than once: two parsers may read two different values. */
  readonly repeated: ReadonlySet<string>;
  /** How deep it is nested; 1: it holds nothing that holds anything. */
  readonly depth: number;
  /** Where long texts stand, at whatever depth, quotes included. Names of members are none. */
  readonly longTexts: readonly Span[];
}

/** From how many bytes on a text is long. */
const longTextBytes = 16 * 1024;

const none: ReadonlySet<string> = new Set();

/**
 * Finds the top-level values of a JSON object in one pass.
 *
 * @param bytes valid JSON whose value is an object; that is not checked again. Anything else gives spans that mean nothing,
 * but never throws and never runs on.
 */
export function scanObject(bytes: Buffer): ObjectSpans {
  const spans = new Map<string, Span>();
  let repeated: Set<string> | undefined;
  const found: Found = { deepest: 0, longTexts: [] };
  let at = bytes.indexOf(openBrace) + 1;
  while (at > 0 && at < bytes.length) {
    const keyStart = bytes.indexOf(quote, at);
    if (keyStart === -1) break;
    const keyEnd = skipString(bytes, keyStart);
    const colonAt = bytes.indexOf(colon, keyEnd);
    if (colonAt === -1) break;
    const start = skipSpace(bytes, colonAt + 1);
    const stop = skipValue(bytes, start, found);
    const key = readKey(bytes, keyStart, keyEnd);
    // Deleting first keeps the map in the order of the bytes.
    if (spans.delete(key)) repeated = (repeated ?? new Set()).add(key);
    spans.set(key, { start, end: trimSpace(bytes, start, stop) });
    at = stop + 1;
  }
  return { spans, repeated: repeated ?? none, depth: 1 + found.deepest, longTexts: found.longTexts };
}

/**
 * Replaces, adds and removes top-level members; every other byte stays as it is. Where nothing changes the bytes themselves are given back.
 *
 * @param changes JSON text by key; undefined removes the member. Keys hold no quotes or backslashes.
 */
export function rewriteMembers(
  body: Pick<RawBody, "bytes" | "spans">,
  changes: ReadonlyMap<string, string | undefined>,
): Buffer {
  const { bytes, spans } = body;
  if (isSoAlready(body, changes)) return bytes;
  const pieces: Buffer[] = [];
  let copied = 0;
  let previousEnd = bytes.indexOf(openBrace) + 1;
  let kept = 0;
  for (const [key, span] of spans) {
    const change = changes.get(key);
    if (change === undefined && changes.has(key)) {
      // The separator before a member goes with it.
      pieces.push(bytes.subarray(copied, previousEnd));
      copied = span.end;
    } else {
      // The first that stays needs none.
      if (kept === 0 && copied > 0) copied = skipSpace(bytes, bytes.indexOf(comma, previousEnd) + 1);
      if (change !== undefined) {
        pieces.push(bytes.subarray(copied, span.start), Buffer.from(change));
        copied = span.end;
      }
      kept += 1;
    }
    previousEnd = span.end;
  }
  pieces.push(bytes.subarray(copied, previousEnd));
  for (const [key, value] of changes) {
    if (value === undefined || spans.has(key)) continue;
    pieces.push(Buffer.from(`${kept === 0 ? "" : ","}"${key}":${value}`));
    kept += 1;
  }
  pieces.push(bytes.subarray(previousEnd));
  return Buffer.concat(pieces);
}

/** Nothing need be copied where a model is called here what its provider calls it, and the caller says all the rest. */
function isSoAlready(
  { bytes, spans }: Pick<RawBody, "bytes" | "spans">,
  changes: ReadonlyMap<string, string | undefined>,
): boolean {
  for (const [key, change] of changes) {
    const span = spans.get(key);
    if (change === undefined && span === undefined) continue;
    if (change === undefined || span === undefined || span.end - span.start !== Buffer.byteLength(change)) return false;
    if (bytes.toString("utf8", span.start, span.end) !== change) return false;
  }
  return true;
}

function readKey(bytes: Buffer, start: number, end: number): string {
  const escaped = bytes.indexOf(backslash, start);
  if (escaped === -1 || escaped >= end) return bytes.toString("utf8", start + 1, end - 1);
  try {
    return String(JSON.parse(bytes.toString("utf8", start, end)));
  } catch {
    return "";
  }
}

/** How far a string is read byte by byte before the native search is worth its call. */
const shortString = 64;

/** @returns the position after the string that begins at `start`. */
function skipString(bytes: Buffer, start: number): number {
  let at = start + 1;
  for (;;) {
    const searchFrom = Math.min(at + shortString, bytes.length);
    while (at < searchFrom) {
      const byte = bytes[at];
      if (byte === quote) return at + 1;
      at += byte === backslash ? 2 : 1;
    }
    const found = bytes.indexOf(quote, at);
    if (found === -1) return bytes.length;
    let escapes = 0;
    while (found - escapes > at && bytes[found - 1 - escapes] === backslash) escapes += 1;
    if (escapes % 2 === 0) return found + 1;
    at = found + 1;
  }
}

/** What neither begins nor ends anything inside a value. */
const isSkipped = new Uint8Array(256).fill(1);
for (const byte of [quote, comma, openBrace, closeBrace, openBracket, closeBracket]) isSkipped[byte] = 0;

/** What was met in values. */
interface Found {
  /** 0: nothing holds anything. */
  deepest: number;
  readonly longTexts: Span[];
}

/** @returns the position of the comma or brace that ends the value at `start`. */
function skipValue(bytes: Buffer, start: number, found: Found): number {
  let depth = 0;
  let at = start;
  while (at < bytes.length) {
    const byte = bytes[at] as number;
    if (isSkipped[byte] === 1) {
      at += 1;
      continue;
    }
    if (byte === quote) {
      const end = skipString(bytes, at);
      if (end - at >= longTextBytes && bytes[skipSpace(bytes, end)] !== colon) found.longTexts.push({ start: at, end });
      at = end;
      continue;
    }
    if (depth === 0 && (byte === comma || byte === closeBrace)) return at;
    if (byte === openBrace || byte === openBracket) {
      depth += 1;
      if (depth > found.deepest) found.deepest = depth;
    } else if (byte === closeBrace || byte === closeBracket) depth -= 1;
    at += 1;
  }
  return at;
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

function skipSpace(bytes: Buffer, start: number): number {
  let at = start;
  while (isSpace(bytes[at])) at += 1;
  return at;
}

function trimSpace(bytes: Buffer, start: number, end: number): number {
  let at = end;
  while (at > start && isSpace(bytes[at - 1])) at -= 1;
  return at;
}
