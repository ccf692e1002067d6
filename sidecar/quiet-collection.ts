import { performance } from "node:perf_hooks";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock } from "../src/clock.ts";

/** How often it is looked whether nothing is going on. */
const lookEveryMs = 1_000;
/** So often at most: what is called from its start on has compiled code to lose by then, and has been collected anyway. */
const looksMax = 5;
/** Of that time the event loop may have been at work for this share, and it was quiet all the same. */
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
 * Collects garbage once, in the first second in which nothing goes on, if that comes soon. What a start leaves behind is 20 MB, a sixth of a
 * sidecar's memory, and V8, which collects when more is asked for, would leave it there for as long as there are few calls. It takes a
 * tenth of a second, in which no call is answered: so it waits until there are none.
 */
export function collectOnceQuiet({ clock, workShare, collect }: QuietCollectionParts): void {
  workShare();
  let looks = 0;
  const look = () => {
    looks += 1;
    if (workShare() < quietShare) collect();
    else if (looks < looksMax) clock.after(lookEveryMs, look);
  };
  clock.after(lookEveryMs, look);
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
