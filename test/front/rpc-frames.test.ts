/** Streams no good client sends, byte by byte, to both implementations that read gRPC's messages. */

import assert from "node:assert/strict";
import { type ClientHttp2Session, connect, constants, type OutgoingHttpHeaders } from "node:http2";
import { type TestContext, test } from "node:test";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { GatewayError } from "../../src/errors.ts";
import { CompleteRequestSchema, CompleteResponseSchema } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import type { ListenOptions } from "../../src/server/listen.ts";
import { chat, openDoor, servicePath } from "./rpc-door.ts";
import { accepted, hello, type Script, ScriptedGateway, settled, start } from "./scripted-gateway.ts";

const message = Buffer.from(toBinary(CompleteRequestSchema, create(CompleteRequestSchema, { chat })));
const trailersFlag = 0x80;

function frame(bytes: Uint8Array, { flags = 0, length = bytes.length } = {}): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flags;
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, bytes]);
}

interface Answer {
  readonly httpStatus: number;
  /** Whether all was said in the head. */
  readonly isTrailersOnly: boolean;
  readonly head: ReadonlyMap<string, string>;
  /** Wherever they stood. */
  readonly trailers: ReadonlyMap<string, string>;
  readonly frames: readonly { readonly flags: number; readonly bytes: Buffer }[];
}

/** A client that sends what it is told, in gRPC or gRPC-Web. */
class RawClient {
  readonly #session: ClientHttp2Session;
  readonly #protocol: string;

  constructor(t: TestContext, url: string, protocol: string) {
    this.#session = connect(url).on("error", () => {});
    this.#protocol = protocol;
    t.after(() => this.#session.destroy());
  }

  request(headers: OutgoingHttpHeaders = {}) {
    return this.#session.request({
      ...{ ":method": "POST", ":path": `${servicePath}/Complete`, "content-type": `application/${this.#protocol}` },
      ...headers,
    });
  }

  /** @param pieces sent one by one. */
  call(pieces: readonly Buffer[], headers: OutgoingHttpHeaders = {}): Promise<Answer> {
    const stream = this.request(headers);
    for (const piece of pieces) stream.write(piece);
    stream.end();
    return answerOf(stream);
  }
}

function answerOf(stream: ReturnType<RawClient["request"]>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const [head, trailers] = [new Map<string, string>(), new Map<string, string>()];
    const received: Buffer[] = [];
    let isTrailersOnly = false;
    const keep = (into: Map<string, string>, headers: object) => {
      for (const [name, value] of Object.entries(headers)) into.set(name, String(value));
    };
    stream.on("response", (headers, flags) => {
      keep(head, headers);
      isTrailersOnly = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
      if (head.has("grpc-status")) keep(trailers, headers);
    });
    stream.on("trailers", (headers) => keep(trailers, headers));
    stream.on("data", (bytes: Buffer) => received.push(bytes));
    stream.on("error", reject);
    stream.on("end", () => {
      const frames = framesOf(Buffer.concat(received));
      const web = frames.at(-1);
      if (web !== undefined && (web.flags & trailersFlag) !== 0) {
        frames.pop();
        for (const line of web.bytes.toString().split("\r\n")) {
          const [, name, value] = /^([^:]+): ?(.*)$/.exec(line) ?? [];
          if (name !== undefined) trailers.set(name.toLowerCase(), value ?? "");
        }
      }
      resolve({ httpStatus: Number(head.get(":status")), isTrailersOnly, head, trailers, frames });
    });
  });
}

function framesOf(bytes: Buffer): { flags: number; bytes: Buffer }[] {
  const frames: { flags: number; bytes: Buffer }[] = [];
  for (let at = 0; at + 5 <= bytes.length; ) {
    const end = at + 5 + bytes.readUInt32BE(at + 1);
    frames.push({ flags: bytes[at] ?? 0, bytes: bytes.subarray(at + 5, end) });
    at = end;
  }
  return frames;
}

interface Refused {
  readonly what: string;
  readonly pieces: readonly Buffer[];
  readonly headers?: OutgoingHttpHeaders;
  /** gRPC's. */
  readonly status: number;
  readonly reason: string;
}

const bytesMax = 100_000;
const bomb = gzipSync(Buffer.alloc(10 * bytesMax));
const refused: readonly Refused[] = [
  { what: "no message", pieces: [], status: 12, reason: "ROUTE_NOT_FOUND" },
  { what: "two messages", pieces: [frame(message), frame(message)], status: 12, reason: "ROUTE_NOT_FOUND" },
  { what: "half a prefix", pieces: [Buffer.from([0, 0, 0])], status: 3, reason: "INVALID_REQUEST" },
  {
    what: "half a message",
    pieces: [frame(message).subarray(0, -1)],
    ...{ status: 3, reason: "INVALID_REQUEST" },
  },
  {
    what: "a message that is none",
    pieces: [frame(Buffer.from([0xff, 0xff, 0xff]))],
    ...{ status: 3, reason: "INVALID_REQUEST" },
  },
  {
    what: "text that is not UTF-8",
    pieces: [frame(Buffer.from([10, 4, 10, 2, 0xc3, 0x28]))],
    ...{ status: 3, reason: "INVALID_REQUEST" },
  },
  { what: "an empty message", pieces: [frame(Buffer.alloc(0))], status: 3, reason: "INVALID_REQUEST" },
  {
    what: "a compressed message without a word how",
    pieces: [frame(gzipSync(message), { flags: 1 })],
    ...{ status: 3, reason: "INVALID_REQUEST" },
  },
  {
    what: "a compression that we do not have",
    pieces: [frame(message, { flags: 1 })],
    headers: { "grpc-encoding": "snappy" },
    ...{ status: 12, reason: "ROUTE_NOT_FOUND" },
  },
  {
    what: "a compressed message that is not",
    pieces: [frame(message, { flags: 1 })],
    headers: { "grpc-encoding": "gzip" },
    ...{ status: 3, reason: "INVALID_REQUEST" },
  },
  {
    what: "a message that is too large once it is decompressed",
    pieces: [frame(bomb, { flags: 1 })],
    headers: { "grpc-encoding": "gzip" },
    ...{ status: 8, reason: "BODY_TOO_LARGE" },
  },
  {
    what: "a message that says it is four gigabytes",
    pieces: [frame(message, { length: 0xffff_ffff })],
    ...{ status: 8, reason: "BODY_TOO_LARGE" },
  },
  {
    what: "a deadline that is none",
    pieces: [frame(message)],
    headers: { "grpc-timeout": "soon" },
    ...{ status: 3, reason: "INVALID_REQUEST" },
  },
];

for (const protocol of ["grpc", "grpc-web"]) {
  const open = async (t: TestContext, script?: Script, options: Partial<ListenOptions> = {}) => {
    const gateway = new ScriptedGateway(script);
    const port = await openDoor(t, gateway, { readMaxBytes: bytesMax, ...options });
    return { gateway, port, client: new RawClient(t, port.url, protocol) };
  };

  for (const { what, pieces, headers, status, reason } of refused) {
    test(`${protocol}: ${what} is refused with its reason, and nothing is called`, async (t) => {
      const { gateway, client, port } = await open(t);
      for (const method of ["Complete", "StreamComplete"]) {
        const answer = await client.call(pieces, { ...headers, ":path": `${servicePath}/${method}` });
        assert.equal(answer.httpStatus, 200);
        assert.equal(answer.trailers.get("grpc-status"), String(status), answer.trailers.get("grpc-message"));
        const details = Buffer.from(answer.trailers.get("grpc-status-details-bin") ?? "", "base64");
        assert.ok(details.includes(reason) && details.includes("tollgate.dev"), details.toString("latin1"));
        assert.equal(answer.trailers.get("x-should-retry"), "false");
        assert.ok(answer.trailers.get("x-request-id"));
        assert.equal(answer.frames.length, 0);
      }
      assert.equal(gateway.calls.length, 0);
      assert.deepEqual(port.bugs, []);
      assert.equal((await client.call([frame(message)])).trailers.get("grpc-status"), "0");
    });
  }

  test(`${protocol}: a message that comes byte by byte is read`, async (t) => {
    const { client } = await open(t);
    const stream = client.request();
    for (const byte of frame(message)) {
      stream.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    stream.end();
    const { trailers, frames, isTrailersOnly } = await answerOf(stream);
    assert.equal(trailers.get("grpc-status"), "0");
    assert.equal(isTrailersOnly, false);
    assert.equal(fromBinary(CompleteResponseSchema, frames[0]?.bytes ?? Buffer.alloc(0)).choices[0]?.text, "Hello ✓");
  });

  for (const [encoding, compress] of [
    ["gzip", gzipSync],
    ["br", brotliCompressSync],
  ] as const) {
    test(`${protocol}: a request compressed by ${encoding} is answered likewise, where that saves something`, async (t) => {
      const long: Script = [accepted, start, { type: "delta", choice: 0, text: "word ".repeat(1_000) }, settled];
      for (const [script, isCompressed] of [
        [hello, false],
        [long, true],
      ] as const) {
        const { client } = await open(t, script);
        const sent = frame(compress(message), { flags: 1 });
        const { head, frames } = await client.call([sent], { "grpc-encoding": encoding });
        assert.equal(head.get("grpc-encoding"), encoding);
        assert.equal(frames[0]?.flags, isCompressed ? 1 : 0);
        if (isCompressed) assert.ok((frames[0]?.bytes.length ?? 0) < 1_000);
      }
    });
  }

  test(`${protocol}: a message that is not compressed is taken where others might be`, async (t) => {
    const { client } = await open(t);
    const { trailers } = await client.call([frame(message)], { "grpc-encoding": "gzip" });
    assert.equal(trailers.get("grpc-status"), "0");
  });

  test(`${protocol}: a body that announces itself as too large is refused before it has come`, async (t) => {
    const { client, gateway } = await open(t);
    const stream = client.request({ "content-length": 10 * bytesMax });
    stream.write(frame(message).subarray(0, 3));
    const { trailers } = await answerOf(stream);
    assert.equal(trailers.get("grpc-status"), "8");
    assert.equal(gateway.calls.length, 0);
  });

  test(`${protocol}: the server keeps a deadline by itself, also while the answer goes on`, async (t) => {
    const { client, gateway } = await open(t, [...hello.slice(0, 3), "wait"]);
    const headers = { "grpc-timeout": "50m", ":path": `${servicePath}/StreamComplete` };
    const { trailers, frames } = await client.call([frame(message)], headers);
    assert.equal(frames.length, 2);
    assert.equal(trailers.get("grpc-status"), "4");
    assert.ok(Buffer.from(trailers.get("grpc-status-details-bin") ?? "", "base64").includes("DEADLINE_EXCEEDED"));
    assert.equal((await gateway.firstCall()).caller.signal.reason.code, "deadline_exceeded");
  });

  test(`${protocol}: a stream that is reset ends its call, or never begins one`, async (t) => {
    const { client, gateway, port } = await open(t, [...hello.slice(0, 3), "wait"]);
    const half = client.request();
    half.on("error", () => {});
    half.write(frame(message));
    half.close(constants.NGHTTP2_CANCEL);
    const stream = client.request({ ":path": `${servicePath}/StreamComplete` });
    stream.on("error", () => {});
    stream.end(frame(message));
    await new Promise((resolve) => stream.once("data", resolve));
    stream.close(constants.NGHTTP2_CANCEL);
    const call = await gateway.firstCall();
    assert.equal(call.ended, "failed");
    assert.equal(call.caller.signal.reason.code, "client_closed_request");
    assert.deepEqual(
      gateway.calls.map(({ caller }) => caller.route),
      [`${servicePath}/StreamComplete`],
    );
    assert.deepEqual(port.bugs, []);
  });

  test(`${protocol}: a connection that breaks ends its calls`, async (t) => {
    const { client, gateway, port } = await open(t, [...hello.slice(0, 3), "wait"]);
    const stream = client.request({ ":path": `${servicePath}/StreamComplete` });
    stream.on("error", () => {});
    stream.end(frame(message));
    await new Promise((resolve) => stream.once("data", resolve));
    stream.session?.destroy();
    assert.equal((await gateway.firstCall()).caller.signal.reason.code, "client_closed_request");
    assert.deepEqual(port.bugs, []);
  });

  test(`${protocol}: another format or another verb is refused by HTTP's status`, async (t) => {
    const { client, gateway } = await open(t);
    const thrift = await client.call([frame(message)], { "content-type": `application/${protocol}+thrift` });
    assert.equal(thrift.httpStatus, 415);
    const stream = client.request({ ":method": "PUT" });
    stream.end(frame(message));
    assert.equal((await answerOf(stream)).httpStatus, 405);
    assert.equal(gateway.calls.length, 0);
  });

  test(`${protocol}: formats are known by every name they go by`, async (t) => {
    const { client } = await open(t);
    const json = Buffer.from('{"chat":{"model":"m","messages":[{"role":"ROLE_USER","text":"hi"}]},"unknown":1}');
    for (const [suffix, bytes] of [
      ["", message],
      ["+proto", message],
      ["+json", json],
      ["+json; charset=utf-8", json],
    ] as const) {
      const answer = await client.call([frame(bytes)], { "content-type": `application/${protocol}${suffix}` });
      assert.equal(answer.trailers.get("grpc-status"), "0", suffix);
      const type = suffix.includes("json") ? "+json" : "+proto";
      assert.equal(answer.head.get("content-type"), `application/${protocol}${type}`);
    }
    const broken = await client.call([frame(Buffer.from("{"))], { "content-type": `application/${protocol}+json` });
    assert.equal(broken.trailers.get("grpc-status"), "3");
  });

  test(`${protocol}: a name that leads here by no right is refused`, async (t) => {
    const { client, gateway } = await open(t);
    const answer = await client.call([frame(message)], { ":authority": "evil.example" });
    if (protocol === "grpc") assert.equal(answer.trailers.get("grpc-status"), "7");
    else assert.equal(answer.httpStatus, 403);
    assert.equal(gateway.calls.length, 0);
  });
}

test("grpc: an error before any message is told in the head, and nothing follows", async (t) => {
  const gateway = new ScriptedGateway([new GatewayError("model_not_allowed", "Not: 100% off ✓")]);
  const { url } = await openDoor(t, gateway);
  const client = new RawClient(t, url, "grpc");
  for (const method of ["Complete", "StreamComplete"]) {
    const { isTrailersOnly, head } = await client.call([frame(message)], { ":path": `${servicePath}/${method}` });
    assert.equal(isTrailersOnly, true);
    assert.equal(head.get("grpc-status"), "7");
    // Only "%" and what is not ASCII is escaped.
    assert.equal(head.get("grpc-message"), "Not: 100%25 off %E2%9C%93");
    assert.equal(head.get("content-type"), "application/grpc+proto");
  }
});

test("grpc: who compresses is told what there is", async (t) => {
  const { url } = await openDoor(t, new ScriptedGateway());
  const client = new RawClient(t, url, "grpc");
  for (const encoding of ["gzip", "snappy"]) {
    const { head } = await client.call([frame(message)], { "grpc-encoding": encoding });
    assert.equal(head.get("grpc-accept-encoding"), "gzip,br");
  }
});

test("grpc: a method nobody serves is UNIMPLEMENTED", async (t) => {
  const { url } = await openDoor(t, new ScriptedGateway());
  const client = new RawClient(t, url, "grpc");
  for (const path of [`${servicePath}/Guess`, "/no.Service/Complete", "/"]) {
    const { trailers, isTrailersOnly } = await client.call([frame(message)], { ":path": path });
    assert.equal(trailers.get("grpc-status"), "12", path);
    assert.equal(isTrailersOnly, true);
  }
});
