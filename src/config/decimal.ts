import { plainDecimal } from "../money.ts";

const plain = /^(\d{1,15})(?:\.(\d{1,60}))?$/;
const anyNumber = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;

/**
 * Shifts a decimal number by `places` and rounds up to a whole one, without a float on the way: ("0.15", 6) -> 150_000n.
 *
 * @returns undefined if `value` is no number of at least 0.
 */
export function shiftDecimal(value: number | string, places: number): bigint | undefined {
  const number = readNumber(value);
  if (number === undefined) return undefined;
  const text = typeof value === "string" && plain.test(value.trim()) ? value.trim() : plainDecimal(number);
  const match = plain.exec(text);
  if (match === null) return undefined;
  const [, whole = "0", fraction = ""] = match;
  const shifted = BigInt(whole + fraction.slice(0, places).padEnd(places, "0"));
  return /[1-9]/.test(fraction.slice(places)) ? shifted + 1n : shifted;
}

/** A finite number, also one that is written as text, as environment variables are. */
export function readNumber(value: unknown): number | undefined {
  if (typeof value === "string" && !anyNumber.test(value.trim())) return undefined;
  if (typeof value !== "string" && typeof value !== "number") return undefined;
  const number = Number(value);
  return Number.isFinite(number) ? number : undefined;
}
