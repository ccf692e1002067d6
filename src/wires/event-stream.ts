/**
 * AWS's event stream (application/vnd.amazon.eventstream): cutting a byte stream into messages. Each is a length, the length of its
 * headers, a checksum of these two, the headers, a payload, and a checksum of it all; numbers are big-endian.
 */

import { crc32 } from "node:zlib";

const preludeBytes = 12;
const checksumBytes = 4;
/** AWS's own bound: a payload of 16 MiB and headers of 128 KiB. */
const messageBytesMax = 16 * 1024 * 1024 + 128 * 1024 + preludeBytes + checksumBytes;
const stringType = 7;
/** Bytes that a value of each type takes; undefined: two bytes say how many. */
const valueBytes: readonly (number | undefined)[] = [0, 0, 1, 2, 4, 8, undefined, undefined, 8, 16];

/** One message. */
export interface EventMessage {
  /** The headers that are texts, which are all that matter: ":message-type", ":event-type", ":exception-type". */
  readonly headers: ReadonlyMap<string, string>;
  readonly payload: Buffer;
}

/** Cuts chunks into messages, wherever the network has split them. Holds no more than came. */
export class EventStreamSplitter {
  readonly #bytesMax: number;
  /** The beginning of a message whose end has not come. */
  #partial: Buffer[] = [];
  #partialBytes = 0;
  /** The length of the message that has begun; undefined until its prelude is whole. */
  #length: number | undefined;
  #fault: string | undefined;

  /** @param bytesMax the longest message; beyond it the stream is given up. Default: AWS's bound. */
  constructor(bytesMax: number = messageBytesMax) {
    this.#bytesMax = bytesMax;
  }

  /** Why nothing is read any more: a wrong checksum, a length that cannot be. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** Whether a message has begun and not ended. */
  get isInside(): boolean {
    return this.#partialBytes > 0;
  }

  /** Takes a chunk. @returns the messages that are complete with it. */
  push(chunk: Buffer): readonly EventMessage[] {
    const messages: EventMessage[] = [];
    let rest = chunk;
    while (rest.length > 0 && this.#fault === undefined) {
      const wanted = (this.#length ?? preludeBytes) - this.#partialBytes;
      this.#partial.push(rest.subarray(0, wanted));
      this.#partialBytes += Math.min(wanted, rest.length);
      if (rest.length < wanted) break;
      rest = rest.subarray(wanted);
      const bytes = this.#join();
      if (this.#length === undefined) {
        this.#readPrelude(bytes);
      } else {
        const message = this.#readMessage(bytes);
        if (message !== undefined) messages.push(message);
      }
    }
    return messages;
  }

  #join(): Buffer {
    const [first] = this.#partial;
    const joined = this.#partial.length === 1 && first !== undefined ? first : Buffer.concat(this.#partial);
    this.#partial = [joined];
    return joined;
  }

  #readPrelude(bytes: Buffer): void {
    const length = bytes.readUInt32BE(0);
    const headersLength = bytes.readUInt32BE(4);
    if (crc32(bytes.subarray(0, 8)) !== bytes.readUInt32BE(8)) this.#fault = "a message's head has a wrong checksum";
    else if (length > this.#bytesMax) this.#fault = "a message is longer than the gateway takes";
    else if (length < preludeBytes + headersLength + checksumBytes) this.#fault = "a message's length cannot be";
    else this.#length = length;
  }

  #readMessage(bytes: Buffer): EventMessage | undefined {
    this.#partial = [];
    this.#partialBytes = 0;
    this.#length = undefined;
    const end = bytes.length - checksumBytes;
    if (crc32(bytes.subarray(0, end)) !== bytes.readUInt32BE(end)) {
      this.#fault = "a message has a wrong checksum";
      return undefined;
    }
    const headersEnd = preludeBytes + bytes.readUInt32BE(4);
    const headers = readHeaders(bytes.subarray(preludeBytes, headersEnd));
    if (headers === undefined) this.#fault = "a message's headers cannot be read";
    return headers && { headers, payload: bytes.subarray(headersEnd, end) };
  }
}

function readHeaders(bytes: Buffer): ReadonlyMap<string, string> | undefined {
  const headers = new Map<string, string>();
  let at = 0;
  while (at < bytes.length) {
    const nameEnd = at + 1 + (bytes[at] ?? 0);
    const type = bytes[nameEnd];
    if (type === undefined || type >= valueBytes.length) return undefined;
    const fixed = valueBytes[type];
    const start = nameEnd + (fixed === undefined ? 3 : 1);
    if (start > bytes.length) return undefined;
    const end = start + (fixed ?? bytes.readUInt16BE(nameEnd + 1));
    if (end > bytes.length) return undefined;
    if (type === stringType) headers.set(bytes.toString("utf8", at + 1, nameEnd), bytes.toString("utf8", start, end));
    at = end;
  }
  return headers;
}
