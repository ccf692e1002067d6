/**
 * A body whose long texts are read when they are first asked for. Where bytes pass as they came most never are, and to read one takes memory
 * for it twice, of pages that are new each time: a third of what a call with 200 KB cost.
 */

import { randomUUID } from "node:crypto";
import type { Json, JsonObject, Span } from "../completion.ts";

const quote = 0x22;
const backslash = 0x5c;
/** How long an escape is, by what stands behind its backslash; 0: it is none. */
const escapeLengths = new Uint8Array(256);
for (const code of Buffer.from('"\\/bfnrt')) escapeLengths[code] = 2;
escapeLengths[0x75] = 6;

/** Stands for a long text while the rest is parsed. Nobody outside can write it, with escapes or without. */
const mark = `${randomUUID()}:`;

/** The members of an object, or the items of a list, that were left in the bytes at first. */
const left: unique symbol = Symbol("left in the bytes");

/**
 * Parses JSON. Its long texts are members like others, but read from the bytes at their first use: whoever keeps the value keeps the bytes.
 *
 * @param longTexts where they stand, quotes included, in the order of the bytes; none is the name of a member.
 * @throws SyntaxError what JSON.parse throws for all of it.
 */
export function parseAround(bytes: Buffer, longTexts: readonly Span[]): unknown {
  if (longTexts.length === 0) return JSON.parse(bytes.toString());
  let text = "";
  let copied = 0;
  for (const [index, { start, end }] of longTexts.entries()) {
    if (!isTextLiteral(bytes, start, end)) return JSON.parse(bytes.toString());
    text += `${bytes.toString("utf8", copied, start)}"${mark}${index}"`;
    copied = end;
  }
  const value = parseOutline(text + bytes.toString("utf8", copied));
  const leaver = new TextLeaver(bytes, longTexts);
  // One that is not found belonged to a member that was given twice.
  return value !== undefined && leaver.visit(value) === longTexts.length ? value : JSON.parse(bytes.toString());
}

/** A member, unless it is a text: one that was left in the bytes stays there. */
export function structureAt(holder: JsonObject, name: string): Json | undefined {
  if (left in holder && (holder[left] as readonly string[]).includes(name)) return undefined;
  const value = holder[name];
  return typeof value === "string" ? undefined : value;
}

/** @returns undefined if it is no JSON: then the whole is none either, and says better where it breaks. */
function parseOutline(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Puts in the place of each mark what reads its text. */
class TextLeaver {
  readonly #bytes: Buffer;
  readonly #longTexts: readonly Span[];

  constructor(bytes: Buffer, longTexts: readonly Span[]) {
    this.#bytes = bytes;
    this.#longTexts = longTexts;
  }

  /** @returns how many marks there were. */
  visit(value: unknown): number {
    if (typeof value !== "object" || value === null) return 0;
    let count = 0;
    const names: string[] = [];
    for (const [name, member] of Object.entries(value)) {
      if (typeof member !== "string") count += this.visit(member);
      else if (member.startsWith(mark)) {
        this.#leave(value, name, this.#longTexts[Number(member.slice(mark.length))]);
        names.push(name);
      }
    }
    if (names.length > 0) Object.defineProperty(value, left, { value: names });
    return count + names.length;
  }

  #leave(holder: object, name: string, span: Span | undefined): void {
    const bytes = this.#bytes;
    const { start, end } = span ?? { start: 0, end: 0 };
    const seen = { enumerable: true, configurable: true };
    Object.defineProperty(holder, name, {
      ...seen,
      get() {
        const value: unknown = JSON.parse(bytes.toString("utf8", start, end));
        Object.defineProperty(holder, name, { ...seen, value, writable: true });
        return value;
      },
    });
  }
}

/** Whether bytes from one quote to the next are a text as JSON has it. They are valid UTF-8. */
function isTextLiteral(bytes: Buffer, start: number, end: number): boolean {
  const words = new Int32Array(bytes.buffer, 0, bytes.buffer.byteLength >> 2);
  const offset = bytes.byteOffset;
  const last = end - 1;
  const lastWord = (offset + last) >> 2;
  let at = start + 1;
  while (at < last) {
    if (((offset + at) & 3) === 0) {
      let word = (offset + at) >> 2;
      while (word < lastWord && isPlain(words[word] as number)) word += 1;
      at = word * 4 - offset;
      if (at === last) break;
    }
    // What is no word of plain text, or the rest behind the last word.
    const byte = bytes[at] as number;
    if (byte < 0x20) return false;
    if (byte !== backslash) at += 1;
    else {
      const length = escapeLengths[bytes[at + 1] as number] as number;
      if (length === 0 || (length === 6 && !isHex(bytes, at + 2))) return false;
      at += length;
    }
  }
  return at === last && bytes[last] === quote;
}

/** Whether none of four bytes is a control character or a backslash: a byte is lower than another if that borrows from its highest bit. */
function isPlain(word: number): boolean {
  const other = word ^ 0x5c5c5c5c;
  return ((((word - 0x20202020) & ~word) | ((other - 0x01010101) & ~other)) & 0x80808080) === 0;
}

function isHex(bytes: Buffer, at: number): boolean {
  return /^[0-9a-fA-F]{4}$/.test(bytes.toString("latin1", at, at + 4));
}
