import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 as crc } from "node:zlib";
import fc from "fast-check";
import { type EventMessage, EventStreamSplitter } from "../../src/wires/event-stream.ts";
import { eventFrame } from "../event-frame.ts";
import { allCuts, cutAt } from "./reading.ts";

/** Made by @smithy/eventstream-codec 4.5.2: a header of every type around three texts. */
const oracle = Buffer.from(
  "000000c4000000a0af61329a0d3a6d6573736167652d747970650700056576656e740b3a6576656e742d7479706507000c6d6573736167655374617274" +
    "0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e04666c616700016e0400000007017408000000000000000001750" +
    "96eb4d8e43ba54bd69b1e6d7f3f1d2a1001620600030102030273680300030262790201026c67050000000000000000026e6f017b22726f6c65223a" +
    "22617373697374616e74227d739df9ec",
  "hex",
);

function split(pieces: readonly Buffer[], bytesMax?: number) {
  const splitter = new EventStreamSplitter(bytesMax);
  const messages = pieces.flatMap((piece) => splitter.push(piece));
  return { messages: messages.map(plain), fault: splitter.fault, isInside: splitter.isInside };
}

function plain({ headers, payload }: EventMessage) {
  return { headers: Object.fromEntries(headers), payload: payload.toString() };
}

const first = eventFrame({ ":event-type": "contentBlockDelta", ":message-type": "event" }, '{"delta":{"text":"Grüß"}}');
const empty = eventFrame({}, "");

test("a message made by AWS's own library is read: its texts, and around headers of every other type", () => {
  assert.deepEqual(split([oracle]), {
    messages: [
      {
        headers: { ":message-type": "event", ":event-type": "messageStart", ":content-type": "application/json" },
        payload: '{"role":"assistant"}',
      },
    ],
    fault: undefined,
    isInside: false,
  });
});

test("nothing depends on where the network cuts", () => {
  const body = Buffer.concat([first, oracle, empty, first]);
  const whole = split([body]);
  assert.equal(whole.messages.length, 4);
  for (const pieces of allCuts(body)) assert.deepEqual(split(pieces), whole);
});

test("a cut stream is told from a whole one", () => {
  for (let at = 1; at < first.length; at += 1) {
    const cut = split([oracle, first.subarray(0, at)]);
    assert.equal(cut.messages.length, 1);
    assert.equal(cut.fault, undefined);
    assert.equal(cut.isInside, true);
  }
});

test("every flipped bit is found, and nothing is read after it", () => {
  for (let at = 0; at < first.length; at += 1) {
    for (const bit of [1, 128]) {
      const broken = Buffer.from(first);
      broken[at] = (broken[at] ?? 0) ^ bit;
      const read = split([broken, oracle, oracle, oracle]);
      // A length that grew swallows what follows until its checksum shows it.
      assert.equal(read.messages.length, 0, `byte ${at}`);
      assert.ok(read.fault !== undefined || read.isInside, `byte ${at}`);
    }
  }
});

test("lengths that cannot be are faults before anything is gathered", () => {
  assert.match(split([eventFrame({}, "x".repeat(100))], 64).fault ?? "", /longer than the gateway takes/);
  const headersTooLong = eventFrame({ a: "b" }, "");
  const prelude = Buffer.from(headersTooLong.subarray(0, 8));
  prelude.writeUInt32BE(5000, 4);
  assert.match(split([withPrelude(prelude, headersTooLong)]).fault ?? "", /cannot be/);
});

test("headers that do not fit their own lengths are a fault", () => {
  const frame = eventFrame({ a: "b" }, "");
  // The text's length says more than there is; both checksums are right.
  const body = Buffer.from(frame.subarray(12, -4));
  body.writeUInt16BE(900, 3);
  assert.match(split([reframe(body, 5 + 1)]).fault ?? "", /headers cannot be read/);
  const unknownType = Buffer.from([1, 97, 42]);
  assert.match(split([reframe(unknownType, 3)]).fault ?? "", /headers cannot be read/);
});

test("fuzz: random bytes, mutations and cuts neither throw nor hang nor gather more than came", () => {
  const bodies = fc.oneof(
    fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
    fc.tuple(fc.array(fc.string(), { maxLength: 5 }), fc.nat(), fc.nat(255)).map(([texts, at, value]) => {
      const body = Buffer.concat([
        oracle,
        ...texts.map((text) => eventFrame({ ":event-type": text.slice(0, 20) }, text)),
      ]);
      body[at % body.length] = value;
      return body;
    }),
  );
  fc.assert(
    fc.property(bodies, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 }), (body, places) => {
      const whole = split([body]);
      assert.deepEqual(split(cutAt(body, places)), whole);
      const out = whole.messages.reduce((sum, { payload }) => sum + payload.length, 0);
      assert.ok(out <= body.length);
    }),
    { numRuns: 500 },
  );
});

test("a length of gigabytes reserves nothing", () => {
  const head = eventFrame({}, "");
  const prelude = Buffer.from(head.subarray(0, 8));
  prelude.writeUInt32BE(0xffff_ffff, 0);
  const before = process.memoryUsage().arrayBuffers;
  assert.match(split([withPrelude(prelude, head)]).fault ?? "", /longer than the gateway takes/);
  assert.ok(process.memoryUsage().arrayBuffers - before < 1_000_000);
});

function withPrelude(prelude: Buffer, frame: Buffer): Buffer {
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc(prelude));
  return Buffer.concat([prelude, sum, frame.subarray(12)]);
}

/** A frame with right checksums around these bytes. */
function reframe(body: Buffer, headersLength: number): Buffer {
  const prelude = Buffer.alloc(8);
  prelude.writeUInt32BE(16 + body.length, 0);
  prelude.writeUInt32BE(headersLength, 4);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc(prelude));
  const front = Buffer.concat([prelude, sum, body]);
  const last = Buffer.alloc(4);
  last.writeUInt32BE(crc(front));
  return Buffer.concat([front, last]);
}
