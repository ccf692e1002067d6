/**
 * Time, passed in so that tests decide what o'clock it is.
 *
 * `nowMs` is wall-clock time (Unix epoch, milliseconds): for records and for talking to others. `monotonicMs` never jumps:
 * for durations, deadlines and leases.
 */
export interface Clock {
  nowMs(): number;
  monotonicMs(): number;
  /** Runs `task` once after `delayMs`. Does not keep the process alive. Returns a function that cancels it. */
  after(delayMs: number, task: () => void): () => void;
}

/** A source of chance in [0, 1). */
export type Random = () => number;

/** The machine's own clock. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** The machine's own dice. */
export const systemRandom: Random = () => Math.random();
