import { type Decaying, decayOver, type Figures } from "./board-store.ts";
import { SlidingWindow } from "./sliding-window.ts";

const windowMs = 60_000;
/** How long one bucket of the window is, in milliseconds. */
export const figuresBucketMs = 10_000;
/** A time that counts less than this is forgotten. */
const countMin = 0.01;

/** How an attempt went. */
export interface AttemptTimes {
  /** All tokens it used. */
  readonly tokens: number;
  /** Undefined: there was no answer to measure. */
  readonly msPerOutputToken?: number | undefined;
  /** Undefined: it was no stream, or none began. */
  readonly firstTokenMs?: number | undefined;
}

/** What this pod knows of one deployment from its own attempts. */
export class OwnFigures {
  readonly #requests = new SlidingWindow(windowMs, figuresBucketMs);
  readonly #tokens = new SlidingWindow(windowMs, figuresBucketMs);
  readonly #pace: DecayingSum;
  readonly #firstToken: DecayingSum;
  #inFlight = 0;

  constructor(halfLifeMs: number) {
    this.#pace = new DecayingSum(halfLifeMs);
    this.#firstToken = new DecayingSum(halfLifeMs);
  }

  began(nowMs: number): void {
    this.#inFlight += 1;
    this.#requests.add(nowMs, 1);
  }

  ended(nowMs: number, { tokens, msPerOutputToken, firstTokenMs }: AttemptTimes): void {
    this.#inFlight = Math.max(0, this.#inFlight - 1);
    if (tokens > 0) this.#tokens.add(nowMs, tokens);
    if (msPerOutputToken !== undefined) this.#pace.add(nowMs, msPerOutputToken);
    if (firstTokenMs !== undefined) this.#firstToken.add(nowMs, firstTokenMs);
  }

  /** Whether something is counted that will age out. */
  isAging(nowMs: number): boolean {
    return !this.#requests.isEmpty(nowMs) || !this.#tokens.isEmpty(nowMs);
  }

  at(nowMs: number): Figures {
    return {
      inFlight: this.#inFlight,
      requests: this.#requests.used(nowMs),
      tokens: this.#tokens.used(nowMs),
      pace: this.#pace.at(nowMs),
      firstToken: this.#firstToken.at(nowMs),
    };
  }
}

class DecayingSum {
  readonly #halfLifeMs: number;
  #sum = 0;
  #count = 0;
  #atMs = 0;

  constructor(halfLifeMs: number) {
    this.#halfLifeMs = halfLifeMs;
  }

  add(nowMs: number, value: number): void {
    const { sum, count } = this.at(nowMs);
    this.#sum = sum + value;
    this.#count = count + 1;
    this.#atMs = nowMs;
  }

  at(nowMs: number): Decaying {
    const factor = decayOver(nowMs - this.#atMs, this.#halfLifeMs);
    const count = this.#count * factor;
    return count < countMin ? { sum: 0, count: 0 } : { sum: this.#sum * factor, count };
  }
}
