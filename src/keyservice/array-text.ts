/**
 * A list as Postgres writes arrays: {"a",1,NULL}. The driver makes arrays too, but asks every element what it is and whether it has a
 * form of its own, which for batches of thousands of rows takes longer than all else that is done with them here.
 */
export function arrayText(values: readonly (string | bigint | number | boolean | Date | null)[]): string {
  return `{${values.map(elementText).join(",")}}`;
}

function elementText(value: string | bigint | number | boolean | Date | null): string {
  if (typeof value === "string") return `"${value.replace(/["\\]/g, "\\$&")}"`;
  if (value === null) return "NULL";
  return value instanceof Date ? value.toISOString() : String(value);
}
