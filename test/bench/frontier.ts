import { quantile } from "./figures.ts";
import { bodyOf, type Lane } from "./lanes.ts";
import { runOpenLoad } from "./open-load.ts";
import type { Stage, Subject } from "./stage.ts";

/** How many calls a second are answered in time. */
export interface Frontier {
  readonly floorPerSecond: number;
  readonly subjectPerSecond: number;
  readonly ratio: number;
}

/** A turn in which calls began at a steady rate. */
interface Turn {
  readonly perSecond: number;
  readonly isInTime: boolean;
}

/** What was measured with one pair of processes. */
export interface FrontierTurns {
  readonly floor: readonly Turn[];
  readonly subject: readonly Turn[];
}

/** In time: all of them, and 99 of 100 within this, in milliseconds. */
const p99MaxMs = 20;
const turnMs = 2_500;
/** With each pair of processes, of each. */
const turnCount = 20;
/** A turn's rate is the last one's times or through this: until it first turns, and then. */
const [farStep, nearStep] = [1.5, 1.1];
/** How steeply a turn's odds of being in time fall with its rate: as they were seen to on two shared cores. */
const steepness = 5;

/**
 * Calls that begin at a steady rate: more of them after a turn in which they were answered in time, fewer after any other. So the rates
 * stay around the one at which half of all turns are in time, whatever one of them met by chance; a search by halves is led astray by that.
 *
 * @param from how many a second floor and sidecar answer as fast as they can.
 */
export async function measureFrontier(
  stage: Stage,
  lane: Lane,
  from: { readonly floorPerSecond: number; readonly subjectPerSecond: number },
): Promise<FrontierTurns> {
  const [key, body] = [stage.keyOf(lane), bodyOf(lane)];
  const climbOf = ({ port }: Subject, fastest: number) =>
    new Climb(fastest / 2, async (perSecond) => {
      const { timesMs, failures } = await runOpenLoad({ port, key, body, perSecond, forMs: turnMs });
      return failures === 0 && quantile(timesMs, 0.99) <= p99MaxMs;
    });
  const floor = climbOf(stage.floorOf(lane), from.floorPerSecond);
  const subject = climbOf(stage.subjectOf(lane), from.subjectPerSecond);
  // By turns, as all else: what slows the machine down for a minute slows both.
  for (let turn = 0; turn < turnCount; turn++) {
    await floor.step();
    await subject.step();
  }
  return { floor: floor.turns, subject: subject.turns };
}

export function frontierOf(rounds: readonly FrontierTurns[]): Frontier {
  const floorPerSecond = halfInTime(rounds.flatMap(({ floor }) => floor));
  const subjectPerSecond = halfInTime(rounds.flatMap(({ subject }) => subject));
  return { floorPerSecond, subjectPerSecond, ratio: subjectPerSecond / floorPerSecond };
}

/** The rate at which half of all turns are in time: the likeliest, by which as many of these would have been as were. */
function halfInTime(turns: readonly Turn[]): number {
  const inTime = turns.filter((turn) => turn.isInTime).length;
  const expected = (half: number) =>
    turns.reduce((sum, { perSecond }) => sum + 1 / (1 + (perSecond / half) ** steepness), 0);
  let [low, high] = [1, 1_000_000];
  while (high / low > 1.001) {
    const middle = Math.sqrt(low * high);
    if (expected(middle) < inTime) low = middle;
    else high = middle;
  }
  return low;
}

/** A rate that goes up and down. */
class Climb {
  readonly #isInTime: (perSecond: number) => Promise<boolean>;
  #perSecond: number;
  #hasTurned = false;
  readonly turns: Turn[] = [];

  constructor(perSecond: number, isInTime: (perSecond: number) => Promise<boolean>) {
    this.#perSecond = perSecond;
    this.#isInTime = isInTime;
  }

  async step(): Promise<void> {
    const isInTime = await this.#isInTime(this.#perSecond);
    this.#hasTurned ||= isInTime !== (this.turns.at(-1)?.isInTime ?? isInTime);
    this.turns.push({ perSecond: this.#perSecond, isInTime });
    const step = this.#hasTurned ? nearStep : farStep;
    this.#perSecond = isInTime ? this.#perSecond * step : this.#perSecond / step;
  }
}
