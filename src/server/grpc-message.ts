/** gRPC's messages: each comes after a flag and its length. */

import { type DescMessage, fromBinary, fromJsonString, type Message, toBinary, toJsonString } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { GatewayError } from "../errors.ts";

/** A byte of flags and four of length. */
export const prefixBytes = 5;
const compressedFlag = 1;

const compressions = new Map<string, Compression>(
  [compressionGzip, compressionBrotli].map((compression) => [compression.name, compression]),
);
/** For `grpc-accept-encoding`. */
export const acceptedEncodings = [...compressions.keys()].join(",");

/** How messages are written. */
export interface MessageFormat {
  readonly contentType: string;
  /** Throws what the parser throws. */
  parse(schema: DescMessage, bytes: Uint8Array): Message;
  serialize(schema: DescMessage, message: Message): Uint8Array;
}

const protobuf: MessageFormat = {
  contentType: "application/grpc+proto",
  parse: fromBinary,
  serialize: toBinary,
};

const decoder = new TextDecoder();
const json: MessageFormat = {
  contentType: "application/grpc+json",
  // As connect has it.
  parse: (schema, bytes) => fromJsonString(schema, decoder.decode(bytes), { ignoreUnknownFields: true }),
  serialize: (schema, message) => Buffer.from(toJsonString(schema, message)),
};

/** @returns undefined for what is not gRPC, or in a format that we do not have. */
export function formatOf(contentType: string | undefined): MessageFormat | undefined {
  if (contentType === "application/grpc" || contentType === protobuf.contentType) return protobuf;
  const match = /^application\/grpc(?:\+(?:(json)(?:; ?charset=utf-?8)?|proto))?$/i.exec(contentType ?? "");
  if (match === null) return undefined;
  return match[1] === undefined ? protobuf : json;
}

/**
 * By what messages are compressed.
 *
 * @param encoding a `grpc-encoding`.
 * @returns undefined: they are not.
 * @throws ConnectError UNIMPLEMENTED for one that we do not have.
 */
export function compressionOf(encoding: string): Compression | undefined {
  const found = compressions.get(encoding);
  if (found !== undefined || encoding === "identity") return found;
  throw new ConnectError(`Unknown compression "${encoding}"; there are: ${acceptedEncodings}.`, Code.Unimplemented);
}

/** Gathers the one message of a request. Throws ConnectError or GatewayError at what cannot become one. */
export class MessageReader {
  readonly #bytesMax: number;
  #pieces: Buffer[] = [];
  #size = 0;
  /** Prefix included; undefined until the prefix has come. */
  #wanted: number | undefined;

  /** @param bytesMax of a message, before and after it is decompressed. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  push(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#size += piece.length;
    if (this.#wanted === undefined) {
      if (this.#size < prefixBytes) return;
      const length = this.#joined().readUInt32BE(1);
      if (length > this.#bytesMax) throw tooLarge(this.#bytesMax);
      this.#wanted = prefixBytes + length;
    }
    if (this.#size > this.#wanted) {
      throw new ConnectError("The method takes one message, and there is more.", Code.Unimplemented);
    }
  }

  /** The message, once no more comes. Decompressed, which takes the event loop no time. */
  end(compression: Compression | undefined): Uint8Array | Promise<Uint8Array> {
    if (this.#size === 0) throw new ConnectError("The message is missing.", Code.Unimplemented);
    if (this.#size !== this.#wanted) throw new ConnectError("The message is not complete.", Code.InvalidArgument);
    const bytes = this.#joined();
    const message = bytes.subarray(prefixBytes);
    if (((bytes[0] ?? 0) & compressedFlag) === 0) return message;
    if (compression === undefined) {
      throw new ConnectError("The message is compressed, and no `grpc-encoding` says how.", Code.InvalidArgument);
    }
    return compression.decompress(message, this.#bytesMax);
  }

  #joined(): Buffer {
    const [first] = this.#pieces;
    if (first !== undefined && this.#pieces.length === 1) return first;
    const joined = Buffer.concat(this.#pieces);
    this.#pieces = [joined];
    return joined;
  }
}

export function tooLarge(bytesMax: number): GatewayError {
  return new GatewayError("body_too_large", `The message is over the limit of ${bytesMax} bytes.`);
}

/** A message as it is sent. */
export function framed(bytes: Uint8Array, isCompressed = false): Buffer {
  const frame = Buffer.allocUnsafe(prefixBytes + bytes.length);
  frame[0] = isCompressed ? compressedFlag : 0;
  frame.writeUInt32BE(bytes.length, 1);
  frame.set(bytes, prefixBytes);
  return frame;
}
