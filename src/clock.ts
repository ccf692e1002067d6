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

/** A timer that is set to more goes off at once; this one early, after 24 days. */
const longestDelayMs = 2 ** 31 - 1;

/** The machine's own clock. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, Math.min(delayMs, longestDelayMs));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** The machine's own dice. */
export const systemRandom: Random = () => Math.random();

/** Waits, or until `signal` aborts: then it throws the signal's reason. */
export function pause(clock: Clock, durationMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const onAbort = () => {
      cancel();
      reject(signal.reason);
    };
    const cancel = clock.after(durationMs, () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

/** Keeps the process alive while something is being finished; a Clock's timers do not. @returns what lets it end. */
export function keepProcessAlive(): () => void {
  const timer = setInterval(() => {}, 60_000);
  return () => clearInterval(timer);
}
