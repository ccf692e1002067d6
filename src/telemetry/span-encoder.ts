import { type AttributeValue, SpanStatusCode } from "@opentelemetry/api";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";

/** Wire types of protobuf. */
const varint = 0;
const fixed64 = 1;
const bytes = 2;
const fixed32 = 5;

const tag = (field: number, type: number): number => (field << 3) | type;

/** Names of attributes are few. */
const namesMax = 1_000;
/** Beyond this a native call copies faster. */
const shortChars = 24;

/** Spans as they are sent: a `TracesData`. */
export interface SpanBatch {
  readonly bytes: Uint8Array;
  readonly count: number;
}

/**
 * Writes spans as OTLP has them (opentelemetry/proto/trace/v1/trace.proto, `TracesData`). OpenTelemetry's own encoder takes each span
 * twice and costs several times as much, at every call of every application. Events are left out: there are none.
 */
export class SpanEncoder {
  #buffer = Buffer.allocUnsafe(64 * 1_024);
  #at = 0;
  #count = 0;
  /** The message of the spans that are being gathered. */
  #scopeSpans = 0;
  #resourceSpans = 0;
  readonly #names = new Map<string, Buffer>();

  /** Spans since the last batch. */
  get count(): number {
    return this.#count;
  }

  /** What they take, in bytes. */
  get bytes(): number {
    return this.#at;
  }

  /** Writes a span. Those of a batch are of one resource, and of one scope. */
  add(span: ReadableSpan): void {
    if (this.#count === 0) this.#begin(span);
    this.#count += 1;
    this.#span(span);
  }

  /** The spans since the last batch; there is at least one. */
  take(): SpanBatch {
    this.#close(this.#scopeSpans);
    this.#close(this.#resourceSpans);
    const batch = { bytes: new Uint8Array(this.#buffer.subarray(0, this.#at)), count: this.#count };
    this.#at = 0;
    this.#count = 0;
    return batch;
  }

  #begin({ resource, instrumentationScope }: ReadableSpan): void {
    this.#resourceSpans = this.#open(1);
    const message = this.#open(1);
    for (const [name, value] of Object.entries(resource.attributes)) this.#attribute(1, name, value as AttributeValue);
    this.#close(message);
    this.#scopeSpans = this.#open(2);
    const scope = this.#open(1);
    this.#text(1, instrumentationScope.name);
    this.#close(scope);
  }

  #span(span: ReadableSpan): void {
    const { traceId, spanId, traceFlags, traceState } = span.spanContext();
    const parent = span.parentSpanContext;
    const start = this.#open(2);
    this.#hex(1, traceId, 16);
    this.#hex(2, spanId, 8);
    const state = traceState?.serialize();
    if (state) this.#text(3, state);
    if (parent !== undefined) this.#hex(4, parent.spanId, 8);
    this.#text(5, span.name);
    this.#number(6, span.kind + 1);
    this.#time(7, span.startTime);
    this.#time(8, span.endTime);
    const { attributes, links, status } = span;
    for (const name in attributes) this.#attribute(9, name, attributes[name]);
    for (const { context } of links) {
      const link = this.#open(13);
      this.#hex(1, context.traceId, 16);
      this.#hex(2, context.spanId, 8);
      this.#flags(6, context.traceFlags, context.isRemote);
      this.#close(link);
    }
    if (status.code !== SpanStatusCode.UNSET) {
      const message = this.#open(15);
      if (status.message) this.#text(2, status.message);
      this.#number(3, status.code);
      this.#close(message);
    }
    this.#flags(16, traceFlags, parent?.isRemote);
    this.#close(start);
  }

  /** A KeyValue. What is no text, number, flag or list of texts is left out. */
  #attribute(field: number, name: string, value: AttributeValue | undefined): void {
    if (value === undefined || value === null) return;
    const known = this.#nameOf(name);
    this.#grow(known.length + 32);
    const pair = this.#open(field);
    this.#buffer.set(known, this.#at);
    this.#at += known.length;
    const any = this.#open(2);
    this.#value(value);
    this.#close(any);
    this.#close(pair);
  }

  /** An AnyValue. */
  #value(value: AttributeValue): void {
    if (typeof value === "string") this.#text(1, value);
    else if (typeof value === "boolean") this.#number(2, value ? 1 : 0);
    else if (typeof value !== "number") this.#list(value as readonly unknown[]);
    else if (Number.isSafeInteger(value) && value >= 0) this.#number(3, value);
    else this.#double(4, value);
  }

  /** An ArrayValue. */
  #list(values: readonly unknown[]): void {
    const list = this.#open(5);
    for (const value of values) {
      if (typeof value !== "string") continue;
      const item = this.#open(1);
      this.#text(1, value);
      this.#close(item);
    }
    this.#close(list);
  }

  #double(field: number, value: number): void {
    this.#grow(16);
    this.#buffer[this.#at++] = tag(field, fixed64);
    this.#at = this.#buffer.writeDoubleLE(value, this.#at);
  }

  /** The `key` of a KeyValue, tag and all. */
  #nameOf(name: string): Buffer {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    const text = Buffer.from(name);
    const length = text.length < 128 ? [text.length] : [(text.length & 127) | 128, text.length >> 7];
    const encoded = Buffer.concat([Buffer.from([tag(1, bytes), ...length]), text]);
    if (this.#names.size < namesMax) this.#names.set(name, encoded);
    return encoded;
  }

  #text(field: number, text: string): void {
    this.#grow(text.length * 3 + 16);
    const buffer = this.#buffer;
    buffer[this.#at++] = tag(field, bytes);
    if (text.length <= shortChars) {
      // Nearly always ASCII, with a length of one byte.
      let at = this.#at + 1;
      let index = 0;
      for (; index < text.length; index++) {
        const code = text.charCodeAt(index);
        if (code > 127) break;
        buffer[at++] = code;
      }
      if (index === text.length) {
        buffer[this.#at] = text.length;
        this.#at = at;
        return;
      }
    }
    this.#varint(Buffer.byteLength(text));
    this.#at += buffer.write(text, this.#at);
  }

  #hex(field: number, digits: string, length: number): void {
    this.#grow(length + 4);
    this.#buffer[this.#at++] = tag(field, bytes);
    this.#buffer[this.#at++] = length;
    this.#buffer.write(digits, this.#at, length, "hex");
    this.#at += length;
  }

  #number(field: number, value: number): void {
    this.#grow(16);
    this.#buffer[this.#at++] = tag(field, varint);
    this.#varint(value);
  }

  /** The trace's flags, and whether the span above it, or linked to it, is in another process. */
  #flags(field: number, traceFlags: number, isRemote = false): void {
    this.#grow(16);
    this.#varint(tag(field, fixed32));
    this.#at = this.#buffer.writeUInt32LE((traceFlags & 0xff) | 0x100 | (isRemote ? 0x200 : 0), this.#at);
  }

  #time(field: number, [seconds, nanos]: ReadableSpan["startTime"]): void {
    this.#grow(16);
    const buffer = this.#buffer;
    buffer[this.#at++] = tag(field, fixed64);
    // A billion is 1953125 * 2^9, and seconds times the one half are exact in a double.
    const part = seconds * 1_953_125;
    const low = (part % 2 ** 23) * 512 + nanos;
    const carry = low >= 2 ** 32 ? 1 : 0;
    this.#at = buffer.writeUInt32LE(low - carry * 2 ** 32, this.#at);
    this.#at = buffer.writeUInt32LE(Math.floor(part / 2 ** 23) + carry, this.#at);
  }

  /** Begins a message. @returns where it stands. */
  #open(field: number): number {
    this.#grow(16);
    this.#buffer[this.#at++] = tag(field, bytes);
    // For its length; most messages are short.
    this.#at += 1;
    return this.#at;
  }

  #close(start: number): void {
    const end = this.#at;
    const length = end - start;
    this.#at = start - 1;
    if (length > 127) {
      const further = length < 2 ** 14 ? 1 : length < 2 ** 21 ? 2 : length < 2 ** 28 ? 3 : 4;
      this.#at = end;
      this.#grow(further);
      this.#buffer.copyWithin(start + further, start, end);
      this.#at = start - 1;
    }
    this.#varint(length);
    this.#at += length;
  }

  #varint(value: number): void {
    let rest = value;
    for (; rest > 127; rest = Math.floor(rest / 128)) this.#buffer[this.#at++] = (rest % 128) | 128;
    this.#buffer[this.#at++] = rest;
  }

  #grow(length: number): void {
    if (this.#at + length <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + length));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}
