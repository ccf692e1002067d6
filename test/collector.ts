import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** A span as it was exported. Ids are in hex. */
export interface ExportedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** "" for a root. */
  readonly parentId: string;
  readonly name: string;
  readonly kind: "SERVER" | "CLIENT" | "other";
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
  readonly isError: boolean;
  readonly resource: Readonly<Record<string, string | number | boolean>>;
}

/** An OpenTelemetry collector: takes spans by OTLP over HTTP, in protobuf, and keeps them. */
export class Collector {
  readonly spans: ExportedSpan[] = [];
  /** Everything that was sent, to look for what must not be in it. */
  bytes: Buffer = Buffer.alloc(0);
  readonly paths: string[] = [];
  readonly #server: Server = createServer((req, res) => void this.#take(req, res));

  static async start(): Promise<Collector> {
    const collector = new Collector();
    collector.#server.listen(0, "127.0.0.1");
    await once(collector.#server, "listening");
    return collector;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The spans of one trace, once there are `count` of them. */
  async trace(traceId: string, count: number): Promise<readonly ExportedSpan[]> {
    for (let tries = 0; ; tries++) {
      const spans = this.spans.filter((span) => span.traceId === traceId);
      if (spans.length >= count || tries >= 100) return spans;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #take(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of req) pieces.push(piece as Buffer);
    const body = Buffer.concat(pieces);
    this.bytes = Buffer.concat([this.bytes, body]);
    this.paths.push(req.url ?? "");
    this.spans.push(...readSpans(body));
    res.writeHead(200, { "content-type": "application/x-protobuf" }).end();
  }
}

/** A message's fields by number, each a list. Numbers of fixed width are read as doubles, which is what attributes hold. */
type Fields = ReadonlyMap<number, readonly (Uint8Array | bigint | number)[]>;

function readFields(bytes: Uint8Array): Fields {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, (Uint8Array | bigint | number)[]>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const values = fields.get(number) ?? [];
    fields.set(number, values);
    if (type === WireType.LengthDelimited) values.push(reader.bytes());
    else if (type === WireType.Varint) values.push(BigInt(reader.int64()));
    else if (type === WireType.Bit64) values.push(reader.double());
    else reader.skip(type);
  }
  return fields;
}

/** https://github.com/open-telemetry/opentelemetry-proto: trace/v1/trace.proto. */
function readSpans(request: Uint8Array): ExportedSpan[] {
  return messages(readFields(request), 1).flatMap((resourceSpans) => {
    const resource = messages(resourceSpans, 1)[0];
    return messages(resourceSpans, 2)
      .flatMap((scopeSpans) => messages(scopeSpans, 2))
      .map((span) => readSpan(span, resource === undefined ? {} : readAttributes(messages(resource, 1))));
  });
}

function readSpan(span: Fields, resource: ExportedSpan["resource"]): ExportedSpan {
  const kinds = new Map<unknown, ExportedSpan["kind"]>([
    [2n, "SERVER"],
    [3n, "CLIENT"],
  ]);
  const status = messages(span, 15)[0];
  return {
    traceId: hexOf(span, 1),
    spanId: hexOf(span, 2),
    parentId: hexOf(span, 4),
    name: textOf(span, 5),
    kind: kinds.get(span.get(6)?.[0]) ?? "other",
    attributes: readAttributes(messages(span, 9)),
    isError: status?.get(3)?.[0] === 2n,
    resource,
  };
}

function readAttributes(pairs: readonly Fields[]): Record<string, string | number | boolean> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const value = messages(pair, 2)[0];
      const number = value?.get(3)?.[0] ?? value?.get(4)?.[0];
      const flag = value?.get(2)?.[0];
      const text = value === undefined ? "" : textOf(value, 1);
      return [textOf(pair, 1), number !== undefined ? Number(number) : flag !== undefined ? flag === 1n : text];
    }),
  );
}

function messages(fields: Fields, number: number): Fields[] {
  return (fields.get(number) ?? []).map((bytes) => readFields(bytes as Uint8Array));
}

function textOf(fields: Fields, number: number): string {
  return Buffer.from((fields.get(number)?.[0] ?? []) as Uint8Array).toString();
}

function hexOf(fields: Fields, number: number): string {
  return Buffer.from((fields.get(number)?.[0] ?? []) as Uint8Array).toString("hex");
}
