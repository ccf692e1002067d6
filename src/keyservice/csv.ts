/** Tables as CSV (RFC 4180), for accountants' spreadsheets. */

/** Text a spreadsheet would take for a formula. */
const formula = /^[=+\-@\t\r]/;

/** Rows as CSV, the names of their columns first. Numbers are given as texts, so that none is rounded. */
export function writeCsv(columns: readonly string[], rows: readonly (readonly (string | bigint)[])[]): string {
  return [columns, ...rows].map((row) => `${row.map(cellOf).join(",")}\r\n`).join("");
}

function cellOf(value: string | bigint): string {
  const text = String(value);
  const isNumber = /^-?\d+(\.\d+)?$/.test(text);
  // A quote before it keeps a name somebody else chose from being computed.
  const safe = !isNumber && formula.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
