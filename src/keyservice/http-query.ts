import { invalid } from "./key-fields.ts";

/** A day from a query string, "2026-11-26". @throws GatewayError `invalid_request` for what is none. */
export function day(query: URLSearchParams, name: string): string | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  // Times are taken for their day, as LiteLLM does.
  const match = /^(\d{4}-\d{2}-\d{2})(?:[T ][\d:.Z+-]*)?$/.exec(text)?.[1];
  if (match !== undefined && new Date(`${match}T00:00:00Z`).toJSON()?.startsWith(match)) return match;
  throw invalid(name, "must be a day, such as 2026-11-26.");
}

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
