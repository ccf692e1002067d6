import { dayMs, durationMs, parseDuration } from "../duration.ts";

/** A stretch of time a budget holds for: from `startMs` until just before `endMs`. Unix times in milliseconds. */
export interface Period {
  readonly startMs: number;
  readonly endMs: number;
}

const secondMs = 1_000;
const weekDays = 7;
/** The first Monday after the epoch, in days from it. */
const firstMonday = 4;
/**
 * The period of a budget that an instant lies in. Periods follow the calendar of `timeZone`, whenever the budget was made:
 *
 * - days begin at midnight, whole weeks ("7d", "1w", "14d") on a Monday, months ("1mo", "30d") on the first, "3mo" with
 *   the quarters, "12mo" with the year; several days are counted from the epoch.
 * - what divides a day ("10m", "6h") is counted from midnight, other lengths ("7m", "36h") from the epoch in UTC.
 *
 * @param duration as operators write it, see parseDuration.
 * @param timeZone an IANA name.
 * @returns undefined if `duration` is none.
 */
export function periodAt(duration: string, atMs: number, timeZone = "UTC"): Period | undefined {
  const parsed = parseDuration(duration);
  if (parsed === undefined) return undefined;
  const lengthMs = durationMs(parsed);
  if (parsed.unit === "mo") return months(parsed.count, atMs, timeZone);
  if (lengthMs === 30 * dayMs) return months(1, atMs, timeZone);
  if (lengthMs % dayMs === 0) return days(lengthMs / dayMs, atMs, timeZone);
  return dayMs % lengthMs === 0 ? partOfDay(lengthMs, atMs, timeZone) : sinceEpoch(lengthMs, atMs);
}

function months(count: number, atMs: number, timeZone: string): Period {
  const local = new Date(atMs + offsetMs(atMs, timeZone));
  const month = floorTo(local.getUTCFullYear() * 12 + local.getUTCMonth(), count);
  return {
    startMs: instantOf(monthStart(month), timeZone),
    endMs: instantOf(monthStart(month + count), timeZone),
  };
}

/** @param month counted from January of the year 0. */
function monthStart(month: number): number {
  return Date.UTC(Math.floor(month / 12), month % 12);
}

function days(count: number, atMs: number, timeZone: string): Period {
  const day = localDay(atMs, timeZone);
  const origin = count % weekDays === 0 ? firstMonday : 0;
  const first = origin + floorTo(day - origin, count);
  return { startMs: instantOf(first * dayMs, timeZone), endMs: instantOf((first + count) * dayMs, timeZone) };
}

/** Counted in time that passes, not in what clocks show: on a day of 25 hours one more hour fits, and none comes twice. */
function partOfDay(lengthMs: number, atMs: number, timeZone: string): Period {
  const day = days(1, atMs, timeZone);
  const startMs = day.startMs + floorTo(atMs - day.startMs, lengthMs);
  return { startMs, endMs: Math.min(startMs + lengthMs, day.endMs) };
}

function sinceEpoch(lengthMs: number, atMs: number): Period {
  const startMs = floorTo(atMs, lengthMs);
  return { startMs, endMs: startMs + lengthMs };
}

function floorTo(value: number, step: number): number {
  return Math.floor(value / step) * step;
}

function localDay(atMs: number, timeZone: string): number {
  return Math.floor((atMs + offsetMs(atMs, timeZone)) / dayMs);
}

/**
 * The instant at which clocks in the zone show `localMs` (their face, written as if it were UTC): the first of two, and
 * where clocks skip it, the instant of the skip.
 */
function instantOf(localMs: number, timeZone: string): number {
  const before = offsetMs(localMs - dayMs, timeZone);
  const after = offsetMs(localMs + dayMs, timeZone);
  for (const offset of [before, after]) {
    if (offsetMs(localMs - offset, timeZone) === offset) return localMs - offset;
  }
  return localMs - before;
}

/** How far clocks in the zone are ahead of UTC. */
function offsetMs(atMs: number, timeZone: string): number {
  if (timeZone === "UTC") return 0;
  const face = new Map(
    formatter(timeZone)
      .formatToParts(atMs)
      .map(({ type, value }) => [type, Number(value)]),
  );
  const part = (name: Intl.DateTimeFormatPartTypes) => face.get(name) ?? 0;
  const localMs = Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second"));
  return localMs - floorTo(atMs, secondMs);
}

const formatters = new Map<string, Intl.DateTimeFormat>();

/** Making one costs more than a hundred uses of it. */
function formatter(timeZone: string): Intl.DateTimeFormat {
  let known = formatters.get(timeZone);
  if (known === undefined) {
    known = new Intl.DateTimeFormat("en-US", {
      timeZone,
      calendar: "gregory",
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
    formatters.set(timeZone, known);
  }
  return known;
}
