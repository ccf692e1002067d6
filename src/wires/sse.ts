/** Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): cutting a byte stream into frames. */

const lineFeed = 0x0a;
const carriageReturn = 0x0d;
/** `data:` */
const dataField = [0x64, 0x61, 0x74, 0x61, 0x3a];
const space = 0x20;
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf]);

/** One event as it came. */
export interface SseFrame {
  /** All its bytes, the blank line that ends it included. */
  readonly bytes: Buffer;
  /** The event's name; "" if it has none or the default one, "message". */
  readonly event: string;
  /** Its data lines, joined by line feeds; undefined if it has none (a comment, for instance). */
  readonly data: string | undefined;
}

/**
 * Cuts chunks into frames, wherever the network has split them. Lines may end in CR LF, LF or CR. A frame that lies whole in one
 * chunk is a view of it, not a copy. The frames' bytes, one after the other, are the bytes that came in.
 */
export class SseSplitter {
  readonly #frameBytesMax: number;
  /** The beginning of a frame whose end has not come. */
  #partial: Buffer[] = [];
  #partialBytes = 0;
  /** Whether the current line has no bytes yet, and whether the byte before was a CR. */
  #lineEmpty = true;
  #afterReturn = false;
  /** Whether the current frame has any line yet: blank lines before it end nothing. */
  #frameEmpty = true;
  #markBytes = 0;
  #overflowed = false;

  /** @param frameBytesMax the longest frame; beyond it the stream is given up. */
  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax;
  }

  /** Whether a frame was too long. Nothing is read any more then. */
  get overflowed(): boolean {
    return this.#overflowed;
  }

  /** Takes a chunk. @returns the frames that are complete with it. */
  push(input: Buffer): readonly SseFrame[] {
    const chunk = this.#skipMark(input);
    const frames: SseFrame[] = [];
    let start = this.#takePlain(chunk, frames);
    for (let at = start; at < chunk.length && !this.#overflowed; at += 1) {
      if (!this.#endsFrame(chunk[at])) continue;
      const bytes = this.#complete(chunk.subarray(start, at + 1));
      start = at + 1;
      if (bytes !== undefined) frames.push(readFrame(bytes));
    }
    if (start < chunk.length && !this.#overflowed) this.#keep(chunk.subarray(start));
    return frames;
  }

  /**
   * Nearly every frame there is: whole in its chunk, a single `data:` line, ended by line feeds. Takes all that a chunk begins with.
   *
   * @returns where the first of another kind begins.
   */
  #takePlain(chunk: Buffer, frames: SseFrame[]): number {
    if (this.#partialBytes > 0 || !this.#frameEmpty || !this.#lineEmpty || this.#afterReturn) return 0;
    let start = 0;
    while (start < chunk.length) {
      const end = chunk.indexOf(lineFeed, start);
      if (end === -1 || chunk[end + 1] !== lineFeed || end + 2 - start > this.#frameBytesMax) break;
      const data = dataLine(chunk, start, end);
      if (data === undefined) break;
      frames.push({ bytes: chunk.subarray(start, end + 2), event: "", data });
      start = end + 2;
    }
    return start;
  }

  /** The stream is over. @returns what stood after the last blank line, as if it were a frame. */
  flush(): SseFrame | undefined {
    const bytes = this.#complete(Buffer.alloc(0));
    return bytes === undefined || bytes.length === 0 ? undefined : readFrame(bytes);
  }

  /** Steps over one byte. @returns whether it makes a blank line that ends a frame. */
  #endsFrame(byte: number | undefined): boolean {
    const pairs = byte === lineFeed && this.#afterReturn;
    this.#afterReturn = byte === carriageReturn;
    // The LF of a CR LF whose CR has ended the line already: it leads the next frame, so that no frame waits for it.
    if (pairs) return false;
    if (byte !== lineFeed && byte !== carriageReturn) {
      this.#lineEmpty = false;
      this.#frameEmpty = false;
      return false;
    }
    const ends = this.#lineEmpty && !this.#frameEmpty;
    this.#lineEmpty = true;
    if (ends) this.#frameEmpty = true;
    return ends;
  }

  #keep(bytes: Buffer): void {
    this.#partial.push(bytes);
    this.#partialBytes += bytes.length;
    this.#overflowed ||= this.#partialBytes > this.#frameBytesMax;
  }

  #complete(last: Buffer): Buffer | undefined {
    if (this.#partialBytes + last.length > this.#frameBytesMax) this.#overflowed = true;
    const bytes = this.#partial.length === 0 ? last : Buffer.concat([...this.#partial, last]);
    this.#partial = [];
    this.#partialBytes = 0;
    return this.#overflowed ? undefined : bytes;
  }

  /** A byte order mark at the very beginning is no part of the first line. */
  #skipMark(chunk: Buffer): Buffer {
    let skip = 0;
    while (this.#markBytes < byteOrderMark.length && skip < chunk.length) {
      if (chunk[skip] !== byteOrderMark[this.#markBytes]) {
        this.#markBytes = byteOrderMark.length;
        break;
      }
      this.#markBytes += 1;
      skip += 1;
    }
    return skip === 0 ? chunk : chunk.subarray(skip);
  }
}

/** Joins buffers; those that lie next to each other in memory, as frames of one read do, without copying. */
export function joinAdjacent(buffers: readonly Buffer[]): Buffer {
  const runs: Buffer[] = [];
  for (const next of buffers) {
    const last = runs.at(-1);
    if (last !== undefined && last.buffer === next.buffer && last.byteOffset + last.length === next.byteOffset) {
      runs[runs.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + next.length);
    } else {
      runs.push(next);
    }
  }
  const [only] = runs;
  return runs.length === 1 && only !== undefined ? only : Buffer.concat(runs);
}

/** What a line says, if it is a `data:` line; undefined: it is another, or there is a carriage return in it. */
function dataLine(bytes: Buffer, start: number, end: number): string | undefined {
  for (let at = 0; at < dataField.length; at++) if (bytes[start + at] !== dataField[at]) return undefined;
  const from = start + dataField.length;
  const data = bytes.toString("utf8", bytes[from] === space ? from + 1 : from, end);
  return data.includes("\r") ? undefined : data;
}

function readFrame(bytes: Buffer): SseFrame {
  let event = "";
  let data: string | undefined;
  for (const line of bytes.toString().split(/\r\n|\n|\r/)) {
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") data = data === undefined ? value : `${data}\n${value}`;
    else if (field === "event") event = value === "message" ? "" : value;
  }
  return { bytes, event, data };
}
