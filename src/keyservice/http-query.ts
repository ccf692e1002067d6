import { invalid } from "./key-fields.ts";

/**
 * A whole number from a query string.
 *
 * @param limits `otherwise` is its value when it is not given.
 * @throws GatewayError `invalid_request` if it is no whole number from `min` to `max`.
 */
export function wholeNumber(
  query: URLSearchParams,
  name: string,
  { min, max, otherwise }: { readonly min: number; readonly max: number; readonly otherwise: number },
): number {
  const text = query.get(name);
  if (text === null) return otherwise;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw invalid(name, `must be a whole number from ${min} to ${max}.`);
}
