import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { matchWildcard } from "../src/wildcard.ts";

test("without a star only the name itself matches", () => {
  assert.equal(matchWildcard("gpt-4o", "gpt-4o"), "");
  assert.equal(matchWildcard("gpt-4o", "gpt-4o-mini"), undefined);
  assert.equal(matchWildcard("gpt.4o", "gpt-4o"), undefined, "a dot is a dot");
});

test("a star stands for any text, and gives it", () => {
  assert.equal(matchWildcard("*", "anything"), "anything");
  assert.equal(matchWildcard("*", ""), "");
  assert.equal(matchWildcard("openai/*", "openai/gpt-4o"), "gpt-4o");
  assert.equal(matchWildcard("openai/*", "openai/"), "");
  assert.equal(matchWildcard("*-latest", "gpt-latest"), "gpt");
  assert.equal(matchWildcard("a*b*c", "aXbYc"), "X");
});

test("both ends hold, and no byte is used twice", () => {
  assert.equal(matchWildcard("openai/*", "xopenai/gpt"), undefined);
  assert.equal(matchWildcard("*-latest", "gpt-latest-2"), undefined);
  assert.equal(matchWildcard("aba*aba", "aba"), undefined);
  assert.equal(matchWildcard("a*bc*c", "abc"), undefined);
  assert.equal(matchWildcard("a*bc*c", "abcc"), "");
});

test("it agrees with a regular expression", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "*"), maxLength: 6 });
  const names = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 8 });
  fc.assert(
    fc.property(letters, names, (pattern, name) => {
      const expected = new RegExp(`^${pattern.replaceAll("*", ".*")}$`).test(name);
      assert.equal(matchWildcard(pattern, name) !== undefined, expected);
    }),
    { numRuns: 2_000 },
  );
});

test("many stars on a long name take no time", () => {
  const started = performance.now();
  assert.equal(matchWildcard(`${"a*".repeat(100)}b`, "a".repeat(100_000)), undefined);
  assert.ok(performance.now() - started < 100);
});
