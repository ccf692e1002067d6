import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { joinAdjacent, type SseFrame, SseSplitter } from "../../src/wires/sse.ts";

function split(chunks: readonly Buffer[], frameBytesMax = 1024): { frames: SseFrame[]; overflowed: boolean } {
  const splitter = new SseSplitter(frameBytesMax);
  const frames = chunks.flatMap((chunk) => [...splitter.push(chunk)]);
  const tail = splitter.flush();
  if (tail !== undefined) frames.push(tail);
  return { frames, overflowed: splitter.overflowed };
}

function meanings(frames: readonly SseFrame[]): (readonly [string, string | undefined])[] {
  return frames
    .map(({ event, data }) => [event, data] as const)
    .filter(([event, data]) => event !== "" || data !== undefined);
}

const stream =
  "data: one\n\n: comment\n\ndata:two\ndata: and a half\n\nevent: named\r\ndata: drei ü\r\n\r\nid: 7\rdata: four\r\r" +
  "data\n\nevent: message\ndata:  five\n\ndata: cut";
const expected = [
  ["", "one"],
  ["", "two\nand a half"],
  ["named", "drei ü"],
  ["", "four"],
  ["", ""],
  ["", " five"],
  ["", "cut"],
];

test("frames are the same wherever the network cuts", () => {
  const bytes = Buffer.from(stream);
  assert.deepEqual(meanings(split([bytes]).frames), expected);
  for (let at = 0; at <= bytes.length; at += 1) {
    const { frames } = split([bytes.subarray(0, at), bytes.subarray(at)]);
    assert.deepEqual(meanings(frames), expected, `cut at ${at}`);
    assert.equal(Buffer.concat(frames.map((frame) => frame.bytes)).toString(), stream, `cut at ${at}`);
  }
  const single = split([...bytes].map((byte) => Buffer.from([byte])));
  assert.deepEqual(meanings(single.frames), expected);
});

test("a frame does not wait for the byte after its last CR", () => {
  const splitter = new SseSplitter(100);
  assert.equal(splitter.push(Buffer.from("data: a\r\n\r")).length, 1);
  assert.deepEqual(meanings(splitter.push(Buffer.from("\ndata: b\r\n\r\n"))), [["", "b"]]);
});

test("a byte order mark at the beginning is dropped, however it is cut", () => {
  const marked = Buffer.from("\ufeffdata: x\n\n");
  for (let at = 0; at <= marked.length; at += 1) {
    assert.deepEqual(meanings(split([marked.subarray(0, at), marked.subarray(at)]).frames), [["", "x"]]);
  }
});

test("frames that lie whole in a chunk are not copied, and neighbours are joined without copying", () => {
  const chunk = Buffer.from("data: a\n\ndata: b\n\ndata: c\n\n");
  const frames = split([chunk]).frames.map((frame) => frame.bytes);
  const joined = joinAdjacent(frames);
  assert.equal(joined.buffer, chunk.buffer);
  assert.equal(joined.byteOffset, chunk.byteOffset);
  assert.deepEqual(joined, chunk);
  const [first, , third] = frames;
  assert.ok(first && third);
  assert.equal(joinAdjacent([first, third]).toString(), "data: a\n\ndata: c\n\n");
});

test("an endless line is given up at the limit, whether it comes at once or byte by byte", () => {
  const line = Buffer.from(`data: ${"x".repeat(200)}`);
  assert.equal(split([line], 100).overflowed, true);
  assert.equal(
    split(
      [...line].map((byte) => Buffer.from([byte])),
      100,
    ).overflowed,
    true,
  );
  const whole = split([Buffer.concat([Buffer.from("data: ok\n\n"), line, Buffer.from("\n\n")])], 100);
  assert.equal(whole.overflowed, true);
  assert.deepEqual(meanings(whole.frames), [["", "ok"]]);
});

test("any bytes in any chunks give the same frames as in one", () => {
  const byte = fc.constantFrom(...Buffer.from('data: event\r\n\n\r:{}"x\xff', "latin1"));
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 120 }), fc.array(fc.nat(120), { maxLength: 6 }), (values, cuts) => {
      const bytes = Buffer.from(values);
      const edges = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
      const chunks = edges.slice(1).map((edge, index) => bytes.subarray(edges[index], edge));
      assert.deepEqual(meanings(split(chunks).frames), meanings(split([bytes]).frames));
    }),
    { numRuns: 1000 },
  );
});
