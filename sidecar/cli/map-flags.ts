/** Flags for maps of parameters: `--params JSON`, or `--params-file FILE`, which shows no secret to whoever lists processes. */

import { readFileSync } from "node:fs";
import type { JsonObject } from "@bufbuild/protobuf";
import { type Call, type Flags, flagValue, UsageError } from "./command.ts";
import { readJsonObject } from "./fields.ts";

const standardInput = 0;

/** The two flags of one map. */
export function mapFlags(name: string, meaning: string): Flags {
  return {
    [name]: { value: "JSON", meaning },
    [`${name}-file`]: { value: "FILE", meaning: "The same in a file; - is standard input" },
  };
}

/** The map, if it was written. @throws UsageError */
export function mapOf(call: Call, name: string): JsonObject | undefined {
  const [given, file] = [call.flags.get(name), call.flags.get(`${name}-file`)?.at(-1)];
  if (given === undefined && file === undefined) return undefined;
  if (given !== undefined && file !== undefined) throw new UsageError(`--${name}: --${name}-file is written as well`);
  const flag = file === undefined ? name : `${name}-file`;
  const text = file === undefined ? flagValue(call, name) : textIn(flag, file);
  try {
    return readJsonObject([text]);
  } catch (error) {
    throw error instanceof UsageError ? new UsageError(`--${flag}: ${error.message}`) : error;
  }
}

/**
 * What an update changes: of maps the keys that are written, of which null takes one away.
 *
 * @param texts the message's texts by flag, and `maps` its maps.
 * @throws UsageError if there is nothing.
 */
export function mapChange(
  call: Call,
  { texts, maps }: Readonly<Record<"texts" | "maps", Readonly<Record<string, string>>>>,
): { readonly message: JsonObject; readonly paths: string[] } {
  const message: JsonObject = {};
  const paths: string[] = [];
  for (const [flag, field] of Object.entries(texts)) {
    if (!call.flags.has(flag)) continue;
    message[field] = flagValue(call, flag);
    paths.push(field);
  }
  for (const [flag, field] of Object.entries(maps)) {
    const map = mapOf(call, flag);
    if (map === undefined) continue;
    message[field] = Object.fromEntries(Object.entries(map).filter(([, value]) => value !== null));
    paths.push(...Object.keys(map).map((key) => `${field}.${key}`));
  }
  if (paths.length === 0) throw new UsageError("nothing to change: write at least one flag");
  return { message, paths };
}

/** What is in a file that a flag names; "-" is standard input. @throws UsageError */
export function textIn(flag: string, file: string): string {
  try {
    return readFileSync(file === "-" ? standardInput : file, "utf8");
  } catch (error) {
    throw new UsageError(`--${flag}: cannot read "${file}" (${(error as { code?: string }).code ?? "unknown error"})`);
  }
}
