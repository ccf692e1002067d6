import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { Answer, Column } from "./command.ts";

/** An answer as people read it. */
export function textOf(answer: Answer): string {
  if (answer.kind === "done") return `${answer.text}\n`;
  if (answer.kind === "thing") return thingText(answer.thing, answer.first);
  if (answer.rows.length === 0) return "None.\n";
  return tableText(answer.rows, answer.columns);
}

/** An answer as scripts read it: one document; a list is an array. */
export function jsonTextOf(answer: Answer): string {
  const document = answer.kind === "list" ? answer.rows : answer.kind === "thing" ? answer.thing : answer.result;
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** Rows under their heads. */
export function tableText(rows: readonly JsonObject[], columns: readonly Column[]): string {
  const cells = [columns.map(([head]) => head), ...rows.map((row) => columns.map(([, field]) => cellOf(row[field])))];
  const isFigures = columns.map((_, index) => cells.slice(1).every((row) => /^-?[\d.]*$|^-$/.test(row[index] ?? "")));
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => row[index]?.length ?? 0)));
  const lines = cells.map((row) =>
    row
      .map((cell, index) => (isFigures[index] ? cell.padStart(widths[index] ?? 0) : cell.padEnd(widths[index] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}

function thingText(thing: JsonObject, first: readonly string[]): string {
  const fields = [...new Set([...first, ...Object.keys(thing)])].filter((field) => cellOf(thing[field]) !== "-");
  const width = Math.max(...fields.map((field) => field.length));
  return fields.map((field) => `${field.padEnd(width)}  ${cellOf(thing[field])}\n`).join("");
}

function cellOf(value: JsonValue | undefined): string {
  if (value === undefined || value === null || value === "") return "-";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "object") return visible(String(value));
  if (Object.keys(value).length === 0) return "-";
  const isWords = Array.isArray(value) && value.every((item) => typeof item === "string");
  return visible(isWords ? value.join(", ") : JSON.stringify(value));
}

/** A name that somebody chose must not move the cursor of whoever reads it. */
export function visible(text: string): string {
  return text.replace(/\p{Cc}|\p{Cf}|\p{Zl}|\p{Zp}/gu, "?");
}
