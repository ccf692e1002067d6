/** multipart/form-data (RFC 7578): finding and replacing the fields of a form in its bytes, without rebuilding the rest. */

import type { Span } from "../completion.ts";

/** More parts than any form here has. */
const partsMax = 256;
const headBytesMax = 16_384;
const lineEnd = "\r\n";

/** One field. */
export interface FormPart {
  readonly name: string;
  /** Whether it is a file. */
  readonly isFile: boolean;
  /** Where its line of separation begins, and where the next one does. */
  readonly whole: Span;
  /** What it holds. */
  readonly content: Span;
}

/** What separates the parts, by a request's `content-type`. @returns undefined if it is no form. */
export function boundaryOf(contentType: string): string | undefined {
  const given = /^multipart\/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))\s*(?:;|$)/i.exec(
    contentType,
  );
  return given?.[1] ?? given?.[2];
}

/** @returns undefined if the bytes are no whole form. */
export function scanForm(bytes: Buffer, boundary: string): readonly FormPart[] | undefined {
  const separator = Buffer.from(`--${boundary}`);
  const parts: FormPart[] = [];
  let start = bytes.subarray(0, separator.length).equals(separator) ? 0 : after(bytes, separator, 0);
  while (start !== undefined && parts.length < partsMax) {
    const lineStart = start + separator.length;
    if (bytes.toString("latin1", lineStart, lineStart + 2) === "--") return parts;
    const headStart = bytes.indexOf(lineEnd, lineStart);
    const headEnd = bytes.indexOf(lineEnd + lineEnd, Math.max(lineStart, headStart));
    if (headStart === -1 || headEnd === -1 || headEnd - headStart > headBytesMax) return undefined;
    // Only blanks may stand behind what separates.
    if (bytes.toString("latin1", lineStart, headStart).trim() !== "") return undefined;
    const named = readHead(bytes.toString("utf8", headStart, headEnd));
    const next = after(bytes, separator, headEnd + lineEnd.length);
    if (named === undefined || next === undefined) return undefined;
    const content = { start: Math.min(headEnd + 4, next), end: Math.max(headEnd + 4, next - lineEnd.length) };
    parts.push({ ...named, whole: { start, end: next }, content });
    start = next;
  }
  return undefined;
}

/**
 * Replaces, adds and removes fields; every other byte stays as it is.
 *
 * @param changes texts by name; undefined removes the field. Names hold no quotes or line ends.
 */
export function rewriteForm(
  form: { readonly bytes: Buffer; readonly boundary: string; readonly parts: readonly FormPart[] },
  changes: ReadonlyMap<string, string | undefined>,
): Buffer {
  const { bytes, boundary, parts } = form;
  const head = [...changes].flatMap(([name, text]) => (text === undefined ? [] : [fieldText(boundary, name, text)]));
  const kept = parts
    .filter(({ name }) => !changes.has(name))
    .map(({ whole }) => bytes.subarray(whole.start, whole.end));
  return Buffer.concat([Buffer.from(head.join("")), ...kept, Buffer.from(`--${boundary}--${lineEnd}`)]);
}

function fieldText(boundary: string, name: string, text: string): string {
  return `--${boundary}${lineEnd}content-disposition: form-data; name="${name}"${lineEnd}${lineEnd}${text}${lineEnd}`;
}

/** Where the next line that separates begins, if there is one. */
function after(bytes: Buffer, separator: Buffer, from: number): number | undefined {
  for (let at = bytes.indexOf(separator, from); at !== -1; at = bytes.indexOf(separator, at + 1)) {
    if (bytes[at - 2] === 0x0d && bytes[at - 1] === 0x0a && at - 2 >= from) return at;
  }
  return undefined;
}

function readHead(head: string): { name: string; isFile: boolean } | undefined {
  const disposition = /\r\ncontent-disposition:[ \t]*form-data([^\r]*)/i.exec(head)?.[1];
  if (disposition === undefined) return undefined;
  const params = new Map<string, string>();
  for (const [, key = "", quoted, token] of disposition.matchAll(/;\s*([\w*-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))/g)) {
    // Given twice, we and the provider might read two different names.
    if (params.has(key.toLowerCase())) return undefined;
    params.set(key.toLowerCase(), quoted?.replace(/\\(.)/g, "$1") ?? token ?? "");
  }
  const name = params.get("name");
  const isFile = params.has("filename") || params.has("filename*");
  return name === undefined || name === "" ? undefined : { name, isFile };
}
