import assert from "node:assert/strict";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { type TestContext, test } from "node:test";
import { type Clock, systemClock } from "../../src/clock.ts";
import { TokenCounter } from "../../src/routing/token-counter.ts";

/** A clock whose timers never ring: however slow the machine is, counts come to an end. */
const patient: Clock = { ...systemClock, after: () => () => {} };

function counterOf(context: TestContext, clock: Clock): TokenCounter {
  const counter = new TokenCounter({ clock });
  context.after(() => counter.close());
  return counter;
}

test("tokens are counted as OpenAI counts them, and special ones are text", async (context) => {
  const counter = counterOf(context, patient);
  // As https://platform.openai.com/tokenizer shows them.
  assert.equal(await counter.count("o200k_base", ["Hello world, how are you?"]), 7);
  assert.equal(await counter.count("cl100k_base", ["antidisestablishmentarianism"]), 6);
  assert.equal(await counter.count("o200k_base", ["Hello world", ", how are you?"]), 7);
  assert.equal(await counter.count("o200k_base", []), 0);
  assert.ok(((await counter.count("o200k_base", ["a <|endoftext|> b"])) ?? 0) > 3);
});

test("what would take a tokenizer seconds takes none, and nobody else waits", async (context) => {
  const counter = counterOf(context, patient);
  await counter.count("o200k_base", ["loaded"]);
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  for (const letter of ["a", " ", "é", "漢", "aB1!"]) {
    const startedMs = performance.now();
    const tokens = await counter.count("o200k_base", [letter.repeat(Math.ceil(100_000 / letter.length))]);
    assert.ok(tokens !== undefined && tokens > 500 && tokens <= 200_000, `${letter}: ${tokens}`);
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs < 2_000, `${JSON.stringify(letter)}: ${tookMs} ms`);
  }
  delay.disable();
  assert.ok(delay.max / 1e6 < 150, `the event loop stood still for ${delay.max / 1e6} ms`);
});

test("of a very long text the beginning is counted, and stands for the rest", async (context) => {
  const counter = counterOf(context, patient);
  const line = "The quick brown fox jumps over the lazy dog.\n";
  const one = await counter.count("o200k_base", [line.repeat(100)]);
  const many = await counter.count("o200k_base", [line.repeat(50_000), line.repeat(50_000)]);
  assert.ok(one !== undefined && many !== undefined);
  assert.ok(Math.abs(many / (one * 1_000) - 1) < 0.01, `${many} of ${one}`);
});

test("nobody waits longer than a moment; counts that nobody waits for are few", async (context) => {
  const ringing: (() => void)[] = [];
  const counter = counterOf(context, {
    ...systemClock,
    after: (_, ring) => {
      ringing.push(ring);
      return () => {};
    },
  });
  const counts = Array.from({ length: 20 }, () => counter.count("cl100k_base", ["Hello"]));
  assert.equal(ringing.length, 16, "no more are begun");
  for (const ring of ringing) ring();
  assert.deepEqual(await Promise.all(counts), Array(20).fill(undefined));
  assert.equal(await counter.count("cl100k_base", ["Hello"]), undefined, "the thread still has 16 to do");
});

test("counts under way come to nothing when it is closed, and later ones begin anew", async (context) => {
  const counter = counterOf(context, patient);
  const count = counter.count("o200k_base", ["Hello"]);
  await counter.close();
  assert.equal(await count, undefined);
  assert.equal(await counter.count("o200k_base", ["Hello"]), 1);
});
