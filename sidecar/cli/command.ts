/** What the commands of administration are made of: resources with verbs, each with its arguments, its flags and its answer. */

import type { DescService, JsonObject } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import type { Settings } from "../settings.ts";

/** A flag of a command. */
export interface Flag {
  /** What is written after it, in capitals; absent: nothing is. */
  readonly value?: string;
  /** Whether it may be written several times. */
  readonly multiple?: boolean;
  readonly meaning: string;
}

/** Flags by name, without the dashes. */
export type Flags = Readonly<Record<string, Flag>>;

/** What a command was given. */
export interface Call {
  /** Of the verb's `args`, in order. */
  readonly args: readonly string[];
  /** Of each flag that was written: its values, none for one without a value. */
  readonly flags: ReadonlyMap<string, readonly string[]>;
  /** A client of one of the server's services. */
  connect<Service extends DescService>(service: Service): Client<Service>;
}

/** A column of a table: its head, and the field of a row that is in it. */
export type Column = readonly [head: string, field: string];

/** What a command answers: JSON for scripts, and which parts of it people see. */
export type Answer =
  | {
      readonly kind: "list";
      readonly rows: readonly JsonObject[];
      readonly columns: readonly Column[];
      readonly more: boolean;
      /** Whether some of what was to be done was not; the rows say what. Default: no. */
      readonly hasFailed?: boolean;
    }
  /** `first`: the fields people see first; all others that are set follow. */
  | { readonly kind: "thing"; readonly thing: JsonObject; readonly first: readonly string[] }
  | { readonly kind: "done"; readonly result: JsonObject; readonly text: string };

/** Something that is done to a resource. */
export interface Verb {
  readonly summary: string;
  /** Names of what is written after the verb, in capitals; one in brackets may be left out, and a last one with dots be several. */
  readonly args: readonly string[];
  readonly flags: Flags;
  /** @throws UsageError, or ConnectError as the server answers. */
  run(call: Call): Promise<Answer>;
}

/** Something that is administered. */
export interface Resource {
  readonly summary: string;
  readonly verbs: Readonly<Record<string, Verb>>;
}

/** Whom a command asks. */
export interface Server {
  /** What it is called in messages. */
  readonly name: string;
  /** What says where it is: a variable, or a flag. */
  readonly setting: string;
  /** Whether its resources have a `list` that helps whoever looks for a name. */
  readonly lists: boolean;
  /** @throws UsageError */
  url(settings: Settings, flags: ReadonlyMap<string, readonly string[]>): string;
}

/** The command line is wrong; the message says how. */
export class UsageError extends Error {}

/** The flag of every command that lists. */
export const limitFlag: Flags = {
  limit: { value: "N", meaning: "How many at the most, over as many pages as that takes (default 100)" },
};

/** The flag of commands that make something: whoever repeats one that he had no answer to makes no second. */
export const requestIdFlag: Flags = {
  "request-id": { value: "UUID", meaning: "A repeated command with the same makes nothing new" },
};

/** The flag of updates that refuses to overwrite what somebody else did. */
export const etagFlag: Flags = {
  etag: { value: "ETAG", meaning: "Refuse if it was changed since `info` showed this" },
};

const limitDefault = 100;
const pageSizeMax = 1000;

/**
 * Follows pages up to `--limit`.
 *
 * @param page asks for one.
 * @returns the rows, and whether there are more.
 */
export async function collect<Row>(
  call: Call,
  page: (at: {
    readonly pageSize: number;
    readonly pageToken: string;
  }) => Promise<{ rows: readonly Row[]; nextPageToken: string }>,
): Promise<{ rows: Row[]; more: boolean }> {
  const limit = whole("limit", call.flags.get("limit")?.at(-1)) ?? limitDefault;
  const rows: Row[] = [];
  for (let pageToken = ""; ; ) {
    const wanted = Math.min(limit - rows.length, pageSizeMax);
    if (wanted <= 0) return { rows, more: true };
    const answer = await page({ pageSize: wanted, pageToken });
    rows.push(...answer.rows);
    pageToken = answer.nextPageToken;
    if (pageToken === "") return { rows, more: false };
  }
}

/** A whole number of a flag; undefined if it was not written. @throws UsageError */
export function whole(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new UsageError(`--${name}: "${text}" is not a whole number over 0`);
  return Number(text);
}

/** The value of a flag, the last if it was written several times; "" if it was not. */
export function flagValue(call: Call, flag: string): string {
  return call.flags.get(flag)?.at(-1) ?? "";
}
