/** Money: a whole number of nano-dollars (1 USD = 1_000_000_000n). Never a float; on the wire a decimal string or an int64. */
export type Nanos = bigint;

const nanosPerUsd = 1_000_000_000n;
const decimal = /^(-?)(\d{1,12})(?:\.(\d+))?$/;

/**
 * Reads an amount of US dollars as operators write it: "25", "0.5", "-1.25".
 *
 * @returns the amount rounded up to the next nano-dollar, or undefined if `text` is no such amount.
 */
export function parseUsd(text: string): Nanos | undefined {
  const match = decimal.exec(text.trim());
  if (match === null) return undefined;
  const [, sign, whole = "0", fraction = ""] = match;
  const nanos = BigInt(whole) * nanosPerUsd + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
  const rounded = /[1-9]/.test(fraction.slice(9)) ? nanos + 1n : nanos;
  return sign === "-" ? -rounded : rounded;
}

/**
 * Reads an amount that JSON or YAML has already made a number of. Such numbers carry at most 15 honest digits, so the
 * decimal text JavaScript prints for them is what the operator wrote.
 *
 * @returns undefined for NaN, infinities and anything beyond a trillion dollars.
 */
export function usdFromNumber(usd: number): Nanos | undefined {
  return Number.isFinite(usd) ? parseUsd(plainDecimal(usd)) : undefined;
}

/** Writes an amount as a decimal string of US dollars without trailing zeros: 1_500_000_000n -> "1.5". */
export function formatUsd(nanos: Nanos): string {
  const sign = nanos < 0n ? "-" : "";
  const absolute = nanos < 0n ? -nanos : nanos;
  const whole = absolute / nanosPerUsd;
  const rest = Number(absolute % nanosPerUsd);
  if (rest === 0) return `${sign}${whole}`;
  const fraction = String(rest).padStart(9, "0");
  let end = fraction.length;
  while (fraction[end - 1] === "0") end -= 1;
  return `${sign}${whole}.${fraction.slice(0, end)}`;
}

/** The amount as a float, for JSON shapes that demand a number (LiteLLM's). For showing only: never compute with it. */
export function usdNumber(nanos: Nanos): number {
  const float = Number(nanos);
  // Of a whole number that a float holds, the quotient is the float nearest to the amount; of others its text has to be asked.
  return Number.isSafeInteger(float) ? float / 1e9 : Number(formatUsd(nanos));
}

/** A number without exponent, with as many digits as JavaScript would print. */
export function plainDecimal(value: number): string {
  const text = String(value);
  const match = /^(-?)(\d+)(?:\.(\d+))?e([+-]\d+)$/.exec(text);
  if (match === null) return text;
  const [, sign = "", whole = "", fraction = "", exponentText = "0"] = match;
  const exponent = Number(exponentText);
  const digits = whole + fraction;
  const point = whole.length + exponent;
  if (point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  if (point >= digits.length) return `${sign}${digits}${"0".repeat(point - digits.length)}`;
  return `${sign}${digits.slice(0, point)}.${digits.slice(point)}`;
}
