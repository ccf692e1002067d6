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

/** How many calls a second began in each turn that counts. */
export interface FrontierTurns {
  readonly floor: readonly number[];
  readonly subject: readonly number[];
}

/** In time: all of them, and 99 of 100 within this, in milliseconds. */
const p99MaxMs = 20;
const turnMs = 2_500;
/** With each pair of processes, of each. */
const turnCount = 16;
/** A turn's rate is the last one's times or through this: until it first turns, and then. */
const [farStep, nearStep] = [1.5, 1.1];

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
  return { floor: floor.rates, subject: subject.rates };
}

/** The middle of the rates of all turns. */
export function frontierOf(rounds: readonly FrontierTurns[]): Frontier {
  const floorPerSecond = median(rounds.flatMap(({ floor }) => floor));
  const subjectPerSecond = median(rounds.flatMap(({ subject }) => subject));
  return { floorPerSecond, subjectPerSecond, ratio: subjectPerSecond / floorPerSecond };
}

/** A rate that goes up and down. */
class Climb {
  readonly #isInTime: (perSecond: number) => Promise<boolean>;
  #perSecond: number;
  #wasInTime: boolean | undefined;
  /** Those of all turns since it first turned. */
  readonly rates: number[] = [];

  constructor(perSecond: number, isInTime: (perSecond: number) => Promise<boolean>) {
    this.#perSecond = perSecond;
    this.#isInTime = isInTime;
  }

  async step(): Promise<void> {
    const isInTime = await this.#isInTime(this.#perSecond);
    if (this.rates.length > 0 || (this.#wasInTime !== undefined && this.#wasInTime !== isInTime))
      this.rates.push(this.#perSecond);
    this.#wasInTime = isInTime;
    const step = this.rates.length > 0 ? nearStep : farStep;
    this.#perSecond = isInTime ? this.#perSecond * step : this.#perSecond / step;
  }
}
