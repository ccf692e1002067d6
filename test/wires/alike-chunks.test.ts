import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { AlikeChunks } from "../../src/wires/alike-chunks.ts";
import { ChatStreamReader } from "../../src/wires/openai-chat-stream.ts";

const chunk = (delta: object, more: object = {}, reason: string | null = null) =>
  JSON.stringify({ id: "c1", model: "m", choices: [{ index: 0, delta, finish_reason: reason }], ...more });

test("of a chunk that differs from the last in its text alone, the text is known without parsing", () => {
  const alike = new AlikeChunks();
  const first = chunk({ content: "Hello" });
  assert.equal(alike.textOf(first), undefined);
  alike.learn(first, "Hello");
  assert.equal(alike.textOf(chunk({ content: " Grüß dich, 世界" })), " Grüß dich, 世界");
  assert.equal(alike.textOf(chunk({ content: "" })), "");
  for (const other of [
    chunk({ content: 'a "quote"' }),
    chunk({ content: "a\nline" }),
    chunk({ content: "Hello", role: "assistant" }),
    chunk({ content: "Hello" }, {}, "stop"),
    chunk({ content: "Hello" }, { usage: { total_tokens: 1 } }),
    chunk({ content: "Hello" }).replace("Hello", "raw\u0001byte"),
    first.slice(0, -1),
    "",
  ])
    assert.equal(alike.textOf(other), undefined, other);
  assert.equal(alike.textOf(first), "Hello");
});

test("nothing is learnt of a chunk whose text cannot be told from another of its members", () => {
  const alike = new AlikeChunks();
  const two = `{"content":"Hi","choices":[{"delta":{"content":"Hi"}}]}`;
  alike.learn(two, "Hi");
  assert.equal(alike.textOf(two), undefined);
});

test("an answer whose chunks all differ is soon not looked at any longer", () => {
  const alike = new AlikeChunks();
  for (let number = 0; number < 10; number++) {
    assert.equal(alike.isOpen, number < 4);
    alike.learn(chunk({ content: "a" }, { number }), "a");
  }
  assert.equal(alike.textOf(chunk({ content: "b" }, { number: 9 })), undefined);
});

const delta = fc.oneof(
  { weight: 6, arbitrary: fc.record({ content: fc.oneof(fc.string(), fc.string({ unit: "grapheme" })) }) },
  fc.record({ content: fc.constant(null), refusal: fc.string() }),
  fc.record({ role: fc.constant("assistant"), content: fc.string() }),
  fc.record({ content: fc.string(), reasoning_content: fc.string() }),
);
const frames = fc.array(fc.record({ delta, reason: fc.constantFrom(null, null, null, "stop", "length") }), {
  minLength: 1,
  maxLength: 30,
});

test("an answer is read the same, whether its chunks are alike or not", () => {
  fc.assert(
    fc.property(frames, (given) => {
      const texts = given.map((one) => `data: ${chunk(one.delta, {}, one.reason)}\n\n`);
      // A reader each has nothing to compare with.
      const alone = texts.map((text) => read([text]));
      const together = read(texts);
      assert.equal(together.text, texts.join(""));
      assert.equal(
        together.tokens,
        alone.reduce((sum, { tokens }) => sum + tokens, 0),
      );
      assert.deepEqual(together.reasons, given.findLast(({ reason }) => reason !== null)?.reason);
    }),
  );
});

function read(texts: readonly string[]) {
  const reader = new ChatStreamReader({ lane: "raw", includeUsage: false, choiceCount: 1 });
  const events = texts.flatMap((text) => reader.push(Buffer.from(text)));
  const raws = events.filter((event) => event.type === "raw");
  const [end] = reader.end().filter((event) => event.type === "end");
  return {
    text: Buffer.concat(raws.map(({ bytes }) => bytes)).toString(),
    tokens: raws.reduce((sum, { outputTokens }) => sum + outputTokens, 0),
    reasons: end?.finishReasons?.at(-1),
  };
}
