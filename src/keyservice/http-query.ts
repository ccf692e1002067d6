import { GatewayError } from "../errors.ts";
import { invalid, isStorable } from "./key-fields.ts";

/** No id, date or list of ids is longer; a request line would hardly hold it. */
const valueLengthMax = 10_000;

/**
 * Checks what every query has to be, so that nothing of it is passed over or comes back from the database as a failure.
 *
 * @param lists parameters that may be given several times.
 * @throws GatewayError `invalid_request` for a parameter that is given twice, too long, or cannot be stored anywhere.
 */
export function checkQuery(query: URLSearchParams, lists: readonly string[] = []): void {
  for (const [name, value] of query) {
    if (!isStorable(name) || name.length > 100)
      throw new GatewayError("invalid_request", "A query parameter has no proper name.");
    if (!isStorable(value)) throw invalid(name, "must be valid Unicode without NUL characters.");
    if (value.length > valueLengthMax) throw invalid(name, `must have at most ${valueLengthMax} characters.`);
    if (!lists.includes(name) && query.getAll(name).length > 1)
      throw invalid(name, "is given more than once. Send it once.");
  }
}

/** Whether a report is wanted as CSV: `format=csv`, or else `Accept: text/csv`. @throws GatewayError `invalid_request`. */
export function wantsCsv({ query, accept }: { readonly query: URLSearchParams; readonly accept: string }): boolean {
  const format = query.get("format");
  if (format !== null && format !== "csv" && format !== "json") throw invalid("format", "must be json or csv.");
  return format === null ? /^text\/csv\b/i.test(accept) : format === "csv";
}

/** A day from a query string, "2026-11-26". @throws GatewayError `invalid_request` for what is none. */
export function day(query: URLSearchParams, name: string): string | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  // Times are taken for their day, as LiteLLM does.
  const match = /^(\d{4}-\d{2}-\d{2})(?:[T ][\d:.Z+-]*)?$/.exec(text)?.[1];
  // The year 0 is in JavaScript's calendar and not in the database's.
  if (match !== undefined && match >= "1000" && new Date(`${match}T00:00:00Z`).toJSON()?.startsWith(match))
    return match;
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
