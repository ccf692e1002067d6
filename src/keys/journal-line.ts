/** The journal's format: a line is the CRC-32 of its JSON (8 hex digits), a space, the JSON. */

import { crc32 } from "node:zlib";
import type { Rostered } from "../roster.ts";
import type { SpendRecord } from "./authority.ts";

/** What is known of an attempt before the provider is called: enough to book it should the pod die. */
export type OpenRecord = Pick<
  SpendRecord,
  | "callId"
  | "attempt"
  | "keyId"
  | "leaseId"
  | "reserved"
  | "modelGroup"
  | "model"
  | "provider"
  | "deploymentId"
  | "startedAtMs"
  | "priceVersion"
  | "endUser"
  | "tags"
  | "traceId"
  | "operation"
  | "budgetIds"
>;

/** An attempt whose end is not written. */
export interface OpenAttempt extends Rostered {
  /** What its line says, as members of JSON. */
  readonly members: string;
}

/** An entry of the journal. */
export type JournalEntry =
  | { readonly type: "open"; readonly record: OpenRecord }
  | { readonly type: "settled"; readonly record: SpendRecord }
  | { readonly type: "lease-opened"; readonly leaseId: string; readonly keyId: string }
  | { readonly type: "lease-closed"; readonly leaseId: string };

/** Entries as JSON has them: bigints are decimal strings, what is undefined is absent. */
type StoredEntry =
  | { readonly type: "open"; readonly record: Omit<OpenRecord, "reserved"> & { readonly reserved: string } }
  | {
      readonly type: "settled";
      readonly record: Omit<SpendRecord, "reserved" | "cost" | "firstOutputAtMs"> & {
        readonly reserved: string;
        readonly cost: string;
        readonly firstOutputAtMs?: number | undefined;
      };
    }
  | Extract<JournalEntry, { leaseId: string }>;

/** A line as found, or a stretch of bytes that is none. */
export type FoundLine =
  | { readonly entry: JournalEntry; readonly end: number }
  | { readonly damage: Buffer; readonly start: number; readonly end: number };

const newline = 0x0a;
const space = 0x20;
const hexDigits = Buffer.from("0123456789abcdef");
const crcDigits = 8;
/** Of one unit of a string. */
const utf8BytesMax = 3;

/** One entry as a line. */
export function writeLine(entry: JournalEntry): Buffer {
  return Buffer.from(new LineBuffer().lineOf(jsonOf(entry)));
}

/** An entry's JSON in pieces: joined first, all of it would be copied once more. */
export type JsonPieces = readonly string[];

/** One entry as JSON. */
export function jsonOf(entry: JournalEntry): JsonPieces {
  switch (entry.type) {
    case "open":
      return openJson(openMembers(entry.record));
    case "settled":
      return settledJson(openMembers(entry.record), entry.record);
    default:
      return [JSON.stringify(entry)];
  }
}

/** What is known of an attempt from its beginning, as members of JSON: its end says all of it again. */
export function openMembers(record: OpenRecord): string {
  // Each by its name: a copy made by spreading costs more than all of the writing.
  const stored: Extract<StoredEntry, { type: "open" }>["record"] = {
    callId: record.callId,
    attempt: record.attempt,
    keyId: record.keyId,
    leaseId: record.leaseId,
    reserved: record.reserved.toString(),
    modelGroup: record.modelGroup,
    model: record.model,
    provider: record.provider,
    deploymentId: record.deploymentId,
    startedAtMs: record.startedAtMs,
    priceVersion: record.priceVersion,
    endUser: record.endUser,
    tags: record.tags,
    traceId: record.traceId,
    operation: record.operation,
    budgetIds: record.budgetIds,
  };
  return JSON.stringify(stored).slice(1, -1);
}

/** @param members of `openMembers`. */
export function openJson(members: string): JsonPieces {
  return ['{"type":"open","record":{', members, "}}"];
}

/** @param members of the record's beginning, of `openMembers`. */
export function settledJson(members: string, record: SpendRecord): JsonPieces {
  const stored: Omit<Extract<StoredEntry, { type: "settled" }>["record"], keyof OpenRecord> = {
    cost: record.cost.toString(),
    status: record.status,
    usageEstimated: record.usageEstimated,
    inputTokens: record.inputTokens,
    outputTokens: record.outputTokens,
    cacheReadInputTokens: record.cacheReadInputTokens,
    cacheWriteInputTokens: record.cacheWriteInputTokens,
    reasoningOutputTokens: record.reasoningOutputTokens,
    endedAtMs: record.endedAtMs,
    firstOutputAtMs: record.firstOutputAtMs,
    providerResponseId: record.providerResponseId,
    cacheHit: record.cacheHit,
  };
  return ['{"type":"settled","record":{', members, ",", JSON.stringify(stored).slice(1), "}"];
}

/** Memory in which lines are made one after the other: each call has two, and a buffer for each is garbage at once. */
export class LineBuffer {
  #bytes = Buffer.allocUnsafe(4_096);

  /** @returns the line of an entry's JSON; it stands until the next is asked for. */
  lineOf(json: JsonPieces): Buffer {
    let bytesMax = crcDigits + 1 + 1;
    for (const piece of json) bytesMax += piece.length * utf8BytesMax;
    if (bytesMax > this.#bytes.length) this.#bytes = Buffer.allocUnsafe(2 * bytesMax);
    const bytes = this.#bytes;
    let end = crcDigits + 1;
    for (const piece of json) end += bytes.write(piece, end);
    let crc = crc32(bytes.subarray(crcDigits + 1, end));
    for (let at = crcDigits - 1; at >= 0; at -= 1) {
      bytes[at] = hexDigits[crc & 0xf] ?? 0;
      crc >>>= 4;
    }
    bytes[crcDigits] = space;
    bytes[end] = newline;
    return bytes.subarray(0, end + 1);
  }
}

function crcOf(json: Buffer): string {
  return crc32(json).toString(16).padStart(crcDigits, "0");
}

/**
 * Reads lines. Positions count from the start of `bytes`.
 *
 * @param whole whether `bytes` go to the end of the file: then what follows the last newline is a line too, perhaps a torn one.
 */
export function* readLines(bytes: Buffer, whole: boolean): Generator<FoundLine> {
  let start = 0;
  while (start < bytes.length) {
    const at = bytes.indexOf(newline, start);
    if (at === -1 && !whole) return;
    const end = at === -1 ? bytes.length : at;
    const next = at === -1 ? end : at + 1;
    const line = bytes.subarray(start, end);
    const entry = readLine(line);
    yield entry === undefined ? { damage: line, start, end: next } : { entry, end: next };
    start = next;
  }
}

function readLine(line: Buffer): JournalEntry | undefined {
  if (line.length <= crcDigits + 1) return undefined;
  const json = line.subarray(crcDigits + 1);
  if (line.toString("latin1", 0, crcDigits + 1) !== `${crcOf(json)} `) return undefined;
  try {
    return readEntry(JSON.parse(json.toString()));
  } catch {
    return undefined;
  }
}

/** What lines of earlier versions lack. */
const earlier = { open: { budgetIds: [] }, settled: { budgetIds: [], cacheHit: false } } as const;

/** The checksum vouches for the shape: only this file writes such lines. */
function readEntry(entry: StoredEntry): JournalEntry | undefined {
  switch (entry.type) {
    case "open":
      return { type: "open", record: { ...earlier.open, ...entry.record, reserved: BigInt(entry.record.reserved) } };
    case "settled": {
      const { reserved, cost, firstOutputAtMs } = entry.record;
      const money = { reserved: BigInt(reserved), cost: BigInt(cost) };
      return { type: "settled", record: { ...earlier.settled, ...entry.record, ...money, firstOutputAtMs } };
    }
    case "lease-opened":
    case "lease-closed":
      return entry;
    default:
      return undefined;
  }
}

/** What to book for an attempt whose end nobody saw: it may have cost all that was reserved. */
export function unconfirmed(open: OpenRecord, endedAtMs: number): SpendRecord {
  return {
    ...open,
    cost: open.reserved,
    status: "unconfirmed",
    usageEstimated: true,
    inputTokens: 0,
    outputTokens: 0,
    cacheReadInputTokens: 0,
    cacheWriteInputTokens: 0,
    reasoningOutputTokens: 0,
    endedAtMs,
    firstOutputAtMs: undefined,
    providerResponseId: "",
    cacheHit: false,
  };
}
