import { performance } from "node:perf_hooks";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock } from "../src/clock.ts";

/** Right after a start it is looked each second, so often at most: what is called from its start on has compiled code to lose by then. */
const [soonMs, soonLooks] = [1_000, 5];
/** Later so often; and after work so many looks in a row must have found nothing going on. */
const [laterMs, restLooks] = [60_000, 10];
/** Of the time between two looks the event loop may have been at work for this share, and it was quiet all the same. */
const quietShare = 0.05;

/** What tells whether nothing is going on, and what is done then. */
export interface QuietCollectionParts {
  readonly clock: Clock;
  /** The share of the time since it was last asked in which the event loop was at work; in [0, 1]. */
  readonly workShare: () => number;
  /** Collects all garbage, and gives the memory back. */
  readonly collect: () => void;
}

/**
 * Collects garbage when nothing goes on: once in the first seconds, and once each time that ten minutes have gone by since there was work. What a
 * start leaves behind is 20 MB, a sixth of a sidecar's memory; what 2,000 streams leave is five times as much. V8 gives none of it back by
 * itself (`main.ts` says why). It takes up to a tenth of a second, in which no call is answered, and what was compiled is lost: so it waits for a rest.
 */
export function collectWhenQuiet({ clock, workShare, collect }: QuietCollectionParts): void {
  const isQuiet = () => workShare() < quietShare;
  const lookSoon = (looksLeft: number): void => {
    clock.after(soonMs, () => {
      if (isQuiet()) collectNow();
      else if (looksLeft > 1) lookSoon(looksLeft - 1);
      else lookLater(restLooks);
    });
  };
  /** @param looksLeft quiet ones until it is collected; 0: it was, and nothing has been done since. */
  const lookLater = (looksLeft: number): void => {
    clock.after(laterMs, () => {
      if (!isQuiet()) lookLater(restLooks);
      else if (looksLeft === 1) collectNow();
      else lookLater(Math.max(0, looksLeft - 1));
    });
  };
  const collectNow = (): void => {
    collect();
    lookLater(0);
  };
  workShare();
  lookSoon(soonLooks);
}

/** The share of this process's event loop that is at work, as `workShare` is. */
export function eventLoopShare(): () => number {
  let last = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, last);
    last = now;
    return utilization;
  };
}

/** Has V8 collect all there is, code that is not used included, and keep no empty pages. */
export function collectAll(): void {
  // Only a context that is made while the flag is set has the function: nobody else gets it.
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as NodeJS.GCFunction;
  setFlagsFromString("--no-expose-gc");
  collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
