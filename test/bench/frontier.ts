import { median, quantile } from "./figures.ts";
import { bodyOf, type Lane } from "./lanes.ts";
import { runOpenLoad } from "./open-load.ts";
import type { Stage, Subject } from "./stage.ts";

/** How many calls a second are answered in time. */
export interface Frontier {
  readonly floorPerSecond: number;
  readonly subjectPerSecond: number;
  readonly ratio: number;
}

/** In time: all of them, and 99 of 100 within this, in milliseconds. */
const p99MaxMs = 20;
const stepMs = 2_500;
const steps = 6;

/**
 * The most calls a second that are answered in time when they begin at a steady rate, found by halving.
 *
 * @param from how many a second floor and sidecar answer as fast as they can.
 */
export async function measureFrontier(
  stage: Stage,
  lane: Lane,
  from: { readonly floorPerSecond: number; readonly subjectPerSecond: number },
): Promise<Frontier> {
  const [key, body] = [stage.keyOf(lane), bodyOf(lane)];
  const search = ({ port }: Subject, fastest: number) => {
    let [low, high] = [0, fastest];
    return async () => {
      const perSecond = (low + high) / 2;
      const isInTime = async () => {
        const { timesMs, failures } = await runOpenLoad({ port, key, body, perSecond, forMs: stepMs });
        return failures === 0 && quantile(timesMs, 0.99) <= p99MaxMs;
      };
      // The best of three: a moment in which the machine did something else must not decide on half of all rates.
      if ((await isInTime()) || (await isInTime()) || (await isInTime())) low = perSecond;
      else high = perSecond;
      return low;
    };
  };
  const floor = search(stage.floorOf(lane), from.floorPerSecond);
  const subject = search(stage.subjectOf(lane), from.subjectPerSecond);
  let [floorPerSecond, subjectPerSecond] = [0, 0];
  // By turns, as all else: what slows the machine down for a minute slows both.
  for (let step = 0; step < steps; step++) [floorPerSecond, subjectPerSecond] = [await floor(), await subject()];
  return { floorPerSecond, subjectPerSecond, ratio: subjectPerSecond / floorPerSecond };
}

/** Of several, the one with the median of the ratios. */
export function medianFrontier(frontiers: readonly Frontier[]): Frontier {
  const middle = median(frontiers.map(({ ratio }) => ratio));
  const found = frontiers.find(({ ratio }) => ratio === middle);
  if (found === undefined) throw new Error("the most calls a second were not measured");
  return found;
}
