import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatUsd, parseUsd, plainDecimal, usdFromNumber, usdNumber } from "../src/money.ts";

test("amounts are read as operators write them, and rounded up to a nano-dollar", () => {
  for (const [text, nanos] of [
    ["25", 25_000_000_000n],
    [" 0.5 ", 500_000_000n],
    ["-1.25", -1_250_000_000n],
    ["0.000000001", 1n],
    ["0.0000000001", 1n],
    ["1.0000000000000000000000001", 1_000_000_001n],
    ["999999999999", 999_999_999_999_000_000_000n],
  ] as const) {
    assert.equal(parseUsd(text), nanos, text);
  }
});

test("what is no amount is none", () => {
  for (const text of ["", ".", "1.", ".5", "1e3", "$5", "1,5", "0x10", "--1", "NaN", "1000000000000"]) {
    assert.equal(parseUsd(text), undefined, text);
  }
  for (const number of [Number.NaN, Number.POSITIVE_INFINITY, 1e12]) assert.equal(usdFromNumber(number), undefined);
});

test("numbers of JSON are the decimals they were written as, however small", () => {
  assert.equal(usdFromNumber(0.1), 100_000_000n);
  assert.equal(usdFromNumber(1e-9), 1n);
  assert.equal(usdFromNumber(1.5e-7), 150n);
  assert.equal(usdFromNumber(0.01 * 0.07), 700_001n, "a product with nineteen decimals is an amount too");
  assert.equal(usdFromNumber(Number.MIN_VALUE), 1n);
});

test("every amount survives being written and read", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n }), (nanos) => {
      assert.equal(parseUsd(formatUsd(nanos)), nanos);
    }),
  );
});

test("amounts are written without trailing zeros", () => {
  assert.equal(formatUsd(1_500_000_000n), "1.5");
  assert.equal(formatUsd(0n), "0");
  assert.equal(formatUsd(-1n), "-0.000000001");
  assert.equal(usdNumber(24_000n), 0.000024);
});

test("a plain decimal is the same number without an exponent", () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
      const text = plainDecimal(value);
      assert.doesNotMatch(text, /e/);
      assert.equal(Number(text) + 0, value + 0);
    }),
  );
});
