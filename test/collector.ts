import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import * as grpc from "@grpc/grpc-js";

type Attribute = string | number | boolean | readonly string[];

/** A span as it was exported. Ids are in hex. */
export interface ExportedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** "" for a root. */
  readonly parentId: string;
  readonly name: string;
  readonly kind: "INTERNAL" | "SERVER" | "CLIENT" | "other";
  readonly attributes: Readonly<Record<string, Attribute>>;
  /** Unix time, nanoseconds. */
  readonly startNs: bigint;
  readonly endNs: bigint;
  /** Ids of the spans it is linked to. */
  readonly links: readonly string[];
  readonly isError: boolean;
  readonly resource: Readonly<Record<string, Attribute>>;
  /** How it came. */
  readonly via: "http" | "grpc";
}

/** How a collector treats who sends it something. */
export type Manner = "takes" | "refuses" | "is slow" | "never answers";

/** An OpenTelemetry collector: takes spans by OTLP over HTTP in protobuf, and by gRPC, and keeps them. */
export class Collector {
  readonly spans: ExportedSpan[] = [];
  /** Everything that was sent, to look for what must not be in it. */
  bytes: Buffer = Buffer.alloc(0);
  readonly requests: { readonly path: string; readonly headers: IncomingMessage["headers"] }[] = [];
  manner: Manner = "takes";
  readonly #server: Server = createServer((req, res) => void this.#take(req, res));
  readonly #grpcServer = new grpc.Server();
  #grpcPort = 0;

  static async start(): Promise<Collector> {
    const collector = new Collector();
    collector.#server.listen(0, "127.0.0.1");
    await once(collector.#server, "listening");
    await collector.#listenGrpc();
    return collector;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get grpcUrl(): string {
    return `http://127.0.0.1:${this.#grpcPort}`;
  }

  /** The spans of one trace, once there are `count` of them. */
  trace(traceId: string, count: number): Promise<readonly ExportedSpan[]> {
    return this.wait(count, (span) => span.traceId === traceId);
  }

  /** The spans that are wanted, once there are `count` of them, the needed one among them; after five seconds, what there is. */
  async wait(
    count: number,
    isWanted: (span: ExportedSpan) => boolean,
    isNeeded: (span: ExportedSpan) => boolean = () => true,
  ): Promise<readonly ExportedSpan[]> {
    for (let tries = 0; ; tries++) {
      const spans = this.spans.filter(isWanted);
      if ((spans.length >= count && spans.some(isNeeded)) || tries >= 100) return spans;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async close(): Promise<void> {
    this.#grpcServer.forceShutdown();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #take(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of req) pieces.push(piece as Buffer);
    this.requests.push({ path: req.url ?? "", headers: req.headers });
    if (this.manner === "never answers") return;
    if (this.manner === "is slow") await new Promise((resolve) => setTimeout(resolve, 1_000));
    if (this.manner === "refuses") return void res.writeHead(503).end();
    // Metrics are taken too; nobody here looks into them.
    if (req.url?.endsWith("/v1/traces")) this.#keep(Buffer.concat(pieces), "http");
    res.writeHead(200, { "content-type": "application/x-protobuf" }).end();
  }

  /** `opentelemetry.proto.collector.trace.v1.TraceService/Export`, its messages as bytes. */
  async #listenGrpc(): Promise<void> {
    const asIs = { serialize: (bytes: Buffer) => bytes, deserialize: (bytes: Buffer) => bytes };
    const method = {
      path: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
      ...{ requestStream: false, responseStream: false },
      ...{ requestSerialize: asIs.serialize, requestDeserialize: asIs.deserialize },
      ...{ responseSerialize: asIs.serialize, responseDeserialize: asIs.deserialize },
    } as const;
    this.#grpcServer.addService({ export: method } as grpc.ServiceDefinition, {
      export: (call: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) => {
        this.#keep(call.request, "grpc");
        answer(null, Buffer.alloc(0));
      },
    });
    this.#grpcPort = await new Promise<number>((resolve, reject) => {
      this.#grpcServer.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
    });
  }

  #keep(body: Buffer, via: ExportedSpan["via"]): void {
    this.bytes = Buffer.concat([this.bytes, body]);
    this.spans.push(...readSpans(body, via));
  }
}

/** A message's fields by number, each a list. Of numbers of fixed width there are both readings. */
type Fields = ReadonlyMap<number, readonly Value[]>;
type Value = Uint8Array | bigint | Fixed;
interface Fixed {
  readonly double: number;
  readonly bits: bigint;
}

function readFields(bytes: Uint8Array): Fields {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, Value[]>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const values = fields.get(number) ?? [];
    fields.set(number, values);
    if (type === WireType.LengthDelimited) values.push(reader.bytes());
    else if (type === WireType.Varint) values.push(BigInt(reader.int64()));
    else if (type === WireType.Bit64) values.push(fixedOf(reader));
    else reader.skip(type);
  }
  return fields;
}

function fixedOf(reader: BinaryReader): Fixed {
  const bits = BigInt.asUintN(64, BigInt(reader.fixed64()));
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bits);
  return { bits, double: view.getFloat64(0) };
}

/** https://github.com/open-telemetry/opentelemetry-proto: trace/v1/trace.proto. */
export function readSpans(request: Uint8Array, via: ExportedSpan["via"]): ExportedSpan[] {
  return messages(readFields(request), 1).flatMap((resourceSpans) => {
    const resource = messages(resourceSpans, 1)[0];
    return messages(resourceSpans, 2)
      .flatMap((scopeSpans) => messages(scopeSpans, 2))
      .map((span) => ({ ...readSpan(span), via, resource: resource ? readAttributes(messages(resource, 1)) : {} }));
  });
}

const kinds = new Map<unknown, ExportedSpan["kind"]>([
  [1n, "INTERNAL"],
  [2n, "SERVER"],
  [3n, "CLIENT"],
]);

function readSpan(span: Fields): Omit<ExportedSpan, "via" | "resource"> {
  const status = messages(span, 15)[0];
  return {
    traceId: hexOf(span, 1),
    spanId: hexOf(span, 2),
    parentId: hexOf(span, 4),
    name: textOf(span, 5),
    kind: kinds.get(span.get(6)?.[0]) ?? "other",
    startNs: (span.get(7)?.[0] as Fixed | undefined)?.bits ?? 0n,
    endNs: (span.get(8)?.[0] as Fixed | undefined)?.bits ?? 0n,
    attributes: readAttributes(messages(span, 9)),
    links: messages(span, 13).map((link) => hexOf(link, 2)),
    isError: status?.get(3)?.[0] === 2n,
  };
}

function readAttributes(pairs: readonly Fields[]): Record<string, Attribute> {
  return Object.fromEntries(pairs.map((pair) => [textOf(pair, 1), readValue(messages(pair, 2)[0])]));
}

function readValue(value: Fields | undefined): Attribute {
  if (value === undefined) return "";
  const [flag, whole, fraction] = [value.get(2)?.[0], value.get(3)?.[0], value.get(4)?.[0]];
  if (flag !== undefined) return flag === 1n;
  if (whole !== undefined) return Number(whole);
  if (fraction !== undefined) return (fraction as Fixed).double;
  const [list] = messages(value, 5);
  return list === undefined ? textOf(value, 1) : messages(list, 1).map((entry) => String(readValue(entry)));
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
