/** A length as operators write it: `count` times seconds, minutes, hours, days, weeks or months. */
export interface Duration {
  readonly count: number;
  readonly unit: "s" | "m" | "h" | "d" | "w" | "mo";
}

const grammar = /^([1-9]\d{0,9})(s|m|h|d|w|mo)$/;
/** Of a day, in milliseconds. */
export const dayMs = 86_400_000;
const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: dayMs, w: 7 * dayMs, mo: 30 * dayMs } as const;
/** A hundred years. */
const lengthMaxMs = 36_525 * dayMs;

/**
 * Reads "30s", "10m", "24h", "7d", "1w", "1mo".
 *
 * @returns undefined for anything else, and for more than a hundred years.
 */
export function parseDuration(text: string): Duration | undefined {
  const match = grammar.exec(text);
  if (match === null) return undefined;
  const duration: Duration = { count: Number(match[1]), unit: match[2] as Duration["unit"] };
  return durationMs(duration) <= lengthMaxMs ? duration : undefined;
}

/** How long it is in milliseconds, a month counted as 30 days: for what runs from now on, not for budget periods. */
export function durationMs({ count, unit }: Duration): number {
  return count * unitMs[unit];
}

/** The least time rows of the spend log are kept: a pod that was cut off may bring its journal as late as this. */
const retentionMinMs = 7 * dayMs;

/** Reads how long the spend log is kept, in milliseconds. @returns undefined if it is no duration, or under a week. */
export function parseRetention(text: string): number | undefined {
  const duration = parseDuration(text);
  if (duration === undefined) return undefined;
  const lengthMs = durationMs(duration);
  return lengthMs < retentionMinMs ? undefined : lengthMs;
}

/** What parseRetention takes, for complaints. */
export const retentionForm = "a duration of at least a week, such as 90d or 12mo";
