import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { durationMs, parseDuration } from "../../src/duration.ts";
import { periodAt } from "../../src/keyservice/periods.ts";

/** duration, zone, instant, start, end. */
const table: readonly [string, string, string, string, string][] = [
  ["30s", "UTC", "2026-03-04T05:06:47.500Z", "2026-03-04T05:06:30Z", "2026-03-04T05:07:00Z"],
  ["10m", "UTC", "2026-03-04T05:19:59.999Z", "2026-03-04T05:10:00Z", "2026-03-04T05:20:00Z"],
  ["10m", "UTC", "2026-03-04T05:20:00Z", "2026-03-04T05:20:00Z", "2026-03-04T05:30:00Z"],
  ["1h", "UTC", "2026-03-04T05:06:47Z", "2026-03-04T05:00:00Z", "2026-03-04T06:00:00Z"],
  ["6h", "UTC", "2026-03-04T17:00:00Z", "2026-03-04T12:00:00Z", "2026-03-04T18:00:00Z"],
  ["24h", "UTC", "2026-03-04T05:06:47Z", "2026-03-04T00:00:00Z", "2026-03-05T00:00:00Z"],
  ["1d", "UTC", "2026-12-31T23:59:59.999Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"],
  ["86400s", "UTC", "2026-03-04T05:06:47Z", "2026-03-04T00:00:00Z", "2026-03-05T00:00:00Z"],
  // 2026-03-04 is a Wednesday.
  ["7d", "UTC", "2026-03-04T05:06:47Z", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"],
  ["1w", "UTC", "2026-03-08T23:59:59Z", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"],
  ["1w", "UTC", "2026-03-09T00:00:00Z", "2026-03-09T00:00:00Z", "2026-03-16T00:00:00Z"],
  ["30d", "UTC", "2026-02-28T12:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"],
  ["1mo", "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"],
  ["3mo", "UTC", "2026-05-05T00:00:00Z", "2026-04-01T00:00:00Z", "2026-07-01T00:00:00Z"],
  ["12mo", "UTC", "2026-05-05T00:00:00Z", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"],
  ["1mo", "UTC", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-02-01T00:00:00Z"],
  ["2d", "UTC", "1970-01-04T05:00:00Z", "1970-01-03T00:00:00Z", "1970-01-05T00:00:00Z"],
  ["36h", "UTC", "1970-01-02T13:00:00Z", "1970-01-02T12:00:00Z", "1970-01-04T00:00:00Z"],
  ["1d", "Europe/Zurich", "2026-07-01T21:59:59Z", "2026-06-30T22:00:00Z", "2026-07-01T22:00:00Z"],
  ["1d", "Asia/Kolkata", "2026-07-01T18:30:00Z", "2026-07-01T18:30:00Z", "2026-07-02T18:30:00Z"],
  ["1h", "Asia/Kolkata", "2026-07-01T18:29:00Z", "2026-07-01T17:30:00Z", "2026-07-01T18:30:00Z"],
  ["1mo", "America/New_York", "2026-03-01T04:59:59Z", "2026-02-01T05:00:00Z", "2026-03-01T05:00:00Z"],
  // Clocks go forward in New York on 2026-03-08 and back on 2026-11-01: days of 23 and of 25 hours.
  ["1d", "America/New_York", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"],
  ["1d", "America/New_York", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"],
  ["6h", "America/New_York", "2026-11-02T04:30:00Z", "2026-11-02T04:00:00Z", "2026-11-02T05:00:00Z"],
  // In Cairo clocks go forward at midnight, 2026-04-24: that day begins at one o'clock.
  ["1d", "Africa/Cairo", "2026-04-24T10:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"],
];

describe("budget periods", () => {
  for (const [duration, zone, at, start, end] of table) {
    it(`puts ${at} for ${duration} in ${zone} into ${start} to ${end}`, () => {
      const period = periodAt(duration, Date.parse(at), zone);
      assert.deepEqual(period, { startMs: Date.parse(start), endMs: Date.parse(end) });
    });
  }

  it("refuses what is no duration", () => {
    const bad = ["", "0d", "d", "1", "-1d", "1.5h", "1 d", "1D", "1M", "1y", "01d", "1d ", "5000000h", "99999999999s"];
    for (const text of bad) {
      assert.equal(parseDuration(text), undefined, text);
      assert.equal(periodAt(text, 0), undefined, text);
    }
  });

  it("reads lengths", () => {
    assert.equal(durationMs({ count: 90, unit: "s" }), 90_000);
    assert.equal(durationMs({ count: 2, unit: "w" }), 14 * 86_400_000);
    assert.deepEqual(parseDuration("1mo"), { count: 1, unit: "mo" });
  });

  it("gives every instant exactly one period, and no period ever comes back", () => {
    const lengths = fc
      .tuple(fc.integer({ min: 1, max: 400 }), fc.constantFrom("s", "m", "h", "d", "w", "mo"))
      .map(([count, unit]) => `${count}${unit}`);
    const zones = fc.constantFrom("UTC", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo");
    const instants = fc.integer({ min: 0, max: Date.UTC(2100, 0) });
    fc.assert(
      fc.property(lengths, zones, instants, (duration, zone, atMs) => {
        const period = periodAt(duration, atMs, zone);
        assert.ok(period !== undefined && period.startMs <= atMs && atMs < period.endMs);
        assert.deepEqual(periodAt(duration, period.startMs, zone), period);
        assert.deepEqual(periodAt(duration, period.endMs - 1, zone), period);
        assert.equal(periodAt(duration, period.endMs, zone)?.startMs, period.endMs);
      }),
      { numRuns: 2_000 },
    );
  });
});
