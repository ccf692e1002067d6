/** The journal's format: a line is the CRC-32 of its JSON (8 hex digits), a space, the JSON. */

import { crc32 } from "node:zlib";
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
        readonly firstOutputAtMs?: number;
      };
    }
  | Extract<JournalEntry, { leaseId: string }>;

/** A line as found, or a stretch of bytes that is none. */
export type FoundLine =
  | { readonly entry: JournalEntry; readonly end: number }
  | { readonly damage: Buffer; readonly start: number; readonly end: number };

const newline = 0x0a;
const crcDigits = 8;

/** One entry as a line. */
export function writeLine(entry: JournalEntry): Buffer {
  const json = JSON.stringify(storedEntry(entry));
  return Buffer.from(`${crcOf(json)} ${json}\n`);
}

function storedEntry(entry: JournalEntry): StoredEntry {
  switch (entry.type) {
    case "open": {
      const { record } = entry;
      return { type: "open", record: { ...record, reserved: record.reserved.toString() } };
    }
    case "settled": {
      const { firstOutputAtMs, ...record } = entry.record;
      const money = { reserved: record.reserved.toString(), cost: record.cost.toString() };
      return {
        type: "settled",
        record: { ...record, ...money, ...(firstOutputAtMs === undefined ? {} : { firstOutputAtMs }) },
      };
    }
    default:
      return entry;
  }
}

function crcOf(json: string | Buffer): string {
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
