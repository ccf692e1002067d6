import type { Clock } from "./clock.ts";
import type { CallEvent } from "./completion.ts";

/** An attempt that can be given up while its next event is awaited. */
export interface Runner {
  readonly events: AsyncGenerator<CallEvent, void, undefined>;
  /** Gives it up: it is booked, and its iteration ends soon. */
  cancel(): void;
}

type Step = IteratorResult<CallEvent, void>;

interface Begun {
  readonly runner: Runner;
  readonly first: Promise<Step>;
}

/**
 * One attempt, and a second beside it if the first has not begun to answer in time. Whichever begins first is kept, the other is given up.
 *
 * @param second begins the second attempt; undefined: there is nowhere to make it.
 */
export async function* race(
  runner: Runner,
  parts: { readonly afterMs: number; readonly second: () => Promise<Runner | undefined>; readonly clock: Clock },
): AsyncGenerator<CallEvent, void, undefined> {
  const first: Begun = { runner, first: runner.events.next() };
  const racers = [first];
  let winner: Begun | undefined;
  try {
    if (await isLate(first.first, parts)) {
      const other = await parts.second();
      if (other !== undefined) racers.push({ runner: other, first: other.events.next() });
    }
    const { begun, step } = await firstOf(racers);
    winner = begun;
    for (const racer of racers) if (racer !== winner) giveUp(racer);
    if (step.done === true) return;
    yield step.value;
    yield* winner.runner.events;
  } finally {
    // The reader left before anything began.
    if (winner === undefined) for (const racer of racers) giveUp(racer);
  }
}

/** Whether nothing has come of a first event when its time is over. */
function isLate(first: Promise<Step>, { afterMs, clock }: { afterMs: number; clock: Clock }): Promise<boolean> {
  return new Promise((resolve) => {
    const cancel = clock.after(afterMs, () => resolve(true));
    const inTime = () => {
      cancel();
      resolve(false);
    };
    first.then(inTime, inTime);
  });
}

/** The racer that begins first. One that fails is out; when all are, the last one's failure is thrown. */
async function firstOf(racers: readonly Begun[]): Promise<{ begun: Begun; step: Step }> {
  let failure: unknown;
  const steps = racers.map(async (begun) => {
    try {
      return { begun, step: await begun.first };
    } catch (thrown) {
      failure = thrown;
      throw thrown;
    }
  });
  try {
    return await Promise.any(steps);
  } catch {
    throw failure;
  }
}

function giveUp({ runner, first }: Begun): void {
  runner.cancel();
  first.catch(() => {});
  runner.events.return(undefined).catch(() => {});
}
